//! What operations act on.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::step::Step;

/// The name of one thing that operations act on: `git:/srv/app.git`, `sqlite:/var/lib/app.db`.
///
/// It goes into plans and journals, so it must be the same in every process and after every
/// restart; recovery finds by it whose step it reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceId(String);

impl ResourceId {
    /// The id of a thing of this kind; `name` is its canonical path, URL or identity.
    pub fn new(kind: &str, name: impl fmt::Display) -> Self {
        Self(format!("{kind}:{name}"))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing that operations act on: a repository, a backup vault, a site.
pub trait Resource: Sync {
    /// The steps that act on it. Their `Env` is the resource itself.
    type Step: Step<Env = Self>;

    /// Its name, stable across processes.
    fn id(&self) -> ResourceId;

    /// Where its lock file lies, so that programs with different state directories exclude each
    /// other. `None` (the default) puts it into the state directory, which excludes only the
    /// programs that share that.
    fn lock_path(&self) -> Option<PathBuf> {
        None
    }
}
