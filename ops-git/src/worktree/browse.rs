//! Looking at one path after the other.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use gix::bstr::{BStr, BString};

use super::root::{Folder, Root, Seen, look_in, split};
use crate::error::Error;

/// Looks at many paths, of which the next often lies in the folder of the last one: that is kept
/// open, and folders are looked at once.
///
/// For looking only. A folder that somebody moves away stays open, and would lead a move out of the
/// tree; moves reach their folders anew, and look at what they moved.
#[derive(Debug)]
pub(super) struct Browser<'a> {
    root: &'a Root,
    open: Option<(BString, Folder<'a>)>,
    folders: HashMap<BString, Seen>,
    last: Option<(BString, Seen)>,
}

impl<'a> Browser<'a> {
    pub fn new(root: &'a Root) -> Self {
        Self { root, open: None, folders: HashMap::new(), last: None }
    }

    /// What is at a path, as [`Root::look`] says it.
    pub fn look(&mut self, path: &BStr) -> Result<Option<Seen>, Error> {
        if let Some(seen) = self.folders.get(path) {
            return Ok(Some(*seen));
        }
        let (folder, name) = split(path);
        let is_open = self.open.as_ref().is_some_and(|(open, _)| open == folder);
        if !is_open {
            self.open = match self.root.folder(folder) {
                Ok(opened) => Some((folder.to_owned(), opened)),
                Err(errno) => return self.root.seen(path, Err(errno)),
            };
        }
        let Some((_, opened)) = &self.open else { return Ok(None) };
        let seen = self.root.seen(path, look_in(opened.as_fd(), OsStr::from_bytes(name)))?;
        if let Some(seen) = seen.filter(Seen::is_folder) {
            self.folders.insert(path.to_owned(), seen);
        }
        self.last = seen.map(|seen| (path.to_owned(), seen));
        Ok(seen)
    }

    /// The same, of a path that may just have been looked at.
    pub fn again(&mut self, path: &BStr) -> Result<Option<Seen>, Error> {
        match &self.last {
            Some((last, seen)) if last == path => Ok(Some(*seen)),
            _ => self.look(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_the_root_says() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["a/b", "c"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for file in ["x", "a/x", "a/b/x", "c/x"] {
            std::fs::write(dir.path().join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let mut browser = Browser::new(&root);
        for path in [
            "x", "a/x", "a/y", "a/b/x", "a/b", "a", "c/x", "a/x", "x/y", "link", "link/x", "no/x",
            "c/x/y", "c/x",
        ] {
            assert_eq!(
                browser.look(path.into()).unwrap(),
                root.look(path.into()).unwrap(),
                "{path}"
            );
            assert_eq!(browser.again(path.into()).unwrap(), root.look(path.into()).unwrap());
        }
    }
}
