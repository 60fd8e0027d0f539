//! One repository between two trees, twice: for git and for us.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ops_core::{Context, Environment, Outcome};
use ops_git::{CheckoutOptions, GitRepository, GitStep};

use crate::fixture::{command, git};

/// A commit's id that no repository has, for submodules.
pub const SUB: &str = "1111111111111111111111111111111111111111";
pub const OTHER_SUB: &str = "2222222222222222222222222222222222222222";

/// Trees in few words: `a=1 d/x*=2 l@=a s%=1`: file, executable, link, submodule.
pub fn tree(spec: &str) -> Vec<(String, &'static str, String)> {
    spec.split_whitespace()
        .map(|word| {
            let (path, content) = word.split_once('=').unwrap();
            let content = content.to_owned();
            if let Some(path) = path.strip_suffix('*') {
                (path.to_owned(), "100755", content)
            } else if let Some(path) = path.strip_suffix('@') {
                (path.to_owned(), "120000", content)
            } else if let Some(path) = path.strip_suffix('%') {
                (path.to_owned(), "160000", if content == "1" { SUB } else { OTHER_SUB }.into())
            } else {
                (path.to_owned(), "100644", content)
            }
        })
        .collect()
}

/// A temporary directory in memory where there is one.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// A repository with branches `old` and `new`, on `old`.
pub struct Arena {
    pub dir: tempfile::TempDir,
}

impl Arena {
    pub fn new(old: &str, new: &str, script: &str) -> Self {
        let arena = Self { dir: scratch() };
        let repo = arena.path("start");
        git(arena.dir.path(), &["init", "-q", "-b", "old", "start"]);
        import(&repo, &[("old", old), ("new", new)]);
        git(&repo, &["reset", "-q", "--hard"]);
        shell(&repo, script);
        arena
    }

    /// A repository on `old`, which went its way from a base, as `new` did. Whoever commits or
    /// merges is the one that git is told about, too.
    pub fn forked(base: &str, old: &str, new: &str, script: &str) -> Self {
        let arena = Self { dir: scratch() };
        let repo = arena.path("start");
        git(arena.dir.path(), &["init", "-q", "-b", "old", "start"]);
        git(&repo, &["config", "user.name", "C O Mitter"]);
        git(&repo, &["config", "user.email", "committer@example.org"]);
        import(&repo, &[("base", base)]);
        import_on(&repo, &[("old", "base", old), ("new", "base", new)]);
        git(&repo, &["reset", "-q", "--hard"]);
        shell(&repo, script);
        arena
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A copy whose index git has refreshed.
    pub fn copy(&self, name: &str) -> PathBuf {
        let to = self.path(name);
        let mut copy = std::process::Command::new("cp");
        assert!(copy.arg("-a").arg(self.path("start")).arg(&to).status().unwrap().success());
        // A refresh would join an index that is split.
        let names = to.join(".git").read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        if !names.into_iter().any(|name| name.to_string_lossy().starts_with("sharedindex")) {
            let _ = command(&to, &["update-index", "-q", "--refresh"]).output().unwrap();
        }
        to
    }

    /// A copy of a repository of the arena.
    pub fn copy_of(&self, from: &Path, name: &str) -> PathBuf {
        let to = self.path(name);
        let mut copy = std::process::Command::new("cp");
        assert!(copy.arg("-a").arg(from).arg(&to).status().unwrap().success());
        to
    }

    /// One whose clock stands still where git's does.
    pub fn at_gits_time(&self) -> Context {
        Context::builder(self.path("state"))
            .environment(Environment::Development)
            .clock(ops_core::ManualClock::new("2023-11-14T22:13:20Z".parse().unwrap()))
            .build()
    }

    pub fn cx(&self) -> Context {
        Context::builder(self.path("state")).environment(Environment::Development).build()
    }
}

pub fn shell(repo: &Path, script: &str) {
    let mut shell = command(repo, &[]);
    let environment: Vec<_> =
        shell.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
    shell = std::process::Command::new("sh");
    shell.args(["-euc", script]).current_dir(repo);
    for (key, value) in environment {
        shell.env(key, value.unwrap());
    }
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes branches with these trees.
pub fn import(repo: &Path, branches: &[(&str, &str)]) {
    let branches: Vec<_> = branches.iter().map(|(branch, spec)| (*branch, "", *spec)).collect();
    import_on(repo, &branches);
}

/// Makes branches with these trees, each on top of another one, or of none.
pub fn import_on(repo: &Path, branches: &[(&str, &str, &str)]) {
    let mut stream = Vec::new();
    for (branch, onto, spec) in branches {
        let mut text = format!(
            "commit refs/heads/{branch}\nmark :1\ncommitter C <c@example.org> 1700000000 +0000\ndata {}\n{branch}\n",
            branch.len()
        );
        if !onto.is_empty() {
            writeln!(text, "from refs/heads/{onto}^0").unwrap();
        }
        text.push_str("deleteall\n");
        for (path, mode, content) in tree(spec) {
            if mode == "160000" {
                writeln!(text, "M {mode} {content} {path}").unwrap();
            } else {
                let content = if mode == "120000" { content } else { format!("{content}\n") };
                writeln!(text, "M {mode} inline {path}\ndata {}\n{content}", content.len())
                    .unwrap();
            }
        }
        stream.extend_from_slice(text.as_bytes());
    }
    let mut child = command(repo, &["fast-import", "--quiet", "--force"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&stream).unwrap();
    assert!(child.wait().unwrap().success());
}

/// One thing of a work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    pub what: String,
    pub inode: u64,
    pub modified: (i64, i64),
}

/// Everything in a work tree but `.git`, with bytes.
pub fn snapshot(root: &Path) -> BTreeMap<PathBuf, Thing> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path == root.join(".git") {
                continue;
            }
            let meta = path.symlink_metadata().unwrap();
            let what = if meta.is_dir() {
                left.push(path.clone());
                format!("folder {:o}", meta.permissions().mode() & 0o777)
            } else if meta.is_symlink() {
                format!("link {}", path.read_link().unwrap().display())
            } else {
                let mode = meta.permissions().mode() & 0o777;
                format!("file {mode:o} {:?}", String::from_utf8_lossy(&fs::read(&path).unwrap()))
            };
            let modified = (meta.mtime(), meta.mtime_nsec());
            let thing = Thing { what, inode: meta.ino(), modified };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), thing);
        }
    }
    found
}

