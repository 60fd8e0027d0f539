//! What an engine and its machine must have.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use ops_core::Refusal;

use super::{Preflight, least};

/// What an engine says of itself and its machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct EngineFacts {
    pub docker: Option<String>,
    pub api: Option<String>,
    pub cpus: Option<u64>,
    pub memory: Option<u64>,
    /// Free bytes where it keeps its data; `None` where that cannot be told.
    pub disk: Option<u64>,
    /// Its time, and ours when it had answered.
    pub times: Option<(Timestamp, Timestamp)>,
    /// How much memory the new containers are bounded to.
    pub bounded: u64,
}

impl Preflight {
    /// What does not hold of an engine at this address.
    pub(crate) fn engine_findings(&self, host: &str, facts: &EngineFacts) -> Vec<Refusal> {
        let needs = &self.engine;
        let mut findings = Vec::new();
        let mut find = |why: String, remedy: &str| findings.push(Refusal::new(why, remedy));
        for (what, found, least) in [
            ("is Docker", &facts.docker, &needs.docker),
            ("speaks the API", &facts.api, &needs.api),
        ] {
            let said = found.as_deref().unwrap_or("nothing");
            match least::found(said) {
                Some(found) if least.is_met_by(&found) => {}
                Some(found) => find(
                    format!("the engine `{host}` {what} {found}, at least {least} is needed"),
                    "update it",
                ),
                None => find(
                    format!("the engine `{host}` says that it {what} `{said}`"),
                    "see whether it is a Docker engine",
                ),
            }
        }
        // No data is no good data.
        let at_least = |found: Option<u64>, least: u64| {
            let enough = least == 0 || found.is_some_and(|found| found >= least);
            (!enough).then(|| found.map_or("an unknown number of".into(), |n| n.to_string()))
        };
        if let Some(cpus) = at_least(facts.cpus, needs.cpus) {
            find(
                format!("the machine of `{host}` has {cpus} CPUs, {} are needed", needs.cpus),
                "use a larger machine",
            );
        }
        let memory = needs.memory.max(facts.bounded);
        if let Some(found) = at_least(facts.memory, memory) {
            find(
                format!("the machine of `{host}` has {found} bytes of memory, {memory} are needed"),
                "use a larger machine, or bound the containers to less",
            );
        }
        if let Some(free) = facts.disk.filter(|free| *free < needs.disk) {
            find(
                format!(
                    "the engine `{host}` has {free} bytes of disk left, {} are needed",
                    needs.disk
                ),
                "remove what is old (`docker system df` shows what), or use a larger disk",
            );
        }
        if let Some((its, ours)) = facts.times {
            let skew = its.duration_since(ours).abs();
            if skew > SignedDuration::try_from(needs.skew).unwrap_or(SignedDuration::MAX) {
                find(
                    format!("the clock of `{host}` says {its}, the clock here {ours}"),
                    "set both by the same source of time (NTP)",
                );
            }
        } else {
            find(
                format!("the engine `{host}` does not tell its time"),
                "see whether it is a Docker engine",
            );
        }
        findings
    }
}

/// Whether the kernel of this machine can balance as a Swarm's virtual addresses need it: IP_VS is
/// loaded, built in, or there to be loaded. `None` where that cannot be told.
pub(crate) fn has_ip_vs(root: &Path) -> Option<bool> {
    if root.join("proc/net/ip_vs").exists() || root.join("sys/module/ip_vs").exists() {
        return Some(true);
    }
    let release = std::fs::read_to_string(root.join("proc/sys/kernel/osrelease")).ok()?;
    let modules = root.join("lib/modules").join(release.trim());
    let lists = ["modules.builtin", "modules.dep"].map(|name| modules.join(name));
    let texts: Vec<_> =
        lists.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    // Without the lists there is nothing to load: a container sees its own folders, not the host's.
    let is_there = texts.iter().any(|text| text.lines().any(|line| line.contains("/ip_vs.ko")));
    Some(is_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_finding_comes_at_once_and_with_a_remedy() {
        let now = Timestamp::UNIX_EPOCH;
        let facts = EngineFacts {
            docker: Some("20.10.24+dfsg1".into()),
            api: Some("1.41".into()),
            cpus: Some(2),
            memory: Some(1 << 30),
            disk: Some(1 << 30),
            times: Some((now + SignedDuration::from_secs(50), now)),
            bounded: 1 << 29,
        };
        let preflight = Preflight::new();
        assert!(preflight.engine_findings("unix:///d.sock", &facts).is_empty());
        let strict = preflight
            .docker("24")
            .api("1.44")
            .cpus(4)
            .memory(1 << 31)
            .disk(1 << 31)
            .clock_skew(Duration::from_secs(40));
        let found = strict.engine_findings("unix:///d.sock", &facts);
        let found: Vec<_> =
            found.iter().map(|it| format!("{}; {}", it.reason, it.remedy)).collect();
        assert_eq!(found.len(), 6, "{found:#?}");
        assert_eq!(
            found[0],
            "the engine `unix:///d.sock` is Docker 20.10.24, at least 24 is needed; update it"
        );
        let odd = EngineFacts { docker: Some("podman".into()), bounded: 1 << 31, ..facts.clone() };
        let found = Preflight::new().engine_findings("unix:///d.sock", &odd);
        assert_eq!(found.len(), 2, "{found:#?}");
        // What is not told is not there.
        let silent = EngineFacts { cpus: None, memory: None, times: None, ..facts };
        let found = Preflight::new().cpus(1).engine_findings("unix:///d.sock", &silent);
        let found: Vec<_> = found.iter().map(|it| it.reason.as_str()).collect();
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found[0].contains("has an unknown number of CPUs, 1 are needed"), "{found:#?}");
    }

    #[test]
    fn the_kernel_is_asked_for_ip_vs() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(has_ip_vs(dir.path()), None);
        write("proc/sys/kernel/osrelease", "6.1.0-9\n");
        assert_eq!(has_ip_vs(dir.path()), Some(false));
        write("lib/modules/6.1.0-9/modules.dep", "kernel/net/netfilter/ipvs/ip_vs.ko: a b\n");
        assert_eq!(has_ip_vs(dir.path()), Some(true));
    }
}
