//! Lines for the shell, as a repository's configuration has them: with placeholders.

use std::collections::BTreeMap;

use gix::bstr::{BStr, BString};

/// The line with every placeholder that has a name here filled in.
pub(crate) fn filled_in(line: &BStr, names: &BTreeMap<u8, BString>) -> BString {
    let mut filled = BString::default();
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            filled.push(byte);
            continue;
        }
        let Some(key) = bytes.next() else {
            filled.push(b'%');
            break;
        };
        match names.get(&key) {
            Some(name) => filled.extend_from_slice(name),
            None => filled.extend([b'%', key]),
        }
    }
    filled
}

/// One word for the shell, whatever is in it.
pub(crate) fn quoted(word: &BStr) -> BString {
    let mut quoted = BString::from("'");
    for byte in word.iter().copied() {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            byte => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use gix::bstr::ByteSlice as _;

    #[test]
    fn names_are_one_word_each() {
        let names = BTreeMap::from([
            (b'A', quoted("a b".into())),
            (b'P', quoted("it's; rm -rf".into())),
            (b'%', BString::from("%")),
        ]);
        let line = filled_in(b"merge %A %P 100%% %x %".as_bstr(), &names);
        assert_eq!(line, "merge 'a b' 'it'\\''s; rm -rf' 100% %x %");
    }
}
