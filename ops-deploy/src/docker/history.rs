//! The history of this machine, completed from what others left on the engine.

use std::collections::{BTreeMap, BTreeSet};

use ops_core::{StepContext, StepError, Version};

use super::containers::{Container, ContainerState};
use super::engine::Count;
use super::host::DockerHost;
use super::start::Placement;
use super::status::Status;
use crate::history::{Entry, History, Verb};
use crate::recording::{entry, record};

/// Adds what the containers tell and the record does not: operations of other machines, and ones
/// whose record is lost. `but` is the operation that is under way, `current` what is in service.
pub(super) fn completed(
    record: Option<History>,
    containers: &[Container],
    current: Option<&Version>,
    but: Option<&str>,
) -> History {
    let mut history = record.unwrap_or_default();
    let known: BTreeSet<String> =
        history.0.iter().filter_map(|entry| entry.operation.clone()).collect();
    let mut missing: BTreeMap<&str, Entry> = BTreeMap::new();
    for container in containers {
        let operation = container.operation.as_str();
        let served = container.state == ContainerState::Stopped
            || container.runs() && Some(&container.version) == current;
        if known.contains(operation) || Some(operation) == but || !served {
            continue;
        }
        let entry = missing.entry(operation).or_insert_with(|| Entry {
            operation: Some(operation.to_owned()),
            closes_way_back: container.closes_way_back.clone(),
            ..Entry::new(container.version.clone(), Verb::Observed, container.created)
        });
        entry.images.insert(container.service.clone(), container.image.clone());
    }
    // What is recorded stands in the order in which it was done, whatever the clock said then.
    let mut missing: Vec<_> = missing.into_values().collect();
    missing.sort_by_key(|entry| entry.at);
    for entry in missing {
        let before = history.0.iter().rposition(|known| known.at <= entry.at);
        history.0.insert(before.map_or(0, |at| at + 1), entry);
    }
    // A rollback to a container that was kept leaves no container of its own.
    if let Some(current) = current
        && history.latest() != Some(current)
    {
        let at = history.0.last().map_or_else(jiff::Timestamp::now, |entry| entry.at);
        let known = history.0.iter().any(|entry| entry.version == *current);
        let verb = if known { Verb::Rollback } else { Verb::Observed };
        history.push(Entry::new(current.clone(), verb, at));
    }
    history
}

impl DockerHost {
    pub(super) async fn record_history(
        &self,
        version: &Version,
        verb: Verb,
        current: Option<&Version>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        self.hold_lock(cx).await?;
        if verb == Verb::Rollback {
            let from = self.placements(version, cx)?;
            let moved = self.0.services.iter().filter(|service| service.traffic.is_some());
            let moved = moved.map(|service| super::switch::key(&service.name, version));
            crate::speed::rate(from.iter().map(Placement::from), moved, cx).await?;
        }
        // For the report only: an engine that does not say it fails nothing.
        let count = async { Ok::<_, StepError>(self.0.engine.count().await.ok()) };
        let _: Option<Count> = cx.observe("engine", count).await?;
        let containers = self.containers().await?.containers;
        let (current, operation) = (current.cloned(), cx.operation().to_string());
        let entry = Entry {
            images: Self::pinned(version, cx)?,
            closes_way_back: self.0.stages.closes_way_back(version, cx)?,
            ..entry(version, verb, cx)
        };
        let complete = move |known: Option<_>| {
            Ok(completed(known, &containers, current.as_ref(), Some(&operation)))
        };
        record(self.history_path(), entry, complete, cx).await
    }

    /// The version that a rollback goes to.
    pub(super) fn previous(current: &Version, status: &Status) -> Option<Version> {
        let complete = |version: &&Version| {
            status.releases.iter().any(|r| r.version == **version && r.is_complete())
        };
        let way = status.history.way_back();
        way.into_iter().filter(|version| *version != current).find(complete).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(n: i64, version: &str, state: ContainerState) -> Container {
        Container {
            name: format!("shop-web-{version}-{n}"),
            service: "web".into(),
            version: version.parse().unwrap(),
            operation: format!("op{n}"),
            epoch: n.unsigned_abs(),
            image: format!("sha256:{version}"),
            address: None,
            state,
            created: jiff::Timestamp::from_second(n).unwrap(),
            closes_way_back: (n == 9).then(|| "schema".to_owned()),
        }
    }

    #[test]
    fn a_record_is_rebuilt_and_completed_from_what_is_there() {
        let v = |name: &str| -> Version { name.parse().unwrap() };
        let stopped = |n, version| container(n, version, ContainerState::Stopped);
        let running = |n, version| container(n, version, ContainerState::Running);
        let way = |history: &History| {
            history.way_back().iter().map(|v| v.as_str()).collect::<Vec<_>>().join(" ")
        };
        let seen = [stopped(1, "v1"), stopped(2, "v2"), running(3, "v3")];
        let rebuilt = completed(None, &seen, Some(&v("v3")), None);
        assert_eq!(way(&rebuilt), "v3 v2 v1");
        assert_eq!(rebuilt.entries()[0].images["web"], "sha256:v1");
        // What is under way, and what never served, is no history.
        let seen = [stopped(1, "v1"), running(2, "v2"), running(3, "v3")];
        let rebuilt = completed(None, &seen, Some(&v("v2")), Some("op3"));
        assert_eq!(way(&rebuilt), "v2 v1");
        // A clock that went back changes no order.
        let deployed = |version, at| {
            Entry::new(v(version), Verb::Deploy, jiff::Timestamp::from_second(at).unwrap())
        };
        let recorded = History(vec![deployed("v1", 900), deployed("v2", 5)]);
        let seen = completed(Some(recorded), &[], Some(&v("v2")), None);
        assert_eq!(way(&seen), "v2 v1");
        // Another machine went back to v1: nobody goes forward to v2 by a rollback.
        let seen = [stopped(0, "v0"), running(1, "v1"), stopped(2, "v2")];
        let seen = completed(None, &seen, Some(&v("v1")), None);
        assert_eq!(way(&seen), "v1 v0");
        // A migration of another machine closes the way for this one, too.
        let closed = completed(None, &[stopped(1, "v1"), running(9, "v9")], Some(&v("v9")), None);
        assert_eq!(closed.closed_since(&v("v1")), Some((&v("v9"), "schema")));
        let again = completed(Some(seen.clone()), &[], Some(&v("v1")), None);
        assert_eq!(again, seen);
    }
}
