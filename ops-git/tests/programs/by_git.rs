//! What git itself says of a merge.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

/// What git says of a merge.
#[derive(Debug)]
pub struct ByGit {
    pub clean: bool,
    /// The merged tree; with markers in it if it is not clean.
    pub tree: String,
    /// The paths in conflict, under all their names.
    pub conflicted: BTreeSet<Vec<u8>>,
}

/// Git, away from everybody's configuration.
pub fn git(path: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(path)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .stdin(Stdio::null());
    git
}

/// Merges two commits with the attributes of the first; `None` if git refuses to try.
pub fn merge_by_git(path: &Path, ours: &str, theirs: &str) -> Option<ByGit> {
    let output = git(path)
        .arg(format!("--attr-source={ours}"))
        .args(["merge-tree", "--write-tree", "-z", "--no-messages", ours, theirs])
        .output()
        .unwrap();
    let code = output.status.code();
    if !matches!(code, Some(0 | 1)) {
        return None;
    }
    let mut fields = output.stdout.split(|byte| *byte == 0);
    let tree = String::from_utf8(fields.next().unwrap().to_vec()).unwrap();
    // A file that clashes is listed under a name with the side's name behind it.
    let conflicted = fields
        .filter_map(|field| {
            let at = field.iter().position(|byte| *byte == b'\t')?;
            let name = &field[at + 1..];
            let own = [ours, theirs]
                .into_iter()
                .find_map(|side| name.strip_suffix(format!("~{side}").as_bytes()));
            Some(own.unwrap_or(name).to_vec())
        })
        .collect();
    Some(ByGit { clean: code == Some(0), tree, conflicted })
}
