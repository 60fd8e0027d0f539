//! How much of one file is found in another.

use std::collections::HashMap;

/// Longer lines count as several.
const LONGEST: usize = 64;

/// A file's lines, as hashes, with the number of bytes in each; a longer line is several.
#[derive(Debug)]
pub(super) struct Fingerprint {
    size: u64,
    lines: HashMap<u64, u64>,
}

impl Fingerprint {
    pub fn of(content: &[u8]) -> Self {
        let text = !is_binary(content);
        let mut lines = HashMap::new();
        let mut hash = Fnv::default();
        let mut length = 0;
        let mut bytes = content.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            // Line endings of both kinds are the same.
            if text && byte == b'\r' && bytes.peek() == Some(&b'\n') {
                continue;
            }
            hash.push(byte);
            length += 1;
            if length == LONGEST || byte == b'\n' || bytes.peek().is_none() {
                *lines.entry(hash.0).or_default() += length as u64;
                hash = Fnv::default();
                length = 0;
            }
        }
        Self { size: content.len() as u64, lines }
    }

    /// The part of the larger one that is found in both, from 0 to 1.
    pub fn similarity(&self, other: &Self) -> f64 {
        let larger = self.size.max(other.size);
        if larger == 0 {
            return 0.0;
        }
        let common: u64 = self
            .lines
            .iter()
            .filter_map(|(line, bytes)| other.lines.get(line).map(|there| bytes.min(there)))
            .sum();
        common as f64 / larger as f64
    }
}

/// Whether git takes it for something else than text.
pub(super) fn is_binary(content: &[u8]) -> bool {
    content[..content.len().min(8000)].contains(&0)
}

struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn push(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_part_in_common() {
        for (one, other, expected) in [
            ("a\nb\n", "a\nb\n", 1.0),
            ("a\nb\n", "b\na\n", 1.0),
            ("a\nb\n", "a\r\nb\r\n", 4.0 / 6.0),
            ("a\nb\n", "a\nc\n", 0.5),
            ("a\nb\n", "", 0.0),
            ("", "", 0.0),
        ] {
            let found =
                Fingerprint::of(one.as_bytes()).similarity(&Fingerprint::of(other.as_bytes()));
            assert!((found - expected).abs() < 1e-9, "{one:?} {other:?}: {found}");
        }
    }
}
