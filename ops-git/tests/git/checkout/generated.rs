//! Small trees by the hundred, by git and by us.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use ops_git::{CheckoutOptions, GitRepository, MergeOptions};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::arena::{
    Arena, Ours, Whole, carried_out, merged_by_git, ours, run_and_back, same_for_git, theirs,
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

/// How often git and we agreed.
#[derive(Debug, Default)]
struct Tally {
    both_accept: Cell<u32>,
    both_refuse: Cell<u32>,
    caution: Cell<u32>,
}

/// Ours and git's answer to one case, and what we refuse out of caution although git accepts.
struct Case<'a> {
    story: &'a str,
    ours: &'a Path,
    before: &'a Whole,
    git: &'a Path,
    caution: &'a [&'a str],
    tally: &'a Tally,
}

impl Case<'_> {
    /// Compares the two answers; whether both accept, and did the same.
    fn both_accept(&self, answer: Ours, by_git: Result<(), String>) -> Result<bool, TestCaseError> {
        let story = self.story;
        let count = |cell: &Cell<u32>| cell.set(cell.get() + 1);
        match (answer, by_git) {
            (Ours::Done, Ok(())) => {
                count(&self.tally.both_accept);
                same_for_git(self.ours, self.git, story);
                return Ok(true);
            }
            (Ours::Refused(_), Err(_)) => count(&self.tally.both_refuse),
            (Ours::Refused(why), Ok(())) => {
                count(&self.tally.caution);
                let known = self.caution.iter().any(|text| why.contains(text));
                prop_assert!(known, "{}: {}", story, why);
            }
            (Ours::Done, Err(why)) => {
                return Err(TestCaseError::fail(format!("{story}: git refuses: {why}")));
            }
        }
        prop_assert_eq!(&whole(self.ours), self.before, "{}", story);
        Ok(false)
    }
}

fn run<S: Strategy>(
    cases_of: &S,
    tally: &Tally,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(cases_of, test);
    println!("{tally:?}");
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(tally.both_accept.get() > 0 && tally.both_refuse.get() > 0, "{tally:?}");
    assert!(tally.caution.get() * 100 <= cases() * 5, "too cautious: {tally:?}");
}

#[test]
fn what_git_accepts_we_do_alike_and_what_it_refuses_we_refuse() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let caution = ["staged paths are in the way", "a folder on the way", "a submodule"];
    let tally = Tally::default();
    run(&(trees(), trees(), deeds()), &tally, |(old, new, deeds)| {
        let story = format!("{old} -> {new};\n{deeds}");
        let arena = Arena::new(&old, &new, &deeds);
        let (a, b) = (arena.copy("ours"), arena.copy("theirs"));
        let before = whole(&a);
        let answer = runtime.block_on(ours(&arena, &a, "new", CheckoutOptions::default()));
        let case = Case {
            story: &story,
            ours: &a,
            before: &before,
            git: &b,
            caution: &caution,
            tally: &tally,
        };
        if case.both_accept(answer, theirs(&b, "new"))? {
            let c = arena.copy("back");
            let before = whole(&c);
            runtime.block_on(there_and_back(&arena, &c, "new", CheckoutOptions::default()));
            prop_assert_eq!(whole(&c), before, "undone: {}", story);
        }
        tidy(&a);
        Ok(())
    });
}

#[test]
fn what_git_merges_we_merge_alike_and_what_it_refuses_we_refuse() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let caution =
        ["staged paths are in the way", "a folder on the way", "a submodule", "too close to call"];
    let tally = Tally::default();
    run(&(forks(), deeds()), &tally, |([base, old, new], deeds)| {
        let story = format!("{base} -> {old} | {new};\n{deeds}");
        let arena = Arena::forked(&base, &old, &new, &deeds);
        let (a, b) = (arena.copy("ours"), arena.copy("theirs"));
        let before = whole(&a);
        let plan = |repo: &Path| {
            let repository = GitRepository::open(repo).unwrap();
            let cx = arena.at_gits_time();
            let plan = repository.plan_merge(&cx, "new", MergeOptions::default());
            (runtime.block_on(plan), repository)
        };
        let (planned, repository) = plan(&a);
        prop_assert_eq!(&whole(&a), &before, "planning moved something: {}", &story);
        let answer = runtime.block_on(carried_out(&arena, &repository, planned));
        let case = Case {
            story: &story,
            ours: &a,
            before: &before,
            git: &b,
            caution: &caution,
            tally: &tally,
        };
        // The very same commit: tree, parents, message.
        if case.both_accept(answer, merged_by_git(&b, "new"))? {
            let c = arena.copy("back");
            let before = whole(&c);
            let (planned, repository) = plan(&c);
            let planned = planned.unwrap();
            if !planned.is_empty() {
                runtime.block_on(run_and_back(&arena, &repository, planned));
            }
            prop_assert_eq!(whole(&c), before, "undone: {}", story);
        }
        tidy(&a);
        Ok(())
    });
}
