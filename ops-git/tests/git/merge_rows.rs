//! Each kind of merge, by us and by git: the same verdict, the same paths, the same tree.

use std::collections::BTreeSet;

use ops_git::{Caution, ConflictKind, ErrorKind, MergeResult};

use crate::by_git::merge_by_git;
use crate::fixture::git;
use crate::history::{Files, Histories, files, objects};

/// What a row expects; git is asked in any case.
#[derive(Debug, Clone, Copy)]
enum Expect {
    Clean,
    Conflict(&'static [ConflictKind]),
    /// Git finds it clean, and we are not sure.
    Careful,
    /// Git finds a conflict, and we are not sure.
    CarefulOfConflict,
}
use ConflictKind as K;
use Expect::{Careful, CarefulOfConflict, Clean, Conflict};

/// Twenty lines that are like no others.
const LONG: &str = "l1|l2|l3|l4|l5|l6|l7|l8|l9|l10|l11|l12|l13|l14|l15|l16|l17|l18|l19|l20|";

async fn check(histories: &Histories, name: &str, commits: &[(&[usize], &Files)], expect: Expect) {
    let ids = histories.commits(commits);
    let [.., ours, theirs] = ids.as_slice() else { panic!("{name}: two commits at least") };
    let preview = histories.repository().preview_merge(ours, theirs).await.unwrap();
    // Git writes what it merges: only after ours is done.
    let by_git = merge_by_git(&histories.path(), ours, theirs).unwrap();
    match (expect, &preview.result) {
        (Clean, MergeResult::Clean { tree }) => {
            assert!(by_git.clean, "{name}: git finds a conflict");
            assert_eq!(*tree, by_git.tree, "{name}");
        }
        (Conflict(kinds), MergeResult::Refused { conflicts, cautions }) => {
            assert!(!by_git.clean, "{name}: git finds it clean, we {conflicts:?}");
            assert!(cautions.is_empty(), "{name}: {cautions:?}");
            let found: Vec<_> = conflicts.iter().map(|conflict| conflict.kind).collect();
            assert_eq!(found, kinds, "{name}");
            let paths: BTreeSet<_> = conflicts
                .iter()
                .flat_map(|conflict| conflict.stages.iter().flatten())
                .map(|stage| stage.path.as_bytes().to_vec())
                .collect();
            let text = |set: &BTreeSet<Vec<u8>>| {
                set.iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect::<Vec<_>>()
            };
            // Git lists what it moved along with a directory at the new place.
            if !kinds.contains(&K::DirectoryRenamed) {
                assert_eq!(text(&paths), text(&by_git.conflicted), "{name}");
            }
            for conflict in conflicts {
                for stage in
                    conflict.stages.iter().flatten().filter(|stage| stage.mode != 0o160_000)
                {
                    git(&histories.path(), &["cat-file", "-e", &stage.id]);
                }
            }
        }
        (Careful, MergeResult::Refused { conflicts, .. }) => {
            assert!(by_git.clean && conflicts.is_empty(), "{name}: {:?}", preview.result);
        }
        (CarefulOfConflict, MergeResult::Refused { cautions, .. }) => {
            assert!(!by_git.clean && !cautions.is_empty(), "{name}: {:?}", preview.result);
        }
        (_, found) => panic!("{name}: expected {expect:?}, git {by_git:?}, we {found:?}"),
    }
}

#[tokio::test]
async fn three_trees() {
    let long = |path: &str| format!("{path}={LONG}");
    let edited = |path: &str| format!("{path}={}", LONG.replace("l3|", "x3|"));
    let also = |path: &str| format!("{path}={}", LONG.replace("l17|", "x17|"));
    let both: &[K] = &[K::BothModified];
    let rows: Vec<(&str, String, String, String, Expect)> = vec![
        // One path by itself.
        ("far apart", long("a"), edited("a"), also("a"), Clean),
        ("the same on both sides", long("a"), edited("a"), edited("a"), Clean),
        ("same line", long("a"), edited("a"), long("a").replace("l3|", "y3|"), Conflict(both)),
        ("next line", long("a"), edited("a"), long("a").replace("l4|", "y4|"), Conflict(both)),
        ("next but one", long("a"), edited("a"), long("a").replace("l5|", "y5|"), Clean),
        ("only theirs", "a=1|".into(), "a=1|".into(), "a=2| b=3|".into(), Clean),
        ("both delete", "a=1| b=2|".into(), "b=2|".into(), "b=2|".into(), Clean),
        ("delete and keep", "a=1| b=2|".into(), "b=2|".into(), "a=1| b=3|".into(), Clean),
        (
            "modify, delete",
            "a=1| b=2|".into(),
            "a=3| b=2|".into(),
            "b=2|".into(),
            Conflict(&[K::ModifiedDeleted]),
        ),
        (
            "delete, modify",
            "a=1| b=2|".into(),
            "b=2|".into(),
            "a=3| b=2|".into(),
            Conflict(&[K::ModifiedDeleted]),
        ),
        (
            "chmod, delete",
            "a=1| b=2|".into(),
            "*a=1| b=2|".into(),
            "b=2|".into(),
            Conflict(&[K::ModifiedDeleted]),
        ),
        (
            "add, add",
            "z=1|".into(),
            "z=1| a=1|".into(),
            "z=1| a=2|".into(),
            Conflict(&[K::BothAdded]),
        ),
        ("add the same", "z=1|".into(), "z=1| a=1|".into(), "z=1| a=1|".into(), Clean),
        (
            "add with two modes",
            "z=1|".into(),
            "z=1| a=1|".into(),
            "z=1| *a=1|".into(),
            Conflict(&[K::Mode]),
        ),
        ("chmod and edit", long("a"), format!("*{}", long("a")), edited("a"), Clean),
        ("chmod by both", long("a"), format!("*{}", edited("a")), format!("*{}", also("a")), Clean),
        ("binary", "a=1\0|".into(), "a=2\0|".into(), "a=3\0|".into(), Conflict(both)),
        ("binary, one side", "a=1\0|".into(), "a=2\0|".into(), "a=1\0|".into(), Clean),
        // Types.
        ("links", "@a=x".into(), "@a=y".into(), "@a=z".into(), Conflict(&[K::SymbolicLink])),
        (
            "links, added",
            "z=1|".into(),
            "z=1| @a=y".into(),
            "z=1| @a=z".into(),
            Conflict(&[K::BothAdded]),
        ),
        ("link, one side", "@a=x".into(), "@a=y".into(), "@a=x".into(), Clean),
        ("file to link, edit", "a=1|".into(), "@a=y".into(), "a=2|".into(), Conflict(&[K::Type])),
        ("file to link", "a=1|".into(), "@a=y".into(), "a=1|".into(), Clean),
        ("submodule", "+a=1".into(), "+a=2".into(), "+a=3".into(), Conflict(&[K::Submodule])),
        ("submodule, one side", "+a=1".into(), "+a=2".into(), "+a=1".into(), Clean),
        (
            "submodules, added",
            "z=1|".into(),
            "z=1| +a=2".into(),
            "z=1| +a=3".into(),
            Conflict(&[K::BothAdded]),
        ),
        // Files and directories.
        (
            "file, directory",
            "z=1|".into(),
            "z=1| a=1|".into(),
            "z=1| a/b=2|".into(),
            Conflict(&[K::DirectoryFile]),
        ),
        (
            "directory, file",
            "z=1|".into(),
            "z=1| a/b=1|".into(),
            "z=1| a=2|".into(),
            Conflict(&[K::DirectoryFile]),
        ),
        ("file to directory", "a=1|".into(), "a/b=5|6|".into(), "a=1|".into(), Clean),
        ("directory to file", "a/b=1| a/c=2|".into(), "a=7|".into(), "a/b=1| a/c=2|".into(), Clean),
        (
            "directory to file, edit",
            "a/b=1| a/c=2|".into(),
            "a=7|".into(),
            "a/b=3| a/c=2|".into(),
            Conflict(&[K::DirectoryFile, K::ModifiedDeleted]),
        ),
        (
            "file to directory, edit",
            "a=1|".into(),
            "a/b=5|6|".into(),
            "a=2|".into(),
            Conflict(&[K::DirectoryFile]),
        ),
        ("directory emptied", "d/a=1| z=1|".into(), "z=1|".into(), "d/a=1| z=2|".into(), Clean),
        // Renames.
        ("rename, edit", long("a"), long("b"), edited("a"), Clean),
        ("edit, rename", long("a"), edited("a"), long("b"), Clean),
        ("rename and edit, edit", long("a"), edited("b"), also("a"), Clean),
        (
            "rename and edit, same line",
            long("a"),
            edited("b"),
            long("a").replace("l3|", "y3|"),
            Conflict(both),
        ),
        ("rename, delete", long("a"), long("b"), "z=1|".into(), Conflict(&[K::RenamedDeleted])),
        (
            "delete, rename",
            format!("{} z=1|", long("a")),
            "z=1|".into(),
            format!("{} z=1|", long("b")),
            Conflict(&[K::RenamedDeleted]),
        ),
        ("rename by both", long("a"), edited("b"), also("b"), Clean),
        ("rename twice", long("a"), long("b"), long("c"), Conflict(&[K::RenamedTwice])),
        ("rename twice, edited", long("a"), edited("b"), also("c"), Conflict(&[K::RenamedTwice])),
        (
            "rename onto an added one",
            long("a"),
            long("b"),
            format!("{} b=1|2|", edited("a")),
            Conflict(&[K::RenamedOnto]),
        ),
        ("rename with chmod", long("a"), format!("*{}", long("b")), edited("a"), Clean),
        ("rename into a directory", long("a"), long("d/a"), edited("a"), Clean),
        (
            "no rename of a rewritten file",
            long("a"),
            "b=1|2|3|".into(),
            edited("a"),
            Conflict(&[K::ModifiedDeleted]),
        ),
        ("two copies", long("a"), format!("{} {}", long("b"), long("c")), edited("a"), Careful),
        (
            "two copies, one of the name",
            long("x/a"),
            format!("{} {}", long("y/a"), long("y/c")),
            edited("x/a"),
            Clean,
        ),
        (
            "not quite half alike",
            long("a"),
            format!(
                "b={}n1|n2|n3|n4|n5|n6|n7|n8|n9|m01|m02|m03|",
                LONG.split_once("l13|").map_or("", |(head, _)| &LONG[head.len()..])
            ),
            edited("a"),
            CarefulOfConflict,
        ),
        // Renamed directories.
        (
            "file into a renamed directory",
            format!("{} {}", long("d/a"), edited("d/b")),
            format!("{} {}", long("e/a"), edited("e/b")),
            format!("{} {} d/new=1|", long("d/a"), edited("d/b")),
            Conflict(&[K::DirectoryRenamed]),
        ),
        (
            "file into a deleted directory",
            format!("{} z=1|", long("d/a")),
            "z=1|".into(),
            format!("{} z=1| d/new=1|", long("d/a")),
            Clean,
        ),
        ("edit in a renamed directory", long("d/a"), long("e/a"), edited("d/a"), Clean),
        // Attributes.
        (
            "union",
            ".gitattributes=*_merge=union| a=1|".into(),
            ".gitattributes=*_merge=union| a=1|2|".into(),
            ".gitattributes=*_merge=union| a=1|3|".into(),
            Clean,
        ),
        (
            "never merged",
            format!(".gitattributes=a_-merge| {}", long("a")),
            format!(".gitattributes=a_-merge| {}", edited("a")),
            format!(".gitattributes=a_-merge| {}", also("a")),
            Conflict(both),
        ),
        (
            "macro binary",
            format!(".gitattributes=a_binary| {}", long("a")),
            format!(".gitattributes=a_binary| {}", edited("a")),
            format!(".gitattributes=a_binary| {}", also("a")),
            Conflict(both),
        ),
        (
            "attributes below",
            format!("d/.gitattributes=a_-merge| {}", long("d/a")),
            format!("d/.gitattributes=a_-merge| {}", edited("d/a")),
            format!("d/.gitattributes=a_-merge| {}", also("d/a")),
            Conflict(both),
        ),
        (
            "driver that nobody configured",
            format!(".gitattributes=a_merge=npm| {}", long("a")),
            format!(".gitattributes=a_merge=npm| {}", edited("a")),
            format!(".gitattributes=a_merge=npm| {}", also("a")),
            Clean,
        ),
        // Many at once.
        (
            "all at once",
            "a=1| b=1| c=1| @l=1".into(),
            "a=2| c=2| @l=2 d=2|".into(),
            "a=3| b=2| @l=3 d=3|".into(),
            Conflict(&[
                K::BothModified,
                K::ModifiedDeleted,
                K::ModifiedDeleted,
                K::BothAdded,
                K::SymbolicLink,
            ]),
        ),
    ];
    let histories = Histories::new();
    for (name, base, ours, theirs, expect) in &rows {
        let spaced = |text: &str| {
            let mut all = files(text);
            for (path, (_, content)) in &mut all {
                if path.ends_with(".gitattributes") {
                    *content = content.replace('_', " ");
                }
            }
            all
        };
        let [base, ours, theirs] = [base, ours, theirs].map(|text| spaced(text));
        check(&histories, name, &[(&[], &base), (&[0], &ours), (&[0], &theirs)], *expect).await;
    }
}

#[tokio::test]
async fn crossed_histories() {
    let histories = Histories::new();
    let long = |edits: &[(&str, &str)]| {
        let text = edits.iter().fold(LONG.to_owned(), |text, (from, to)| text.replace(from, to));
        files(&format!("a={text}"))
    };
    let base = long(&[]);
    let (one, two) = (long(&[("l3|", "x3|")]), long(&[("l17|", "x17|")]));
    let merged = [("l3|", "x3|"), ("l17|", "x17|")];
    let left = long(&[merged[0], merged[1], ("l8|", "y8|")]);
    let right = long(&[merged[0], merged[1], ("l12|", "y12|")]);
    let row = |files: [&'static Files; 5]| -> Vec<(&'static [usize], &'static Files)> {
        let parents: [&'static [usize]; 5] = [&[], &[0], &[0], &[1, 2], &[2, 1]];
        parents.into_iter().zip(files).collect()
    };
    let keep = |files: Files| -> &'static Files { Box::leak(Box::new(files)) };
    let [base, one, two, left, right] = [base, one, two, left, right].map(keep);
    // The two bases merge by themselves.
    check(&histories, "bases that merge", &row([base, one, two, left, right]), Clean).await;

    // They do not, and each side chose another one: git merges against markers.
    let other = keep(long(&[("l3|", "z3|")]));
    let (left, right) = (keep(long(&[("l3|", "x3|")])), keep(long(&[("l3|", "z3|")])));
    let commits = row([base, one, other, left, right]);
    let ids = histories.commits(&commits);
    let preview = histories.repository().preview_merge(&ids[3], &ids[4]).await.unwrap();
    assert_eq!(preview.bases.len(), 2);
    let MergeResult::Refused { cautions, .. } = preview.result else { panic!("{preview:?}") };
    assert!(matches!(cautions.as_slice(), [Caution::CrissCross { path: Some(_) }]), "{cautions:?}");

    // They do not, but both sides chose the same.
    let resolved = long(&[("l3|", "both3|"), ("l12|", "y12|")]);
    let (mut left, mut right) = (resolved.clone(), resolved);
    left.extend(files("left=1|"));
    right.extend(files("right=1|"));
    let commits = row([base, one, other, keep(left), keep(right)]);
    check(&histories, "bases that do not merge and do not matter", &commits, Clean).await;
}

#[tokio::test]
async fn what_need_not_be_merged() {
    let histories = Histories::new();
    let (one, two) = (files("a=1|"), files("a=2|"));
    let ids = histories.commits(&[(&[], &one), (&[0], &two), (&[], &one)]);
    let repository = histories.repository();
    for (ours, theirs, expected) in [
        (0, 1, MergeResult::FastForward),
        (1, 0, MergeResult::UpToDate),
        (0, 0, MergeResult::UpToDate),
        (1, 2, MergeResult::Unrelated),
    ] {
        let found = repository.preview_merge(&ids[ours], &ids[theirs]).await.unwrap();
        assert_eq!(found.result, expected, "{ours} {theirs}");
    }
    let error = repository.preview_merge(&ids[0], "nothing").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_configured_program_or_setting_is_refused_by_name() {
    let histories = Histories::new();
    let with = |edit: &str| {
        let mut all = files(&format!("a={}", LONG.replace(edit, &format!("x{edit}"))));
        all.insert(".gitattributes".into(), ("100644", "a merge=npm\n".into()));
        all
    };
    let (base, ours, theirs) = (with("none"), with("l3|"), with("l17|"));
    let ids = histories.commits(&[(&[], &base), (&[0], &ours), (&[0], &theirs)]);
    let refusals = async || {
        let found = histories.repository().preview_merge(&ids[1], &ids[2]).await.unwrap();
        found.refusals().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(refusals().await.is_empty());
    git(&histories.path(), &["config", "merge.npm.driver", "false"]);
    assert!(refusals().await[0].contains("external driver `npm`"), "{:?}", refusals().await);
    git(&histories.path(), &["config", "--unset", "merge.npm.driver"]);
    for (key, value) in [("merge.renormalize", "true"), ("merge.directoryRenames", "true")] {
        git(&histories.path(), &["config", key, value]);
        assert!(refusals().await[0].contains(key), "{:?}", refusals().await);
        git(&histories.path(), &["config", "--unset", key]);
    }
}

#[tokio::test]
async fn a_preview_leaves_nothing_behind() {
    let histories = Histories::new();
    let long = |edit: &str| files(&format!("d/a={}", LONG.replace(edit, "x|")));
    let (base, ours, theirs) = (long("none"), long("l3|"), long("l17|"));
    let ids = histories.commits(&[(&[], &base), (&[0], &ours), (&[0], &theirs)]);
    let before = objects(&histories.path());
    let found = histories.repository().preview_merge(&ids[1], &ids[2]).await.unwrap();
    assert!(matches!(found.result, MergeResult::Clean { .. }));
    assert_eq!(objects(&histories.path()), before);
}
