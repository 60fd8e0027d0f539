//! What is there: releases, containers, traffic, history.

use std::collections::{BTreeMap, BTreeSet};

use ops_core::{Refusal, Version};

use super::containers::{Container, Found};
use super::history::completed;
use super::host::DockerHost;
use super::releases::{Pins, Release};
use crate::error::{Error, ErrorKind};
use crate::history::History;
use crate::planning::names;
use crate::traffic::Pointer;

/// What is there, as it was observed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// All versions of which there is any image, the oldest first.
    pub releases: Vec<Release>,
    /// The containers, running and stopped, the oldest first.
    pub containers: Vec<Container>,
    /// Where the traffic of each service goes that has any.
    pub pointers: BTreeMap<String, Pointer>,
    /// What was in service when, completed from what was seen.
    pub history: History,
    /// The containers in service, by service.
    pub in_service: BTreeMap<String, Container>,
    contradictions: Vec<Refusal>,
}

impl Status {
    /// The version in service; `None` if none is.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownCurrent`] if services run different versions, or the traffic goes to
    /// what is not known; it lists what runs.
    pub fn current(&self) -> Result<Option<&Version>, Error> {
        if self.contradictions.is_empty() {
            return Ok(self.in_service.values().next().map(|container| &container.version));
        }
        let running: Vec<_> = self
            .containers
            .iter()
            .filter(|container| container.runs())
            .map(|container| container.name.as_str())
            .collect();
        let running = if running.is_empty() { "nothing".to_owned() } else { running.join(", ") };
        Err(Error::new(ErrorKind::UnknownCurrent, "cannot determine the current version")
            .with("running", running)
            .with("complete", names(&self.complete()))
            .refusals(self.contradictions.clone()))
    }

    /// The complete versions, the oldest first.
    pub fn complete(&self) -> Vec<Version> {
        let complete = self.releases.iter().filter(|release| release.is_complete());
        complete.map(|release| release.version.clone()).collect()
    }

    /// Whether a container takes traffic, or, for a service without traffic, is the one in service.
    pub fn is_in_service(&self, container: &Container) -> bool {
        self.in_service.get(&container.service).is_some_and(|it| it.name == container.name)
    }
}

/// Which containers are in service, and what does not fit together.
fn testimony(
    host: &DockerHost,
    found: &Found,
    pointers: &BTreeMap<String, Pointer>,
) -> (BTreeMap<String, Container>, Vec<Refusal>) {
    let mut in_service = BTreeMap::new();
    let mut against: Vec<_> = found
        .unreadable
        .iter()
        .map(|why| Refusal::new(why.clone(), "see who made that container, and remove it"))
        .collect();
    for service in &host.0.services {
        let name = &service.name;
        let ours = found.containers.iter().filter(|container| container.service == *name);
        if let Some(pointer) = pointers.get(name) {
            let Some(upstream) = &pointer.upstream else { continue };
            match ours.into_iter().find(|container| container.name == upstream.instance) {
                Some(container) => drop(in_service.insert(name.clone(), container.clone())),
                None => against.push(Refusal::new(
                    format!(
                        "the traffic of `{name}` goes to `{}`, which is not there",
                        upstream.instance
                    ),
                    "see whose it is; give each service a proxy of its own",
                )),
            }
            continue;
        }
        let running: Vec<_> = ours.filter(|container| container.runs()).collect();
        let versions: BTreeSet<_> = running.iter().map(|container| &container.version).collect();
        if versions.len() > 1 {
            let names: Vec<_> = running.iter().map(|c| format!("`{}`", c.name)).collect();
            against.push(Refusal::new(
                format!("service `{name}` runs in several versions: {}", names.join(", ")),
                "stop those that should not run (docker stop), or recover what was interrupted",
            ));
        } else if let Some(container) = running.last() {
            in_service.insert(name.clone(), (*container).clone());
        }
    }
    let versions: BTreeSet<_> = in_service.values().map(|container| &container.version).collect();
    if versions.len() > 1 {
        let mixed: Vec<_> =
            in_service.values().map(|c| format!("`{}` is {}", c.service, c.version)).collect();
        against.push(Refusal::new(
            format!("the services are of different versions: {}", mixed.join(", ")),
            "recover what was interrupted; else stop what should not run, and point the traffic",
        ));
    }
    (in_service, against)
}

impl DockerHost {
    /// Looks. Changes nothing.
    ///
    /// # Errors
    /// If the engine or a switch of the traffic does not answer, or the history cannot be read.
    pub async fn look(&self) -> Result<Status, Error> {
        let mut pointers = BTreeMap::new();
        for service in &self.0.services {
            if let Some(traffic) = &service.traffic {
                pointers.insert(service.name.clone(), traffic.current().await?);
            }
        }
        let found = self.containers().await?;
        let (in_service, contradictions) = testimony(self, &found, &pointers);
        let path = self.history_path();
        let record = tokio::task::spawn_blocking(move || History::read(&path))
            .await
            .map_err(|join| Error::new(ErrorKind::Io, "looking panicked").caused_by(join))??;
        let current = in_service.values().next().map(|container| container.version.clone());
        let current = current.filter(|_| contradictions.is_empty());
        let history = completed(record, &found.containers, current.as_ref(), None);
        let releases = self.releases(&Pins::of(&history, &found.containers)).await?;
        let containers = found.containers;
        Ok(Status { releases, containers, pointers, history, in_service, contradictions })
    }
}
