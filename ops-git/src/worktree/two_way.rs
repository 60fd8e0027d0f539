//! Git's table for going from one tree to another with an index that is neither: git-read-tree(1),
//! "Two Tree Merge".

use gix::index::entry::Mode;
use gix::objs::tree::{EntryKind, EntryMode};

/// What a tree or the index has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub kind: Kind,
    pub id: gix::ObjectId,
}

/// What a path is to git.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Executable,
    Link,
    Submodule,
}

impl Kind {
    /// `None` for a folder.
    pub fn of_tree(mode: EntryMode) -> Option<Self> {
        Some(match mode.kind() {
            EntryKind::Tree => return None,
            EntryKind::Blob => Self::File,
            EntryKind::BlobExecutable => Self::Executable,
            EntryKind::Link => Self::Link,
            EntryKind::Commit => Self::Submodule,
        })
    }

    pub fn of_index(mode: Mode) -> Option<Self> {
        Some(match mode {
            Mode::FILE => Self::File,
            Mode::FILE_EXECUTABLE => Self::Executable,
            Mode::SYMLINK => Self::Link,
            Mode::COMMIT => Self::Submodule,
            _ => return None,
        })
    }

    pub fn mode(self) -> Mode {
        match self {
            Self::File => Mode::FILE,
            Self::Executable => Mode::FILE_EXECUTABLE,
            Self::Link => Mode::SYMLINK,
            Self::Submodule => Mode::COMMIT,
        }
    }
}

/// What the table says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Index and file stay as they are.
    Keep,
    /// Both go, if the file is as the index has it.
    Remove,
    /// Both become what the new tree has, if the file is as the index has it, or absent.
    Take,
    /// The index holds a change that would be lost.
    Staged,
}

/// The verdict on a path of the index, the old tree and the new tree. Whether the file is clean is
/// for the caller to see, where [`Verdict`] asks for it.
#[expect(clippy::match_same_arms, reason = "they are the rows of git's table, in its order")]
pub(super) fn two_way(index: Option<Cell>, old: Option<Cell>, new: Option<Cell>) -> Verdict {
    match (index, old, new) {
        // Rows 0, 4 and 5: neither tree knows the path.
        (_, None, None) => Verdict::Keep,
        // Row 1, and row 2.
        (None, None, Some(_)) => Verdict::Take,
        (None, Some(_), None) => Verdict::Remove,
        // Row 3: the removal was staged.
        (None, Some(old), Some(new)) if old == new => Verdict::Keep,
        (None, Some(_), Some(_)) => Verdict::Staged,
        // Rows 6 to 9.
        (Some(index), None, Some(new)) if index == new => Verdict::Keep,
        (Some(_), None, Some(_)) => Verdict::Staged,
        // Rows 10 and 11, and 12 and 13.
        (Some(index), Some(old), None) if index == old => Verdict::Remove,
        (Some(_), Some(_), None) => Verdict::Staged,
        // Rows 14 and 15, then 18 and 19.
        (Some(_), Some(old), Some(new)) if old == new => Verdict::Keep,
        (Some(index), Some(_), Some(new)) if index == new => Verdict::Keep,
        // Rows 20 and 21, then 16 and 17.
        (Some(index), Some(old), Some(_)) if index == old => Verdict::Take,
        (Some(_), Some(_), Some(_)) => Verdict::Staged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_gits_table() {
        let cell = |letter: char| {
            (letter != '-').then(|| Cell {
                kind: Kind::File,
                id: gix::ObjectId::from_hex(letter.to_string().repeat(40).as_bytes()).unwrap(),
            })
        };
        for (row, cells, verdict) in [
            ("0", "---", Verdict::Keep),
            ("1", "--b", Verdict::Take),
            ("2", "-a-", Verdict::Remove),
            ("3, same", "-aa", Verdict::Keep),
            ("3, differs", "-ab", Verdict::Staged),
            ("4, 5", "a--", Verdict::Keep),
            ("6, 7", "b-b", Verdict::Keep),
            ("8, 9", "a-b", Verdict::Staged),
            ("10, 11", "aa-", Verdict::Remove),
            ("12, 13", "ca-", Verdict::Staged),
            ("14, 15", "aaa", Verdict::Keep),
            ("14, 15, staged", "caa", Verdict::Keep),
            ("16, 17", "cab", Verdict::Staged),
            ("18, 19", "bab", Verdict::Keep),
            ("20, 21", "aab", Verdict::Take),
        ] {
            let [index, old, new] = cells.chars().map(cell).collect::<Vec<_>>()[..] else {
                panic!("{row}")
            };
            assert_eq!(two_way(index, old, new), verdict, "row {row}");
        }
        // A change of the mode alone is a change.
        let a = cell('a');
        let executable = a.map(|cell| Cell { kind: Kind::Executable, ..cell });
        assert_eq!(two_way(a, a, executable), Verdict::Take);
        assert_eq!(two_way(executable, a, None), Verdict::Staged);
    }
}
