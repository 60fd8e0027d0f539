//! Gives a service another image, and waits until its tasks have it.

use std::collections::{BTreeSet, HashMap};

use bollard::models::{
    EndpointPortConfig, EndpointPortConfigProtocolEnum, EndpointPortConfigPublishModeEnum,
    EndpointSpec, EndpointSpecModeEnum, Service, ServiceSpec,
    ServiceSpecUpdateConfigFailureActionEnum, ServiceSpecUpdateConfigOrderEnum, Task,
    TaskSpecContainerSpecSecrets as Mounted, TaskState,
};
use ops_core::{OperationId, StepContext, StepError, Version};
use serde::{Deserialize, Serialize};

use super::super::containers::{CLOSES, IMAGE, OPERATION, VERB, VERSION};
use super::cluster::Swap;
use super::{Swarm, SwarmService};
use crate::error::{Error, ErrorKind};
use crate::history::Verb;

/// How often Swarm may give a service another version under our hands.
const TRIES: u32 = 20;
const FENCE: &str = "ops-deploy.fence";
const POLL: std::time::Duration = std::time::Duration::from_millis(100);
/// So many new tasks may fail before the service is given up.
const FAILURES: usize = 2;
const OURS: [&str; 5] = [VERSION, IMAGE, OPERATION, VERB, CLOSES];

/// What an update replaces, and what brings it back. Nothing else of a specification goes into a
/// journal: environments may hold secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Before {
    index: u64,
    image: String,
    labels: HashMap<String, String>,
    task_labels: HashMap<String, String>,
    /// What it published, where the update publishes something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint: Option<EndpointSpec>,
    /// Which secrets it had, by name and id, where the update gives it others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secrets: Option<Vec<Mounted>>,
}

fn key(service: &str, version: &Version) -> String {
    format!("{service} before {version}")
}

pub(super) fn index_of(service: &Service) -> u64 {
    service.version.as_ref().and_then(|version| version.index).unwrap_or_default()
}

pub(super) fn label(service: &Service, name: &str) -> Option<String> {
    service.spec.as_ref()?.labels.as_ref()?.get(name).cloned()
}

