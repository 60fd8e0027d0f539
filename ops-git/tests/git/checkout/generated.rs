//! Small trees by the hundred, by git and by us.

use std::collections::BTreeMap;

use ops_git::CheckoutOptions;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use ops_git::{GitRepository, MergeOptions};

use super::arena::{
    Arena, Ours, carried_out, merged_by_git, ours, run_and_back, same_for_git, theirs,
    there_and_back, tidy, whole,
};

const PATHS: [&str; 9] = ["a", "b", "d", "d/a", "d/b", "d/e/a", "d-x", "e/a", "z"];

/// A tree: what each path is, where folders and files do not contradict each other.
fn trees() -> impl Strategy<Value = String> {
    let cell = prop_oneof![
        4 => Just(None),
        6 => (0..3u8).prop_map(|n| Some(format!("={n}"))),
        1 => Just(Some("*=0".to_owned())),
        1 => Just(Some("@=a".to_owned())),
        1 => Just(Some("@=nowhere".to_owned())),
    ];
    proptest::collection::vec(cell, PATHS.len()).prop_map(spec)
}

fn spec(cells: Vec<Option<String>>) -> String {
    let mut tree: BTreeMap<&str, String> = BTreeMap::new();
    for (path, cell) in PATHS.iter().zip(cells) {
        let Some(cell) = cell else { continue };
        let clash = tree.keys().any(|other| path.starts_with(&format!("{other}/")));
        if !clash {
            tree.insert(path, cell);
        }
    }
    let words = tree.iter().map(|(path, cell)| format!("{path}{cell}"));
    words.chain(["k=1".to_owned()]).collect::<Vec<_>>().join(" ")
}

/// A tree, and two that differ from it in a few places.
fn forks() -> impl Strategy<Value = [String; 3]> {
    let cell = || {
        prop_oneof![
            2 => Just(None),
            6 => (0..5u8).prop_map(|n| Some(format!("={n}"))),
            1 => Just(Some("*=0".to_owned())),
            1 => Just(Some("@=a".to_owned())),
        ]
    };
    let edits = || proptest::collection::vec((0..PATHS.len(), cell()), 0..3);
    let base = proptest::collection::vec(cell(), PATHS.len());
    (base, edits(), edits()).prop_map(|(base, ours, theirs)| {
        let with = |edits: &[(usize, Option<String>)]| {
            let mut cells = base.clone();
            for (at, cell) in edits {
                cells[*at].clone_from(cell);
            }
            spec(cells)
        };
        [spec(base.clone()), with(&ours), with(&theirs)]
    })
}

/// What a user may have done since; what does not apply does nothing.
fn deeds() -> impl Strategy<Value = String> {
    let path = proptest::sample::select(PATHS.to_vec());
    let deed = (path, 0..12u8, 0..3u8).prop_map(|(path, deed, n)| {
        let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
        match deed {
            0 | 1 => format!("mkdir -p {parent} && [ ! -d {path} ] && echo {n} > {path}"),
            2 => format!("[ -f {path} ] && [ ! -L {path} ] && echo {n} > {path} && git add {path}"),
            3 => format!("rm -rf {path}"),
            4 => format!("git rm -rqf --ignore-unmatch {path}"),
            5 => format!("git rm -rq --cached --ignore-unmatch {path}"),
            6 => format!("[ -f {path} ] && [ ! -L {path} ] && chmod +x {path}"),
            7 => format!("[ ! -e {path} ] && mkdir -p {path}"),
            8 => format!("[ ! -e {path} ] && mkdir -p {path} && echo {n} > {path}/u"),
            9 => format!("[ -f {path} ] && rm {path} && ln -s k {path}"),
            10 => format!("[ -d {path} ] && echo {n} > {path}/u"),
            _ => format!("[ -f {path} ] && touch {path}"),
        }
    });
    proptest::collection::vec(deed, 0..4).prop_map(|deeds| {
        deeds.iter().map(|deed| format!("( {deed} ) || true")).collect::<Vec<_>>().join(
            "
",
        )
    })
}

