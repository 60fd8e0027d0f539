//! Full disks, foreign locks, other writers, and what a user does meanwhile.

use std::fs;
use std::path::Path;
use std::process::Command;

use ops_core::Outcome;
use ops_git::{Blocker, CheckoutOptions, ErrorKind, GitRepository, Obstacle};

use super::arena::{Arena, Ours, contents, ours, same_for_git, shell, theirs, tidy, whole};
use crate::fixture::git;

#[tokio::test]
async fn a_branch_is_on_head_and_anything_else_detaches_it() {
    let arena = Arena::new("a=1", "a=2", "git tag v2 new; git tag -a -m annotated v2a new");
    let id = git(&arena.path("start"), &["rev-parse", "new"]);
    for version in ["new", "v2", "v2a", &id, &id[..9], "refs/heads/new"] {
        let (a, b) = (
            arena.copy(&format!("ours-{version}").replace('/', "-")),
            arena.copy(&format!("theirs-{version}").replace('/', "-")),
        );
        assert!(matches!(ours(&arena, &a, version, CheckoutOptions::default()).await, Ours::Done));
        theirs(&b, version).unwrap();
        if version.starts_with("refs/") {
            continue; // git detaches here; we take the branch that is named.
        }
        same_for_git(&a, &b, version);
        assert_eq!(
            fs::read_to_string(a.join(".git/HEAD")).unwrap(),
            fs::read_to_string(b.join(".git/HEAD")).unwrap()
        );
        let log = |repo: &Path| git(repo, &["log", "-g", "--format=%H", "-1", "HEAD"]);
        assert_eq!(log(&a), log(&b));
        let message = git(&a, &["log", "-g", "--format=%gs", "-1", "HEAD"]);
        assert!(message.starts_with("checkout: moving from old to "), "{message}");
    }
    let repo = arena.copy("detached");
    let options = CheckoutOptions::default().detach();
    ours(&arena, &repo, "new", options).await;
    assert_eq!(fs::read_to_string(repo.join(".git/HEAD")).unwrap().trim(), id);
    // And back to the branch.
    ours(&arena, &repo, "old", CheckoutOptions::default()).await;
    assert_eq!(git(&repo, &["symbolic-ref", "HEAD"]), "refs/heads/old");
    let repository = GitRepository::open(&repo).unwrap();
    let error = repository.safe_checkout(&arena.cx(), "nowhere").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let report = repository.safe_checkout(&arena.cx(), "new").await.unwrap();
    assert_eq!(report.facts["sha_after"], id);
    assert!(report.notes.values().any(|note| note.to_string().contains(&id)), "{report:?}");
}

#[tokio::test]
async fn every_blocker_is_typed_and_named_at_once() {
    let arena = Arena::new(
        "k=1 m=1 s=1",
        "k=2 m=2 s=2 u=1",
        "echo x > k; echo x > u; echo x > s; git add s; printf theirs > .git/index.lock",
    );
    let repo = arena.path("start");
    let repository = GitRepository::open(&repo).unwrap();
    let found = repository.inspect_checkout("new", CheckoutOptions::default()).await.unwrap();
    let obstacles: Vec<_> = found
        .iter()
        .filter_map(|blocker| match blocker {
            Blocker::Paths { obstacle, paths } => Some((obstacle.clone(), paths[0].to_string())),
            _ => None,
        })
        .collect();
    assert_eq!(
        obstacles,
        [
            (Obstacle::LocalChange, "k".to_owned()),
            (Obstacle::StagedChange, "s".to_owned()),
            (Obstacle::Untracked, "u".to_owned()),
        ]
    );
    assert!(found.iter().any(|blocker| blocker.name() == "locked"), "{found:?}");
}

#[tokio::test]
async fn hostile_names_are_all_refused() {
    let arena = Arena::new("k=1", "k=1", "");
    let repo = arena.path("start");
    // Only plumbing that checks nothing makes such a tree.
    shell(
        &repo,
        "b=$(git hash-object -w k)\n\
         inner=$(printf '100644 blob %s\\tconfig\\n' $b | git mktree)\n\
         t=$(printf '100644 blob %s\\tgit~1\\n040000 tree %s\\t.GIT\\n100644 blob %s\\t..\\n' $b $inner $b | git mktree)\n\
         git branch -f new $(git commit-tree -m hostile $t)",
    );
    let before = whole(&repo);
    let Ours::Refused(why) = ours(&arena, &repo, "new", CheckoutOptions::default()).await else {
        panic!("hostile names were written");
    };
    for name in ["`.GIT/config`", "`..`", "`git~1`"] {
        assert!(why.contains(name), "{name}: {why}");
    }
    assert_eq!(whole(&repo), before);
}

