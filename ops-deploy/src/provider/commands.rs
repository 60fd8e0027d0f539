//! The provider's commands, and what the public says to them.

use ops_core::probe::{Health, HttpProbe, observe};
use ops_core::process::{Command, Output, RunContext};
use ops_core::{Class, Classify as _, StepContext, StepError, Version};
use serde::{Deserialize, Serialize};

use super::Provider;
use crate::error::{Error, ErrorKind};
use crate::history::Verb;
use crate::service::{Identity, fill};

/// How a command ended that was to change something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ended {
    /// With code 0.
    Well,
    /// It said that it failed.
    Failed(String),
    /// It was ended from outside: what it began may still be done by the provider.
    InDoubt(String),
}

fn began(version: &Version) -> String {
    format!("command for {version} began")
}

fn ended(version: &Version) -> String {
    format!("command for {version} ended")
}

fn asked_of_person(version: &Version) -> String {
    format!("a person was asked for {version}")
}

impl Provider {
    fn command(&self, argv: &[String], version: Option<&Version>) -> Result<Command, Error> {
        let version = version.map_or("", Version::as_str);
        let fill = |text: &String| {
            fill(text, &[("version", version)])
                .map_err(|error| Error::new(ErrorKind::InvalidConfig, error))
        };
        let mut words = argv.iter().map(fill);
        let program = words.next().unwrap_or_else(|| {
            Err(Error::new(ErrorKind::InvalidConfig, "there is no such command"))
        })?;
        let mut command = Command::new(program)
            .args(words.collect::<Result<Vec<_>, _>>()?)
            .inherit_env(&self.0.inherit)
            .deadline(self.0.command_deadline);
        for (name, value) in &self.0.environment {
            command = command.env(name, fill(value)?);
        }
        for (name, secret) in &self.0.secrets {
            command = command.secret_env(name, secret.clone());
        }
        Ok(match &self.0.cwd {
            Some(folder) => command.cwd(folder),
            None => command,
        })
    }

    fn argv(&self, verb: Verb) -> &[String] {
        let Self(settings) = self;
        match verb {
            Verb::Rollback if !settings.rollback.is_empty() => &settings.rollback,
            _ => &settings.deploy,
        }
    }

    async fn run(&self, command: &Command, cx: &RunContext) -> Result<Output, ops_core::Error> {
        self.0.runner.run(command, cx).await?.success(command)
    }

    /// What the tool lists; `None` if it was not told how.
    pub(super) async fn listed(&self) -> Result<Option<Vec<Version>>, Error> {
        if self.0.versions.is_empty() {
            return Ok(None);
        }
        let command = self.command(&self.0.versions, None)?;
        let output = self.run(&command, &RunContext::default()).await?;
        if output.truncated {
            let error = Error::new(ErrorKind::Service, "the tool lists too much to be read");
            return Err(error.remedy("let it list the newest versions only"));
        }
        let text = output.stdout_text();
        Ok(Some(text.lines().filter_map(|line| line.trim().parse().ok()).collect()))
    }

    /// Lets the tool say what it would do.
    pub(super) async fn rehearse(
        &self,
        version: &Version,
        verb: Verb,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let argv: Vec<_> = self.argv(verb).iter().chain(&self.0.dry_run).cloned().collect();
        let command = self.command(&argv, Some(version))?;
        self.run(&command, &cx.into()).await?;
        Ok(())
    }

    /// Runs the command, unless the version is in service already. A command that did not end by
    /// itself is in doubt, until the public says.
    pub(super) async fn bring(
        &self,
        version: &Version,
        verb: Verb,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        if cx.until_cancelled(self.answers_as(version)).await? {
            return Ok(());
        }
        let command = self.command(self.argv(verb), Some(version))?;
        cx.observe(&began(version), async { Ok(true) }).await?;
        cx.fault_point("provider: command about to run");
        let run = async {
            Ok(match self.run(&command, &cx.into()).await {
                Ok(_) => Ended::Well,
                Err(error) if error.class() == Class::OutcomeUnknown => {
                    Ended::InDoubt(ops_core::error::chain(&error).join(": "))
                }
                Err(error) => Ended::Failed(ops_core::error::chain(&error).join(": ")),
            })
        };
        let how = cx.observe(&ended(version), run).await?;
        cx.fault_point("provider: command ended");
        match how {
            Ended::Well => Ok(()),
            Ended::Failed(why) => Err(StepError::permanent(why)),
            Ended::InDoubt(why) => {
                cx.go_on()?;
                match self.heard(version, cx).await? {
                    Ok(()) => Ok(()),
                    Err(silent) => Err(StepError::permanent(format!("{why}; {silent}"))),
                }
            }
        }
    }

