//! What a deployment does besides starting and switching; any target takes it.
//!
//! ```toml
//! [build]                                     # makes a version that is not complete
//! command = ["make", "image", "VERSION={version}"]
//! deadline_seconds = 600
//!
//! [migration]                                 # before anything new is started
//! command = ["migrate", "up"]
//! rehearsal = ["migrate", "check"]            # 0: the old version could run afterwards; 3: not
//! rehearsal_prints_sql = false                # true: its statements are looked through instead
//! allow_incompatible = false
//!
//! [[hook]]
//! when = "after_switch"                       # before_start, before_switch, after_commit
//! name = "purge the cache"
//! command = ["purge", "{version}"]
//! undo = ["purge", "all"]                     # else its effect stays when the operation goes back
//! working_folder = "/srv/shop"
//! secrets = ["CDN_TOKEN"]                     # variables of this process that it gets
//! environment = { REGION = "north" }
//! deadline_seconds = 300
//!
//! [bake]                                      # the watch before the commit
//! lasts_seconds = 60
//! interval_milliseconds = 1000
//! latency_milliseconds = 500                  # for the public address, and 95 of 100 requests
//! error_rate = 0.01
//! requests = 20                               # make a window, which is judged as one
//! raise = 3                                   # bad rounds or windows in a row that are too many
//! clear = 5
//! cpu = 0.8
//! memory = 0.8
//! quiet = "pass"                              # without traffic; or "go_back"
//!
//! [preflight]                                 # every finding is told at once
//! programs = ["git"]                          # of this machine, as the next three
//! free_ports = [8080]
//! free_memory_megabytes = 256
//! free_disk = [{ path = "/srv", megabytes = 500 }]
//! certificates = ["/etc/shop/cert.pem"]
//! certificates_valid_hours = 24
//! postgres = { variable = "DATABASE_URL", at_least = "15" }
//! docker = "20.10"                            # of engines, as all below
//! api = "1.41"
//! cpus = 2
//! memory_megabytes = 1024
//! disk_megabytes = 512
//! clock_skew_seconds = 60
//!
//! [[preflight.version]]
//! name = "Node"
//! command = ["node", "--version"]
//! at_least = "20"
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ops_core::host::Requirements;
use ops_deploy::{Bake, Hook, Migration, Preflight, Quiet, When};
use ops_examples::Failure;
use ops_examples::bars::Bars;
use ops_examples::printed::Printed;
use serde::Deserialize;

use super::parts::Secrets;

const MEGABYTE: u64 = 1024 * 1024;

/// The stages of a site, ready for any target.
#[derive(Debug, Default)]
pub struct Stages {
    pub build: Option<Hook>,
    pub hooks: Vec<(When, Hook)>,
    pub migration: Option<Migration>,
    pub bake: Option<Bake>,
    pub preflight: Option<Preflight>,
}

