//! How loaded the machine is.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sysinfo::{
    CpuRefreshKind, MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, RefreshKind, System,
};

/// How loaded the machine is. What cannot be known is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HostMetrics {
    /// Use of all processors together, in percent, over the time that was measured.
    pub cpu_percent: Option<f32>,
    /// Memory in use, in bytes.
    pub memory_used_bytes: Option<u64>,
    /// Memory of the machine, in bytes.
    pub memory_total_bytes: Option<u64>,
    /// Room for unprivileged users on the file system that was asked for, in bytes.
    pub disk_available_bytes: Option<u64>,
    /// Size of that file system, in bytes.
    pub disk_total_bytes: Option<u64>,
    /// Average length of the run queue over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Seconds since the machine started.
    pub uptime_seconds: Option<u64>,
}

impl HostMetrics {
    /// Measures, with the disk that holds `path` (or its nearest folder that exists). Blocks for
    /// 200 ms, between two looks at the processors.
    pub fn sample(path: &Path) -> Self {
        let sampler = LoadSampler::start();
        std::thread::sleep(MINIMUM_CPU_UPDATE_INTERVAL);
        sampler.finish(path)
    }
}

/// Measures how loaded the machine is over a stretch of time.
#[derive(Debug)]
#[must_use = "call `finish` at the end of the stretch"]
pub struct LoadSampler {
    started: Instant,
    system: Option<System>,
}

impl LoadSampler {
    /// Begins. Blocks on the file system.
    pub fn start() -> Self {
        let kinds = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_usage());
        Self { started: Instant::now(), system: System::new_with_specifics(kinds).ok() }
    }

    /// What was measured, with the disk that holds `path` (or its nearest folder that exists). The
    /// use of the processors is that since the start, and absent if that is less than 200 ms ago.
    /// Blocks on the file system.
    pub fn finish(self, path: &Path) -> HostMetrics {
        let long_enough = self.started.elapsed() >= MINIMUM_CPU_UPDATE_INTERVAL;
        let mut system = self.system;
        if let Some(system) = &mut system {
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            if long_enough {
                system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
            }
        }
        let system = system.as_ref();
        let cpu = system.filter(|_| long_enough).map(System::global_cpu_usage);
        let existing = path.ancestors().find(|folder| folder.exists());
        let space = existing.and_then(|folder| crate::fs::space(folder).ok());
        HostMetrics {
            cpu_percent: cpu.filter(|percent| percent.is_finite()),
            memory_used_bytes: system.map(System::used_memory),
            memory_total_bytes: system.map(System::total_memory),
            disk_available_bytes: space.as_ref().map(|space| space.available),
            disk_total_bytes: space.as_ref().map(|space| space.total),
            load: System::load_average().ok().map(|load| [load.one, load.five, load.fifteen]),
            uptime_seconds: System::uptime().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_plausible_and_round_trips() {
        let sample = HostMetrics::sample(Path::new("/tmp/not/there/yet"));
        assert!(sample.memory_used_bytes <= sample.memory_total_bytes);
        assert!(sample.memory_total_bytes > Some(0) && sample.uptime_seconds > Some(0));
        assert!(sample.disk_available_bytes <= sample.disk_total_bytes);
        assert!((0.0..=100.0).contains(&sample.cpu_percent.unwrap()));
        assert!(sample.disk_total_bytes.is_some(), "the nearest folder that exists was taken");
        let json = serde_json::to_string(&sample).unwrap();
        assert_eq!(serde_json::from_str::<HostMetrics>(&json).unwrap(), sample);
    }

    #[test]
    fn the_use_of_processors_over_no_time_is_not_known() {
        assert_eq!(LoadSampler::start().finish(Path::new("/")).cpu_percent, None);
    }
}
