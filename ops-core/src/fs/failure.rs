//! The errors of file work: action, path, and what a person does about it.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::error::Error;

/// The error of `action` on `path`, with the remedy where the cause is a well-known one.
pub(super) fn failed(action: &str, path: &Path, source: impl Into<io::Error>) -> Error {
    let source = source.into();
    let known = source.raw_os_error().map(Errno::from_raw_os_error).and_then(remedy);
    let error = Error::io(action, path, source);
    match known {
        Some(text) => error.remedy(text),
        None => error,
    }
}

fn remedy(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::NOSPC => "no space is left on the file system: free some and try again",
        Errno::DQUOT => "the disk quota is used up: free space or raise the quota",
        Errno::ROFS => "the file system is mounted read-only: remount it for writing",
        Errno::XDEV => "both paths must lie on one file system",
        Errno::ACCESS | Errno::PERM => "check the owner and the mode of the path and its folders",
        Errno::LOOP => "it is a symbolic link, which is not followed here",
        Errno::NAMETOOLONG => "choose a shorter path",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_with_its_remedy() {
        let error = failed("write", Path::new("/srv/a"), Errno::NOSPC);
        assert_eq!(
            error.to_string(),
            "cannot write `/srv/a`; no space is left on the file system: free some and try again"
        );
    }
}
