//! What ops-git does, beside the git program.
//!
//! Each run of a side is one process, or one pipeline of them, from its start to its end: ours is
//! this program, called anew. So both the time and the work of the processors, of children
//! too, are measured alike. The two sides have a repository of their own each, copied from one.

mod bare;
mod generate;
mod program;
mod server;
mod subject;
mod work_tree;

use crate::rounds::Benchmark;
use crate::{Failure, Wish, peers};
pub use program::{PROGRAM, act};
use subject::Subject;

/// That git is there, with what merges without a work tree, and what packs archives.
///
/// # Errors
/// Of those that are not, with their packages.
pub fn need_programs(_: &Wish) -> Result<(), Failure> {
    peers::need("git", &[("git", "git"), ("tar", "tar"), ("sync", "coreutils")])
}

/// All that is measured, on the generated repository and on the one that was named.
///
/// # Errors
/// Of a program that is missing, and those of the disk and of git.
pub fn benchmarks(wish: &Wish) -> Result<Vec<Benchmark>, Failure> {
    need_programs(wish)?;
    let mut subjects = vec![Subject::generated(&wish.folder.join("git"))?];
    if let Some(path) = &wish.git_repository {
        subjects.push(Subject::of(path, &wish.folder.join("git-named"))?);
    }
    let mut found = Vec::new();
    for subject in &subjects {
        found.push(work_tree::status(subject, wish.quick)?);
        found.push(bare::nothing_new(subject, wish.quick, false)?);
        found.push(bare::nothing_new(subject, wish.quick, true)?);
        found.push(bare::fetch(subject, wish.quick)?);
        found.push(work_tree::checkout(subject, wish.quick, "near")?);
        found.push(work_tree::checkout(subject, wish.quick, "far")?);
        found.push(work_tree::rollback(subject, wish.quick)?);
        found.push(bare::export(subject, wish.quick));
        if subject.merges {
            found.push(bare::merge(subject, wish.quick)?);
        }
    }
    Ok(found)
}
