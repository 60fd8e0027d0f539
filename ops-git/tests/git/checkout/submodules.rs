//! Submodules that are switched along, as git does it with `--recurse-submodules`, or refused.

use std::fs;
use std::path::{Path, PathBuf};

use ops_git::{
    Blocker, CheckoutOptions, ErrorKind, GitRepository, MergeOptions, SubmodulePolicy,
    SubmoduleState,
};

use super::arena::{Arena, contents, run_and_back, shell, tidy, whole};
use crate::fixture::git;

/// A work tree with a submodule `d/s` that has one, `t`, of its own; `new` has both at the next
/// commit.
fn nested() -> (Arena, PathBuf) {
    let arena = Arena::new("k=1", "k=1", "");
    shell(
        arena.dir.path(),
        "g='git -c protocol.file.allow=always'\n\
         for r in inner outer; do git init -q -b main $r; done\n\
         echo 1 > inner/i; git -C inner add i; git -C inner commit -qm 1\n\
         $g -C outer submodule --quiet add $PWD/inner t; echo 1 > outer/o; git -C outer add o\n\
         git -C outer commit -qm 1; git -C inner checkout -q -b keep; echo 2 > inner/i; echo n > inner/n\n\
         git -C inner add .; git -C inner commit -qm 2; git -C inner branch -qf main keep\n\
         $g -C outer/t fetch -q; git -C outer/t checkout -q origin/main; echo 2 > outer/o\n\
         git -C outer commit -qam 2; git -C start checkout -q new\n\
         $g -C start submodule --quiet add $PWD/outer d/s; git -C start commit -qm new\n\
         git -C start/d/s checkout -q main~1; git -C start checkout -q -b base\n\
         git -C start add d/s; git -C start commit -qm base; git -C start branch -qf old base\n\
         git -C start checkout -q old; git -C start branch -D -q base\n\
         git -C start checkout -q new; git -C start reset -q --soft old; git -C start/d/s checkout -q main\n\
         echo 2 > start/k; git -C start add k d/s; git -C start commit -qm new\n\
         git -C start checkout -q old; git -C start/d/s checkout -q main~1\n\
         $g -C start submodule --quiet update --init --recursive\n\
         $g -C start/d/s/t fetch -q origin",
    );
    let repo = arena.copy("ours");
    (arena, repo)
}

fn heads(repo: &Path) -> [String; 3] {
    [".", "d/s", "d/s/t"].map(|at| git(&repo.join(at), &["rev-parse", "HEAD"]))
}

#[tokio::test]
async fn they_are_left_alone_or_switched_along() {
    let (arena, repo) = nested();
    let (alone, theirs) = (arena.copy("alone"), arena.copy("theirs"));
    assert_eq!(git(&repo, &["status", "--porcelain"]), "");
    let before = (whole(&repo), heads(&repo));

    let repository = GitRepository::open(&alone).unwrap();
    repository.safe_checkout(&arena.cx(), "new").await.unwrap();
    assert_eq!(heads(&alone)[1..], before.1[1..]);

    let repository = GitRepository::open(&repo).unwrap();
    let options = CheckoutOptions::default().submodules(SubmodulePolicy::Update);
    let plan = repository.plan_checkout("new", options).await.unwrap();
    assert_eq!(plan.facts["submodules"], "2");
    assert_eq!(plan.facts["files_changed"], "3");
    run_and_back(&arena, &repository, plan.clone()).await;
    assert_eq!((whole(&repo), heads(&repo)), before);
    repository.execute(plan, &arena.cx()).await.unwrap();
    // A copy has other inodes than its indexes know.
    shell(&theirs, "git submodule --quiet foreach --recursive git update-index -q --refresh");
    git(&theirs, &["checkout", "-q", "--recurse-submodules", "new"]);
    assert_eq!(heads(&repo), heads(&theirs));
    assert_eq!(git(&repo, &["status", "--porcelain", "--branch"]), "## new");
    let ours: Vec<_> =
        contents(&repo).into_iter().filter(|(path, _)| !path.ends_with(".git")).collect();
    let by_git: Vec<_> =
        contents(&theirs).into_iter().filter(|(path, _)| !path.ends_with(".git")).collect();
    assert_eq!(ours, by_git);
    for at in ["d/s", "d/s/t"] {
        let dir = repo.join(at);
        assert_eq!(git(&dir, &["status", "--porcelain"]), "");
        assert_eq!(git(&dir, &["for-each-ref", "refs/ops-git"]), "");
        let git_dir = PathBuf::from(git(&dir, &["rev-parse", "--absolute-git-dir"]));
        assert!(!git_dir.join("ops-git").exists() && !git_dir.join("index.lock").exists());
    }
    tidy(&repo);
}

