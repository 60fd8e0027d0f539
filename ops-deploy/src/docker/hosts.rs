//! Several engines as one target: all of them, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::{Plan, Refusal, Resource as _, Version, World};

use super::host::DockerHost;
use super::status::Status;
use crate::error::{Error, ErrorKind};
use crate::history::History;
use crate::planning::{names, nothing_in_service};
use crate::target::{Known, LockHolder, Observed, Target};

/// An application on several Docker engines: a version comes into service on all of them, or on
/// none. On every host the new containers start and pass the gate before any traffic moves, and
/// there is one commit for all. Cheap to clone.
///
/// A host that runs the version already, and well, is left alone: so a deployment also brings
/// hosts together of which some were left behind.
#[derive(Debug, Clone)]
pub struct DockerHosts(Arc<Vec<DockerHost>>);

/// Which plans a host makes for.
#[derive(Debug, Clone, Copy)]
enum Way<'a> {
    Deploy(&'a Version),
    Back(&'a Version),
    Across(&'a Version),
    Emergency(&'a Version),
}

impl DockerHosts {
    /// These hosts.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if there is none, or one of them twice.
    pub fn new(hosts: impl IntoIterator<Item = DockerHost>) -> Result<Self, Error> {
        let hosts: Vec<_> = hosts.into_iter().collect();
        let ids: BTreeSet<_> = hosts.iter().map(DockerHost::id).collect();
        if hosts.is_empty() || ids.len() < hosts.len() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{} hosts are given, {} different ones", hosts.len(), ids.len()),
            )
            .remedy("give each engine once, and at least one"));
        }
        Ok(Self(Arc::new(hosts)))
    }

    /// The hosts.
    pub fn hosts(&self) -> &[DockerHost] {
        &self.0
    }

    async fn look(&self) -> Result<Vec<(String, Status)>, Error> {
        let mut seen = Vec::new();
        for host in self.hosts() {
            seen.push((host.name(), host.look().await?));
        }
        Ok(seen)
    }

    async fn plan(&self, way: Way<'_>) -> Result<Plan, Error> {
        let mut plans = Vec::new();
        for host in self.hosts() {
            let plan = match way {
                Way::Deploy(version) => host.plan_deploy(version).await,
                Way::Back(version) => host.plan_rollback(Some(version.clone())).await,
                Way::Across(version) => {
                    host.plan_rollback_across_migrations(Some(version.clone())).await
                }
                Way::Emergency(version) => {
                    host.plan_emergency_rollback(Some(version.clone())).await
                }
            };
            plans.push((host.name(), plan.map_err(|error| error.with("host", host.name()))?));
        }
        self.same_images(&plans)?;
        Ok(join(plans, way))
    }

    /// One version is one set of images: hosts that built their own would run different programs.
    fn same_images(&self, plans: &[(String, Plan)]) -> Result<(), Error> {
        let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (_, plan) in plans {
            for (key, value) in plan.facts.iter().filter(|(key, _)| key.starts_with("image of ")) {
                seen.entry(key).or_default().insert(value);
            }
        }
        let differ = seen.into_iter().filter(|(_, images)| images.len() > 1);
        let refusals: Vec<_> = differ
            .map(|(key, images)| {
                let images: Vec<_> = images.into_iter().collect();
                Refusal::new(
                    format!("the {key} differs between the hosts: {}", images.join(", ")),
                    "bring the same image to all of them, by a registry or `docker load`",
                )
            })
            .collect();
        if refusals.is_empty() {
            return Ok(());
        }
        let hosts: Vec<_> = self.hosts().iter().map(Target::name).collect();
        Err(Error::new(ErrorKind::IncompleteVersion, "the hosts have different images")
            .with("hosts", hosts.join(", "))
            .refusals(refusals))
    }

    async fn plan_back(
        &self,
        to: Option<Version>,
        way: impl FnOnce(&Version) -> Way<'_> + Send,
    ) -> Result<Plan, Error> {
        let to = match to {
            Some(to) => to,
            None => self.previous().await?,
        };
        self.plan(way(&to)).await
    }

    /// The version that all of them can go back to: the first host's, if it is complete on each.
    async fn previous(&self) -> Result<Version, Error> {
        let seen = self.look().await?;
        let (current, contradictions) = together(&seen);
        let complete = everywhere(&seen);
        if !contradictions.is_empty() {
            let unknown = "cannot determine the current version";
            return Err(Error::new(ErrorKind::UnknownCurrent, unknown)
                .refusals(contradictions)
                .with("complete", names(&complete)));
        }
        let Some(current) = current else {
            return Err(nothing_in_service().with("complete", names(&complete)));
        };
        let way = seen.first().map(|(_, status)| status.history.way_back()).unwrap_or_default();
        let mut earlier = way.into_iter().filter(|version| **version != current);
        earlier.find(|version| complete.contains(version)).cloned().ok_or_else(|| {
            Error::new(ErrorKind::NoPrevious, "there is no previous version that all hosts have")
                .with("current", &current)
                .remedy(format!("name one of the complete versions: {}", names(&complete)))
        })
    }
}

