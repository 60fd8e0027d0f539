//! What the rest of the machine does to a switch: permissions, locks, other writers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ops_core::Outcome;
use ops_git::{Blocker, CheckoutOptions, GitRepository, MergeOptions};

use super::arena::{Arena, carried_out, run_and_back, shell, tidy, whole};
use crate::fixture::git;

const BASE: &str = "a=1 d/x=1 e/y=1 k=1";
const OLD: &str = "a=1 d/x=1 e/y=1 k=2";
const NEW: &str = "a=2 d/x=2 f/z=2 k=1";

/// Somebody who is not root, whoever runs the test: `nobody`.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Gives a folder and all in it to `nobody`, if there is another user to give it away.
fn give_away(folder: &Path) {
    if is_root() {
        let mut chown = Command::new("chown");
        assert!(chown.args(["-hR", "65534:65534"]).arg(folder).status().unwrap().success());
    }
}

/// The program that the crash tests kill, run by `nobody` on `work` of a folder.
fn as_nobody(arena: &Arena, dir: &Path, what: &str) -> Output {
    // The folder that it was built in may be closed to others.
    let program = arena.path("program");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_git-crash-program"), &program).unwrap();
        fs::set_permissions(arena.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let state = dir.with_extension("state");
    fs::create_dir_all(&state).unwrap();
    give_away(&state);
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(&program);
        command
    } else {
        Command::new(&program)
    };
    command.arg(dir).arg(format!("{what}-state:{}", state.display())).output().unwrap()
}

/// A work tree that belongs to `nobody`, in a folder of its own.
fn nobodys(arena: &Arena, name: &str) -> (PathBuf, PathBuf) {
    let dir = arena.path(name);
    fs::create_dir(&dir).unwrap();
    let work = arena.copy(&format!("{name}/work"));
    give_away(&dir);
    (dir, work)
}

#[test]
fn what_may_not_be_written_stays_as_it_was() {
    let arena = Arena::forked(BASE, OLD, NEW, "");
    for (what, closed) in [
        ("worktree-checkout", "d"),
        ("worktree-checkout", "."),
        ("worktree-merge", "d"),
        ("worktree-checkout", ".git"),
        ("worktree-merge", ".git/refs/heads"),
        ("worktree-checkout", ".git/logs"),
        ("worktree-merge", ".git/objects"),
    ] {
        let name = format!("{what}-{}", closed.replace(['/', '.'], "_"));
        let (dir, work) = nobodys(&arena, &name);
        let _ = fs::remove_dir_all(work.join(".git/refs/ops-git"));
        let before = whole(&work);
        shell(
            &work,
            &format!(
                "find {closed} -type d -exec chmod a-w {{}} + ; chmod a-w {closed}/HEAD 2>/dev/null || true"
            ),
        );
        let output = as_nobody(&arena, &dir, what);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{name}: it was written");
        assert!(said.contains("denied"), "{name}: {said}");
        shell(
            &work,
            &format!(
                "find {closed} -type d -exec chmod u+w {{}} +; chmod u+w {closed}/HEAD 2>/dev/null || true"
            ),
        );
        let output = as_nobody(&arena, &dir, "worktree-recover");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        assert!(whole(&work) == before, "{name}: {said}");
        tidy(&work);
    }
}

#[tokio::test]
async fn packed_refs_move_and_come_back() {
    let arena = Arena::forked(BASE, OLD, NEW, "git pack-refs --all --prune");
    let repo = arena.copy("packed");
    assert!(!repo.join(".git/refs/heads/old").exists());
    let repository = GitRepository::open(&repo).unwrap();
    let before = whole(&repo);
    let plan = repository.plan_merge(&arena.cx(), "new", MergeOptions::default()).await.unwrap();
    run_and_back(&arena, &repository, plan).await;
    assert_eq!(whole(&repo), before);
    tidy(&repo);
    let plan = repository.plan_merge(&arena.cx(), "new", MergeOptions::default()).await;
    carried_out(&arena, &repository, plan).await;
    assert_eq!(git(&repo, &["rev-list", "--count", "--merges", "old"]), "1");
    git(&repo, &["pack-refs", "--all"]);
    assert_eq!(git(&repo, &["status", "--porcelain"]), "");
    tidy(&repo);
}

#[tokio::test]
async fn a_lock_that_appears_at_the_last_moment_is_named_with_age_and_owner() {
    let arena = Arena::forked(BASE, OLD, NEW, "");
    for lock in ["index.lock", "refs/heads/old.lock"] {
        let repo = arena.copy(&lock.replace('/', "-"));
        let repository = GitRepository::open(&repo).unwrap();
        let cx = arena.cx();
        let plan = repository.plan_merge(&cx, "new", MergeOptions::default()).await.unwrap();
        let before = whole(&repo);
        let path = repo.join(".git").join(lock);
        // Held open, as git holds one while it writes.
        let held = fs::File::create(&path).unwrap();
        let error = repository.execute(plan, &cx).await.unwrap_err();
        let outcome = &error.report().unwrap().outcome;
        assert!(matches!(outcome, Outcome::RolledBack { .. }), "{outcome:?}");
        let said = format!("{outcome:?}");
        let process = format!("of process {} (`", std::process::id());
        for part in [lock, "s old", &process, "user `"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let found = repository.inspect_checkout("new", CheckoutOptions::default()).await.unwrap();
        let owner = found.iter().find_map(|blocker| match blocker {
            Blocker::Locked { path, owner, .. } if path.ends_with(lock) => Some(owner.clone()),
            _ => None,
        });
        assert!(owner.is_some_and(|owner| process.contains(&owner[..10])), "{found:?}");
        drop(held);
        fs::remove_file(&path).unwrap();
        assert_eq!(whole(&repo), before, "{lock}");
        tidy(&repo);
    }
}

#[test]
fn two_merges_at_once_are_one() {
    let arena = Arena::forked(BASE, OLD, NEW, "");
    let work = arena.copy("work");
    let dir = arena.dir.path();
    for _ in 0..4 {
        git(&work, &["reset", "-q", "--hard", "base"]);
        let start = || {
            let mut program = Command::new(env!("CARGO_BIN_EXE_git-crash-program"));
            program.arg(dir).arg("worktree-merge").stderr(std::process::Stdio::piped());
            program.spawn().unwrap()
        };
        let both = [start(), start()].map(|child| child.wait_with_output().unwrap());
        let done = both.iter().filter(|output| output.status.success()).count();
        assert!(done >= 1, "{both:?}");
        assert_eq!(git(&work, &["status", "--porcelain"]), "");
        assert_eq!(git(&work, &["rev-parse", "old"]), git(&work, &["rev-parse", "new"]));
        tidy(&work);
    }
}
