//! What an index notes of its trees, by which git and we need not compare them.

use std::collections::BTreeSet;
use std::path::Path;

use ops_git::{Blocker, CheckoutOptions, GitRepository};

use super::arena::{Arena, Ours, check_noted_trees, ours, shell};
use crate::fixture::git;

const OLD: &str = "a=1 d/a=1 d/b=1 d/e/a=1 dx/a=1 gone/a=1 s%=1";
const NEW: &str = "a=1 d/a=2 d/b=1 d/e/a=1 dx/a=1 n/m/a=2 long-name/a=1 zz/a=1 s%=2";

/// The tree that an index says that it would make.
fn noted(repo: &Path) -> Option<String> {
    let options = gix::index::decode::Options::default();
    let path = repo.join(".git/index");
    let index = gix::index::File::at(path, gix::hash::Kind::Sha1, false, options).unwrap();
    let tree = index.tree()?;
    tree.num_entries.map(|_| tree.id.to_string())
}

#[tokio::test]
async fn a_checkout_notes_the_trees_that_git_would() {
    for (script, known) in [
        // As git wrote it.
        ("git read-tree HEAD", true),
        // Nothing was checked out yet.
        ("rm -r .git/index a d dx gone s", true),
        // A local change is none of the index.
        ("echo x >> dx/a", true),
        // What is staged is in no tree.
        ("git read-tree HEAD; echo x > dx/a; git add dx/a", false),
        ("git read-tree HEAD; echo x > u; git add -N u", false),
        ("git read-tree HEAD; git rm -q --cached dx/a", false),
        ("git update-index --index-version 4 --force-write-index", true),
    ] {
        let arena = Arena::new(OLD, NEW, "");
        let repo = arena.path("start");
        shell(&repo, script);
        let answer = ours(&arena, &repo, "new", CheckoutOptions::default()).await;
        assert!(matches!(answer, Ours::Done), "{script}");
        check_noted_trees(&repo);
        let tree = git(&repo, &["rev-parse", "HEAD^{tree}"]);
        if known {
            assert_eq!(noted(&repo).as_ref(), Some(&tree), "{script}");
            assert_eq!(git(&repo, &["write-tree"]), tree, "{script}");
        } else {
            assert_ne!(noted(&repo).as_ref(), Some(&tree), "{script}");
        }
    }
}

#[tokio::test]
async fn what_is_staged_beside_noted_trees_is_found() {
    for script in [
        ":",
        "echo x > a; git add a",
        "echo x > d/e/a; git add d/e/a",
        "git rm -q d/b",
        "git rm -rq d",
        "echo x > d/c; git add d/c",
        "echo x > d.x; git add d.x; echo x > d/z; git add d/z",
        "git rm -q dx/a; echo x > dx; git add dx",
        "git update-index --chmod=+x d/a",
        "git reset -q --soft new",
    ] {
        let arena = Arena::new(OLD, NEW, "git read-tree HEAD");
        let repo = arena.path("start");
        shell(&repo, script);
        let found = GitRepository::open(&repo).unwrap().inspect().await.unwrap();
        let changed: BTreeSet<String> = found
            .blockers
            .iter()
            .filter_map(|blocker| match blocker {
                Blocker::Dirty { paths, .. } => Some(paths),
                _ => None,
            })
            .flatten()
            .map(ToString::to_string)
            .collect();
        let diff =
            |more: &[&str]| git(&repo, &[&["diff", "--name-only", "--no-renames"], more].concat());
        let by_git = [diff(&["--cached"]), diff(&[])].join("\n");
        let by_git: BTreeSet<String> =
            by_git.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        assert_eq!(changed, by_git, "{script}");
    }
}
