//! What must hold of a site, whatever happened to it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use ops_core::Version;
use ops_deploy::release::{Instance, Status};
use ops_deploy::service::Liveness;
use ops_deploy::{Detached, ServiceManager as _};
use tokio_util::sync::CancellationToken;

use crate::asking::public_hears;

pub async fn status(dir: &Path, service: &Path) -> Result<Status, String> {
    let say = |error: ops_deploy::Error| format!("{error:?}");
    let site = crate::site::builder(dir, service).build().map_err(say)?;
    site.look().await.map_err(say)
}

/// What must be one: the public answer, `current`, the history, the traffic, and the processes.
pub async fn agreement(dir: &Path, service: &Path) -> Result<Option<Version>, String> {
    let status = status(dir, service).await?;
    let current = status.current().map_err(|error| error.to_string())?.cloned();
    let latest = status.history.as_ref().and_then(|history| history.latest().cloned());
    if latest != current {
        return Err(format!("{current:?} in service, {latest:?} in the history"));
    }
    let running: Vec<_> = status.instances.iter().filter(|instance| instance.runs()).collect();
    let serving = status.in_service();
    if running.iter().copied().ne(serving) {
        return Err(format!("{running:?} run, {serving:?} serves"));
    }
    if serving.map(|instance: &Instance| &instance.version) != current.as_ref() {
        return Err(format!("{serving:?} serves, {current:?} is current"));
    }
    let strays = strays(dir, &running);
    if !strays.is_empty() {
        return Err(format!("stray processes {strays:?} besides {running:?}"));
    }
    public_hears(dir, current.as_ref()).await?;
    if let Some(version) = &current
        && std::fs::read_link(dir.join("site/current")).ok()
            != Some(Path::new("releases").join(version.as_str()))
    {
        return Err("`current` points elsewhere".into());
    }
    let leaving = std::fs::read_dir(dir.join("site/releases")).map_err(|e| e.to_string())?;
    let leaving =
        leaving.flatten().any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"."));
    if leaving {
        return Err("half of an old release is there".into());
    }
    Ok(current)
}

/// The processes that run in a release of this site, but for those that should: found without any
/// of the records that the deployer keeps.
fn strays(dir: &Path, running: &[&Instance]) -> Vec<u32> {
    let known: BTreeSet<u32> = running
        .iter()
        .filter_map(|instance| match instance.liveness {
            Liveness::Running(Some(process)) => Some(process.pid),
            _ => None,
        })
        .collect();
    let releases = dir.join("site/releases").canonicalize().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
            cwd.is_ok_and(|cwd| cwd.starts_with(&releases)) && !known.contains(pid)
        })
        .collect()
}

/// Ends whatever runs in a site; answers how many instances did.
pub fn end_all(dir: &Path) -> usize {
    let mut ended = 0;
    let now = CancellationToken::new();
    now.cancel();
    for entry in std::fs::read_dir(dir.join("site/run")).into_iter().flatten().flatten() {
        let folder = entry.path();
        if Detached::new().liveness(&folder).unwrap() != Liveness::Stopped {
            ended += 1;
        }
        Detached::new().stop(&folder, Duration::ZERO, &now).unwrap();
    }
    ended
}