#[tokio::test]
async fn locks_of_others_stay_and_ours_that_are_stale_go() {
    let arena = Arena::new("a=1", "a=2", "");
    for lock in ["index.lock", "HEAD.lock"] {
        let repo = arena.copy(lock);
        let before = whole(&repo);
        let path = repo.join(".git").join(lock);
        let repository = GitRepository::open(&repo).unwrap();
        let plan = repository.plan_checkout("new", CheckoutOptions::default()).await.unwrap();
        fs::write(&path, "theirs").unwrap();
        let error = repository.safe_checkout(&arena.cx(), "new").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains(lock) && error.to_string().contains("s old"), "{error}");
        // It appears after the plan was made.
        let error = repository.execute(plan, &arena.cx()).await.unwrap_err();
        let outcome = &error.report().unwrap().outcome;
        assert!(matches!(outcome, Outcome::RolledBack { .. }), "{outcome:?}");
        assert!(format!("{outcome:?}").contains(lock), "{outcome:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        fs::remove_file(&path).unwrap();
        assert_eq!(whole(&repo), before, "{lock}");
        tidy(&repo);
    }
    let repo = arena.copy("stale");
    let id = ops_core::OperationId::generate();
    fs::write(repo.join(".git/index.lock"), format!("ops-git {id}\n")).unwrap();
    assert!(matches!(ours(&arena, &repo, "new", CheckoutOptions::default()).await, Ours::Done));
    tidy(&repo);
}

/// A program of ours that runs before the failing step of the plan, as a user would.
async fn meddled(script: &str) -> (Arena, std::path::PathBuf) {
    let arena = Arena::new("a=1 g=1 d/x=1", "a=2 n=2 d=3", "");
    let repo = arena.copy("ours");
    let repository = GitRepository::open(&repo).unwrap();
    let plan = repository.plan_checkout("new", CheckoutOptions::default()).await.unwrap();
    // The filter of a second checkout is where somebody else gets to run in the middle.
    let script_file = arena.path("meddle.sh");
    fs::write(&script_file, script).unwrap();
    git(
        &repo,
        &["config", "filter.meddle.smudge", &format!("sh -eu {}; false", script_file.display())],
    );
    git(&repo, &["config", "filter.meddle.required", "true"]);
    let tree = "printf 'f filter=meddle\\n' | git hash-object -w --stdin";
    shell(
        &repo,
        &format!(
            "b=$({tree}); f=$(echo x | git hash-object -w --stdin)\n\
             a=$(git rev-parse new:a); n=$(git rev-parse new:n); d=$(git rev-parse new:d)\n\
             t=$(printf '100644 blob %s\\t.gitattributes\\n100644 blob %s\\ta\\n100644 blob %s\\td\\n100644 blob %s\\tf\\n100644 blob %s\\tn\\n' $b $a $d $f $n | git mktree)\n\
             git branch third $(git commit-tree -m third $t)"
        ),
    );
    // The second part is planned as if the first had run.
    let there = arena.copy_of(&repo, "there");
    git(&there, &["checkout", "-q", "new"]);
    let later = GitRepository::open(&there).unwrap();
    let second = later.plan_checkout("third", CheckoutOptions::default()).await.unwrap();
    let text = serde_json::to_string(&second).unwrap();
    let text = text.replace(there.to_str().unwrap(), repo.to_str().unwrap());
    let mut second: ops_core::Plan = serde_json::from_str(&text).unwrap();
    // What looks before the operation begins would see the state before the first part.
    second.changes.retain(|step| step.name == "switch_worktree");
    let error = repository.execute(plan.then(second), &arena.cx()).await.unwrap_err();
    let outcome = &error.report().unwrap().outcome;
    assert!(matches!(outcome, Outcome::RolledBack { .. }), "{outcome:?}");
    (arena, repo)
}

#[tokio::test]
async fn what_a_user_writes_meanwhile_is_saved() {
    let (_arena, repo) = meddled(
        "echo edited >> a; rm n; mkdir n; echo mine > n/file; echo own > g; rm d; mkdir d; echo in > d/y",
    )
    .await;
    let now = contents(&repo);
    let text = |path: &str| now.get(Path::new(path)).cloned().unwrap_or_default();
    assert!(text("a").ends_with("\"1\\n\""), "{now:?}");
    assert!(text("g").ends_with("\"1\\n\"") && text("d/x").ends_with("\"1\\n\""), "{now:?}");
    assert_eq!(git(&repo, &["symbolic-ref", "--short", "HEAD"]), "old");
    let lost = repo.join(".git/ops-git/lost").read_dir().unwrap().next().unwrap().unwrap().path();
    let mut saved: Vec<_> = contents(&lost)
        .into_iter()
        .filter(|(_, what)| what.starts_with("file"))
        .map(|(path, what)| format!("{} {what}", path.display()))
        .collect();
    saved.sort();
    let saved = saved.join("\n");
    for part in ["\"2\\nedited\\n\"", "n/file file", "\"mine\\n\"", "\"own\\n\"", "\"in\\n\""] {
        assert!(saved.contains(part), "{part} is not saved: {saved}");
    }
    tidy(&repo);
}

