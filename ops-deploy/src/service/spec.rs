//! A service as data.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_core::Version;
use ops_core::probe::HttpProbe;

use super::Launch;
use crate::error::{Error, ErrorKind};

/// How a service says which version it is. It must be *that* version: an address may be answered
/// by something else.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// This header of the health answer is the version.
    Header(String),
    /// This field of the health answer's JSON is the version, as a string: `/build/version`.
    JsonField(String),
}

/// What runs a release, the same for every version of it.
///
/// `{port}`, `{release}` (the release's folder) and `{version}` are filled in, in arguments and in
/// values of the environment. A literal brace is doubled: `{{`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServiceSpec {
    /// Program and arguments, never a shell line. A relative program with a slash lies in the
    /// release's folder.
    pub argv: Vec<String>,
    /// What is set in its environment.
    pub environment: BTreeMap<String, String>,
    /// What it inherits of the deployer's environment.
    /// Default: `PATH`, `HOME`, `USER`, `LANG`, `LC_ALL`, `TZ`, `TMPDIR`.
    pub inherit: Vec<String>,
    /// Where it answers for its health. Default: `/health`.
    pub health_path: String,
    /// How it says which version it is. Default: the header `x-version`.
    pub identity: Identity,
    /// The address that it listens on. Default: 127.0.0.1.
    pub host: IpAddr,
    /// The ports that it may be given; at least two, as the new runs beside the old.
    /// Default: 20000 to 29999.
    pub ports: RangeInclusive<u16>,
    /// How long it may take to end when it is asked to (SIGTERM). Default: 10 s.
    pub stop_grace: Duration,
    /// The name of its log in the instance's folder. Default: `service.log`.
    pub log_file: String,
}

impl ServiceSpec {
    /// A service with this program and these arguments.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let inherit = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            inherit: inherit.map(str::to_owned).to_vec(),
            health_path: "/health".to_owned(),
            identity: Identity::Header("x-version".to_owned()),
            host: Ipv4Addr::LOCALHOST.into(),
            ports: 20_000..=29_999,
            stop_grace: Duration::from_secs(10),
            log_file: "service.log".to_owned(),
        }
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Says what it inherits of the deployer's environment.
    pub fn inherit<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.inherit = names.into_iter().map(Into::into).collect();
        self
    }

    /// Says where it answers for its health.
    pub fn health_path(mut self, path: impl Into<String>) -> Self {
        self.health_path = path.into();
        self
    }

    /// Says how it tells its version.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// Says which ports it may be given.
    pub fn ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.ports = ports;
        self
    }

    /// Says how long it may take to end.
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }

    /// Every reason why it cannot be used.
    pub(crate) fn check(&self) -> Vec<ops_core::Refusal> {
        let mut refusals = Vec::new();
        let mut refuse = |reason: String, remedy: &str| {
            refusals.push(ops_core::Refusal::new(reason, remedy));
        };
        if self.argv.first().is_none_or(String::is_empty) {
            refuse("the service has no program".into(), "give its argv at least one element");
        }
        for text in self.argv.iter().chain(self.environment.values()) {
            if let Err(error) = fill(text, &[("port", "1"), ("release", "r"), ("version", "v")]) {
                refuse(error, "known are {port}, {release}, {version}; a literal brace is {{");
            }
        }
        if !self.health_path.starts_with('/') {
            refuse(
                format!("the health path `{}` is relative", self.health_path),
                "begin it with /",
            );
        }
        if self.ports.end() <= self.ports.start() || *self.ports.start() == 0 {
            refuse(
                format!("the ports {}..={} are too few", self.ports.start(), self.ports.end()),
                "give at least two, from 1 on",
            );
        }
        if Path::new(&self.log_file).components().count() != 1 || self.log_file.starts_with('.') {
            refuse(
                format!("the log `{}` is no plain file name", self.log_file),
                "give a plain name",
            );
        }
        refusals
    }

    /// The instance of a version that is to run in a folder.
    pub(crate) fn launch(
        &self,
        version: &Version,
        release: &Path,
        folder: &Path,
        address: SocketAddr,
    ) -> Result<Launch, Error> {
        let port = address.port().to_string();
        let release_text = release.to_str().ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, "the release's folder is not UTF-8")
                .with("path", release.display())
        })?;
        let values =
            [("port", port.as_str()), ("release", release_text), ("version", version.as_str())];
        let fill = |text: &String| {
            fill(text, &values).map_err(|error| Error::new(ErrorKind::InvalidConfig, error))
        };
        let mut argv = self.argv.iter().map(fill);
        let program = argv.next().unwrap_or_else(|| {
            Err(Error::new(ErrorKind::InvalidConfig, "the service has no program"))
        })?;
        let arguments = argv.collect::<Result<_, _>>()?;
        let mut environment = BTreeMap::new();
        for name in &self.inherit {
            match std::env::var(name) {
                Ok(value) => drop(environment.insert(name.clone(), value)),
                Err(std::env::VarError::NotPresent) => {}
                Err(std::env::VarError::NotUnicode(_)) => {
                    let error = format!("the variable `{name}` is not UTF-8");
                    return Err(Error::new(ErrorKind::InvalidConfig, error)
                        .remedy("set it to what the service is to have, or do not inherit it"));
                }
            }
        }
        for (name, value) in &self.environment {
            environment.insert(name.clone(), fill(value)?);
        }
        let program = if program.contains('/') { release.join(program) } else { program.into() };
        Ok(Launch {
            folder: folder.to_owned(),
            program,
            arguments,
            environment,
            working_dir: release.to_owned(),
            log: self.log_path(folder),
        })
    }

    pub(crate) fn log_path(&self, folder: &Path) -> PathBuf {
        folder.join(&self.log_file)
    }

    /// Asks an address whether it answers as this version.
    pub(crate) fn probe(&self, url: &str, version: &Version) -> HttpProbe {
        let probe = HttpProbe::new(url);
        match &self.identity {
            Identity::Header(name) => probe.header(name, version.as_str()),
            Identity::JsonField(pointer) => probe.json_field(pointer, version.as_str()),
        }
    }

    pub(crate) fn health_url(&self, address: SocketAddr) -> String {
        format!("http://{address}{}", self.health_path)
    }
}

