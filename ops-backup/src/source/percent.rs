//! Names within addresses.

/// With everything but letters, digits and `-_.~` as `%XX`.
pub(super) fn encoded(text: &str) -> String {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().fold(String::new(), |mut out, b| {
        if harmless(b) {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.push_str(&hex::encode_upper([b]));
        }
        out
    })
}

/// Nothing if it is not UTF-8, or not encoded in this way.
pub(super) fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, more @ ..] = rest {
        rest = more;
        if *first == b'%' {
            let (digits, more) = more.split_at_checked(2)?;
            bytes.extend(hex::decode(digits).ok()?);
            rest = more;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}