pub fn contents(root: &Path) -> BTreeMap<PathBuf, String> {
    snapshot(root).into_iter().map(|(path, thing)| (path, thing.what)).collect()
}

/// What git keeps: HEAD, refs, the index byte by byte, files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    head: String,
    refs: String,
    index: Option<Vec<u8>>,
    index_modified: Option<(i64, i64)>,
    files: BTreeMap<PathBuf, Thing>,
}

impl Whole {
    pub fn files(&self) -> &BTreeMap<PathBuf, Thing> {
        &self.files
    }

    /// Whether all bytes are the same; inodes may differ, as in a copy.
    pub fn same_bytes(&self, other: &Self) -> bool {
        let without = |whole: &Self| {
            let mut whole = whole.clone();
            for thing in whole.files.values_mut() {
                thing.inode = 0;
            }
            whole
        };
        without(self) == without(other)
    }
}

pub fn whole(root: &Path) -> Whole {
    let index = root.join(".git/index");
    let mut files = snapshot(root);
    // Times and inodes of folders are not part of what is promised.
    for thing in files.values_mut().filter(|thing| thing.what.starts_with("folder")) {
        thing.inode = 0;
        thing.modified = (0, 0);
    }
    Whole {
        head: fs::read_to_string(root.join(".git/HEAD")).unwrap(),
        refs: git(root, &["for-each-ref"]),
        index: fs::read(&index).ok(),
        index_modified: index.metadata().ok().map(|meta| (meta.mtime(), meta.mtime_nsec())),
        files,
    }
}

/// Nothing of ours is left behind.
pub fn tidy(root: &Path) {
    for lock in ["index.lock", "HEAD.lock", "refs/heads/new.lock", "refs/heads/old.lock"] {
        assert!(!root.join(".git").join(lock).exists(), "{lock} is left");
    }
    let ops = root.join(".git/ops-git");
    let left: Vec<_> = ops
        .read_dir()
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "lost")
        .collect();
    assert!(left.is_empty(), "left below .git/ops-git: {left:?}");
    assert_eq!(git(root, &["for-each-ref", "refs/ops-git"]), "");
}