fn only_ours(labels: Option<&HashMap<String, String>>) -> HashMap<String, String> {
    let labels = labels.into_iter().flatten();
    let ours = labels.filter(|(name, _)| OURS.contains(&name.as_str()));
    ours.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn set(labels: &mut Option<HashMap<String, String>>, ours: &HashMap<String, String>) {
    let labels = labels.get_or_insert_default();
    labels.retain(|name, _| !OURS.contains(&name.as_str()));
    labels.extend(ours.clone());
}

/// What is published in host mode.
fn host_mode(ports: &[(u16, u16)]) -> EndpointSpec {
    let ports = ports.iter().map(|(on_node, of_task)| EndpointPortConfig {
        protocol: Some(EndpointPortConfigProtocolEnum::TCP),
        target_port: Some(i64::from(*of_task)),
        published_port: Some(i64::from(*on_node)),
        publish_mode: Some(EndpointPortConfigPublishModeEnum::HOST),
        name: None,
    });
    EndpointSpec { mode: Some(EndpointSpecModeEnum::DNSRR), ports: Some(ports.collect()) }
}

fn set_secrets(spec: &mut ServiceSpec, secrets: Vec<Mounted>) {
    let task = spec.task_template.get_or_insert_default();
    task.container_spec.get_or_insert_default().secrets = Some(secrets);
}

/// The specification with another image and other labels of ours: everything else stays.
fn with(
    spec: ServiceSpec,
    image: &str,
    labels: &HashMap<String, String>,
    task_labels: &HashMap<String, String>,
    stop_first: bool,
) -> ServiceSpec {
    let mut spec = spec;
    set(&mut spec.labels, labels);
    let task = spec.task_template.get_or_insert_default();
    // Also where the image is the same: its tasks are made anew.
    task.force_update = Some(task.force_update.unwrap_or_default() + 1);
    let container = task.container_spec.get_or_insert_default();
    container.image = Some(image.to_owned());
    set(&mut container.labels, task_labels);
    let update = spec.update_config.get_or_insert_default();
    update.order = Some(if stop_first {
        ServiceSpecUpdateConfigOrderEnum::STOP_FIRST
    } else {
        ServiceSpecUpdateConfigOrderEnum::START_FIRST
    });
    // Going back is ours to do, with a journal.
    update.failure_action = Some(ServiceSpecUpdateConfigFailureActionEnum::PAUSE);
    spec
}

impl Swarm {
    pub(super) async fn existing(&self, name: &str) -> Result<Service, Error> {
        self.0.engine.swarm_service(name).await?.ok_or_else(|| {
            Error::new(ErrorKind::Service, format!("the Swarm has no service `{name}`"))
                .with("engine", self.0.engine.host())
                .remedy("create it once, by `docker stack deploy` or `docker service create`")
        })
    }

    fn settings_of(&self, name: &str) -> Result<&SwarmService, StepError> {
        self.0.services.iter().find(|service| service.name == name).ok_or_else(|| {
            StepError::permanent(format!("there is no service `{name}` any more"))
                .remedy("plan again")
        })
    }

    /// The image that was planned, or the one that was pinned since.
    async fn image_of(
        &self,
        service: &SwarmService,
        version: &Version,
        planned: &str,
        cx: &StepContext,
    ) -> Result<String, StepError> {
        if !planned.is_empty() {
            return Ok(planned.to_owned());
        }
        let id = Self::pinned(version, cx)?.remove(&service.name).unwrap_or_default();
        Ok(self.reference(&id, &service.repository).await?)
    }

    pub(super) async fn update(
        &self,
        name: &str,
        version: &Version,
        image: &str,
        verb: Verb,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        self.hold_lock(cx).await?;
        let settings = self.settings_of(name)?;
        let image = &self.image_of(settings, version, image, cx).await?;
        let service = self.existing(name).await?;
        let ours = cx.operation().to_string();
        let look = async {
            let spec = service.spec.clone().unwrap_or_default();
            let container =
                spec.task_template.and_then(|task| task.container_spec).unwrap_or_default();
            Ok(Before {
                index: index_of(&service),
                secrets: (!settings.secrets.is_empty())
                    .then(|| container.secrets.clone().unwrap_or_default()),
                image: container.image.unwrap_or_default(),
                labels: only_ours(spec.labels.as_ref()),
                task_labels: only_ours(container.labels.as_ref()),
                endpoint: (!settings.ports.is_empty())
                    .then(|| spec.endpoint_spec.clone().unwrap_or_default()),
            })
        };
        let before: Before = cx.observe(&key(name, version), look).await?;
        if label(&service, OPERATION).as_ref() != Some(&ours) {
            let labels = [
                (VERSION, version.as_str()),
                (IMAGE, image),
                (OPERATION, &ours),
                (VERB, verb.as_str()),
            ];
            let mut labels: HashMap<_, _> =
                labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            let closes = self.0.stages.closes_way_back(version, cx)?;
            labels.extend(closes.map(|migration| (CLOSES.to_owned(), migration)));
            if label(&service, OPERATION).as_ref() != before.labels.get(OPERATION) {
                return Err(stale(name, before.index).into());
            }
            let secrets = match &settings.secrets {
                none if none.is_empty() => None,
                _ => Some(self.make_secrets(settings, cx).await?),
            };
            let new = |mut spec: ServiceSpec| {
                if !settings.ports.is_empty() {
                    spec.endpoint_spec = Some(host_mode(&settings.ports));
                }
                if let Some(secrets) = secrets.clone() {
                    set_secrets(&mut spec, secrets);
                }
                with(spec, image, &labels, &labels, settings.stop_first)
            };
            cx.fault_point("swarm: service about to be updated");
            let swapped = self.swap(name, service, new).await;
            cx.fault_point("swarm: service updated");
            match swapped {
                Ok(Swap::Won) => {}
                Ok(Swap::Lost) => return Err(stale(name, before.index).into()),
                // Its answer may have been lost, and not the update.
                Err(error) => {
                    let now = self.existing(name).await?;
                    if label(&now, OPERATION).as_ref() != Some(&ours) {
                        return Err(error.into());
                    }
                }
            }
        }
        self.converged(name, Some(&ours), &BTreeSet::new(), cx).await
    }

    /// How the version before came into service, and which migration of it closed the way back, as
    /// its first service told.
    pub(super) fn came_by(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(Option<Verb>, Option<String>), StepError> {
        let Some(service) = self.0.services.first() else { return Ok((None, None)) };
        let before = cx.noted::<Before>(&key(&service.name, version))?;
        let labels = before.map(|before| before.labels).unwrap_or_default();
        let verb = labels.get(VERB).and_then(|text| Verb::parse(text));
        Ok((verb, labels.get(CLOSES).cloned()))
    }

    pub(super) async fn update_back(
        &self,
        name: &str,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let Some(before) = cx.noted::<Before>(&key(name, version))? else { return Ok(()) };
        let service = self.existing(name).await?;
        let ours = cx.operation().to_string();
        let found = label(&service, OPERATION);
        // The engine keeps tasks of the old operation that failed long ago.
        let failed = self.failed_tasks(name).await?;
        if found.as_ref() == Some(&ours) {
            let stop_first = self.settings_of(name).is_ok_and(|settings| settings.stop_first);
            let old = |mut spec: ServiceSpec| {
                spec.endpoint_spec = before.endpoint.clone().or(spec.endpoint_spec);
                if let Some(secrets) = before.secrets.clone() {
                    set_secrets(&mut spec, secrets);
                }
                with(spec, &before.image, &before.labels, &before.task_labels, stop_first)
            };
            if self.swap(name, service, old).await? == Swap::Lost {
                return Err(stale(name, before.index).into());
            }
        } else if found != before.labels.get(OPERATION).cloned() {
            let other = found.unwrap_or_else(|| "nobody known".to_owned());
            let error = format!("the service `{name}` was updated by somebody else");
            return Err(Error::new(ErrorKind::Conflict, error)
                .with("operation", other)
                .remedy("see who deploys there and which version it should be, then recover")
                .into());
        } else if self.bump(name, service, &ours).await? == Swap::Lost {
            // Another specification makes sure that an update of ours whose answer was lost does not
            // arrive after all.
            return Err(stale(name, before.index).into());
        }
        let operation = before.task_labels.get(OPERATION).map(String::as_str);
        self.converged(name, operation, &failed, cx).await?;
        self.others_ended(name, operation, cx).await?;
        self.remove_secrets().await
    }

    /// Waits until what Swarm does not want any more has really ended, for as long as that may take:
    /// until then it may still answer those who know its node.
    async fn others_ended(
        &self,
        name: &str,
        operation: Option<&str>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let until = tokio::time::Instant::now() + self.0.converge;
        while tokio::time::Instant::now() < until {
            let tasks = self.0.engine.tasks(name).await?;
            let lives = |task: &Task| {
                let state = task.status.as_ref().and_then(|status| status.state);
                let labels = task.spec.as_ref().and_then(|spec| spec.container_spec.as_ref());
                let labels = labels.and_then(|container| container.labels.as_ref());
                let by = labels.and_then(|labels| labels.get(OPERATION)).map(String::as_str);
                by != operation && matches!(state, Some(TaskState::STARTING | TaskState::RUNNING))
            };
            if !tasks.iter().any(lives) {
                return Ok(());
            }
            cx.until_cancelled(tokio::time::sleep(POLL)).await?;
        }
        Ok(())
    }

    /// Gives every service another specification, so that whoever saw the older one loses.
    pub(super) async fn fence(&self, ours: &str) -> Result<(), StepError> {
        for service in &self.0.services {
            let Some(found) = self.0.engine.swarm_service(&service.name).await? else { continue };
            if self.bump(&service.name, found, ours).await? == Swap::Lost {
                let error = Error::new(ErrorKind::Conflict, "the one before deploys on");
                return Err(error.with("service", &service.name).remedy("try again").into());
            }
        }
        Ok(())
    }

    async fn bump(&self, name: &str, seen: Service, ours: &str) -> Result<Swap, Error> {
        let mark = OperationId::generate();
        let fenced = |mut spec: ServiceSpec| {
            let labels = spec.labels.get_or_insert_default();
            labels.insert(FENCE.to_owned(), format!("{ours} {mark}"));
            spec
        };
        self.swap(name, seen, fenced).await
    }

    /// Replaces the specification of a service by compare-and-swap. Swarm itself gives the service
    /// another version while it updates the tasks, so it is tried again as long as the specification
    /// is the one that was seen.
    async fn swap(
        &self,
        name: &str,
        mut seen: Service,
        change: impl Fn(ServiceSpec) -> ServiceSpec + Send + Sync,
    ) -> Result<Swap, Error> {
        for _ in 0..TRIES {
            let spec = change(seen.spec.clone().unwrap_or_default());
            let swapped = self.0.engine.update_swarm_service(name, spec, index_of(&seen)).await?;
            if swapped == Swap::Won {
                return Ok(Swap::Won);
            }
            let now = self.existing(name).await?;
            if now.spec != seen.spec {
                break;
            }
            seen = now;
        }
        Ok(Swap::Lost)
    }

    /// The tasks of a service that have failed, by their ids.
    async fn failed_tasks(&self, name: &str) -> Result<BTreeSet<String>, Error> {
        let failed = self.0.engine.tasks(name).await?.into_iter().filter(has_failed);
        Ok(failed.filter_map(|task| task.id).collect())
    }

    /// Waits until all tasks that Swarm wants are of this operation, and the same ones have run for
    /// a while: what ends soon after its start has run for a moment, too. Failures that are known
    /// are no failures of this.
    async fn converged(
        &self,
        name: &str,
        operation: Option<&str>,
        known: &BTreeSet<String>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let until = tokio::time::Instant::now() + self.0.converge;
        let mut settled: (BTreeSet<String>, _) = (BTreeSet::new(), tokio::time::Instant::now());
        loop {
            let service = self.existing(name).await?;
            let mode = service.spec.as_ref().and_then(|spec| spec.mode.as_ref());
            let replicas = mode
                .and_then(|mode| mode.replicated.as_ref())
                .and_then(|replicated| replicated.replicas)
                .and_then(|replicas| usize::try_from(replicas).ok());
            let (mut ready, mut others, mut failures) = (BTreeSet::new(), 0, Vec::new());
            for task in self.0.engine.tasks(name).await? {
                let labels = task.spec.as_ref().and_then(|spec| spec.container_spec.as_ref());
                let labels = labels.and_then(|container| container.labels.as_ref());
                let ours = labels.and_then(|labels| labels.get(OPERATION)).map(String::as_str);
                let is_new = task.id.as_ref().is_none_or(|id| !known.contains(id));
                let failed = has_failed(&task) && is_new;
                let status = task.status.unwrap_or_default();
                let wanted = task.desired_state == Some(TaskState::RUNNING);
                if ours != operation {
                    others += usize::from(wanted);
                } else if wanted && status.state == Some(TaskState::RUNNING) {
                    ready.extend(task.id);
                } else if failed {
                    failures.push(status.err.or(status.message).unwrap_or_default());
                }
            }
            // A global service wants one a node; how many that are, its tasks tell.
            let count = ready.len();
            let enough = replicas.map_or(count > 0, |wanted| count >= wanted);
            if others > 0 || !enough || ready != settled.0 {
                settled = (ready, tokio::time::Instant::now());
            } else if settled.1.elapsed() >= self.0.settle {
                return Ok(());
            }
            let state = format!("{count} new tasks run, {others} old ones are still wanted");
            let why = failures.last().map(|why| format!(": {why}")).unwrap_or_default();
            if failures.len() >= FAILURES || tokio::time::Instant::now() >= until {
                let error = format!("the service `{name}` does not come up: {state}{why}");
                return Err(Error::new(ErrorKind::Service, error)
                    .remedy(format!("see `docker service ps {name}`"))
                    .into());
            }
            cx.until_cancelled(tokio::time::sleep(POLL)).await?;
        }
    }
}

fn has_failed(task: &Task) -> bool {
    let state = task.status.as_ref().and_then(|status| status.state);
    matches!(state, Some(TaskState::FAILED | TaskState::REJECTED))
}

fn stale(name: &str, index: u64) -> Error {
    Error::new(ErrorKind::Conflict, format!("the service `{name}` was updated in the meantime"))
        .with("expected_version", index)
        .remedy("see who deploys there, then plan again")
}
