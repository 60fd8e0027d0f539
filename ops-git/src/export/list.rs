//! What a tree holds, with every reason against writing it to a disk.

use std::collections::{BTreeMap, BTreeSet};

use gix::bstr::{BString, ByteSlice as _};
use gix::objs::tree::EntryKind;
use ops_core::Refusal;

use crate::error::{Error, ErrorKind, GitResult as _};

/// How deep folders may lie in each other.
const DEEPEST: usize = 512;
/// How many links may lead to links.
const HOPS: usize = 40;

/// One thing to write.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its path, relative, with slashes.
    pub path: BString,
    /// Its blob.
    pub id: gix::ObjectId,
    /// What it becomes.
    pub kind: EntryKind,
}

/// What a tree holds. Needs memory for all paths, not for any content.
#[derive(Debug)]
pub(super) struct Listing {
    /// The tree.
    pub tree: gix::ObjectId,
    /// Folders, parents first.
    pub folders: Vec<BString>,
    /// Files and links.
    pub entries: Vec<Entry>,
}

/// Reads all trees of a commit.
pub(super) fn list(repo: &gix::Repository, commit: gix::ObjectId) -> Result<Listing, Error> {
    let tree = repo
        .find_commit(commit)
        .and_then(|commit| commit.tree_id().map(gix::Id::detach))
        .doing(|| format!("commit {commit} cannot be read"))?;
    let mut found = Found {
        listing: Listing { tree, folders: Vec::new(), entries: Vec::new() },
        refusals: Vec::new(),
        names: BTreeSet::new(),
    };
    found.walk(repo, tree, &BString::default(), 0)?;
    let links = found.links(repo)?;
    for (path, target) in &links {
        if let Err(why) = stays_inside(path, target, &links) {
            found.refuse(path, &format!("is a symbolic link to `{target}`, which {why}"));
        }
    }
    if !found.refusals.is_empty() {
        return Err(Error::new(ErrorKind::Hostile, format!("commit {commit} cannot be exported"))
            .refusals(found.refusals));
    }
    Ok(found.listing)
}

struct Found {
    listing: Listing,
    refusals: Vec<Refusal>,
    names: BTreeSet<BString>,
}

impl Found {
    fn refuse(&mut self, path: &BString, why: &str) {
        self.refusals.push(Refusal::new(
            format!("`{}` {why}", path.to_string().escape_debug()),
            "take it out of the tree, and release that commit",
        ));
    }

    fn walk(
        &mut self,
        repo: &gix::Repository,
        id: gix::ObjectId,
        prefix: &BString,
        depth: usize,
    ) -> Result<(), Error> {
        let doing = || format!("tree {id} cannot be read");
        let tree = repo.find_tree(id).doing(doing)?;
        let mut below = Vec::new();
        for entry in tree.iter() {
            let entry = entry.doing(doing)?;
            let mut path = prefix.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(entry.filename());
            if let Some(why) = bad_name(entry.filename()) {
                self.refuse(&path, why);
                continue;
            }
            if !self.names.insert(path.clone()) {
                self.refuse(&path, "stands twice in its tree");
                continue;
            }
            let child = entry.oid().to_owned();
            match entry.mode().kind() {
                EntryKind::Tree if depth >= DEEPEST => self.refuse(&path, "lies too deep"),
                EntryKind::Tree => {
                    self.listing.folders.push(path.clone());
                    below.push((child, path));
                }
                EntryKind::Commit => {
                    self.refuse(&path, "is a submodule, and not part of this repository");
                }
                kind => self.listing.entries.push(Entry { path, id: child, kind }),
            }
        }
        for (child, path) in below {
            self.walk(repo, child, &path, depth + 1)?;
        }
        Ok(())
    }

    fn links(&mut self, repo: &gix::Repository) -> Result<BTreeMap<BString, BString>, Error> {
        let mut links = BTreeMap::new();
        for entry in self.listing.entries.iter().filter(|entry| entry.kind == EntryKind::Link) {
            let doing = || format!("symbolic link `{}` cannot be read", entry.path);
            let size = repo.find_header(entry.id).doing(doing)?.size();
            if size > 4096 {
                return Err(Error::new(
                    ErrorKind::Hostile,
                    format!("symbolic link `{}` has a target of {size} bytes", entry.path),
                )
                .remedy("a path has at most 4095 bytes; take it out of the tree"));
            }
            let target = repo.find_blob(entry.id).doing(doing)?.take_data();
            links.insert(entry.path.clone(), target.into());
        }
        Ok(links)
    }
}

/// Why a name must not be written to a disk.
fn bad_name(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("has no name"),
        b"." | b".." => Some("would lead out of its folder"),
        _ if name.contains(&b'/') => Some("has a slash in its name"),
        _ if name.contains(&0) => Some("has a zero byte in its name"),
        _ if name.eq_ignore_ascii_case(b".git") => Some("would be taken for a repository"),
        _ if name.len() > 255 => Some("has a name of more than 255 bytes"),
        _ => None,
    }
}