/// `OPS_GIT_CASES` says how many; 150 unless told.
fn cases() -> u32 {
    std::env::var("OPS_GIT_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

/// What we refuse out of caution although git accepts.
const CAUTION: [&str; 3] = ["staged paths are in the way", "a folder on the way", "a submodule"];

#[test]
fn what_git_accepts_we_do_alike_and_what_it_refuses_we_refuse() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    let counts = std::cell::RefCell::new(BTreeMap::<&str, u32>::new());
    let count = |what| *counts.borrow_mut().entry(what).or_default() += 1;
    let result = TestRunner::new(config).run(&(trees(), trees(), deeds()), |(old, new, deeds)| {
        let story = format!("{old} -> {new};\n{deeds}");
        let arena = Arena::new(&old, &new, &deeds);
        let (a, b) = (arena.copy("ours"), arena.copy("theirs"));
        let before = whole(&a);
        let answer = runtime.block_on(ours(&arena, &a, "new", CheckoutOptions::default()));
        match (answer, theirs(&b, "new")) {
            (Ours::Done, Ok(())) => {
                count("both accept");
                same_for_git(&a, &b, &story);
                let c = arena.copy("back");
                let before = whole(&c);
                let back = there_and_back(&arena, &c, "new", CheckoutOptions::default());
                runtime.block_on(back);
                prop_assert_eq!(whole(&c), before, "undone: {}", story);
            }
            (Ours::Refused(_), Err(_)) => {
                count("both refuse");
                prop_assert_eq!(whole(&a), before, "{}", story);
            }
            (Ours::Refused(why), Ok(())) => {
                count("caution");
                prop_assert!(CAUTION.iter().any(|text| why.contains(text)), "{}: {}", story, why);
                prop_assert_eq!(whole(&a), before, "{}", story);
            }
            (Ours::Done, Err(why)) => {
                return Err(TestCaseError::fail(format!("{story}: git refuses: {why}")));
            }
        }
        tidy(&a);
        Ok(())
    });
    println!("{:?}", counts.borrow());
    if let Err(error) = result {
        panic!("{error}");
    }
    let counts = counts.into_inner();
    assert!(counts["both accept"] > 0 && counts["both refuse"] > 0, "{counts:?}");
    let caution = counts.get("caution").copied().unwrap_or(0);
    assert!(caution * 100 <= cases() * 5, "too cautious: {counts:?}");
}

/// What we refuse out of caution although git merges it.
const MERGE_CAUTION: [&str; 4] =
    ["staged paths are in the way", "a folder on the way", "a submodule", "too close to call"];

#[test]
fn what_git_merges_we_merge_alike_and_what_it_refuses_we_refuse() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    let counts = std::cell::RefCell::new(BTreeMap::<&str, u32>::new());
    let count = |what| *counts.borrow_mut().entry(what).or_default() += 1;
    let result = TestRunner::new(config).run(&(forks(), deeds()), |([base, old, new], deeds)| {
        let story = format!("{base} -> {old} | {new};\n{deeds}");
        let arena = Arena::forked(&base, &old, &new, &deeds);
        let (a, b) = (arena.copy("ours"), arena.copy("theirs"));
        let before = whole(&a);
        let plan = |repo: &std::path::Path| {
            let repository = GitRepository::open(repo).unwrap();
            let cx = arena.at_gits_time();
            let plan = repository.plan_merge(&cx, "new", MergeOptions::default());
            (runtime.block_on(plan), repository)
        };
        let (planned, repository) = plan(&a);
        prop_assert_eq!(&whole(&a), &before, "planning moved something: {}", &story);
        match (
            runtime.block_on(carried_out(&arena, &repository, planned)),
            merged_by_git(&b, "new"),
        ) {
            (Ours::Done, Ok(())) => {
                count("both accept");
                // The very same commit: tree, parents, message.
                same_for_git(&a, &b, &story);
                let c = arena.copy("back");
                let before = whole(&c);
                let (planned, repository) = plan(&c);
                let planned = planned.unwrap();
                if !planned.is_empty() {
                    runtime.block_on(run_and_back(&arena, &repository, planned));
                }
                prop_assert_eq!(whole(&c), before, "undone: {}", story);
            }
            (Ours::Refused(_), Err(_)) => {
                count("both refuse");
                prop_assert_eq!(whole(&a), before, "{}", story);
            }
            (Ours::Refused(why), Ok(())) => {
                count("caution");
                let known = MERGE_CAUTION.iter().any(|text| why.contains(text));
                prop_assert!(known, "{}: {}", story, why);
                prop_assert_eq!(whole(&a), before, "{}", story);
            }
            (Ours::Done, Err(why)) => {
                return Err(TestCaseError::fail(format!("{story}: git refuses: {why}")));
            }
        }
        tidy(&a);
        Ok(())
    });
    println!("{:?}", counts.borrow());
    if let Err(error) = result {
        panic!("{error}");
    }
    let counts = counts.into_inner();
    assert!(counts["both accept"] > 0 && counts["both refuse"] > 0, "{counts:?}");
    let caution = counts.get("caution").copied().unwrap_or(0);
    assert!(caution * 100 <= cases() * 5, "too cautious: {counts:?}");
}
