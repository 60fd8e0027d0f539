//! Histories at random, merged by us and by git.
//!
//! `OPS_GIT_MERGE_CASES` says how many; default: 300.

use std::cell::RefCell;
use std::collections::BTreeSet;

use ops_git::MergeResult;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use crate::by_git::merge_by_git;
use crate::history::{FILE, Files, Histories, LINK, PROGRAM, SUBMODULE};

/// One thing that somebody does to a tree. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Deed {
    Replace(usize, usize, u8),
    Insert(usize, usize, u8),
    Remove(usize, usize),
    Delete(usize),
    Add(usize, u8),
    Rename(usize, usize),
    Copy(usize, usize),
    RenameDirectory(usize, usize),
    Chmod(usize),
    Link(usize, u8),
    Submodule(usize, u8),
    Rewrite(usize, u8),
}

const NAMES: [&str; 12] =
    ["a", "b", "c", "d/a", "d/b", "d/c", "d/e/a", "e/a", "e/b", "f", "f/a", "g/h/i"];
const DIRECTORIES: [&str; 5] = ["d", "e", "g/h", "d/e", "k"];

fn deed() -> impl Strategy<Value = Deed> {
    use Deed as D;
    let (n, line, new) = (0..64_usize, 0..64_usize, 0..4_u8);
    prop_oneof![
        6 => (n.clone(), line.clone(), new.clone()).prop_map(|(n, l, c)| D::Replace(n, l, c)),
        4 => (n.clone(), line.clone(), new.clone()).prop_map(|(n, l, c)| D::Insert(n, l, c)),
        3 => (n.clone(), line.clone()).prop_map(|(n, l)| D::Remove(n, l)),
        3 => n.clone().prop_map(D::Delete),
        3 => (n.clone(), new.clone()).prop_map(|(n, c)| D::Add(n, c)),
        4 => (n.clone(), n.clone()).prop_map(|(n, to)| D::Rename(n, to)),
        1 => (n.clone(), n.clone()).prop_map(|(n, to)| D::Copy(n, to)),
        1 => (n.clone(), n.clone()).prop_map(|(n, to)| D::RenameDirectory(n, to)),
        1 => n.clone().prop_map(D::Chmod),
        1 => (n.clone(), new.clone()).prop_map(|(n, c)| D::Link(n, c)),
        1 => (n.clone(), new.clone()).prop_map(|(n, c)| D::Submodule(n, c)),
        1 => (n, new).prop_map(|(n, c)| D::Rewrite(n, c)),
    ]
}

/// Whether a file may be put here: no file stands where it needs a directory, nor the other way.
fn fits(files: &Files, path: &str) -> bool {
    let below =
        |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
    files.keys().all(|other| !below(path, other) && !below(other, path))
}

