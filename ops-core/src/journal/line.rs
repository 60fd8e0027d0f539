//! One record as one line: JSON with a checksum over what stands before it.
//!
//! ```text
//! {"seq":3,"at":"2026-11-21T05:08:28Z","record":{"type":"done","step":0},"crc":"1c291ca3"}
//! ```

use super::record::Entry;

/// `,"crc":"` + 8 digits + `"}`.
const CRC_START: &[u8] = b",\"crc\":\"";
const CRC_LEN: usize = CRC_START.len() + 8 + 2;

/// The line of an entry, with its newline.
pub(crate) fn encode(entry: &Entry) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(entry)?;
    let brace = line.pop();
    debug_assert_eq!(brace, Some(b'}'));
    let crc = crc32fast::hash(&line);
    line.extend_from_slice(CRC_START);
    line.extend_from_slice(format!("{crc:08x}\"}}\n").as_bytes());
    Ok(line)
}

/// The entry of a line without its newline; `None` if anything about it is wrong.
fn decode(line: &[u8]) -> Option<Entry> {
    let (body, crc) = line.split_at_checked(line.len().checked_sub(CRC_LEN)?)?;
    let digits = crc.strip_prefix(CRC_START)?.strip_suffix(b"\"}")?;
    let expected = format!("{:08x}", crc32fast::hash(body));
    if digits != expected.as_bytes() {
        return None;
    }
    let mut json = body.to_vec();
    json.push(b'}');
    serde_json::from_slice(&json).ok()
}

/// What a journal's bytes hold.
#[derive(Debug)]
pub(crate) struct Contents {
    pub entries: Vec<Entry>,
    /// How many bytes the entries take; what follows is a torn tail.
    pub good: u64,
}

/// Damage before the last line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The line, from 1.
    pub line: usize,
}

/// Reads a journal. A torn or wrong last line is dropped: its record never happened, since what
/// must follow a record only follows once it is on disk. Anything wrong before it is damage.
pub(crate) fn read(bytes: &[u8]) -> Result<Contents, Damage> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut good = 0;
    while good < bytes.len() {
        let rest = &bytes[good..];
        let damage = Damage { line: entries.len() + 1 };
        let end = rest.iter().position(|b| *b == b'\n');
        let is_last = end.is_none_or(|end| end + 1 == rest.len());
        let line = &rest[..end.unwrap_or(rest.len())];
        let entry = decode(line).filter(|entry| entry.seq == entries.len() as u64);
        match (entry, end) {
            (Some(entry), Some(end)) => {
                entries.push(entry);
                good += end + 1;
            }
            _ if is_last && !swallowed_a_newline(line) => break,
            _ => return Err(damage),
        }
    }
    Ok(Contents { entries, good: good as u64 })
}

/// The format of a journal, read without understanding the rest of it.
pub(crate) fn schema(bytes: &[u8]) -> Option<u32> {
    let first = bytes.split(|b| *b == b'\n').next()?;
    let value: serde_json::Value = serde_json::from_slice(first).ok()?;
    value
        .pointer("/record/schema")?
        .as_u64()
        .map(|schema| u32::try_from(schema).unwrap_or(u32::MAX))
}

/// Whether a wrong line begins with a whole record that something follows: then it is not torn,
/// but two lines whose newline was damaged.
fn swallowed_a_newline(line: &[u8]) -> bool {
    let ends = line.windows(2).enumerate().filter(|(_, pair)| pair == b"\"}").map(|(at, _)| at + 2);
    ends.filter(|end| *end < line.len()).any(|end| decode(&line[..end]).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::Record;
    use jiff::Timestamp;

    fn lines(n: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for seq in 0..n {
            let record = Record::Intent { step: seq as usize };
            let entry = Entry { seq, at: Timestamp::UNIX_EPOCH, record };
            bytes.extend(encode(&entry).unwrap());
        }
        bytes
    }

    #[test]
    fn the_format_stays_as_it_is() {
        let line = String::from_utf8(lines(1)).unwrap();
        assert_eq!(
            line,
            "{\"seq\":0,\"at\":\"1970-01-01T00:00:00Z\",\"record\":{\"type\":\"intent\",\"step\":0},\"crc\":\"9c416efa\"}\n"
        );
    }

    #[test]
    fn every_prefix_reads_as_the_whole_lines_in_it() {
        let bytes = lines(5);
        for cut in 0..=bytes.len() {
            let contents = read(&bytes[..cut]).unwrap();
            let whole = bytes[..cut].iter().filter(|b| **b == b'\n').count();
            assert_eq!(contents.entries.len(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn every_flipped_byte_before_the_last_line_is_damage() {
        let bytes = lines(4);
        let last_line = lines(3).len();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                match read(&flipped) {
                    // A whole record without its newline is not torn either.
                    Err(_) => assert!(at < last_line || at == bytes.len() - 1, "{at}"),
                    Ok(contents) => {
                        assert!(at >= last_line && at < bytes.len() - 1, "missed byte {at} {bit}");
                        assert_eq!(contents.entries.len(), 3);
                    }
                }
            }
        }
    }
}
