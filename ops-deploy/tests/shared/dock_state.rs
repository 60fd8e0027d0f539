//! What must hold of an application on an engine, whatever happened to it.

use std::path::Path;

use ops_core::Version;
use ops_deploy::{DockerHost, Error};

use crate::asking::public_hears;
use crate::images::docker;

pub fn host(dir: &Path) -> Result<DockerHost, Error> {
    crate::dock::bare(dir, crate::dock::engine()).service(crate::dock::web(dir)).build()
}

/// What must be one: the public answer, the traffic, the history, and what runs.
pub async fn agreement(dir: &Path) -> Result<Option<Version>, String> {
    let say = |error: Error| format!("{error:?}");
    let host = host(dir).map_err(say)?;
    let status = host.look().await.map_err(say)?;
    let current = status.current().map_err(say)?.cloned();
    let latest = status.history.latest().cloned();
    if latest != current {
        return Err(format!("{current:?} in service, {latest:?} in the history"));
    }
    let running: Vec<_> = status.containers.iter().filter(|it| it.runs()).collect();
    let serving: Vec<_> = status.in_service.values().collect();
    if running != serving {
        return Err(format!("{running:?} run, {serving:?} serve"));
    }
    let lock = format!("{}.ops-lock", host.application());
    if docker().await.inspect_container(&lock, None).await.is_ok() {
        return Err("the lock is still there".into());
    }
    public_hears(dir, current.as_ref()).await?;
    Ok(current)
}