#[tokio::test]
async fn a_merge_takes_them_along() {
    let (arena, repo) = nested();
    shell(&repo, "echo ours > own; git add own; git commit -qm own");
    git(&repo, &["config", "user.name", "Ops"]);
    git(&repo, &["config", "user.email", "ops@example.org"]);
    let before = (whole(&repo), heads(&repo));
    let repository = GitRepository::open(&repo).unwrap();
    let options = MergeOptions::default().submodules(SubmodulePolicy::Update);
    let plan = repository.plan_merge(&arena.cx(), "new", options).await.unwrap();
    assert_eq!((plan.facts["merge"].as_str(), plan.facts["submodules"].as_str()), ("commit", "2"));
    run_and_back(&arena, &repository, plan.clone()).await;
    assert_eq!((whole(&repo), heads(&repo)), before);
    repository.execute(plan, &arena.cx()).await.unwrap();
    assert_eq!(git(&repo, &["status", "--porcelain"]), "");
    assert_eq!(fs::read_to_string(repo.join("d/s/t/i")).unwrap(), "2\n");
    tidy(&repo);
}

#[tokio::test]
async fn what_cannot_come_along_is_refused_by_name() {
    let (arena, _) = nested();
    for (name, script, says) in [
        ("gone", "git submodule --quiet deinit -f d/s", "submodule `d/s` is not there"),
        ("elsewhere", "git -C d/s checkout -q --detach main", "submodule `d/s` is at "),
        (
            "changed",
            "echo x >> d/s/o; echo x > d/s/t/n; echo x >> d/s/t/i",
            "local changes would be lost: `d/s/o`",
        ),
        (
            "missing",
            "git -C d/s/t remote remove origin; git -C d/s/t tag | xargs -r git -C d/s/t tag -d\n\
             git -C d/s/t reflog expire --expire=now --all; rm -f $(git -C d/s/t rev-parse --git-path FETCH_HEAD)\n\
             git -C d/s/t branch | grep -v '(' | xargs -r git -C d/s/t branch -D -q\n\
             git -C d/s/t gc -q --prune=now",
            "submodule `d/s/t` does not have commit ",
        ),
        ("locked", "touch $(git -C d/s rev-parse --absolute-git-dir)/index.lock", "index.lock`"),
    ] {
        let repo = arena.copy(name);
        shell(&repo, script);
        let before = all_but_gone(&repo, name);
        let repository = GitRepository::open(&repo).unwrap();
        let options = || CheckoutOptions::default().submodules(SubmodulePolicy::Update);
        let error = repository.plan_checkout("new", options()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{name}: {error}");
        assert!(error.to_string().contains(says), "{name}: {error}");
        let found = repository.inspect_checkout("new", options()).await.unwrap();
        let state = found.iter().find_map(|blocker| match blocker {
            Blocker::Submodule { state, .. } => Some(state),
            _ => None,
        });
        assert!(
            match name {
                "gone" => state == Some(&SubmoduleState::NotThere),
                "elsewhere" => matches!(state, Some(SubmoduleState::Elsewhere { .. })),
                "missing" => matches!(state, Some(SubmoduleState::CommitMissing { .. })),
                _ => state.is_none(),
            },
            "{name}: {found:?}"
        );
        if name == "changed" {
            let text = error.to_string();
            for part in ["`d/s/t/i`", "untracked files are in the way: `d/s/t/n`"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        assert_eq!(all_but_gone(&repo, name), before, "{name}");
    }
}

fn all_but_gone(repo: &Path, name: &str) -> super::arena::Whole {
    assert_eq!(repo.join("d/s/.git").exists(), name != "gone");
    whole(repo)
}