fn put(files: &mut Files, path: String, entry: (&'static str, String)) {
    if fits(files, &path) {
        files.insert(path, entry);
    }
}

fn act(files: &mut Files, deed: &Deed) {
    let paths: Vec<String> = files.keys().cloned().collect();
    let pick = |n: usize| paths.get(n % paths.len().max(1)).cloned();
    let edit = |files: &mut Files, n: usize, change: &dyn Fn(&mut Vec<String>)| {
        let Some((mode, content)) = pick(n).and_then(|path| files.get_mut(&path)) else { return };
        if *mode == FILE || *mode == PROGRAM {
            let mut lines: Vec<String> = content.lines().map(str::to_owned).collect();
            change(&mut lines);
            *content = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        }
    };
    match *deed {
        Deed::Replace(n, at, new) => edit(files, n, &|lines| {
            let count = lines.len().max(1);
            if let Some(line) = lines.get_mut(at % count) {
                *line = format!("new {new}");
            }
        }),
        Deed::Insert(n, at, new) => edit(files, n, &|lines| {
            lines.insert(at % (lines.len() + 1), format!("new {new}"));
        }),
        Deed::Remove(n, at) => edit(files, n, &|lines| {
            if !lines.is_empty() {
                lines.remove(at % lines.len());
            }
        }),
        Deed::Delete(n) => {
            pick(n).and_then(|path| files.remove(&path));
        }
        Deed::Add(n, new) => {
            let name = NAMES[n % NAMES.len()].to_owned();
            if !files.contains_key(&name) {
                put(files, name, (FILE, format!("added {new}\nmore\n")));
            }
        }
        Deed::Rename(n, to) => {
            if let Some((path, entry)) = pick(n).and_then(|path| files.remove_entry(&path)) {
                let name = NAMES[to % NAMES.len()].to_owned();
                let free = !files.contains_key(&name) && fits(files, &name);
                files.insert(if free { name } else { path }, entry);
            }
        }
        Deed::Copy(n, to) => {
            if let Some(entry) = pick(n).and_then(|path| files.get(&path)).cloned() {
                let name = NAMES[to % NAMES.len()].to_owned();
                if !files.contains_key(&name) {
                    put(files, name, entry);
                }
            }
        }
        Deed::RenameDirectory(n, to) => {
            let (from, to) =
                (DIRECTORIES[n % DIRECTORIES.len()], DIRECTORIES[to % DIRECTORIES.len()]);
            let moved: Vec<_> = paths
                .iter()
                .filter_map(|path| Some((path, path.strip_prefix(from)?.strip_prefix('/')?)))
                .collect();
            for (path, rest) in moved {
                let name = format!("{to}/{rest}");
                if files.contains_key(&name) {
                    continue;
                }
                if let Some(entry) = files.remove(path) {
                    let free = fits(files, &name);
                    files.insert(if free { name } else { path.clone() }, entry);
                }
            }
        }
        Deed::Chmod(n) => {
            if let Some((mode, _)) = pick(n).and_then(|path| files.get_mut(&path)) {
                *mode = match *mode {
                    FILE => PROGRAM,
                    PROGRAM => FILE,
                    other => other,
                };
            }
        }
        Deed::Link(n, to) => {
            if let Some(entry) = pick(n).and_then(|path| files.get_mut(&path)) {
                *entry = (LINK, format!("to {to}"));
            }
        }
        Deed::Submodule(n, to) => {
            if let Some(entry) = pick(n).and_then(|path| files.get_mut(&path)) {
                *entry = (SUBMODULE, (to + 1).to_string().repeat(40));
            }
        }
        Deed::Rewrite(n, new) => edit(files, n, &|lines| {
            *lines = (0..10).map(|line| format!("other {new} {line}")).collect();
        }),
    }
}

/// Lines that differ from file to file, with a few that are everywhere.
fn base(lengths: &[usize]) -> Files {
    let mut files = Files::new();
    for (name, length) in NAMES.iter().zip(lengths) {
        let line = |n: usize| match n % 7 {
            3 => "}\n".to_owned(),
            5 => "\n".to_owned(),
            _ => format!("{name} {n}\n"),
        };
        if *length > 0 && fits(&files, name) {
            files.insert((*name).to_owned(), (FILE, (0..*length).map(line).collect()));
        }
    }
    files
}

#[derive(Debug, Default)]
struct Figures {
    clean: usize,
    conflicts: usize,
    other_paths: usize,
    unsure_of_conflicts: usize,
    careful: usize,
    trivial: usize,
    git_died: usize,
}

fn same(
    (histories, runtime): (&Histories, &Runtime),
    commits: &[(&[usize], &Files)],
    figures: &mut Figures,
) -> Result<(), TestCaseError> {
    let ids = histories.commits(commits);
    let [.., ours, theirs] = ids.as_slice() else { return Ok(()) };
    let repository = histories.repository();
    let preview = runtime
        .block_on(repository.preview_merge(ours, theirs))
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    // Some crossed histories trip an assertion in git (2.47: `merge-ort.c`, `process_renames`), and
    // then there is nothing to compare.
    let Some(by_git) = merge_by_git(&histories.path(), ours, theirs) else {
        figures.git_died += 1;
        return Ok(());
    };
    match preview.result {
        MergeResult::Clean { tree } => {
            prop_assert!(by_git.clean, "a conflict is missed: {:?}", by_git);
            prop_assert_eq!(tree, by_git.tree);
            figures.clean += 1;
        }
        MergeResult::Refused { conflicts, cautions } => {
            prop_assert!(!conflicts.is_empty() || !cautions.is_empty());
            let paths: BTreeSet<_> = conflicts
                .iter()
                .flat_map(|conflict| conflict.stages.iter().flatten())
                .map(|stage| stage.path.as_bytes().to_vec())
                .collect();
            if by_git.clean {
                figures.careful += 1;
            } else if !cautions.is_empty() {
                figures.unsure_of_conflicts += 1;
            } else if paths == by_git.conflicted {
                figures.conflicts += 1;
            } else {
                figures.other_paths += 1;
            }
        }
        _ => figures.trivial += 1,
    }
    Ok(())
}

fn cases() -> u32 {
    let asked = std::env::var("OPS_GIT_MERGE_CASES").ok().and_then(|cases| cases.parse().ok());
    asked.unwrap_or(300)
}

fn runner() -> TestRunner {
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    prop::collection::vec(deed(), 1..6)
}

#[test]
fn any_two_branches_merge_as_git_merges_them() {
    let (histories, runtime) = (Histories::new(), Runtime::new().unwrap());
    let figures = RefCell::new(Figures::default());
    let lengths = prop::collection::vec(prop_oneof![Just(0_usize), 1..4_usize, 8..25_usize], 12);
    let result = runner().run(&(lengths, deeds(), deeds()), |(lengths, ours, theirs)| {
        let base = base(&lengths);
        let [ours, theirs] = [ours, theirs].map(|deeds| {
            let mut files = base.clone();
            for deed in &deeds {
                act(&mut files, deed);
            }
            files
        });
        let commits: [(&[usize], &Files); 3] = [(&[], &base), (&[0], &ours), (&[0], &theirs)];
        same((&histories, &runtime), &commits, &mut figures.borrow_mut())
    });
    let figures = figures.into_inner();
    println!("{figures:?}");
    result.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(figures.clean > 0 && figures.conflicts > 0, "{figures:?}");
    assert!(figures.careful * 5 < cases() as usize, "refused too much: {figures:?}");
    assert_eq!(figures.git_died, 0, "{figures:?}");
}

/// The same content appears under two names, one of them in a directory that git need not look into.
/// It takes the other one, although the base name speaks for the first.
#[test]
fn a_rename_that_one_of_two_bases_has() {
    use Deed as D;
    let (histories, runtime) = (Histories::new(), Runtime::new().unwrap());
    let base = base(&[8, 0, 0, 0, 8, 8, 14, 0, 0, 0, 8, 0]);
    let with = |files: &Files, deeds: &[Deed]| {
        let mut files = files.clone();
        for deed in deeds {
            act(&mut files, deed);
        }
        files
    };
    let one = with(&base, &[D::Rename(1, 1)]);
    let two = with(&base, &[D::Replace(1, 0, 0), D::Copy(0, 8)]);
    let left = with(&one, &[D::Replace(6, 1, 0)]);
    let right = with(&two, &[D::Add(55, 0), D::Delete(7), D::Copy(30, 35)]);
    let commits: [(&[usize], &Files); 5] =
        [(&[], &base), (&[0], &one), (&[0], &two), (&[1, 2], &left), (&[2, 1], &right)];
    let mut figures = Figures::default();
    same((&histories, &runtime), &commits, &mut figures).unwrap();
    assert_eq!(figures.careful, 1, "{figures:?}");
}

#[test]
fn any_crossed_histories_merge_as_git_merges_them() {
    let (histories, runtime) = (Histories::new(), Runtime::new().unwrap());
    let figures = RefCell::new(Figures::default());
    let lengths = prop::collection::vec(prop_oneof![Just(0_usize), 8..25_usize], 12);
    let all = (lengths, [deeds(), deeds(), deeds(), deeds()], any::<bool>());
    let result = runner().run(&all, |(lengths, [one, two, left, right], agree)| {
        let base = base(&lengths);
        let with = |files: &Files, deeds: &[Deed]| {
            let mut files = files.clone();
            for deed in deeds {
                act(&mut files, deed);
            }
            files
        };
        let (one, two) = (with(&base, &one), with(&base, &two));
        // Each side merged the other's work; both agreed on how, or each took its own.
        let (left, right) = (with(&one, &left), with(if agree { &one } else { &two }, &right));
        let commits: [(&[usize], &Files); 5] =
            [(&[], &base), (&[0], &one), (&[0], &two), (&[1, 2], &left), (&[2, 1], &right)];
        same((&histories, &runtime), &commits, &mut figures.borrow_mut())
    });
    let figures = figures.into_inner();
    println!("{figures:?}");
    result.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(figures.clean > 0 && figures.conflicts > 0, "{figures:?}");
    assert!(figures.git_died * 20 < cases() as usize, "too little was compared: {figures:?}");
}
