//! How many rows, and which, whatever their order.

use std::fmt;

use sha2::{Digest as _, Sha256};
use twox_hash::XxHash3_128;

use crate::error::{Error, ErrorKind};
use crate::manifest::TableRecord;
use crate::table_seal::{XXH3, is_xxh3};

/// Counts and digests the rows of `COPY` in its text format.
///
/// In that format a line break within a value is written as `\n`, so each raw one ends a row. The
/// digest is the sum of the digests of each row: the same rows in another order, or in other pieces,
/// give the same sum, and a row that is there twice counts twice.
///
/// It tells rows that came to harm on their way from the ones that were read; who wants to deceive has
/// no part in that way. So a row's digest need not be a cryptographic one, which takes ten times as
/// long: it is XXH3 of 128 bits, and SHA-256 only to compare with what older programs wrote.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    count: u64,
    sum: Sum,
    row: Row,
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

/// What there is of a row that has not ended.
#[derive(Clone)]
enum Row {
    Xxh3(Option<Box<XxHash3_128>>),
    Sha256(Option<Sha256>),
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xxh3(_) => "Xxh3",
            Self::Sha256(_) => "Sha256",
        })
    }
}

impl Default for Row {
    fn default() -> Self {
        Self::Xxh3(None)
    }
}

impl Row {
    fn is_begun(&self) -> bool {
        !matches!(self, Self::Xxh3(None) | Self::Sha256(None))
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Xxh3(row) => row.get_or_insert_default().write(bytes),
            Self::Sha256(row) => row.get_or_insert_default().update(bytes),
        }
    }

    /// The digest of the row that ends with these bytes.
    fn end(&mut self, last: &[u8]) -> Sum {
        // Most rows are there at once.
        if let Self::Xxh3(None) = self {
            return Sum(0, XxHash3_128::oneshot(last));
        }
        self.update(last);
        match self {
            Self::Xxh3(row) => Sum(0, row.take().map_or(0, |row| row.finish_128())),
            Self::Sha256(row) => {
                let digest = row.take().unwrap_or_default().finalize();
                let half = |at: usize| {
                    let mut half = [0; 16];
                    half.copy_from_slice(&digest[at..at + 16]);
                    u128::from_be_bytes(half)
                };
                Sum(half(0), half(16))
            }
        }
    }
}

impl Rows {
    /// To be compared with what a manifest tells.
    pub fn like(told: &TableRecord) -> Self {
        let row = if is_xxh3(told) { Row::Xxh3(None) } else { Row::Sha256(None) };
        Self { row, ..Self::default() }
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.sum.add(self.row.end(&bytes[..end]));
            self.count += 1;
            bytes = &bytes[end + 1..];
        }
        if !bytes.is_empty() {
            self.row.update(bytes);
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
        if self.row.is_begun() {
            return Err(Error::new(ErrorKind::Source, "the server sent half a row"));
        }
        Ok(self)
    }

    pub fn record(&self) -> TableRecord {
        let Sum(high, low) = self.sum;
        let content = match self.row {
            Row::Xxh3(_) => format!("{XXH3}{low:032x}"),
            Row::Sha256(_) => format!("{high:032x}{low:032x}"),
        };
        TableRecord { rows: self.count, content }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHA256: Rows = Rows { count: 0, sum: Sum(0, 0), row: Row::Sha256(None) };

    fn digest(mut rows: Rows, pieces: &[&[u8]]) -> TableRecord {
        for piece in pieces {
            rows.update(piece);
        }
        rows.whole().unwrap().record()
    }

    fn rows(pieces: &[&[u8]]) -> TableRecord {
        digest(Rows::default(), pieces)
    }

    #[test]
    fn a_digest_is_the_sum_of_those_of_the_rows() {
        // By `printf a | xxh128sum` and `printf a | sha256sum`.
        let one = rows(&[b"a\n"]);
        assert_eq!(one.content, "xxh3:a96faf705af16834e6c632b61e964e1f");
        assert_eq!(Rows::like(&one).record().content, rows(&[]).content);
        let older = digest(SHA256, &[b"a\n"]);
        let sum = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        assert_eq!(older.content, sum);
        assert_eq!(digest(Rows::like(&older), &[b"", b"a", b"\n"]), older);
        // The rest of twice the digest, by 2^128.
        assert_eq!(rows(&[b"a\na\n"]).content, "xxh3:52df5ee0b5e2d069cd8c656c3d2c9c3e");
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
