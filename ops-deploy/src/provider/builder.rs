//! How a provider is set up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ops_core::Secret;
use ops_core::process::{Runner, SystemRunner};
use url::Url;

use super::{Provider, Settings};
use crate::error::Error;
use crate::gate::Gate;
use crate::service::{Identity, fill};
use crate::set_up::{Reasons, setters};
use crate::stages::Stages;

/// Sets up a [`Provider`].
///
/// Commands are a program and its arguments, never a shell line; `{version}` is filled in. A
/// literal brace is doubled: `{{`.
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct ProviderBuilder(Settings);

impl ProviderBuilder {
    pub(super) fn new(name: String, folder: PathBuf, public: Url) -> Self {
        Self(Settings {
            name,
            folder,
            deploy: Vec::new(),
            rollback: Vec::new(),
            remove: Vec::new(),
            versions: Vec::new(),
            dry_run: Vec::new(),
            public,
            health_path: "/health".to_owned(),
            identity: Identity::Header("x-version".to_owned()),
            cwd: None,
            environment: Vec::new(),
            secrets: Vec::new(),
            inherit: Vec::new(),
            runner: Arc::new(SystemRunner),
            command_deadline: Duration::from_mins(5),
            gate: Gate::default(),
            guards: Vec::new(),
            stages: Stages::default(),
            deadline: Duration::from_mins(20),
        })
    }

    /// Brings `{version}` into service. Required.
    pub fn deploy<S: Into<String>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.0.deploy = texts(argv);
        self
    }

    /// Brings the earlier `{version}` back into service. Default: the command that deploys it.
    pub fn rollback<S: Into<String>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.0.rollback = texts(argv);
        self
    }

    /// Takes `{version}` out of service: the way back of a first deployment. Default: none, and a
    /// person is asked for.
    pub fn remove<S: Into<String>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.0.remove = texts(argv);
        self
    }

    /// Prints the versions that can be deployed, one a line, the oldest first. Default: any can,
    /// and those are listed that were in service.
    pub fn versions<S: Into<String>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.0.versions = texts(argv);
        self
    }

    /// Arguments that make the tool say what it would do, and change nothing: they are added to
    /// the command, which is run so before it is run. Default: there is no such rehearsal.
    pub fn dry_run<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.0.dry_run = texts(arguments);
        self
    }

    /// Where it answers for its health, below the public address. Default: `/health`.
    pub fn health_path(mut self, path: impl Into<String>) -> Self {
        self.0.health_path = path.into();
        self
    }

    /// How it says which version it is. Default: the header `x-version`.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.0.identity = identity;
        self
    }

    /// Where the commands run. Default: the working folder of this process.
    pub fn working_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.0.cwd = Some(folder.into());
        self
    }

    /// Sets a variable of the commands; `{version}` is filled in.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.environment.push((name.into(), value.into()));
        self
    }

    /// Sets a variable of the commands to a secret, such as the provider's token.
    pub fn secret_env(mut self, name: impl Into<String>, secret: Secret) -> Self {
        self.0.secrets.push((name.into(), secret));
        self
    }

    /// What the commands inherit of this process' environment besides `PATH`, `HOME`, `LANG`,
    /// `LC_*`, `TZ`, `TMPDIR` and `USER`.
    pub fn inherit_env<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.0.inherit = texts(names);
        self
    }

    /// Runs the commands by another runner, such as a scripted one.
    pub fn runner(mut self, runner: impl Runner + 'static) -> Self {
        self.0.runner = Arc::new(runner);
        self
    }

    /// How long one command may take. Default: 5 min.
    pub fn command_deadline(mut self, deadline: Duration) -> Self {
        self.0.command_deadline = deadline;
        self
    }

    setters!(gate: "When the public is heard well enough.");
    setters!(guard);
    setters!(deadline: "20 min");
    setters!(stages);

    /// The provider. Blocks for a moment; no command is run yet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) with every reason at once.
    pub fn build(mut self) -> Result<Provider, Error> {
        let settings = &mut self.0;
        let mut reasons = Reasons::default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if settings.name.is_empty()
            || settings.name.starts_with('.')
            || !settings.name.chars().all(plain)
        {
            reasons.add(
                format!("`{}` is no name", settings.name),
                "take letters, digits, `-`, `_` and `.`",
            );
        }
        reasons.folder("folder", &mut settings.folder, "give the folder for the history");
        if settings.deploy.first().is_none_or(String::is_empty) {
            reasons.add("there is no command that deploys", "give its program and arguments");
        }
        let commands = [
            ("deploys", &settings.deploy),
            ("goes back", &settings.rollback),
            ("takes out of service", &settings.remove),
        ];
        for (what, argv) in commands {
            if !argv.is_empty() && !argv.iter().any(|word| word.contains("{version}")) {
                reasons.add(
                    format!("the command that {what} does not say which version"),
                    "put {version} where it belongs; if the tool takes what lies in a folder, give it as a variable of its environment in a script",
                );
            }
        }
        let texts = commands.into_iter().flat_map(|(_, argv)| argv).chain(&settings.dry_run);
        for text in texts.chain(settings.environment.iter().map(|(_, value)| value)) {
            if let Err(error) = fill(text, &[("version", "v")]) {
                reasons.add(error, "known is {version}; a literal brace is {{");
            }
        }
        if !matches!(settings.public.scheme(), "http" | "https") {
            reasons.add(
                format!("the public address `{}` is no web address", settings.public),
                "begin it with http:// or https://",
            );
        }
        if !settings.health_path.starts_with('/') {
            reasons.add(
                format!("the health path `{}` is relative", settings.health_path),
                "begin it with /",
            );
        }
        reasons.gate(&settings.gate);
        reasons.extend(crate::gate::nameless(&settings.guards));
        reasons.extend(settings.stages.check(settings.deadline));
        reasons.none("the provider")?;
        Ok(Provider(Arc::new(self.0)))
    }
}

fn texts<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Vec<String> {
    texts.into_iter().map(Into::into).collect()
}
