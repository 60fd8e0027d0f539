//! A repository that is measured, and the copies of it that the sides work on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use filetime::FileTime;

use super::generate;
use crate::Failure;
use crate::child::{ask, git, output};

/// Files of a work tree that came to rest are older than their index.
const REST_SECONDS: i64 = 3_600;

/// A bare repository with the branches `main`, `before`, `near` and `far`, and `ours` and `theirs`
/// if it merges.
pub(super) struct Subject {
    pub folder: PathBuf,
    /// Stands in the names of the benchmarks.
    pub name: String,
    /// How many files `main` has.
    pub files: usize,
    /// How many commits `main` has on top of `before`.
    pub commits: usize,
    pub merges: bool,
}

impl Subject {
    pub fn generated(folder: &Path) -> Result<Self, Failure> {
        let bare = make_bare(folder)?;
        generate::generate(&bare)?;
        Self::over(folder, "generated", generate::COMMITS, true)
    }

    /// A repository that somebody has. `near` is the commit before its `HEAD`, `far` and `before`
    /// the first of its first parents that lacks 1,000 commits, or the oldest; `ours` and `theirs`
    /// are the sides of its newest merge.
    pub fn of(path: &Path, folder: &Path) -> Result<Self, Failure> {
        let bare = make_bare(folder)?;
        let from = std::path::absolute(path)?;
        let from = from.to_str().ok_or("the repository's path is no UTF-8")?;
        ask(&bare, &["fetch", "-q", "--no-tags", from, "HEAD:refs/heads/main"])?;
        let line = ask(&bare, &["rev-list", "--first-parent", "--max-count=1001", "main"])?;
        let line: Vec<_> = line.lines().collect();
        let lacking = |commit: &str| -> Result<usize, Failure> {
            Ok(ask(&bare, &["rev-list", "--count", &format!("{commit}..main")])?.parse()?)
        };
        let mut far = (*line.last().ok_or("it has no commit")?, generate::COMMITS);
        for commit in &line {
            far = (commit, lacking(commit)?);
            if far.1 >= generate::COMMITS {
                break;
            }
        }
        let near = line.get(1).ok_or("it has one commit only")?;
        for (branch, commit) in [("near", *near), ("far", far.0), ("before", far.0)] {
            ask(&bare, &["branch", "-q", branch, commit])?;
        }
        let merge = ask(&bare, &["rev-list", "--merges", "--max-count=1", "main"])?;
        if !merge.is_empty() {
            ask(&bare, &["branch", "-q", "ours", &format!("{merge}^1")])?;
            ask(&bare, &["branch", "-q", "theirs", &format!("{merge}^2")])?;
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        Self::over(folder, &name, far.1, !merge.is_empty())
    }

    fn over(folder: &Path, name: &str, commits: usize, merges: bool) -> Result<Self, Failure> {
        let bare = folder.join("all.git");
        let files = ask(&bare, &["ls-tree", "-r", "--name-only", "main"])?.lines().count();
        Ok(Self { folder: folder.to_owned(), name: name.to_owned(), files, commits, merges })
    }

    pub fn bare(&self) -> PathBuf {
        self.folder.join("all.git")
    }

    pub fn group(&self, what: &str) -> String {
        format!("git, {} of {} files: {what}", self.name, self.files)
    }

    /// A work tree of its own, on `main`, clean and at rest.
    pub fn work_tree(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        let (bare, to) = (text(&self.bare())?.to_owned(), text(&path)?.to_owned());
        ask(&self.folder, &["clone", "-q", "--no-hardlinks", "-b", "main", &bare, &to])?;
        quiet(&path)?;
        for branch in ["near", "far"] {
            ask(&path, &["branch", "-q", "--track", branch, &format!("origin/{branch}")])?;
        }
        rest(&path)?;
        Ok(path)
    }
}

fn make_bare(folder: &Path) -> Result<PathBuf, Failure> {
    std::fs::create_dir_all(folder)?;
    ask(folder, &["init", "-q", "--bare", "-b", "main", "all.git"])?;
    let bare = folder.join("all.git");
    quiet(&bare)?;
    Ok(bare)
}

/// Else git would now and then do something else besides, in the background.
pub(super) fn quiet(repository: &Path) -> Result<(), Failure> {
    ask(repository, &["config", "gc.auto", "0"])?;
    ask(repository, &["config", "maintenance.auto", "false"])?;
    Ok(())
}

pub(super) fn text(path: &Path) -> Result<&str, Failure> {
    Ok(path.to_str().ok_or("the scratch folder's path is no UTF-8")?)
}

pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    output(Command::new("cp").arg("-a").arg(from).arg(to))?;
    Ok(())
}

/// Makes a work tree one whose files were written long before its index, so that neither side has
/// to read them to know them, and proves that git finds nothing in it.
pub(super) fn rest(path: &Path) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let then = FileTime::from_unix_time(i64::try_from(now)? - REST_SECONDS, 0);
    let mut left = vec![path.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in folder.read_dir()? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                if entry.file_name() != ".git" {
                    left.push(entry.path());
                }
            } else {
                filetime::set_symlink_file_times(entry.path(), then, then)?;
            }
        }
    }
    ask(path, &["update-index", "-q", "--refresh"])?;
    let found = ask(path, &["status", "--porcelain", "--untracked-files=all"])?;
    if found.is_empty() {
        Ok(())
    } else {
        Err(format!("the work tree is not clean: {found}").into())
    }
}

/// Waits until the disk has nothing left to do for the one before.
pub(super) fn settle(folder: &Path) -> Result<(), Failure> {
    Ok(rustix::fs::syncfs(std::fs::File::open(folder)?)?)
}

/// That a name in a repository means a commit.
pub(super) fn expect(repository: &Path, name: &str, commit: &str) -> Result<(), Failure> {
    let is = output(&mut git(repository, &["rev-parse", "-q", "--verify", name]))?;
    if is.trim_end() == commit {
        return Ok(());
    }
    Err(format!("`{name}` of {} is {is}, not {commit}", repository.display()).into())
}