#[tokio::test]
async fn a_change_within_the_second_of_the_index_is_not_forgotten() {
    for _ in 0..5 {
        let arena = Arena::new("a=1 b=1", "a=2 b=1", "");
        let repo = arena.copy("ours");
        // Of the same size and in the same second: only the content tells.
        shell(&repo, "git reset -q --hard; printf '9\\n' > b");
        assert!(matches!(ours(&arena, &repo, "new", CheckoutOptions::default()).await, Ours::Done));
        assert_eq!(git(&repo, &["status", "--porcelain"]), "M b");
        assert_eq!(fs::read_to_string(repo.join("b")).unwrap(), "9\n");
    }
}

/// Checks out on a disk with 40 KB left: what the program said, and whether all was as before.
fn on_a_full_disk(arena: &Arena, verb: &str) -> String {
    let repo = arena.copy("work");
    let before = whole(&repo);
    let mounted = arena.path("disk");
    fs::create_dir(&mounted).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=600k none {m} && cp -a {r} {m}/work && cd {m} && \
         head -c 10000000 /dev/zero > fill 2>/dev/null; truncate -s -40K fill; \
         {p} {m} {verb}-state:{m}/..; echo $? > {m}/../code; rm fill; cp -a {m}/work {m}/../after",
        m = mounted.display(),
        r = repo.display(),
        p = env!("CARGO_BIN_EXE_git-crash-program"),
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = fs::read_to_string(arena.path("code")).unwrap_or_else(|e| panic!("{e}: {err}"));
    assert_ne!(code.trim(), "0", "the disk was not full: {err}");
    let after = arena.path("after");
    assert!(whole(&after).same_bytes(&before), "{err}");
    tidy(&after);
    err
}

#[tokio::test]
async fn a_disk_without_room_is_a_reason_against_a_checkout() {
    let big = "x".repeat(60_000);
    let arena = Arena::new("a=1", &format!("a=2 big={big} c=3"), "");
    let err = on_a_full_disk(&arena, "worktree-checkout");
    assert!(err.contains("has room for") && err.contains("are needed"), "{err}");
    assert!(!err.contains("went back"), "{err}");
}

#[tokio::test]
async fn a_disk_that_fills_up_meanwhile_leaves_everything_as_it_was() {
    // What a filter makes of a file is not foreseen.
    let filter = "echo 'big filter=longer' > .git/info/attributes; \
                  git config filter.longer.smudge 'cat > /dev/null; head -c 60000 /dev/zero;:'";
    let arena = Arena::new("a=1", "a=2 big=1 c=3", filter);
    let err = on_a_full_disk(&arena, "worktree-checkout");
    assert!(err.contains("went back to the old state"), "{err}");
    let arena = Arena::forked("a=1", "a=1 own=1", "a=2 big=1 c=3", filter);
    let err = on_a_full_disk(&arena, "worktree-merge");
    assert!(err.contains("went back to the old state"), "{err}");
}

#[tokio::test]
async fn two_processes_at_once_do_not_mix() {
    let arena = Arena::new("a=1 b=1 c=1 d=1", "a=2 b=2 c=2 d=2", "");
    let repo = arena.copy("work");
    let dir = arena.dir.path();
    for _ in 0..5 {
        git(&repo, &["checkout", "-q", "old"]);
        let start = || {
            let mut program = Command::new(env!("CARGO_BIN_EXE_git-crash-program"));
            program.arg(dir).arg("worktree-checkout");
            program.stderr(std::process::Stdio::piped()).spawn().unwrap()
        };
        let both = [start(), start()].map(|child| child.wait_with_output().unwrap());
        let done = both.iter().filter(|output| output.status.success()).count();
        assert!(done >= 1, "{both:?}");
        assert_eq!(git(&repo, &["status", "--porcelain"]), "");
        assert_eq!(git(&repo, &["symbolic-ref", "--short", "HEAD"]), "new");
        tidy(&repo);
    }
}
