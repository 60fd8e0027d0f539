//! What a manifest tells of a table's rows, when nobody without the key may learn anything of them.
//!
//! A plain digest would tell who guesses all rows that he is right, and that two tables have the same
//! ones. So in an encrypted repository it is digested again, with a key and the table's name.

use std::collections::BTreeMap;

use crate::identity::Identity;
use crate::manifest::TableRecord;
use crate::repository::Repository;

/// How a digest of rows by XXH3 begins; one by SHA-256 has hexadecimal digits only.
pub(crate) const XXH3: &str = "xxh3:";
/// How a keyed digest begins: of one by XXH3, and of one by SHA-256.
const KEYED: &str = "blake3-xxh3:";
const KEYED_SHA256: &str = "blake3:";

/// Whether the rows were digested by XXH3, not by SHA-256.
#[cfg(feature = "postgres")]
pub(crate) fn is_xxh3(told: &TableRecord) -> bool {
    [XXH3, KEYED].iter().any(|prefix| told.content.starts_with(prefix))
}

fn sealed(identity: &Identity, table: &str, content: &str) -> String {
    let prefix = if content.starts_with(XXH3) { KEYED } else { KEYED_SHA256 };
    format!("{prefix}{}", identity.table_digest(table, content))
}

impl Repository {
    /// The records as a manifest of this repository has them.
    pub fn seal_tables(
        &self,
        mut tables: BTreeMap<String, TableRecord>,
    ) -> BTreeMap<String, TableRecord> {
        if let Some(identity) = self.identity() {
            for (name, table) in &mut tables {
                table.content = sealed(identity, name, &table.content);
            }
        }
        tables
    }

    /// Whether these rows are the ones that a manifest tells of.
    #[cfg(feature = "postgres")]
    pub fn are_rows(&self, table: &str, told: &TableRecord, found: &TableRecord) -> bool {
        let keyed = [KEYED, KEYED_SHA256].iter().any(|prefix| told.content.starts_with(prefix));
        let same = match self.identity().filter(|_| keyed) {
            Some(identity) => sealed(identity, table, &found.content) == told.content,
            None => found.content == told.content,
        };
        same && told.rows == found.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_digest_depends_on_key_table_and_rows() {
        let [one, two] = [(); 2].map(|()| Identity::generate().unwrap());
        let first = sealed(&one, "public.a", "00ff");
        assert_eq!(first, sealed(&one, "public.a", "00ff"));
        assert_eq!((first.len(), first.contains("00ff")), (KEYED_SHA256.len() + 64, false));
        for other in [
            sealed(&two, "public.a", "00ff"),
            sealed(&one, "public.b", "00ff"),
            sealed(&one, "public.a", "00fe"),
            sealed(&one, "public.a0", "0ff"),
            sealed(&one, "public.a", "xxh3:00ff"),
        ] {
            assert_ne!(first, other);
        }
        assert!(sealed(&one, "public.a", "xxh3:00ff").starts_with(KEYED));
    }
}