/// Follows a link as the kernel would, through the other links of the tree.
fn stays_inside(
    link: &BString,
    target: &BString,
    links: &BTreeMap<BString, BString>,
) -> Result<(), &'static str> {
    // Last part first, so that the next one to follow is popped from the end.
    let split = |path: &[u8]| path.rsplit(|b| *b == b'/').map(BString::from).collect::<Vec<_>>();
    let mut at: Vec<BString> = link.split_str("/").map(BString::from).collect();
    at.pop();
    let mut hops = 0;
    let mut left = checked(target).map(split)?;
    while let Some(part) = left.pop() {
        match part.as_slice() {
            b"" | b"." => {}
            b".." => {
                at.pop().ok_or("leads out of the tree")?;
            }
            _ => {
                at.push(part);
                let path: BString = bstr_join(&at);
                if let Some(next) = links.get(&path) {
                    hops += 1;
                    if hops > HOPS {
                        return Err("leads through too many links");
                    }
                    at.pop();
                    left.extend(split(checked(next)?));
                }
            }
        }
    }
    Ok(())
}

fn checked(target: &BString) -> Result<&[u8], &'static str> {
    match target.as_slice() {
        b"" => Err("is no path"),
        path if path.contains(&0) => Err("is no path"),
        path if path.starts_with(b"/") => Err("leads out of the tree"),
        path => Ok(path),
    }
}

fn bstr_join(parts: &[BString]) -> BString {
    gix::bstr::join("/", parts).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_must_not_be_written() {
        for bad in ["", ".", "..", ".git", ".GIT", "a/b", "a\0b", &"x".repeat(256)] {
            assert!(bad_name(bad.as_bytes()).is_some(), "{bad:?}");
        }
        for good in ["a", "...", ".gitignore", "git", "a b", "größe", "-rf", "~"] {
            assert!(bad_name(good.as_bytes()).is_none(), "{good:?}");
        }
    }

    proptest::proptest! {
        /// Whatever the kernel lets a link reach outside, we have refused.
        #[test]
        fn no_link_that_is_accepted_leaves_the_tree(
            targets in proptest::collection::vec("(\\.\\./|a/|b/|l0/|l1/|l2/|\\./){0,5}(x|l0|l1|l2|\\.\\.)", 3),
            deep in proptest::collection::vec(proptest::bool::ANY, 3),
        ) {
            let outer = tempfile::tempdir().unwrap();
            // What lies outside exists, so that leaving is seen.
            for folder in ["x", "a/x", "a/b/x", "tree/x", "tree/a/b/x", "tree/b/x", "tree/a/x"] {
                std::fs::create_dir_all(outer.path().join(folder)).unwrap();
            }
            let root = outer.path().join("tree").canonicalize().unwrap();
            let mut links = BTreeMap::new();
            for (i, (target, deep)) in targets.iter().zip(&deep).enumerate() {
                let at = if *deep { format!("a/l{i}") } else { format!("l{i}") };
                std::os::unix::fs::symlink(target, root.join(&at)).unwrap();
                links.insert(BString::from(at), BString::from(target.as_str()));
            }
            for (link, target) in &links {
                if stays_inside(link, target, &links).is_ok()
                    && let Ok(real) = root.join(link.to_string()).canonicalize()
                {
                    proptest::prop_assert!(real.starts_with(&root), "{link} -> {target}: {real:?}");
                }
            }
        }
    }

    #[test]
    fn links_are_followed_as_the_kernel_would() {
        let links: BTreeMap<BString, BString> = [
            ("deep", "a/b/c"),
            ("a/up", "../x"),
            ("loop", "loop"),
            ("out", "/etc"),
            ("flat/to_root", "../top"),
        ]
        .map(|(link, target)| (link.into(), target.into()))
        .into();
        for (link, target, inside) in [
            ("l", "file", true),
            ("l", "a/../b", true),
            ("l", "../file", false),
            ("a/l", "../file", true),
            ("a/l", "../../file", false),
            ("l", "/etc/passwd", false),
            ("l", "", false),
            ("l", ".", true),
            ("l", "deep/../../../x", true),
            ("l", "deep/../../../../x", false),
            // Read as text it stays inside; the link at `flat/to_root` makes it leave.
            ("l", "flat/to_root/../../x", false),
            ("l", "loop/x", false),
            ("l", "out/passwd", false),
            ("l", "dangling/but/inside", true),
        ] {
            let answer = stays_inside(&link.into(), &target.into(), &links);
            assert_eq!(answer.is_ok(), inside, "{link} -> {target}: {answer:?}");
        }
    }
}
