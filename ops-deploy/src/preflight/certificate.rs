//! How long certificates are valid. RFC 5280, section 4.1: nothing else of them is read.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use ops_core::Refusal;

const MOST_BYTES: u64 = 1024 * 1024;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXPLICIT_VERSION: u8 = 0xa0;

/// What is wrong with the certificates of a PEM file.
pub(super) fn findings(file: &Path, now: Timestamp, valid_for: Duration) -> Vec<Refusal> {
    let shown = file.display();
    let unread = |why: String| {
        let remedy = "give a PEM file with certificates that this user may read";
        vec![Refusal::new(format!("the certificate `{shown}` cannot be read: {why}"), remedy)]
    };
    let text = match std::fs::metadata(file).and_then(|meta| {
        if meta.len() > MOST_BYTES {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        std::fs::read_to_string(file)
    }) {
        Ok(text) => text,
        Err(error) => return unread(error.to_string()),
    };
    let times: Option<Vec<_>> = pem(&text).map(|der| validity(&der?)).collect();
    let Some(times) = times.filter(|times| !times.is_empty()) else {
        return unread("there is no whole certificate in it".to_owned());
    };
    let wanted = SignedDuration::try_from(valid_for).unwrap_or(SignedDuration::MAX);
    let until = now.checked_add(wanted).unwrap_or(Timestamp::MAX);
    let findings = times.into_iter().filter_map(|(begins, ends)| {
        let why = if now < begins {
            format!("is valid from {begins} on, and now it is {now}")
        } else if ends < now {
            format!("expired at {ends}")
        } else if ends < until {
            format!("expires at {ends}, {valid_for:?} more are needed")
        } else {
            return None;
        };
        Some(Refusal::new(format!("the certificate `{shown}` {why}"), "renew it"))
    });
    findings.collect()
}

/// The certificates of a PEM file (RFC 7468); `None` for one that is not whole.
fn pem(text: &str) -> impl Iterator<Item = Option<Vec<u8>>> {
    let begin = "-----BEGIN CERTIFICATE-----";
    text.split(begin).skip(1).map(|rest| {
        let body = &rest[..rest.find("-----END CERTIFICATE-----")?];
        let plain: String = body.split_ascii_whitespace().collect();
        BASE64_STANDARD.decode(plain).ok()
    })
}

/// From when to when a certificate is valid.
fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (SEQUENCE, certificate, _) = element(der)? else { return None };
    let (SEQUENCE, mut rest, _) = element(certificate)? else { return None };
    if rest.first() == Some(&EXPLICIT_VERSION) {
        (_, _, rest) = element(rest)?;
    }
    // The serial number, the signature's algorithm, the issuer.
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    let (SEQUENCE, validity, _) = element(rest)? else { return None };
    let (kind, begins, rest) = element(validity)?;
    let begins = time(kind, begins)?;
    let (kind, ends, _) = element(rest)?;
    Some((begins, time(kind, ends)?))
}

/// The first element of DER: its tag, its contents, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 || rest.len() < count {
            return None;
        }
        let (bytes, rest) = rest.split_at(count);
        (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
    };
    (rest.len() >= length).then(|| (tag, &rest[..length], &rest[length..]))
}

/// RFC 5280, section 4.1.2.5: `YYMMDDHHMMSSZ` until 2049, `YYYYMMDDHHMMSSZ` after it.
fn time(kind: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match kind {
        UTC_TIME if text.len() == 12 => {
            let year: i16 = text[..2].parse().ok()?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, &text[2..])
        }
        GENERALIZED_TIME if text.len() == 14 => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let part = |n: usize| rest[2 * n..2 * n + 2].parse::<i8>().ok();
    let moment =
        DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?.min(59), 0).ok()?;
    Some(moment.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn openssl(args: &[&str], dir: &Path) {
        let output = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn certificates_are_read_as_openssl_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let subject = ["-subj", "/CN=shop", "-keyout", "key.pem", "-nodes"];
        for (name, kind, days) in [("ec.pem", "ec", "40"), ("far.pem", "rsa:2048", "20000")] {
            let mut args = vec!["req", "-x509", "-newkey", kind, "-days", days, "-out", name];
            if kind == "ec" {
                args.extend(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
            }
            openssl(&[args, subject.to_vec()].concat(), dir.path());
        }
        let day = |n: u64| Duration::from_hours(24 * n);
        let (now, near) = (Timestamp::now(), dir.path().join("ec.pem"));
        assert_eq!(findings(&near, now, day(39)).len(), 0);
        assert_eq!(findings(&dir.path().join("far.pem"), now, day(19_999)).len(), 0, "after 2049");
        let said = |now, valid_for| {
            let found = findings(&near, now, valid_for);
            assert_eq!(found.len(), 1, "{found:?}");
            found[0].reason.clone()
        };
        assert!(said(now, day(41)).contains("expires at 20"), "{}", said(now, day(41)));
        let hours = |n: i64| now + SignedDuration::from_hours(24 * n);
        assert!(said(hours(41), day(0)).contains("expired at 20"));
        assert!(said(hours(-1), day(0)).contains("is valid from 20"));
        let other = dir.path().join("key.pem");
        assert!(findings(&other, now, day(0))[0].reason.contains("no whole certificate"));
        assert!(findings(&dir.path().join("no"), now, day(0))[0].reason.contains("cannot be read"));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = validity(&bytes);
            let nested = [&[SEQUENCE, 0x82, 0, 0xc0, SEQUENCE, 0x81, 0xb0][..], &bytes].concat();
            let _ = validity(&nested);
        }
    }
}