/// Fills placeholders in; what is filled in is not looked at again.
pub(crate) fn fill(text: &str, values: &[(&str, &str)]) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("{{") {
            filled.push('{');
            rest = after;
        } else if let Some(after) = rest.strip_prefix("}}") {
            filled.push('}');
            rest = after;
        } else {
            let known = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let known = known.and_then(|(name, after)| {
                Some((values.iter().find(|(known, _)| *known == name)?.1, after))
            });
            let Some((value, after)) = known else {
                return Err(format!("`{text}` has a brace that is no placeholder"));
            };
            filled.push_str(value);
            rest = after;
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_once() {
        let values = [("port", "80"), ("release", "/r/{port}"), ("version", "v1")];
        for (text, expected) in [
            ("--port={port}", Ok("--port=80")),
            ("{release}/bin {version}", Ok("/r/{port}/bin v1")),
            ("{{port}}", Ok("{port}")),
            ("{prot}", Err("`{prot}` has a brace that is no placeholder")),
            ("a}", Err("`a}` has a brace that is no placeholder")),
            ("{", Err("`{` has a brace that is no placeholder")),
            ("", Ok("")),
        ] {
            let filled = fill(text, &values);
            assert_eq!(filled.as_deref().map_err(String::as_str), expected);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_all_at_once() {
        let mut spec = ServiceSpec::new(["", "{no}"]).ports(5..=5).health_path("health");
        spec.log_file = "../log".into();
        assert_eq!(spec.check().len(), 5, "{:?}", spec.check());
        assert!(ServiceSpec::new(["serve", "{port}"]).check().is_empty());
    }

    #[test]
    fn a_relative_program_lies_in_the_release() {
        let spec =
            ServiceSpec::new(["bin/serve", "{port}"]).env("V", "{version}").inherit::<&str>([]);
        let version: Version = "v1".parse().unwrap();
        let address = ([127, 0, 0, 1], 81).into();
        let launch = spec.launch(&version, "/r/v1".as_ref(), "/run/x".as_ref(), address).unwrap();
        assert_eq!(launch.program, Path::new("/r/v1/bin/serve"));
        assert_eq!(launch.arguments, ["81"]);
        assert_eq!(launch.environment, BTreeMap::from([("V".into(), "v1".into())]));
        assert_eq!(launch.log, Path::new("/run/x/service.log"));
    }
}
