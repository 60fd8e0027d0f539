//! Commands between the stages.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ops_core::process::{
    Command, Output, OutputObserver, RunContext, Runner, Stream, SystemRunner,
};
use ops_core::{Refusal, Secret, Version};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::service::fill;

/// Between which stages a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum When {
    /// Before anything is started. If it fails, nothing was changed.
    BeforeStart,
    /// After the gate, before the traffic moves.
    BeforeSwitch,
    /// When the new version has the traffic, before it is watched and committed.
    AfterSwitch,
    /// After the commit: it is repeated until it succeeds.
    AfterCommit,
}

/// A command of one's own: a program and its arguments, never a shell line. `{version}` is filled
/// in, in arguments and in values of the environment; a literal brace is doubled: `{{`.
///
/// It may be run twice, after a crash, so it must bear that.
#[derive(Debug, Clone)]
pub struct Hook {
    pub(crate) name: String,
    argv: Vec<String>,
    undo: Vec<String>,
    environment: Vec<(String, String)>,
    secrets: Vec<(String, Secret)>,
    inherit: Vec<String>,
    cwd: Option<PathBuf>,
    deadline: Duration,
    runner: Arc<dyn Runner>,
    output: Option<Arc<dyn OutputObserver>>,
}

#[derive(Debug)]
struct Shared(Arc<dyn OutputObserver>);

impl OutputObserver for Shared {
    fn line(&self, stream: Stream, line: &str) {
        self.0.line(stream, line);
    }
}

impl Hook {
    /// A command of this name, by which plans and journals know it.
    pub fn new<S: Into<String>>(
        name: impl Into<String>,
        argv: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            name: name.into(),
            argv: argv.into_iter().map(Into::into).collect(),
            undo: Vec::new(),
            environment: Vec::new(),
            secrets: Vec::new(),
            inherit: Vec::new(),
            cwd: None,
            deadline: Duration::from_mins(5),
            runner: Arc::new(SystemRunner),
            output: None,
        }
    }

    /// What takes its effect back when the operation goes back. Default: its effect stays.
    pub fn undo<S: Into<String>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.undo = argv.into_iter().map(Into::into).collect();
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Sets a variable of its environment to a secret.
    pub fn secret_env(mut self, name: impl Into<String>, secret: Secret) -> Self {
        self.secrets.push((name.into(), secret));
        self
    }

    /// What it inherits of this process' environment besides `PATH`, `HOME`, `LANG`, `LC_*`, `TZ`,
    /// `TMPDIR` and `USER`.
    pub fn inherit_env<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.inherit = names.into_iter().map(Into::into).collect();
        self
    }

    /// Where it runs. Default: the working folder of this process.
    pub fn working_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cwd = Some(folder.into());
        self
    }

    /// How long it may take. Default: 5 min.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Hears the lines that it prints, as they come and redacted, for a terminal or a log. Default:
    /// nobody does; where it fails, the error has the last ones of its standard error.
    pub fn output(mut self, observer: impl OutputObserver + 'static) -> Self {
        self.output = Some(Arc::new(observer));
        self
    }

    /// Runs it by another runner, such as a scripted one.
    pub fn runner(mut self, runner: impl Runner + 'static) -> Self {
        self.runner = Arc::new(runner);
        self
    }

    pub(crate) fn can_undo(&self) -> bool {
        !self.undo.is_empty()
    }

    pub(crate) async fn run(&self, version: &Version, cx: &RunContext) -> Result<Output, Error> {
        self.execute(&self.argv, version, cx).await
    }

    pub(crate) async fn run_undo(&self, version: &Version, cx: &RunContext) -> Result<(), Error> {
        self.execute(&self.undo, version, cx).await.map(drop)
    }

    /// Runs it to its end, whatever its code.
    pub(crate) async fn ended(&self, version: &Version, cx: &RunContext) -> Result<Output, Error> {
        let command = self.command(&self.argv, version)?;
        Ok(self.runner.run(&command, &self.heard(cx)).await?)
    }

    fn heard(&self, cx: &RunContext) -> RunContext {
        match &self.output {
            Some(output) => cx.clone().observer(Shared(Arc::clone(output))),
            None => cx.clone(),
        }
    }

    async fn execute(
        &self,
        argv: &[String],
        version: &Version,
        cx: &RunContext,
    ) -> Result<Output, Error> {
        let command = self.command(argv, version)?;
        Ok(self.runner.run(&command, &self.heard(cx)).await?.success(&command)?)
    }

    fn command(&self, argv: &[String], version: &Version) -> Result<Command, Error> {
        let fill = |text: &String| {
            fill(text, &[("version", version.as_str())])
                .map_err(|error| Error::new(ErrorKind::InvalidConfig, error))
        };
        let mut words = argv.iter().map(fill);
        let program = words.next().unwrap_or_else(|| {
            Err(Error::new(ErrorKind::InvalidConfig, format!("`{}` has no program", self.name)))
        })?;
        let mut command = Command::new(program)
            .args(words.collect::<Result<Vec<_>, _>>()?)
            .inherit_env(&self.inherit)
            .deadline(self.deadline);
        for (name, value) in &self.environment {
            command = command.env(name, fill(value)?);
        }
        for (name, secret) in &self.secrets {
            command = command.secret_env(name, secret.clone());
        }
        Ok(match &self.cwd {
            Some(folder) => command.cwd(folder),
            None => command,
        })
    }

    pub(crate) fn check(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        if self.name.is_empty() || self.argv.first().is_none_or(String::is_empty) {
            refusals.push(Refusal::new(
                format!("the command `{}` has no name or no program", self.name),
                "give both",
            ));
        }
        let values = self.environment.iter().map(|(_, value)| value);
        for text in self.argv.iter().chain(&self.undo).chain(values) {
            if let Err(error) = fill(text, &[("version", "v")]) {
                refusals.push(Refusal::new(
                    format!("the command `{}`: {error}", self.name),
                    "known is {version}; a literal brace is {{",
                ));
            }
        }
        refusals
    }
}
