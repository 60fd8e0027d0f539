//! Rows written by hand: git's table for two trees, and every trap.

use ops_git::CheckoutOptions;

use super::arena::{
    Arena, Ours, ours, same_for_git, snapshot, theirs, there_and_back, tidy, whole,
};

/// What is expected of both, or of us alone.
#[derive(Debug, Clone, Copy)]
enum Expect {
    /// Both accept.
    Yes,
    /// Both refuse, and our reason holds this text.
    No(&'static str),
    /// Git accepts and loses something or guesses; we refuse with this reason.
    Cautious(&'static str),
}
use Expect::{Cautious, No, Yes};

struct Row(&'static str, &'static str, &'static str, &'static str, Expect);

async fn check(rows: &[Row], options: CheckoutOptions) {
    for Row(name, old, new, script, expect) in rows {
        let story = format!("{name}: {old} -> {new}; {script}");
        let arena = Arena::new(old, new, script);
        let (a, b, c) = (arena.copy("ours"), arena.copy("theirs"), arena.copy("back"));
        let before = whole(&a);
        let inodes = snapshot(&a);
        let answer = ours(&arena, &a, "new", options.clone()).await;
        let git = theirs(&b, "new");
        match (expect, &answer, &git) {
            (Yes, Ours::Done, Ok(())) => {
                same_for_git(&a, &b, &story);
                for (path, thing) in snapshot(&a) {
                    let was = inodes.get(&path).filter(|was| was.what == thing.what);
                    if let Some(was) = was.filter(|was| !was.what.starts_with("folder")) {
                        assert_eq!(*was, thing, "{story}: `{}` was touched", path.display());
                    }
                }
                let before = whole(&c);
                there_and_back(&arena, &c, "new", options.clone()).await;
                assert_eq!(whole(&c), before, "{story}: undone");
                tidy(&c);
            }
            (No(text), Ours::Refused(why), Err(_))
            | (Cautious(text), Ours::Refused(why), Ok(())) => {
                assert!(why.contains(text), "{story}: `{text}` is not in: {why}");
                assert_eq!(whole(&a), before, "{story}: a refusal changed something");
            }
            _ => panic!("{story}: expected {expect:?}, we {answer:?}, git {git:?}"),
        }
        tidy(&a);
    }
}

#[tokio::test]
async fn the_rows_of_gits_table() {
    let stage = "echo staged > a; git add a";
    let dirty = "echo dirty > a";
    check(
        &[
            Row("1", "k=1", "k=1 a=2", "", Yes),
            Row("1, in folders", "k=1", "k=1 d/e/a=2 d/b=3", "", Yes),
            Row("2", "k=1 a=1", "k=1", "git rm -q --cached a; rm a", Yes),
            Row("2, untracked", "k=1 a=1", "k=1", "git rm -q --cached a", No("untracked")),
            Row("3, same", "k=1 a=1", "k=2 a=1", "git rm -q a", Yes),
            Row("3, differs", "k=1 a=1", "k=1 a=2", "git rm -q a", No("staged")),
            Row("4", "k=1", "k=2", "echo x > a; git add a", Yes),
            Row("5", "k=1", "k=2", "echo x > a; git add a; echo y > a", Yes),
            Row("6", "k=1", "k=2 a=2", "echo 2 > a; git add a", Yes),
            Row("7", "k=1", "k=2 a=2", "echo 2 > a; git add a; echo y > a", Yes),
            Row("8", "k=1", "k=2 a=2", "echo 3 > a; git add a", No("staged")),
            Row("9", "k=1", "k=2 a=2", "echo 3 > a; git add a; echo 4 > a", No("staged")),
            Row("10", "k=1 a=1", "k=1", "", Yes),
            Row("10, in folders", "k=1 d/e/a=1", "k=1", "", Yes),
            Row("11", "k=1 a=1", "k=1", dirty, No("local changes")),
            Row("12", "k=1 a=1", "k=1", stage, No("staged")),
            Row("13", "k=1 a=1", "k=1", "echo 2 > a; git add a; echo 3 > a", No("staged")),
            Row("14", "k=1 a=1", "k=2 a=1", "", Yes),
            Row("14, staged", "k=1 a=1", "k=2 a=1", stage, Yes),
            Row("15", "k=1 a=1", "k=2 a=1", dirty, Yes),
            Row("16", "k=1 a=1", "k=1 a=2", stage, No("staged")),
            Row("17", "k=1 a=1", "k=1 a=2", "echo 3 > a; git add a; echo 4 > a", No("staged")),
            Row("18", "k=1 a=1", "k=1 a=2", "echo 2 > a; git add a", Yes),
            Row("19", "k=1 a=1", "k=1 a=2", "echo 2 > a; git add a; echo 9 > a", Yes),
            Row("20", "k=1 a=1", "k=1 a=2", "", Yes),
            Row("21", "k=1 a=1", "k=1 a=2", dirty, No("local changes")),
            Row("absent counts as clean", "k=1 a=1", "k=1 a=2", "rm a", Yes),
            Row("absent and removed", "k=1 a=1", "k=1", "rm a", Yes),
            Row("dirty by chance the same", "k=1 a=1", "k=1 a=2", "echo 2 > a", No("local")),
            Row("touched only", "k=1 a=1", "k=1 a=2", "touch -d 2001-01-01 a", Yes),
        ],
        CheckoutOptions::default(),
    )
    .await;
}

#[tokio::test]
async fn one_kind_becomes_another() {
    check(
        &[
            Row("mode", "a=1", "a*=1", "", Yes),
            Row("mode back", "a*=1", "a=1", "", Yes),
            Row("mode, dirty", "a=1", "a=2", "chmod +x a", No("local changes")),
            Row("mode alone kept", "a=1 b=1", "a=1 b=2", "chmod +x a", Yes),
            Row("to a link", "a=1 t=1", "a@=t t=1", "", Yes),
            Row("from a link", "a@=t t=1", "a=1 t=1", "", Yes),
            Row("link to link", "a@=t", "a@=nowhere/at/all", "", Yes),
            Row("link, changed", "a@=t", "a@=u", "ln -sfn v a", No("local changes")),
            Row("file to folder", "a=1", "a/b=2 a/c/d=3", "", Yes),
            Row("folder to file", "a/b=2 a/c/d=3", "a=1", "", Yes),
            Row("link to folder", "a@=t t=1", "a/b=1 t=1", "", Yes),
            Row("folder to link", "a/b=1 t=1", "a@=t t=1", "", Yes),
            Row("folder to link to a folder", "a/b=1 t/b=9", "a@=t t/b=9", "", Yes),
            Row("link to itself becomes a folder", "a@=a d@=a t=1", "d/e/a=1 t=1", "", Yes),
            Row("link to itself, another file", "a@=a d@=a e/a=2 k=1", "d/b=0 e/a=2 k=1", "", Yes),
            Row("link to a folder becomes one", "a@=t t/b=9", "a/b=1 t/b=9", "", Yes),
            Row("folder emptied by the user", "d/b=0 d/e/a=0 k=1", "d/b=0 k=1", "rm d/b", Yes),
            Row("folder removed by the user", "d/b=0 d/e/a=0 k=1", "d/b=0 k=1", "rm -r d", Yes),
            Row("folder with an untracked file", "d/a=0 k=1", "k=1", "echo x > d/u", Yes),
            Row("empty folder of the user's", "a=0 k=1", "k=1", "git rm -qf a; mkdir a", Yes),
            Row("deep", "a/b/c/d=1 a/x=1", "a/b=2 a/x/y/z=3", "", Yes),
            Row("folder to file, dirty", "a/b=1", "a=1", "echo x > a/b", No("local changes")),
            Row("folder to file, untracked", "a/b=1", "a=1", "echo x > a/u", No("untracked")),
            Row("folder to file, empty ones", "a/b=1", "a=1", "mkdir -p a/e/f", Yes),
            Row("folder to file, a repository", "a/b=1", "a=1", "git init -q a/r", No("untracked")),
            Row("folder stays for others", "a/b=1 k=1", "k=1", "echo x > a/u", Yes),
            Row("file to folder, dirty", "a=1", "a/b=1", "echo x > a", No("local changes")),
            Row("sorted between", "a=1 a-x=1 a.x=1", "a/b=1 a-x=2 a.x=1", "", Yes),
            Row("swapped names", "a=1 b/c=2", "a/c=2 b=1", "", Yes),
        ],
        CheckoutOptions::default(),
    )
    .await;
}

#[tokio::test]
async fn what_git_does_not_track() {
    check(
        &[
            Row("in the way", "k=1", "k=1 a=2", "echo x > a", No("untracked")),
            Row("the same bytes", "k=1", "k=1 a=2", "echo 2 > a", No("untracked")),
            Row("a folder of files", "k=1", "k=1 a=2", "mkdir a; echo x > a/f", No("untracked")),
            Row("an empty folder", "k=1", "k=1 a=2", "mkdir -p a/b", Yes),
            Row("a file for a folder", "k=1", "k=1 a/b=2", "echo x > a", No("untracked")),
            Row("a link for a folder", "k=1", "k=1 a/b=2", "ln -s k a", No("untracked")),
            Row("a dangling link", "k=1", "k=1 a=2", "ln -s nowhere a", No("untracked")),
            Row("elsewhere", "k=1", "k=2 a=2", "echo x > u; mkdir v; echo y > v/w", Yes),
            Row("in the folder", "d/a=1", "d/a=2 d/b=3", "echo x > d/u", Yes),
            Row(
                "several at once",
                "k=1 m=1",
                "k=2 a=2 m=2",
                "echo x > a; echo x > k; echo x > m; git add m",
                No("staged changes would be lost: `m`"),
            ),
            Row(
                "a folder that was replaced by a link",
                "d/a=1 e/a=1",
                "d/a=2 e/a=1",
                "rm -r d; ln -s e d",
                No("link or a file"),
            ),
            Row(
                "staged file in a folder's way",
                "k=1",
                "k=1 a/b=1",
                "echo x > a; git add a",
                No("staged"),
            ),
        ],
        CheckoutOptions::default(),
    )
    .await;
}

#[tokio::test]
async fn what_git_ignores_is_in_the_way_unless_allowed() {
    let rows = |expect: Expect| {
        [
            Row("a file", "k=1", "k=1 a=2", "echo a > .git/info/exclude; echo x > a", expect),
            Row(
                "in a folder",
                "k=1",
                "k=1 d/a=2",
                "echo a > .git/info/exclude; mkdir d; echo x > d/a",
                expect,
            ),
            Row(
                "a folder for a file",
                "k=1",
                "k=1 a=2",
                "echo '*.o' > .git/info/exclude; mkdir a; echo x > a/x.o",
                expect,
            ),
            Row(
                "a file for a folder",
                "k=1",
                "k=1 a/b=2",
                "echo a > .git/info/exclude; echo x > a",
                expect,
            ),
        ]
    };
    check(&rows(Cautious("ignored")), CheckoutOptions::default()).await;
    check(&rows(Yes), CheckoutOptions::default().overwrite_ignored()).await;

    // What was replaced is not gone.
    let arena = Arena::new("k=1", "k=1 a=2", "echo a > .git/info/exclude; echo precious > a");
    let repo = arena.copy("ours");
    ours(&arena, &repo, "new", CheckoutOptions::default().overwrite_ignored()).await;
    let lost = repo.join(".git/ops-git/lost").read_dir().unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_to_string(lost.join("a")).unwrap(), "precious\n");
    tidy(&repo);
}

#[tokio::test]
async fn submodules_are_left_alone() {
    let populated = "mkdir -p s; git init -q s; git -C s commit -q --allow-empty -m one";
    check(
        &[
            Row("comes", "k=1", "k=1 s%=1", "", Yes),
            Row("goes", "k=1 s%=1", "k=1", "", Yes),
            Row("moves", "k=1 s%=1", "k=2 s%=2", "", Yes),
            Row("moves, populated", "k=1 s%=1", "k=2 s%=2", populated, Yes),
            Row("goes, populated", "k=1 s%=1", "k=1", populated, Yes),
            Row("becomes a file", "k=1 s%=1", "k=1 s=2", "", Yes),
            Row("a file becomes one", "k=1 s=2", "k=1 s%=1", "", Yes),
            Row("a folder becomes one", "k=1 s/a=2", "k=1 s%=1", "", Yes),
            Row("becomes a folder", "k=1 s%=1", "k=1 s/a=2", "", Yes),
            Row(
                "becomes a file, populated",
                "k=1 s%=1",
                "k=1 s=2",
                populated,
                Cautious("submodule"),
            ),
        ],
        CheckoutOptions::default(),
    )
    .await;
}

#[tokio::test]
async fn filters_and_attributes() {
    let with = |attributes: &str, config: &str| {
        let arena = Arena::new("k=1", "k=1", "");
        let repo = arena.path("start");
        let script = format!(
            "e() {{ cat; }}; {config}\ngit checkout -q new\nprintf '%s\\n' '{attributes}' > .gitattributes\n\
             printf 'one\\ntwo $Id$\\n' | e > a.txt\nprintf 'b\\n' | e > b.txt\ngit add .\n\
             git commit -q -m new\nprintf 'changed\\n' | e > b.txt\ngit commit -qam newer\n\
             git branch newer\ngit reset -q --hard HEAD~\ngit checkout -q old"
        );
        super::arena::shell(&repo, &script);
        arena
    };
    for (attributes, config) in [
        ("*.txt eol=crlf", ":"),
        ("*.txt text", "git config core.autocrlf true"),
        ("*.txt ident", ":"),
        (
            "*.txt filter=up",
            "git config filter.up.smudge 'tr a-z A-Z'; git config filter.up.clean 'tr A-Z a-z'",
        ),
        ("*.txt filter=unknown", ":"),
        ("*.txt working-tree-encoding=UTF-16LE", "e() { iconv -t UTF-16LE; }"),
        ("*.txt binary", "git config core.autocrlf true"),
    ] {
        let arena = with(attributes, config);
        let (a, b) = (arena.copy("ours"), arena.copy("theirs"));
        for version in ["new", "newer", "old", "newer"] {
            let story = format!("{attributes} {version}");
            let answer = ours(&arena, &a, version, CheckoutOptions::default()).await;
            assert!(matches!(answer, Ours::Done), "{story}: {answer:?}");
            theirs(&b, version).unwrap();
            same_for_git(&a, &b, &story);
        }
    }

    // A filter that must not be left out, without a command, or with one that fails.
    let arena = with("*.txt filter=must", "git config filter.must.clean cat");
    super::arena::shell(&arena.path("start"), "git config filter.must.required true");
    let repo = arena.copy("ours");
    let before = whole(&repo);
    let Ours::Refused(why) = ours(&arena, &repo, "new", CheckoutOptions::default()).await else {
        panic!("the filter was left out");
    };
    assert!(why.contains("filter `must` has no command: `a.txt`, `b.txt`"), "{why}");
    super::arena::shell(&repo, "git config filter.must.smudge false");
    let repository = ops_git::GitRepository::open(&repo).unwrap();
    let error = repository.safe_checkout(&arena.cx(), "new").await.unwrap_err();
    let outcome = &error.report().unwrap().outcome;
    assert!(matches!(outcome, ops_core::Outcome::RolledBack { .. }), "{outcome:?}");
    assert_eq!(whole(&repo), before);
    tidy(&repo);
}

#[tokio::test]
async fn what_is_special_about_the_index() {
    check(
        &[
            Row("unmerged", "k=1", "k=2",
                "b=$(git hash-object -w k); printf '100644 %s 1\\tu\\n100644 %s 2\\tu\\n' $b $b | git update-index --index-info",
                No("conflicts")),
            Row("assumed unchanged", "a=1", "a=2", "git update-index --assume-unchanged a; echo x > a",
                No("local changes")),
            Row("assumed unchanged and so", "a=1 k=1", "a=2 k=1", "git update-index --assume-unchanged k", Yes),
            Row("intent to add", "k=1", "k=2", "echo x > a; git add -N a", Yes),
            Row("sparse", "a=1 d/b=1", "a=2 d/b=1", "git sparse-checkout set --no-cone a", Cautious("part of the tree")),
            Row("split", "a=1", "a=2", "git config core.splitIndex true; git update-index --split-index", Cautious("split")),
            Row("version 4", "a=1 b=1", "a=2 b=1", "git update-index --index-version 4", Yes),
            Row("untracked cache", "a=1 b=1", "a=2 b=1", "git update-index --untracked-cache", Yes),
            Row("no index", "a=1 b=1", "a=2 b=1 c=1", "rm .git/index a b", Yes),
            Row("no index, files", "a=1", "a=2", "rm .git/index", No("untracked")),
            Row("a case-only rename", "readme=1 Src/a=1", "README=1 src/a=1", "", Yes),
            Row("a case-only rename, ignored", "readme=1", "README=1", "git config core.ignoreCase true",
                Cautious("case alone")),
            Row("a case that differs", "readme=1", "README=1 readme=1", "git config core.ignoreCase true",
                Cautious("case alone")),
        ],
        CheckoutOptions::default(),
    )
    .await;
}
