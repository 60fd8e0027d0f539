//! How long a deployer takes to have the lock on the engine: where it is free, and where it has to be
//! taken over from one that died and whose lease has ended.
//!
//! A peer takes the same lock by hand, `docker create` of a name, and takes it over as an administrator
//! would: by removing it first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::engine::{Application, TAGS, docker};
use super::ours::{Back, Ours};
use crate::Failure;
use crate::rounds::{Benchmark, Side, timed};

/// The two benchmarks.
pub(super) fn benchmarks(
    folder: impl Fn(&str) -> Result<PathBuf, Failure>,
    rounds: usize,
) -> Result<Vec<Benchmark>, Failure> {
    let mut all = Vec::new();
    for (group, expired) in [("the lock, free", false), ("the lock, taken over", true)] {
        let name = if expired { "expired" } else { "free" };
        let sides = vec![
            ours(&folder(&format!("{name}-ours"))?, expired)?,
            by_hand(&folder(&format!("{name}-by-hand"))?, expired)?,
        ];
        let group = group.to_owned();
        all.push(Benchmark { group, items: 1, bytes: None, rounds, sides });
    }
    Ok(all)
}

/// The step of a deployment or a rollback that takes the lock; the report tells its milliseconds.
fn ours(folder: &Path, expired: bool) -> Result<Side, Failure> {
    let mut ours = Ours::new(folder, Back::Warm)?;
    let mut version = 0;
    Ok(Side::new("ops", move || {
        if expired {
            ours.leave_a_lock()?;
        }
        version = 1 - version;
        let report = ours.go(version)?.ok_or("that version was there already")?;
        let step = report.steps.iter().find(|step| step.name == "take_lock");
        Ok(Duration::from_millis(step.ok_or("no lock was taken")?.duration_ms))
    }))
}

fn by_hand(folder: &Path, expired: bool) -> Result<Side, Failure> {
    let application = Application::new(folder)?;
    let name = format!("{}.by-hand", application.0);
    Ok(Side::new("peer: docker create", move || {
        let image = application.image(TAGS[0]);
        let create = ["create", "--name", name.as_str(), image.as_str(), "never-started"];
        if expired {
            docker(&create)?;
        }
        let ((), took) = timed(|| {
            if expired {
                docker(&["rm", &name])?;
            }
            docker(&create).map(drop)
        })?;
        docker(&["rm", &name])?;
        Ok(took)
    }))
}
