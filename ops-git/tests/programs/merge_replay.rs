//! Replays every two-parent merge of a real repository and compares with git: `git-merge-replay
//! REPOSITORY [LIMIT [SKIP]]`. LIMIT bounds the number of merges (default: all), newest first.
//!
//! Ends with an error if a conflict was missed or a clean merge gave another tree than git's.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test program")]

mod by_git;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use by_git::{git, merge_by_git};
use ops_git::{GitRepository, MergeResult};

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("give the repository's path");
    let limit = arguments.next().map_or(usize::MAX, |n| n.parse().unwrap());
    let skip = arguments.next().map_or(0, |n| n.parse().unwrap());
    let path = Path::new(&path);
    let merges: Vec<_> = merges(path).into_iter().skip(skip).take(limit).collect();
    let repository = GitRepository::open(path).unwrap();
    let workers = 2;
    let next = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let merges = std::sync::Arc::new(merges);
    let mut tasks = Vec::new();
    for _ in 0..workers {
        let (repository, merges, next) = (repository.clone(), merges.clone(), next.clone());
        let path = path.to_owned();
        tasks.push(tokio::spawn(async move {
            let mut figures = Figures::default();
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some((ours, theirs)) = merges.get(at) else { break figures };
                figures.one(&repository, &path, ours, theirs).await;
            }
        }));
    }
    let begun = Instant::now();
    let mut all = Figures::default();
    for task in tasks {
        all.add(task.await.unwrap());
    }
    println!("{all}");
    println!(
        "  {:.1?} in all, {:.1?} in git, {:.1?} in ops-git",
        begun.elapsed(),
        all.git,
        all.own
    );
    if all.missed + all.differing + all.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Figures {
    merges: usize,
    trivial: usize,
    same_tree: usize,
    same_conflicts: usize,
    other_conflicts: usize,
    careful: usize,
    careful_of_conflicts: usize,
    missed: usize,
    differing: usize,
    failed: usize,
    unreadable: usize,
    git: Duration,
    own: Duration,
    why: BTreeMap<String, usize>,
}

impl Figures {
    async fn one(&mut self, repository: &GitRepository, path: &Path, ours: &str, theirs: &str) {
        self.merges += 1;
        let begun = Instant::now();
        let preview = match repository.preview_merge(ours, theirs).await {
            Ok(preview) => preview,
            // Git cannot read it either: the repository is not whole.
            Err(_) if merge_by_git(path, ours, theirs).is_none() => {
                self.unreadable += 1;
                return;
            }
            Err(error) => {
                self.failed += 1;
                println!("failed {ours} {theirs}: {:?}", ops_core::error::chain(&error));
                return;
            }
        };
        self.own += begun.elapsed();
        let begun = Instant::now();
        let by_git = merge_by_git(path, ours, theirs);
        self.git += begun.elapsed();
        let Some(by_git) = by_git else {
            if preview.result == MergeResult::Unrelated {
                self.trivial += 1;
            } else {
                self.differing += 1;
                println!("git refuses, we do not: {ours} {theirs}");
            }
            return;
        };
        match preview.result {
            MergeResult::UpToDate | MergeResult::FastForward => self.trivial += 1,
            MergeResult::Unrelated => {
                self.careful += 1;
                println!("unrelated for us: {ours} {theirs}");
            }
            MergeResult::Clean { tree } if by_git.clean && tree == by_git.tree => {
                self.same_tree += 1;
            }
            MergeResult::Clean { .. } if by_git.clean => {
                self.differing += 1;
                println!("another tree: {ours} {theirs}");
            }
            MergeResult::Clean { .. } => {
                self.missed += 1;
                println!("missed: {ours} {theirs}");
            }
            MergeResult::Refused { conflicts, cautions } => {
                for caution in &cautions {
                    *self.why.entry(name_of(&format!("{caution:?}"))).or_default() += 1;
                }
                let own: BTreeSet<Vec<u8>> = conflicts
                    .iter()
                    .flat_map(|conflict| conflict.stages.iter().flatten())
                    .map(|stage| stage.path.as_bytes().to_vec())
                    .collect();
                if by_git.clean {
                    self.careful += 1;
                    for conflict in &conflicts {
                        let kind = format!("git: clean, we: {:?}", conflict.kind);
                        *self.why.entry(kind).or_default() += 1;
                    }
                    println!("careful: {ours} {theirs}: {conflicts:?} {cautions:?}");
                } else if !cautions.is_empty() {
                    self.careful_of_conflicts += 1;
                } else if own == by_git.conflicted {
                    self.same_conflicts += 1;
                } else {
                    self.other_conflicts += 1;
                    let show = |set: Vec<&Vec<u8>>| {
                        set.iter()
                            .map(|p| String::from_utf8_lossy(p).into_owned())
                            .collect::<Vec<_>>()
                    };
                    println!(
                        "other paths: {ours} {theirs}: only git {:?}, only we {:?}",
                        show(by_git.conflicted.difference(&own).collect()),
                        show(own.difference(&by_git.conflicted).collect()),
                    );
                }
            }
            other => println!("a result that is not known here: {other:?}"),
        }
        let _ = std::io::stdout().flush();
    }

    fn add(&mut self, other: Self) {
        self.merges += other.merges;
        self.trivial += other.trivial;
        self.same_tree += other.same_tree;
        self.same_conflicts += other.same_conflicts;
        self.other_conflicts += other.other_conflicts;
        self.careful += other.careful;
        self.careful_of_conflicts += other.careful_of_conflicts;
        self.missed += other.missed;
        self.differing += other.differing;
        self.failed += other.failed;
        self.unreadable += other.unreadable;
        self.git += other.git;
        self.own += other.own;
        for (why, count) in other.why {
            *self.why.entry(why).or_default() += count;
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = 100.0 * self.careful as f64 / self.merges.max(1) as f64;
        writeln!(f, "{} merges", self.merges)?;
        writeln!(f, "  {} clean, with git's tree", self.same_tree)?;
        writeln!(f, "  {} fast-forwards, up to date or unrelated", self.trivial)?;
        writeln!(f, "  {} with git's conflicts", self.same_conflicts)?;
        writeln!(f, "  {} in conflict for both, at other paths", self.other_conflicts)?;
        writeln!(f, "  {} in conflict for git, unsure for us", self.careful_of_conflicts)?;
        writeln!(f, "  {} clean for git, refused out of caution ({share:.2} %)", self.careful)?;
        writeln!(f, "  {} conflicts missed", self.missed)?;
        writeln!(f, "  {} clean with another tree", self.differing)?;
        writeln!(f, "  {} that the repository has not whole, for both", self.unreadable)?;
        write!(f, "  {} failed", self.failed)?;
        for (why, count) in &self.why {
            write!(f, "\n  {count:>6} {why}")?;
        }
        Ok(())
    }
}

fn name_of(debug: &str) -> String {
    debug.chars().take_while(char::is_ascii_alphanumeric).collect()
}

fn merges(path: &Path) -> Vec<(String, String)> {
    let output = git(path)
        .args(["rev-list", "--all", "--min-parents=2", "--max-parents=2", "--parents"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let parents = |line: &str| {
        let mut ids = line.split(' ').skip(1);
        (ids.next().unwrap().to_owned(), ids.next().unwrap().to_owned())
    };
    text.lines().map(parents).collect()
}
