//! Any tree comes out of its archive as it was, and no damage to an archive writes anywhere else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use walkdir::WalkDir;

use super::archive::{extract, write};
use super::compare::compare;
use super::filter::Filter;

#[derive(Debug, Clone)]
enum Node {
    Folder,
    File(Vec<u8>),
    /// Another name of a file that is there by then.
    Again(Index),
    Link(OsString),
}

/// In one of the folders that are there by then, under this name, with this mode.
type Entry = (Index, OsString, Node, u32);

fn bytes(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), length)
}

/// Also names that are no UTF-8, and such as do not fit into the header of a tar archive.
fn names() -> impl Strategy<Value = OsString> {
    let fits = |name: &Vec<u8>| {
        !matches!(name.as_slice(), b"." | b"..") && !name.iter().any(|b| matches!(b, 0 | b'/'))
    };
    let long = prop::collection::vec(b'a'..=b'z', 90..200);
    prop_oneof![4 => bytes(1..12).boxed(), 1 => long.boxed()]
        .prop_filter("a name", fits)
        .prop_map(OsString::from_vec)
}

fn nodes() -> impl Strategy<Value = Node> {
    let targets = bytes(1..150).prop_filter("no target", |target| !target.contains(&0));
    prop_oneof![
        Just(Node::Folder),
        bytes(0..2_000).prop_map(Node::File),
        any::<Index>().prop_map(Node::Again),
        targets.prop_map(|target| Node::Link(OsString::from_vec(target))),
    ]
}

fn trees() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::vec((any::<Index>(), names(), nodes(), 0_u32..0o1000), 0..12)
}

fn make(root: &Path, tree: &[Entry]) -> std::io::Result<()> {
    fs::create_dir(root)?;
    let (mut folders, mut files) = (vec![root.to_owned()], Vec::new());
    for (at, name, node, mode) in tree {
        let path = at.get(&folders).join(name);
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match node {
            Node::Folder => {
                fs::create_dir(&path)?;
                fs::set_permissions(&path, Permissions::from_mode(mode | 0o700))?;
                folders.push(path);
            }
            Node::File(content) => {
                fs::write(&path, content)?;
                fs::set_permissions(&path, Permissions::from_mode(mode | 0o400))?;
                files.push(path);
            }
            Node::Again(_) if files.is_empty() => {}
            Node::Again(at) => fs::hard_link(at.get(&files), &path)?,
            Node::Link(target) => symlink(target, &path)?,
        }
    }
    Ok(())
}

/// Kind and mode, time, and content or target of everything in a folder.
fn seen(root: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let entry = |entry: walkdir::DirEntry| {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        let content = match meta.file_type() {
            kind if kind.is_symlink() => fs::read_link(path).unwrap().into_os_string().into_vec(),
            kind if kind.is_file() => fs::read(path).unwrap(),
            _ => Vec::new(),
        };
        (path.strip_prefix(root).unwrap().to_owned(), (meta.mode(), meta.mtime(), content))
    };
    WalkDir::new(root).into_iter().map(|found| entry(found.unwrap())).collect()
}

fn archived(root: &Path) -> Vec<u8> {
    let mut archive = Vec::new();
    write(root, &Filter::new(&[], &[]).unwrap(), &mut archive).unwrap();
    archive
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_tree_comes_back_as_it_was(tree in trees()) {
        let dir = tempfile::tempdir().unwrap();
        let [root, place] = ["root", "place"].map(|name| dir.path().join(name));
        make(&root, &tree).unwrap();
        let archive = archived(&root);
        extract(&mut &*archive, &place, None).unwrap();
        prop_assert_eq!(seen(&root), seen(&place));
        prop_assert_eq!(compare(&mut &*archive, &place).unwrap(), Vec::<String>::new());
        prop_assert!(archived(&place) == archive, "and gives the same archive");
    }

    #[test]
    fn a_damaged_archive_writes_nowhere_else(
        tree in trees(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in any::<Index>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let [root, place] = ["root", "place"].map(|name| dir.path().join(name));
        make(&root, &tree).unwrap();
        let (before, mut archive) = (seen(&root), archived(&root));
        for (at, byte) in damage {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        archive.truncate(archive.len() - cut.index(archive.len()) / 4);
        let _ = extract(&mut &*archive, &place, None);
        let _ = compare(&mut &*archive, &place);
        prop_assert_eq!(before, seen(&root));
        let there = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        prop_assert!(there.into_iter().all(|name| [&b"root"[..], b"place"].contains(&name.as_bytes())));
    }
}
