//! Which files of a directory are backed up.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::{Error, ErrorKind};

/// Globs over the paths within a directory. One without a `/` is of a name at any depth; `*` and `?`
/// do not match `/`, `**` does.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Filter {
    /// Takes everything where there is no `include`; `exclude` wins.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, Error> {
        let include = if include.is_empty() { None } else { Some(set(include)?) };
        Ok(Self { include, exclude: set(exclude)? })
    }

    /// Whether it is restored, where only a part is: it, or a folder around it, is matched.
    pub fn chooses(&self, inside: &Path) -> bool {
        let inside = inside.ancestors().filter(|path| !path.as_os_str().is_empty());
        self.include.as_ref().is_none_or(|include| inside.into_iter().any(|p| include.is_match(p)))
    }

    /// Whether it is backed up. Of a folder that is not, nothing below it is.
    pub fn takes(&self, inside: &Path, is_folder: bool) -> bool {
        if inside.as_os_str().is_empty() {
            return true;
        }
        let wanted =
            is_folder || self.include.as_ref().is_none_or(|include| include.is_match(inside));
        wanted && !self.exclude.is_match(inside)
    }
}

fn set(globs: &[String]) -> Result<GlobSet, Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let refuse = |e: globset::Error| {
            Error::new(ErrorKind::InvalidInput, format!("`{glob}` is no glob: {}", e.kind()))
                .remedy("use `*`, `?`, `**`, `[a-z]`, `{a,b}`")
        };
        let bare = glob.trim_matches('/');
        // With a slash it begins at the top, without one it is a name anywhere.
        let anchored = glob.trim_end_matches('/').contains('/');
        let whole = if anchored { bare.to_owned() } else { format!("**/{bare}") };
        let built = GlobBuilder::new(&whole).literal_separator(true).build().map_err(refuse)?;
        set.add(built);
    }
    set.build()
        .map_err(|e| Error::new(ErrorKind::InvalidInput, "the globs are too many").caused_by(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let takes = |include: &[&str], exclude: &[&str], path: &str| {
            let own = |globs: &[&str]| globs.iter().map(ToString::to_string).collect::<Vec<_>>();
            Filter::new(&own(include), &own(exclude)).unwrap().takes(Path::new(path), false)
        };
        for (include, exclude, path, expected) in [
            (&[][..], &[][..], "a/b", true),
            (&[], &["*.log"], "a/b.log", false),
            (&[], &["*.log"], "a.log/b", true),
            (&[], &["cache/"], "a/cache", false),
            (&[], &["/cache"], "a/cache", true),
            (&[], &["/cache"], "cache", false),
            (&[], &["a/*"], "a/b", false),
            (&[], &["a/*"], "a/b/c", true),
            (&[], &["a/**"], "a/b/c", false),
            (&["*.rs"], &[], "src/lib.rs", true),
            (&["*.rs"], &[], "src/lib.c", false),
            (&["*.rs"], &["lib.*"], "src/lib.rs", false),
            (&["*.{c,h}"], &[], "x.h", true),
        ] {
            assert_eq!(takes(include, exclude, path), expected, "{include:?} {exclude:?} {path}");
        }
        let chooses = |glob: &str, path: &str| {
            Filter::new(&[glob.to_owned()], &[]).unwrap().chooses(Path::new(path))
        };
        for (glob, path, expected) in [
            ("src", "src/deep/a.rs", true),
            ("deep", "src/deep/a.rs", true),
            ("/deep", "src/deep/a.rs", false),
            ("src/*.rs", "src/deep/a.rs", false),
            ("*.rs", "src", false),
        ] {
            assert_eq!(chooses(glob, path), expected, "{glob} {path}");
        }
        let error = Filter::new(&["[".to_owned()], &[]).unwrap_err();
        assert!(error.to_string().contains("`[` is no glob"), "{error}");
    }
}