/// What a checkout of ours came to.
#[derive(Debug)]
pub enum Ours {
    Done,
    /// The text of every refusal.
    Refused(String),
}

pub async fn ours(arena: &Arena, repo: &Path, version: &str, options: CheckoutOptions) -> Ours {
    let repository = GitRepository::open(repo).unwrap();
    let plan = repository.plan_checkout(version, options).await;
    carried_out(arena, &repository, plan).await
}

/// What a plan of ours came to.
pub async fn carried_out(
    arena: &Arena,
    repository: &GitRepository,
    plan: Result<ops_core::Plan, ops_git::Error>,
) -> Ours {
    match plan {
        Ok(plan) => {
            let report = repository
                .execute(plan, &arena.cx())
                .await
                .unwrap_or_else(|error| panic!("{}", ops_core::error::chain(&error).join(": ")));
            assert_eq!(report.outcome, Outcome::Completed);
            Ours::Done
        }
        Err(error) => {
            let kinds = [ops_git::ErrorKind::Refused, ops_git::ErrorKind::Conflict];
            assert!(kinds.contains(&error.kind()), "{error}");
            assert!(!error.reasons().is_empty(), "{error}");
            Ours::Refused(error.to_string())
        }
    }
}

/// Runs a plan into a failure, and goes back.
pub async fn run_and_back(arena: &Arena, repository: &GitRepository, plan: ops_core::Plan) {
    let plan = plan.change(repository, &failing()).unwrap();
    let error = repository.execute(plan, &arena.cx()).await.unwrap_err();
    let outcome = &error.report().unwrap().outcome;
    assert!(
        matches!(outcome, Outcome::RolledBack { .. }),
        "{outcome:?}: {}",
        ops_core::error::chain(&error).join(": ")
    );
}

/// A change that always fails, so that what was done before it is undone.
pub fn failing() -> GitStep {
    GitStep::VerifyBranch {
        branch: "no-such-branch".parse().unwrap(),
        commit: "0".repeat(40).parse().unwrap(),
    }
}

/// Plans, runs into a failure, and goes back.
pub async fn there_and_back(arena: &Arena, repo: &Path, version: &str, options: CheckoutOptions) {
    let repository = GitRepository::open(repo).unwrap();
    let plan = repository.plan_checkout(version, options).await.unwrap();
    run_and_back(arena, &repository, plan).await;
}

/// What git did: whether it accepted.
pub fn theirs(repo: &Path, version: &str) -> Result<(), String> {
    let output = command(repo, &["checkout", "-q", version]).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What git's merge came to.
pub fn merged_by_git(repo: &Path, revision: &str) -> Result<(), String> {
    let output = command(repo, &["merge", "-q", "--no-edit", revision])
        .env("GIT_AUTHOR_NAME", "C O Mitter")
        .env("GIT_AUTHOR_EMAIL", "committer@example.org")
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(String::from_utf8_lossy(&text).into_owned())
}

/// That git sees the same in both, and finds ours sound.
/// Lets git compare what an index notes of its trees with its entries.
pub fn check_noted_trees(repo: &Path) {
    let check = command(repo, &["update-index", "--force-write-index"])
        .env("GIT_TEST_CHECK_CACHE_TREE", "1")
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

pub fn same_for_git(ours: &Path, theirs: &Path, story: &str) {
    check_noted_trees(ours);
    let ask = |root: &Path, args: &[&str]| git(root, args);
    for args in [
        &["status", "--porcelain=v2", "--branch", "--ignored"][..],
        &["ls-files", "--stage"],
        &["diff", "--stat"],
    ] {
        assert_eq!(ask(ours, args), ask(theirs, args), "{story}: git {args:?}");
    }
    assert_eq!(contents(ours), contents(theirs), "{story}");
    git(ours, &["fsck", "--strict", "--no-dangling", "--connectivity-only"]);
}
