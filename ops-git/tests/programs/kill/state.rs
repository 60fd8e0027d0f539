//! Everything that a kill could have spoilt.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::arena::ask;

/// A file, a link or a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    mode: u32,
    bytes: Vec<u8>,
}

/// By what a file is known to be the very one.
type Selfhood = (u64, i64, i64);

/// A repository and its work tree.
#[derive(Clone)]
pub struct State {
    pub head: String,
    pub refs: String,
    index: (Vec<u8>, i64, i64),
    things: BTreeMap<PathBuf, Thing>,
    /// Of files and links.
    selves: BTreeMap<PathBuf, Selfhood>,
}

impl State {
    pub fn of(work: &Path) -> Self {
        let git = work.join(".git");
        let index = git.join("index");
        let about = index.symlink_metadata().unwrap();
        let mut state = Self {
            head: fs::read_to_string(git.join("HEAD")).unwrap(),
            refs: ask(work, &["for-each-ref"]),
            index: (fs::read(&index).unwrap(), about.mtime(), about.mtime_nsec()),
            things: BTreeMap::new(),
            selves: BTreeMap::new(),
        };
        let mut left = vec![work.to_owned()];
        while let Some(folder) = left.pop() {
            for entry in folder.read_dir().unwrap() {
                let path = entry.unwrap().path();
                if path != git {
                    state.add(work, &path, &mut left);
                }
            }
        }
        state
    }

    fn add(&mut self, work: &Path, path: &Path, left: &mut Vec<PathBuf>) {
        let about = path.symlink_metadata().unwrap();
        let bytes = if about.is_dir() {
            left.push(path.to_owned());
            Vec::new()
        } else if about.is_symlink() {
            path.read_link().unwrap().as_os_str().as_bytes().to_vec()
        } else {
            fs::read(path).unwrap()
        };
        let at = path.strip_prefix(work).unwrap().to_owned();
        if !about.is_dir() {
            self.selves.insert(at.clone(), (about.ino(), about.mtime(), about.mtime_nsec()));
        }
        self.things.insert(at, Thing { mode: about.mode(), bytes });
    }

    pub fn things(&self) -> &BTreeMap<PathBuf, Thing> {
        &self.things
    }

    /// What is not as it was, down to the times and the inodes of files.
    pub fn difference(&self, before: &Self) -> Option<String> {
        if self.head != before.head {
            return Some(format!("HEAD is {:?}, was {:?}", self.head, before.head));
        }
        if self.refs != before.refs {
            return Some(format!("refs are\n{}were\n{}", self.refs, before.refs));
        }
        let paths = self.things.keys().chain(before.things.keys());
        for path in paths {
            let (is, was) = (self.things.get(path), before.things.get(path));
            if is != was || self.selves.get(path) != before.selves.get(path) {
                return Some(format!("`{}` is not what it was", path.display()));
            }
        }
        (self.index != before.index).then(|| "the index is not what it was".to_owned())
    }

    /// That nothing of ours lies about.
    pub fn tidy(&self, work: &Path) -> Result<(), String> {
        for lock in [
            "index.lock",
            "HEAD.lock",
            "refs/heads/one.lock",
            "refs/heads/two.lock",
            "packed-refs.lock",
        ] {
            if work.join(".git").join(lock).exists() {
                return Err(format!("{lock} is left"));
            }
        }
        let left = work.join(".git/ops-git").read_dir().into_iter().flatten().count();
        if left > 0 {
            return Err(format!("{left} folders are left below .git/ops-git"));
        }
        if self.refs.contains("refs/ops-git") {
            return Err(format!("a ref of ours is left: {}", self.refs));
        }
        Ok(())
    }
}
