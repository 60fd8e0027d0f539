//! How much there is to read.

/// How much a source has, by an estimate, for those who watch a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// The bytes of its streams, if that can be told.
    pub bytes: Option<u64>,
    /// The rows of its tables, if that can be told.
    pub rows: Option<u64>,
}

impl Extent {
    /// With so many bytes.
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// With so many rows.
    pub fn rows(mut self, rows: u64) -> Self {
        self.rows = Some(rows);
        self
    }

    /// With what another source has. What one of them does not tell, both together do not.
    pub(crate) fn and(self, other: Self) -> Self {
        let sum = |one: Option<u64>, two: Option<u64>| Some(one?.saturating_add(two?));
        Self { bytes: sum(self.bytes, other.bytes), rows: sum(self.rows, other.rows) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_source_does_not_tell_nobody_knows() {
        let none = Extent::default().bytes(0).rows(0);
        let both = none.and(Extent::default().bytes(5).rows(2)).and(Extent::default().bytes(7));
        assert_eq!(both, Extent::default().bytes(12));
    }
}
