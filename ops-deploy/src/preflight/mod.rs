//! What must hold before an operation begins: every finding at once, each with its remedy.

mod certificate;
#[cfg(feature = "docker")]
mod engine;
mod least;

use std::path::PathBuf;
use std::time::Duration;

use ops_core::host::Requirements;
use ops_core::process::RunContext;
use ops_core::{Refusal, Secret, StepContext, StepError, Version};
use url::Url;

use crate::error::{Error, ErrorKind};
use crate::stages::Hook;

#[cfg(feature = "docker")]
pub(crate) use engine::{EngineFacts, has_ip_vs};
use least::Least;

/// What must hold before an operation changes anything. It is checked together with all else that
/// speaks against the operation, so that every finding is told at once; not in an emergency.
///
/// What is said of an engine matters to targets that have one, and has defaults there.
#[derive(Debug, Clone)]
#[must_use = "give it to the target"]
pub struct Preflight {
    machine: Requirements,
    certificates: Vec<PathBuf>,
    valid_for: Duration,
    versions: Vec<(String, Hook, Least)>,
    engine: EngineNeeds,
}

/// What the engine and its machine must have.
#[derive(Debug, Clone)]
struct EngineNeeds {
    docker: Least,
    api: Least,
    cpus: u64,
    memory: u64,
    disk: u64,
    skew: Duration,
}

impl Default for Preflight {
    fn default() -> Self {
        Self {
            machine: Requirements::new(),
            certificates: Vec::new(),
            valid_for: Duration::from_hours(24),
            versions: Vec::new(),
            engine: EngineNeeds {
                docker: Least::of("20.10"),
                api: Least::of("1.41"),
                cpus: 1,
                memory: 0,
                disk: 512 * 1024 * 1024,
                skew: Duration::from_mins(1),
            },
        }
    }
}

impl Preflight {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// What this machine must have: memory, disk, free ports, programs. Default: nothing.
    pub fn machine(mut self, requirements: Requirements) -> Self {
        self.machine = requirements;
        self
    }

    /// Adds a certificate, as a PEM file of this machine, all of whose certificates must be valid
    /// now and for [`certificates_valid_for`](Self::certificates_valid_for). Default: those with
    /// which an engine is spoken to.
    pub fn certificate(mut self, file: impl Into<PathBuf>) -> Self {
        self.certificates.push(file.into());
        self
    }

    /// How long certificates must be valid yet. Default: one day.
    pub fn certificates_valid_for(mut self, time: Duration) -> Self {
        self.valid_for = time;
        self
    }

    /// Adds something whose version the command prints, and which must be at least this one. The
    /// first number with dots in it, or else the first number, is taken for the version.
    pub fn version(
        mut self,
        name: impl Into<String>,
        printed_by: Hook,
        at_least: impl Into<String>,
    ) -> Self {
        self.versions.push((name.into(), printed_by, Least::of(&at_least.into())));
        self
    }

    /// Adds a PostgreSQL server that must be at least of this version. It is asked by the program
    /// `psql`, which gets the address and the password in its environment.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if it is no address `postgres://user:password@host:port/name`.
    pub fn postgres(self, address: &Secret, at_least: impl Into<String>) -> Result<Self, Error> {
        // What cannot be parsed may be a password: it goes into no message.
        let wrong = || {
            Error::new(ErrorKind::InvalidConfig, "the address of PostgreSQL cannot be read")
                .remedy("give postgres://user:password@host:port/name")
        };
        let url: Url = address.expose().parse().map_err(|_| wrong())?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(wrong());
        }
        let plain = |text: &str| percent(text).ok_or_else(wrong);
        let query = |name: &str| {
            url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let mut psql = Hook::new("psql", ["psql", "-XAtqw", "-c", "SHOW server_version"])
            .env("PGCONNECT_TIMEOUT", "10")
            .deadline(Duration::from_secs(20));
        let host = url.host_str().map(str::to_owned).filter(|host| !host.is_empty());
        if let Some(host) = query("host").or(host) {
            psql = psql.env("PGHOST", host.replace('{', "{{"));
        }
        if let Some(port) = url.port() {
            psql = psql.env("PGPORT", port.to_string());
        }
        if let Some(mode) = query("sslmode") {
            psql = psql.env("PGSSLMODE", mode.replace('{', "{{"));
        }
        if !url.username().is_empty() {
            psql = psql.env("PGUSER", plain(url.username())?.replace('{', "{{"));
        }
        if let Some(password) = url.password() {
            psql = psql.secret_env("PGPASSWORD", Secret::new(plain(password)?));
        }
        let name = url.path().trim_start_matches('/');
        let name = if name.is_empty() { "postgres".to_owned() } else { plain(name)? };
        Ok(self.version("PostgreSQL", psql.env("PGDATABASE", name.replace('{', "{{")), at_least))
    }

