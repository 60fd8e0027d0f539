//! How many rows, and which, whatever their order.

use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind};
use crate::manifest::TableRecord;

/// Counts and digests the rows of `COPY` in its text format.
///
/// In that format a line break within a value is written as `\n`, so each raw one ends a row. The
/// digest is the sum, modulo 2^256, of the SHA-256 of each row: the same rows in another order, or
/// in other pieces, give the same sum, and a row that is there twice counts twice.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    count: u64,
    sum: Sum,
    row: Sha256,
    within: bool,
}

/// A number of 256 bits, the high half first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum(u128, u128);

impl Sum {
    fn add(&mut self, other: Self) {
        let (low, carry) = self.1.overflowing_add(other.1);
        self.1 = low;
        self.0 = self.0.wrapping_add(other.0).wrapping_add(u128::from(carry));
    }
}

impl Rows {
    pub fn update(&mut self, mut bytes: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.row.update(&bytes[..end]);
            let digest = self.row.finalize_reset();
            let half = |at: usize| {
                let mut half = [0; 16];
                half.copy_from_slice(&digest[at..at + 16]);
                u128::from_be_bytes(half)
            };
            self.sum.add(Sum(half(0), half(16)));
            self.count += 1;
            self.within = false;
            bytes = &bytes[end + 1..];
        }
        if !bytes.is_empty() {
            self.row.update(bytes);
            self.within = true;
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds the rows of another part of the same table.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum.add(other.sum);
    }

    /// # Errors
    /// If the last row has no end.
    pub fn whole(self) -> Result<Self, Error> {
        if self.within {
            return Err(Error::new(ErrorKind::Source, "the server sent half a row"));
        }
        Ok(self)
    }

    pub fn record(&self) -> TableRecord {
        let Sum(high, low) = self.sum;
        TableRecord { rows: self.count, content: format!("{high:032x}{low:032x}") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(pieces: &[&[u8]]) -> TableRecord {
        let mut rows = Rows::default();
        for piece in pieces {
            rows.update(piece);
        }
        rows.whole().unwrap().record()
    }

    #[test]
    fn neither_order_nor_pieces_matter_and_everything_else_does() {
        let all = rows(&[b"a\nb\nb\n"]);
        assert_eq!(all.rows, 3);
        assert_eq!(all, rows(&[b"b", b"\na", b"\n", b"b\n"]));
        for other in [&b"a\nb\n"[..], b"a\na\nb\n", b"a\nb\nc\n", b"ab\nb\n\n", b"a\nb\nb\n\n"] {
            assert_ne!(all, rows(&[other]));
        }
        assert_eq!(rows(&[]).rows, 0);
        assert_eq!(rows(&[b"\n\n"]).rows, 2, "rows without columns");
        let mut half = Rows::default();
        half.update(b"a\nb");
        assert!(half.whole().is_err());
    }

    proptest! {
        #[test]
        fn any_order_in_any_two_parts_is_the_same(
            mut all in proptest::collection::vec("[a-c]{0,3}", 0..20),
            cut in 0_usize..20,
        ) {
            let text = |rows: &[String]| rows.iter().flat_map(|row| [&**row, "\n"]).collect::<String>();
            let one = rows(&[text(&all).as_bytes()]);
            all.reverse();
            let (first, second) = all.split_at(cut.min(all.len()));
            let mut parts = Rows::default();
            for part in [first, second] {
                let mut rows = Rows::default();
                rows.update(text(part).as_bytes());
                parts.merge(&rows);
            }
            prop_assert_eq!(one, parts.record());
        }
    }
}
