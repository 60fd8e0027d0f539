//! Names that must not be written into a work tree.

use std::collections::BTreeMap;

use gix::bstr::{BStr, BString, ByteSlice as _};
use gix::validate::path::component;

use super::two_way::Kind;

/// Why a path of a tree must not be written to a disk. A backslash is an ordinary character here,
/// unless what stands between two of them would be taken for a repository elsewhere.
pub(super) fn hostile(path: &BStr, kind: Kind) -> Option<&'static str> {
    let options =
        component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    let mut parts = path.split_str("/").peekable();
    while let Some(part) = parts.next() {
        if part.len() > 255 {
            return Some("has a name of more than 255 bytes");
        }
        if part.contains(&0) {
            return Some("has a zero byte in its name");
        }
        let mode =
            (parts.peek().is_none() && kind == Kind::Link).then_some(component::Mode::Symlink);
        for piece in std::iter::once(part).chain(part.split_str("\\")) {
            let answer = match gix::validate::path::component(piece.as_bstr(), mode, options) {
                Ok(_) => continue,
                // Between two backslashes there may be nothing.
                Err(component::Error::Empty) if piece.len() < part.len() => continue,
                Err(error) => error,
            };
            return Some(match answer {
                component::Error::Empty => "has an empty name",
                component::Error::Relative => "leads out of its folder",
                component::Error::DotGitDir => "would be taken for a repository",
                component::Error::SymlinkedGitModules => "is a symbolic link that git obeys",
                _ => "has a name that no file may have",
            });
        }
    }
    (path.len() >= 4096).then_some("is longer than a path may be")
}

/// Pairs of paths that a file system which ignores case takes for one; folders count too.
pub(super) fn collisions<'a>(paths: impl Iterator<Item = &'a BStr>) -> Vec<(BString, BString)> {
    let mut known: BTreeMap<String, &BStr> = BTreeMap::new();
    let mut found = Vec::new();
    for path in paths {
        for part in super::root::above(path).chain([path]) {
            // Folded as the index of git folds: letters of ASCII and of Unicode alike.
            let folded = part.to_str_lossy().to_lowercase();
            let first = *known.entry(folded).or_insert_with(|| &path[..part.len()]);
            if first != part {
                found.push((first.to_owned(), part.to_owned()));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_must_not_be_written() {
        let long = "x".repeat(256);
        for bad in [
            "",
            ".",
            "..",
            "a/../b",
            "a//b",
            ".git",
            ".GIT/config",
            "a/.git",
            "git~1",
            ".git ",
            ".git\\config",
            "a\\.git\\b",
            "..\\x",
            "a\0b",
            "/a",
            &long,
        ] {
            assert!(hostile(bad.into(), Kind::File).is_some(), "{bad:?}");
        }
        for good in [
            "a",
            "...",
            ".gitignore",
            ".gitmodules",
            "git",
            "a b/c",
            "größe",
            "-rf",
            "~",
            "system-x\\x2dy.slice",
            "a\\",
            "aux",
            "a:b",
        ] {
            assert_eq!(hostile(good.into(), Kind::File), None, "{good:?}");
        }
        assert!(hostile(".gitmodules".into(), Kind::Link).is_some());
        assert_eq!(hostile("a/link".into(), Kind::Link), None);
    }

    #[test]
    fn what_differs_in_case_alone() {
        let check = |paths: &[&str], expected: &[(&str, &str)]| {
            let found = collisions(paths.iter().map(BStr::new));
            let expected: Vec<_> =
                expected.iter().map(|(a, b)| (BString::from(*a), BString::from(*b))).collect();
            assert_eq!(found, expected, "{paths:?}");
        };
        check(&["a", "b", "a/b", "ab"], &[]);
        check(&["README", "readme"], &[("README", "readme")]);
        check(&["Src/a", "src/b"], &[("Src", "src")]);
        check(&["GRÖSSE", "grösse"], &[("GRÖSSE", "grösse")]);
    }
}
