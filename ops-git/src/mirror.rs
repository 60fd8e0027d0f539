//! Making a bare mirror of a remote.

use std::fmt::Write as _;
use std::path::Path;

use gix::url::Scheme;

use crate::error::{Error, ErrorKind, GitResult as _};
use crate::path_bytes::on_disk;
use crate::remote_url::shown;
use crate::repository::{GitRepository, open_options};

impl GitRepository {
    /// Opens the bare mirror at this path, and makes an empty one that pulls from `url` if there
    /// is none. What the remote has comes with the first
    /// [`safe_pull`](crate::GitRepository::safe_pull).
    ///
    /// It is built under a temporary name beside and renamed, so after a crash it is there or not;
    /// a temporary folder `.NAME.ops-git-new-*` may stay behind, which nobody needs.
    ///
    /// The URL is stored in the mirror's configuration, so it must hold no password, and no token in
    /// the place of a user: see [`with_credentials`](Self::with_credentials).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a URL that is none or holds a password,
    /// [`ErrorKind::Foreign`] if something else is at the path or the mirror there has another URL.
    pub fn mirror(url: &str, path: impl AsRef<Path>) -> Result<Self, Error> {
        let url = checked(url)?;
        let path = std::path::absolute(path.as_ref())
            .map_err(|source| Error::io("find", path.as_ref(), source))?;
        if path.symlink_metadata().is_err() {
            create(&url, &path)?;
        }
        let repository = Self::open(&path)?;
        let repo = repository.handle()?;
        let known = match repo.try_find_remote_without_url_rewrite("origin") {
            None => None,
            // Its error would show the URL, whatever is in it.
            Some(Err(_)) => {
                let what = format!("remote `origin` of `{}` cannot be read", path.display());
                return Err(Error::new(ErrorKind::Foreign, what)
                    .remedy("see what `git remote -v` says, and repair its `remote.origin.url`"));
            }
            Some(Ok(remote)) => remote.url(gix::remote::Direction::Fetch).cloned(),
        };
        let same = known.as_ref().is_some_and(|known| known.to_bstring() == url.as_str());
        if !same {
            let known = known.as_ref().map_or_else(|| "nothing".into(), shown);
            let url = gix::url::parse(url.as_str()).map(|url| shown(&url)).unwrap_or_default();
            let what = format!(
                "the repository at `{}` pulls from {known}, not from {url}",
                path.display()
            );
            return Err(Error::new(ErrorKind::Foreign, what)
                .remedy("give another path, or change its `remote.origin.url` on purpose"));
        }
        Ok(repository)
    }
}

/// The URL as gix writes it, so that it compares equal to what it reads back.
fn checked(url: &str) -> Result<String, Error> {
    // The error of the parser would show the URL, whatever is in it.
    let parsed = gix::url::parse(url).map_err(|_| {
        Error::new(ErrorKind::InvalidInput, "the URL cannot be read")
            .remedy("give a path, or a URL such as https://example.org/app.git")
    })?;
    if parsed.password().is_some() {
        return Err(Error::new(ErrorKind::InvalidInput, "the URL holds a password")
            .remedy("leave it out: it would be stored in the mirror's configuration"));
    }
    match parsed.scheme {
        Scheme::File => {
            let path = on_disk(&parsed.path);
            let path =
                std::path::absolute(path).map_err(|source| Error::io("find", path, source))?;
            Ok(gix::path::into_bstr(path.as_path())
                .doing(|| "the path cannot be written into a configuration".into())?
                .to_string())
        }
        Scheme::Http | Scheme::Https | Scheme::Ssh => Ok(parsed.to_bstring().to_string()),
        other => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("scheme `{}` is not supported", other.as_str()),
        )
        .remedy("use a path, `file`, `http`, `https` or `ssh`")),
    }
}

fn create(url: &str, path: &Path) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("`{}` cannot become a repository", path.display()),
        ));
    };
    ops_core::fs::create_dir_durable(parent)?;
    let prefix = format!(".{}.ops-git-new-", name.to_string_lossy());
    let temporary = tempfile::Builder::new()
        .prefix(&prefix)
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir_in(parent)
        .map_err(|source| Error::io("create a folder in", parent, source))?;
    gix::ThreadSafeRepository::init_opts(
        temporary.path(),
        gix::create::Kind::Bare,
        gix::create::Options::default(),
        open_options(),
    )
    .doing(|| format!("no repository can be made in `{}`", parent.display()))?;
    let config = temporary.path().join("config");
    let mut text =
        std::fs::read_to_string(&config).map_err(|source| Error::io("read", &config, source))?;
    write!(
        text,
        "[remote \"origin\"]\n\turl = {}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n",
        quoted(url)
    )
    .expect("a string takes everything");
    std::fs::write(&config, text).map_err(|source| Error::io("write", &config, source))?;
    ops_core::fs::sync_tree(temporary.path())?;
    match ops_core::fs::rename_noreplace(temporary.path(), path) {
        Ok(()) => {
            // Renamed away: there is nothing left for its guard to remove.
            let _ = temporary.keep();
            ops_core::fs::sync_dir(parent)?;
            Ok(())
        }
        // Somebody else made it at the same time: theirs is looked at like any other.
        Err(_) if path.exists() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_before_anything_is_made() {
        assert_eq!(checked("https://example.org/a.git").unwrap(), "https://example.org/a.git");
        assert_eq!(checked("file:///srv/a.git").unwrap(), "/srv/a.git");
        for ssh in ["ssh://git@example.org:2222/a.git", "git@example.org:a.git"] {
            assert_eq!(checked(ssh).unwrap(), ssh);
        }
        assert_eq!(checked("/srv/a b.git").unwrap(), "/srv/a b.git");
        for (bad, says) in [
            ("https://me:secret@example.org/a.git", "holds a password"),
            ("https://me:secret@example.org:port/a.git", "the URL cannot be read"),
            ("ftp://example.org/a.git", "scheme `ftp`"),
        ] {
            let error = checked(bad).unwrap_err();
            let error = format!("{error:?}");
            assert!(error.contains(says), "{bad}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