/// Joins the hosts' plans into one: until the gate host by host, then the switches, one commit.
fn join(plans: Vec<(String, Plan)>, way: Way<'_>) -> Plan {
    let (verb, version) = match way {
        Way::Deploy(version) => ("deploy", version),
        Way::Back(version) | Way::Across(version) | Way::Emergency(version) => {
            ("rollback", version)
        }
    };
    let mut joined = Plan::new(verb).version(version.clone());
    if matches!(way, Way::Emergency(_)) {
        joined = joined.fact("emergency", true);
    }
    let (mut after_gates, mut deadline) = (Vec::new(), Duration::ZERO);
    for (host, mut plan) in plans {
        for (key, value) in plan.facts {
            joined = joined.fact(format!("{host} {key}"), value);
        }
        let gate = |name: &str| name == "pass_gate" || name == "await_listeners";
        let gates = plan.changes.iter().position(|step| gate(&step.name)).map_or(0, |at| at + 1);
        after_gates.extend(plan.changes.split_off(gates));
        joined.changes.extend(plan.changes);
        joined.finishers.extend(plan.finishers);
        deadline = deadline.saturating_add(plan.deadline.unwrap_or_default());
    }
    joined.changes.extend(after_gates);
    if joined.is_empty() { joined } else { joined.within(deadline) }
}

/// The version in service on all hosts; why there is none, if they contradict each other.
fn together(seen: &[(String, Status)]) -> (Option<Version>, Vec<Refusal>) {
    let mut contradictions = Vec::new();
    let mut found: BTreeMap<Option<&Version>, Vec<&str>> = BTreeMap::new();
    for (host, status) in seen {
        match status.current() {
            Ok(current) => found.entry(current).or_default().push(host),
            Err(error) => contradictions.extend(
                error
                    .reasons()
                    .iter()
                    .map(|why| Refusal::new(format!("{host}: {}", why.reason), &why.remedy)),
            ),
        }
    }
    if found.len() > 1 {
        let mixed: Vec<_> = found
            .iter()
            .map(|(version, hosts)| {
                let version = version.map_or("no version", Version::as_str);
                format!("{version} on {}", hosts.join(", "))
            })
            .collect();
        contradictions.push(Refusal::new(
            format!("the hosts are of different versions: {}", mixed.join("; ")),
            "recover what was interrupted, or deploy the version that all should have",
        ));
    }
    let current = found.into_keys().next().flatten().cloned();
    (current.filter(|_| contradictions.is_empty()), contradictions)
}

/// The versions that are complete on every host, in the order of the first.
fn everywhere(seen: &[(String, Status)]) -> Vec<Version> {
    let Some(((_, first), others)) = seen.split_first() else { return Vec::new() };
    let others: Vec<_> = others.iter().map(|(_, status)| status.complete()).collect();
    let mut complete = first.complete();
    complete.retain(|version| others.iter().all(|theirs| theirs.contains(version)));
    complete
}

impl Target for DockerHosts {
    fn name(&self) -> String {
        self.hosts().iter().map(Target::name).collect::<Vec<_>>().join(" + ")
    }

    fn world(&self) -> Box<dyn World + Send + '_> {
        Box::new(self.hosts().iter().collect::<Vec<&DockerHost>>())
    }

    fn observe(&self) -> BoxFuture<'_, Result<Observed, Error>> {
        async move {
            let (current, contradictions) = together(&self.look().await?);
            let mut running = Vec::new();
            for host in self.hosts() {
                running.extend(host.observe().await?.running);
            }
            let versions = self.versions().await?;
            Ok(Observed { current, contradictions, running, versions })
        }
        .boxed()
    }

    /// A version lacks what it lacks on any of the hosts.
    fn known(&self) -> BoxFuture<'_, Result<Vec<Known>, Error>> {
        async move {
            let mut all: Vec<Known> = Vec::new();
            let mut seen: Vec<(String, Vec<Known>)> = Vec::new();
            for host in self.hosts() {
                seen.push((host.name(), host.known().await?));
            }
            for known in seen.iter().flat_map(|(_, known)| known) {
                if all.iter().any(|it| it.version == known.version) {
                    continue;
                }
                let mut joined = Known { lacking: Vec::new(), ..known.clone() };
                for (host, theirs) in &seen {
                    match theirs.iter().find(|it| it.version == known.version) {
                        Some(it) => {
                            let lacks = it.lacking.iter().map(|what| format!("{host}: {what}"));
                            joined.lacking.extend(lacks);
                            joined.runs |= it.runs;
                            joined.in_service &= it.in_service;
                        }
                        None => joined.lacking.push(format!("{host} has nothing of it")),
                    }
                }
                all.push(joined);
            }
            Ok(all)
        }
        .boxed()
    }

    /// That of the first host.
    fn history(&self) -> BoxFuture<'_, Result<History, Error>> {
        async move {
            match self.hosts().first() {
                Some(host) => host.history().await,
                None => Ok(History::default()),
            }
        }
        .boxed()
    }

    /// That of the first host whose lock is held.
    fn lock_holder(&self) -> BoxFuture<'_, Result<Option<LockHolder>, Error>> {
        async move {
            for host in self.hosts() {
                if let Some(holder) = host.holder().await? {
                    return Ok(Some(holder));
                }
            }
            Ok(None)
        }
        .boxed()
    }

    fn versions(&self) -> BoxFuture<'_, Result<Vec<Version>, Error>> {
        async move { Ok(everywhere(&self.look().await?)) }.boxed()
    }

    fn plan_deploy<'a>(&'a self, version: &'a Version) -> BoxFuture<'a, Result<Plan, Error>> {
        self.plan(Way::Deploy(version)).boxed()
    }

    fn plan_rollback(&self, to: Option<Version>) -> BoxFuture<'_, Result<Plan, Error>> {
        self.plan_back(to, |to| Way::Back(to)).boxed()
    }

    fn plan_emergency_rollback(&self, to: Option<Version>) -> BoxFuture<'_, Result<Plan, Error>> {
        self.plan_back(to, |to| Way::Emergency(to)).boxed()
    }

    fn plan_rollback_across_migrations(
        &self,
        to: Option<Version>,
    ) -> BoxFuture<'_, Result<Plan, Error>> {
        self.plan_back(to, |to| Way::Across(to)).boxed()
    }
}