    /// Brings the earlier version back, if there is any doubt that it is in service.
    pub(super) async fn bring_back(
        &self,
        version: &Version,
        before: Option<&Version>,
        heard: bool,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        if cx.noted::<bool>(&began(version))?.is_none() {
            return Ok(());
        }
        let certain = matches!(cx.noted(&ended(version))?, Some(Ended::Well | Ended::Failed(_)));
        let Some(before) = before else { return self.take_out(version, certain, cx).await };
        // What ended by itself may still be on its way; what the public hears again and again is so.
        if certain && self.heard(before, cx).await?.is_ok() {
            return Ok(());
        }
        let command = self.command(self.argv(Verb::Rollback), Some(before))?;
        cx.fault_point("provider: command about to go back");
        self.run(&command, &cx.into()).await?;
        if !heard {
            // It was not well before either: no more can be asked for than what was.
            return Ok(());
        }
        self.heard(before, cx).await?.map_err(|why| {
            Error::new(ErrorKind::Gate, format!("{before} is not back in service: {why}"))
                .remedy("see what the provider says, bring it back, then recover")
                .into()
        })
    }

    async fn take_out(
        &self,
        version: &Version,
        certain: bool,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let by_hand = |what: String| {
            Error::new(ErrorKind::NoPrevious, what)
                .remedy("take it out of service at the provider, then recover")
        };
        if self.0.remove.is_empty() {
            if !self.is_out(version, cx).await? {
                let what = format!("{version} is in service, and there is no earlier version");
                return Err(by_hand(what).into());
            }
            if certain {
                return Ok(());
            }
            // What was ended from outside may still be on its way: a person is asked, once.
            let asked = cx.noted::<bool>(&asked_of_person(version))?.is_some();
            cx.observe(&asked_of_person(version), async { Ok(true) }).await?;
            if asked {
                return Ok(());
            }
            let what = format!("the tool did not end, and {version} may still come into service");
            return Err(by_hand(what).into());
        }
        let command = self.command(&self.0.remove, Some(version))?;
        self.run(&command, &cx.into()).await?;
        if !self.is_out(version, cx).await? {
            return Err(StepError::temporary(format!("{version} is still in service")));
        }
        Ok(())
    }

    /// Whether the public hears something else, or nobody at all, again and again. No word is no
    /// answer.
    async fn is_out(&self, version: &Version, cx: &StepContext) -> Result<bool, StepError> {
        let gate = &self.0.gate;
        for n in 0..gate.consecutive.max(1) {
            if n > 0 {
                cx.until_cancelled(tokio::time::sleep(gate.interval)).await?;
            }
            let probe = self.probe(version);
            match cx.until_cancelled(observe(&probe, gate.timeout)).await?.health {
                Health::Healthy => return Ok(false),
                Health::Unhealthy { .. } => {}
                unknown @ Health::Unknown { .. } => {
                    let why =
                        format!("whether {version} is out of service is not known: {unknown}");
                    return Err(StepError::temporary(why));
                }
            }
        }
        Ok(true)
    }

    pub(super) fn probe(&self, version: &Version) -> HttpProbe {
        let base = self.0.public.as_str().trim_end_matches('/');
        let probe = HttpProbe::new(format!("{base}{}", self.0.health_path));
        let probe = match &self.0.identity {
            Identity::Header(name) => probe.header(name, version.as_str()),
            Identity::JsonField(pointer) => probe.json_field(pointer, version.as_str()),
        };
        probe.named("the public address")
    }

    pub(super) async fn answers_as(&self, version: &Version) -> bool {
        observe(&self.probe(version), self.0.gate.timeout).await.health.is_healthy()
    }

    /// Whether the public hears this version, several times in a row.
    async fn heard(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<Result<(), String>, StepError> {
        self.be_sure(&self.probe(version), cx).await
    }

    pub(super) async fn be_sure(
        &self,
        probe: &dyn ops_core::probe::Probe,
        cx: &StepContext,
    ) -> Result<Result<(), String>, StepError> {
        use futures::FutureExt as _;
        let alive = || async { Ok(Ok(())) }.boxed();
        self.0.gate.be_sure(probe, self.0.gate.consecutive, &alive, cx).await
    }
}