/// Sets the stages of a target, but for its build.
macro_rules! staged {
    ($builder:expr, $stages:expr) => {{
        let (mut builder, stages) = ($builder, $stages);
        for (when, hook) in stages.hooks.clone() {
            builder = builder.hook(when, hook);
        }
        if let Some(migration) = stages.migration.clone() {
            builder = builder.migration(migration);
        }
        if let Some(bake) = stages.bake.clone() {
            builder = builder.bake(bake);
        }
        match stages.preflight.clone() {
            Some(preflight) => builder.preflight(preflight),
            None => builder,
        }
    }};
}
pub(super) use staged;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildConfig {
    command: Vec<String>,
    working_folder: Option<PathBuf>,
    deadline_seconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrationConfig {
    command: Vec<String>,
    #[serde(default)]
    rehearsal: Vec<String>,
    #[serde(default)]
    rehearsal_prints_sql: bool,
    #[serde(default)]
    allow_incompatible: bool,
    working_folder: Option<PathBuf>,
    #[serde(default)]
    secrets: Vec<String>,
    deadline_seconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookConfig {
    when: When,
    name: String,
    command: Vec<String>,
    #[serde(default)]
    undo: Vec<String>,
    working_folder: Option<PathBuf>,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    deadline_seconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BakeConfig {
    lasts_seconds: u64,
    interval_milliseconds: Option<u64>,
    latency_milliseconds: Option<u64>,
    error_rate: Option<f64>,
    requests: Option<u64>,
    raise: Option<u32>,
    clear: Option<u32>,
    cpu: Option<f64>,
    memory: Option<f64>,
    quiet: Option<Quiet>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreflightConfig {
    #[serde(default)]
    programs: Vec<String>,
    #[serde(default)]
    free_ports: Vec<u16>,
    free_memory_megabytes: Option<u64>,
    #[serde(default)]
    free_disk: Vec<Disk>,
    #[serde(default)]
    certificates: Vec<PathBuf>,
    certificates_valid_hours: Option<u64>,
    postgres: Option<Postgres>,
    docker: Option<String>,
    api: Option<String>,
    cpus: Option<u64>,
    memory_megabytes: Option<u64>,
    disk_megabytes: Option<u64>,
    clock_skew_seconds: Option<u64>,
    #[serde(default)]
    version: Vec<VersionOf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disk {
    path: PathBuf,
    megabytes: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Postgres {
    variable: String,
    at_least: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionOf {
    name: String,
    command: Vec<String>,
    at_least: String,
}

/// What these tables say.
#[derive(Debug)]
pub struct StagesConfig {
    pub build: Option<BuildConfig>,
    pub migration: Option<MigrationConfig>,
    pub hooks: Vec<HookConfig>,
    pub bake: Option<BakeConfig>,
    pub preflight: Option<PreflightConfig>,
}

/// A command with what all of them take.
fn command(
    name: &str,
    argv: Vec<String>,
    folder: Option<PathBuf>,
    (secrets, variables): (Secrets, &[String]),
    deadline_seconds: Option<u64>,
    bars: Option<&Bars>,
) -> Result<Hook, Failure> {
    let mut hook = Hook::new(name, argv);
    if let Some(folder) = folder {
        hook = hook.working_folder(folder);
    }
    for (variable, secret) in secrets.read(variables)? {
        hook = hook.secret_env(variable, secret);
    }
    if let Some(seconds) = deadline_seconds {
        hook = hook.deadline(Duration::from_secs(seconds));
    }
    Ok(match bars {
        Some(bars) => hook.output(Printed::by(name, bars.clone())),
        None => hook,
    })
}

impl StagesConfig {
    /// The stages, whose commands print here.
    pub fn stages(self, bars: Option<&Bars>, needed: Secrets) -> Result<Stages, Failure> {
        let mut stages = Stages::default();
        if let Some(BuildConfig { command: argv, working_folder, deadline_seconds }) = self.build {
            let build =
                command("build", argv, working_folder, (needed, &[]), deadline_seconds, bars);
            stages.build = Some(build?);
        }
        for hook in self.hooks {
            let HookConfig { when, name, working_folder, secrets, deadline_seconds, .. } = hook;
            let secrets = (needed, &secrets[..]);
            let mut ready =
                command(&name, hook.command, working_folder, secrets, deadline_seconds, bars)?;
            for (variable, value) in hook.environment {
                ready = ready.env(variable, value);
            }
            stages.hooks.push((when, ready.undo(hook.undo)));
        }
        stages.migration = self.migration.map(|it| it.migration(bars, needed)).transpose()?;
        stages.bake = self.bake.map(BakeConfig::bake);
        stages.preflight = self.preflight.map(|it| it.preflight(needed)).transpose()?;
        Ok(stages)
    }
}

impl MigrationConfig {
    fn migration(self, bars: Option<&Bars>, needed: Secrets) -> Result<Migration, Failure> {
        let command = |name: &str, argv: Vec<String>| {
            let (folder, seconds) = (self.working_folder.clone(), self.deadline_seconds);
            command(name, argv, folder, (needed, &self.secrets), seconds, bars)
        };
        let mut migration = Migration::new(command("migration", self.command.clone())?);
        if !self.rehearsal.is_empty() {
            migration = migration.rehearsal(command("rehearsal", self.rehearsal.clone())?);
        }
        if self.rehearsal_prints_sql {
            migration = migration.rehearsal_prints_sql();
        }
        Ok(if self.allow_incompatible { migration.allow_incompatible() } else { migration })
    }
}

impl BakeConfig {
    fn bake(self) -> Bake {
        let mut bake = Bake::lasting(Duration::from_secs(self.lasts_seconds));
        if let Some(ms) = self.interval_milliseconds {
            bake = bake.interval(Duration::from_millis(ms));
        }
        if let Some(ms) = self.latency_milliseconds {
            bake = bake.latency(Duration::from_millis(ms));
        }
        let (raise, clear) = (self.raise.unwrap_or(bake.raise), self.clear.unwrap_or(bake.clear));
        let (cpu, memory) = (self.cpu.unwrap_or(bake.cpu), self.memory.unwrap_or(bake.memory));
        let (error_rate, requests) = (bake.error_rate, bake.requests);
        bake.hysteresis(raise, clear)
            .load(cpu, memory)
            .error_rate(self.error_rate.unwrap_or(error_rate))
            .requests(self.requests.unwrap_or(requests))
            .quiet(self.quiet.unwrap_or_default())
    }
}

impl PreflightConfig {
    fn preflight(self, needed: Secrets) -> Result<Preflight, Failure> {
        let mut machine = Requirements::new();
        for program in self.programs {
            machine = machine.program(program);
        }
        for port in self.free_ports {
            machine = machine.free_port(port);
        }
        if let Some(megabytes) = self.free_memory_megabytes {
            machine = machine.free_memory(megabytes.saturating_mul(MEGABYTE));
        }
        for Disk { path, megabytes } in self.free_disk {
            machine = machine.free_disk(path, megabytes.saturating_mul(MEGABYTE));
        }
        let mut preflight = Preflight::new().machine(machine);
        for file in self.certificates {
            preflight = preflight.certificate(file);
        }
        if let Some(hours) = self.certificates_valid_hours {
            let time = Duration::from_secs(hours.saturating_mul(3600));
            preflight = preflight.certificates_valid_for(time);
        }
        if let Some(Postgres { variable, at_least }) = self.postgres {
            for (_, address) in needed.read(&[variable])? {
                preflight = preflight.postgres(&address, at_least.clone())?;
            }
        }
        for VersionOf { name, command, at_least } in self.version {
            preflight = preflight.version(name.clone(), Hook::new(name, command), at_least);
        }
        if let Some(version) = self.docker {
            preflight = preflight.docker(version);
        }
        if let Some(version) = self.api {
            preflight = preflight.api(version);
        }
        if let Some(cpus) = self.cpus {
            preflight = preflight.cpus(cpus);
        }
        if let Some(megabytes) = self.memory_megabytes {
            preflight = preflight.memory(megabytes.saturating_mul(MEGABYTE));
        }
        if let Some(megabytes) = self.disk_megabytes {
            preflight = preflight.disk(megabytes.saturating_mul(MEGABYTE));
        }
        Ok(match self.clock_skew_seconds {
            Some(seconds) => preflight.clock_skew(Duration::from_secs(seconds)),
            None => preflight,
        })
    }
}
