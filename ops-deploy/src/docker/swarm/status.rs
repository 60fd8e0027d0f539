//! What is there: releases, services, tasks, history.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::TaskState;
use ops_core::{Refusal, Version};

use super::super::containers::{CLOSES, IMAGE, VERB, VERSION};
use super::super::releases::{Pins, Release, releases};
use super::Swarm;
use super::services::label;
use crate::error::{Error, ErrorKind};
use crate::history::{Entry, History, Verb};
use crate::planning::names;

/// One task that Swarm wants and that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// Its id.
    pub id: String,
    /// The service.
    pub service: String,
    /// Which version it runs; `None` if nobody has deployed it with this library.
    pub version: Option<Version>,
    /// Its image, as the service names it.
    pub image: String,
}

/// What is there, as it was observed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SwarmStatus {
    /// All versions of which the manager has any image, the oldest first.
    pub releases: Vec<Release>,
    /// The tasks that Swarm wants and that run.
    pub tasks: Vec<Task>,
    /// What was in service when, on this machine's record; completed by what is seen.
    pub history: History,
    current: Option<Version>,
    contradictions: Vec<Refusal>,
}

impl SwarmStatus {
    /// The version in service; `None` if none is that this library has deployed.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownCurrent`] if tasks or services are of different versions; it lists them.
    pub fn current(&self) -> Result<Option<&Version>, Error> {
        if self.contradictions.is_empty() {
            return Ok(self.current.as_ref());
        }
        let running: Vec<_> = self
            .tasks
            .iter()
            .map(|task| {
                let version = task.version.as_ref().map_or("unknown", Version::as_str);
                format!("{} {version}", task.service)
            })
            .collect();
        Err(Error::new(ErrorKind::UnknownCurrent, "cannot determine the current version")
            .with("running", running.join(", "))
            .with("complete", names(&self.complete()))
            .refusals(self.contradictions.clone()))
    }

    /// The complete versions, the oldest first.
    pub fn complete(&self) -> Vec<Version> {
        let complete = self.releases.iter().filter(|release| release.is_complete());
        complete.map(|release| release.version.clone()).collect()
    }
}

impl Swarm {
    /// Looks. Changes nothing.
    ///
    /// # Errors
    /// If the manager does not answer, a service is missing, or the history cannot be read.
    pub async fn look(&self) -> Result<SwarmStatus, Error> {
        let (mut tasks, mut named, mut against) = (Vec::new(), BTreeMap::new(), Vec::new());
        let (mut images, mut came_by, mut closes) = (BTreeMap::new(), None, None);
        for service in &self.0.services {
            let name = &service.name;
            let found = self.existing(name).await?;
            if let Some(version) = label(&found, VERSION).and_then(|text| text.parse().ok()) {
                named.insert(name.clone(), version);
            }
            came_by = came_by.or(label(&found, VERB).and_then(|text| Verb::parse(&text)));
            closes = closes.or(label(&found, CLOSES));
            images.extend(label(&found, IMAGE).map(|image| (name.clone(), image)));
            let of_service: Vec<_> = self.tasks_of(name).await?;
            let versions: BTreeSet<_> = of_service.iter().map(|task| &task.version).collect();
            if versions.len() > 1 {
                let ids: Vec<_> = of_service
                    .iter()
                    .map(|task| {
                        let version = task.version.as_ref().map_or("unknown", Version::as_str);
                        format!("{} is {version}", task.id)
                    })
                    .collect();
                against.push(Refusal::new(
                    format!("service `{name}` runs in several versions: {}", ids.join(", ")),
                    "wait until Swarm has updated it, or recover what was interrupted",
                ));
            }
            tasks.extend(of_service);
        }
        let versions: BTreeSet<&Version> = named.values().collect();
        if versions.len() > 1 {
            let mixed: Vec<_> =
                named.iter().map(|(name, version)| format!("`{name}` is {version}")).collect();
            against.push(Refusal::new(
                format!("the services are of different versions: {}", mixed.join(", ")),
                "recover what was interrupted, or update those that should be another",
            ));
        }
        let current = named.values().next().cloned().filter(|_| against.is_empty());
        let path = self.history_path();
        let mut history = tokio::task::spawn_blocking(move || {
            History::read(&path).map(Option::unwrap_or_default)
        })
        .await
        .map_err(|join| Error::new(ErrorKind::Io, "looking panicked").caused_by(join))??;
        observe(&mut history, current.as_ref(), &images, came_by, closes);
        let repositories: Vec<_> =
            self.0.services.iter().map(|it| (it.name.as_str(), it.repository.as_str())).collect();
        let pins = Pins::of(&history, &[]);
        let releases = releases(&self.0.engine, &repositories, self.0.policy, &pins).await?;
        Ok(SwarmStatus { releases, tasks, history, current, contradictions: against })
    }

    async fn tasks_of(&self, service: &str) -> Result<Vec<Task>, Error> {
        let mut running = Vec::new();
        for task in self.0.engine.tasks(service).await? {
            let runs = task.desired_state == Some(TaskState::RUNNING)
                && task.status.and_then(|status| status.state) == Some(TaskState::RUNNING);
            if !runs {
                continue;
            }
            let container = task.spec.and_then(|spec| spec.container_spec).unwrap_or_default();
            let version = container.labels.as_ref().and_then(|labels| labels.get(VERSION));
            running.push(Task {
                id: task.id.unwrap_or_default(),
                service: service.to_owned(),
                version: version.and_then(|text| text.parse().ok()),
                image: container.image.unwrap_or_default(),
            });
        }
        Ok(running)
    }
}

/// Adds what another machine has deployed since.
pub(super) fn observe(
    history: &mut History,
    current: Option<&Version>,
    images: &BTreeMap<String, String>,
    came_by: Option<Verb>,
    closes_way_back: Option<String>,
) {
    let Some(current) = current.filter(|current| history.latest() != Some(current)) else { return };
    let known = history.entries().iter().any(|entry| entry.version == *current);
    let went_back = came_by.map_or(known, |verb| verb == Verb::Rollback);
    let verb = if went_back { Verb::Rollback } else { Verb::Observed };
    let entry = Entry::new(current.clone(), verb, jiff::Timestamp::now());
    history.push(Entry { images: images.clone(), closes_way_back, ..entry });
}