    /// The engine must be at least of this version. Default: 20.10.
    pub fn docker(mut self, at_least: impl Into<String>) -> Self {
        self.engine.docker = Least::of(&at_least.into());
        self
    }

    /// The engine must speak at least this version of its API. Default: 1.41.
    pub fn api(mut self, at_least: impl Into<String>) -> Self {
        self.engine.api = Least::of(&at_least.into());
        self
    }

    /// The engine's machine must have at least so many CPUs. Default: 1.
    pub fn cpus(mut self, at_least: u64) -> Self {
        self.engine.cpus = at_least;
        self
    }

    /// The engine's machine must have at least so many bytes of memory, free or not. Default: as many
    /// as the new containers are bounded to.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.engine.memory = bytes;
        self
    }

    /// So many bytes must be free where the engine keeps its data. It can be told only where the
    /// engine is on this machine. Default: 512 MiB.
    pub fn disk(mut self, bytes: u64) -> Self {
        self.engine.disk = bytes;
        self
    }

    /// How far the engine's clock may be from this machine's. Default: 1 min.
    pub fn clock_skew(mut self, at_most: Duration) -> Self {
        self.engine.skew = at_most;
        self
    }

    /// Every reason why it cannot be used.
    pub(crate) fn check(&self) -> Vec<Refusal> {
        let hooks = self.versions.iter().flat_map(|(_, hook, _)| hook.check());
        let numbers = self.versions.iter().map(|(_, _, least)| least);
        let wrong = numbers.chain([&self.engine.docker, &self.engine.api]).filter_map(Least::wrong);
        hooks.chain(wrong).collect()
    }

    /// What does not hold of this machine, of certificates (besides those that are added, `more`),
    /// and of what prints its version.
    pub(crate) async fn findings(
        &self,
        more: Vec<PathBuf>,
        version: &Version,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        let (this, now) = (self.clone(), cx.context().clock().now());
        let look = cx.blocking(move |_| {
            let mut findings = this.machine.check();
            for file in this.certificates.iter().chain(&more) {
                findings.extend(certificate::findings(file, now, this.valid_for));
            }
            Ok::<_, Error>(findings)
        });
        let mut findings = look.await?;
        for (name, hook, least) in &self.versions {
            findings.extend(found_version(name, hook, least, version, &cx.into()).await);
        }
        Ok(findings)
    }
}

async fn found_version(
    name: &str,
    hook: &Hook,
    least: &Least,
    version: &Version,
    cx: &RunContext,
) -> Option<Refusal> {
    let unknown = |why: String| {
        let remedy = "see that the command prints it, or leave the requirement out";
        Some(Refusal::new(format!("the version of {name} cannot be told: {why}"), remedy))
    };
    let said = match hook.run(version, cx).await {
        Ok(output) => output.stdout_text().into_owned(),
        Err(error) => {
            return unknown(crate::gate::plain(&ops_core::error::chain(&error).join(": ")));
        }
    };
    let Some(found) = least::found(&said) else {
        return unknown(format!("it says `{}`", crate::gate::plain(&said)));
    };
    let too_old = format!("{name} is {found}, at least {least} is needed");
    (!least.is_met_by(&found)).then(|| Refusal::new(too_old, format!("update {name}")))
}

/// A part of an address, with what is written as %XX.
fn percent(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        if let (b'%', [high, low, after @ ..]) = (first, after) {
            let digit =
                |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
            bytes.push(digit(*high)? * 16 + digit(*low)?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}
