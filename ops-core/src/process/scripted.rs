//! Answers in place of the programs, for tests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;

use super::capture::Capture;
use super::command::Command;
use super::output::{Output, Stream};
use super::stop::Stop;
use super::{RunContext, Runner};
use crate::error::{Error, ErrorKind};

/// What a scripted command does.
#[derive(Debug, Clone, Default)]
#[must_use = "hand it to `ScriptedRunner::on`"]
pub struct Reply {
    code: Option<i32>,
    signal: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    after: Duration,
    hangs: bool,
    not_found: bool,
}

impl Reply {
    /// Prints this and ends with code 0.
    pub fn ok(stdout: impl Into<Vec<u8>>) -> Self {
        Self { stdout: stdout.into(), ..Self::exit(0) }
    }

    /// Ends with this code.
    pub fn exit(code: i32) -> Self {
        Self { code: Some(code), ..Self::default() }
    }

    /// Is ended by this signal.
    pub fn signal(signal: i32) -> Self {
        Self { signal: Some(signal), ..Self::default() }
    }

    /// Runs until its deadline or a cancellation.
    pub fn hang() -> Self {
        Self { hangs: true, ..Self::default() }
    }

    /// Is not installed.
    pub fn not_found() -> Self {
        Self { not_found: true, ..Self::default() }
    }

    /// Prints this.
    pub fn stdout(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdout = bytes.into();
        self
    }

    /// Prints this as errors.
    pub fn stderr(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stderr = bytes.into();
        self
    }

    /// Takes this long, on tokio's clock. Default: no time.
    pub fn after(mut self, duration: Duration) -> Self {
        self.after = duration;
        self
    }
}

/// Answers in place of the programs, and records what was asked. Output passes the same redaction,
/// caps and observers as a real child's; deadlines and cancellations end it alike. Clones share
/// the script.
///
/// ```
/// use ops_core::process::{Command, Reply, RunContext, Runner, ScriptedRunner};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let runner = ScriptedRunner::new()
///     .on(["docker", "version"], Reply::ok("29.1\n"))
///     .on_prefix(["docker", "pull"], Reply::exit(1).stderr("no such image\n"));
///
/// let pull = Command::new("docker").args(["pull", "app:1"]);
/// let error = runner.run(&pull, &RunContext::default()).await?.success(&pull).unwrap_err();
/// assert_eq!(error.to_string(), "`docker` ended with code 1: no such image");
/// assert_eq!(runner.calls()[0].to_string(), "docker pull app:1");
/// # Ok::<(), ops_core::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ScriptedRunner(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    rules: Vec<Rule>,
    calls: Vec<Command>,
}

#[derive(Debug)]
struct Rule {
    argv: Vec<String>,
    whole: bool,
    replies: VecDeque<Reply>,
}

impl Rule {
    fn fits(&self, argv: &[String]) -> bool {
        if self.whole { self.argv == argv } else { argv.starts_with(&self.argv) }
    }
}

impl ScriptedRunner {
    /// A runner to which every call is unexpected.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers this program with these arguments, all of them; a secret one is `[redacted]`.
    /// Called again with the same ones, it adds what the next call gets; the last reply stays.
    #[must_use]
    pub fn on<S: Into<String>>(self, argv: impl IntoIterator<Item = S>, reply: Reply) -> Self {
        self.add(argv, true, reply)
    }

    /// Answers every call that begins with these; the longest beginning wins, and
    /// [`on`](Self::on) wins over all.
    #[must_use]
    pub fn on_prefix<S: Into<String>>(
        self,
        argv: impl IntoIterator<Item = S>,
        reply: Reply,
    ) -> Self {
        self.add(argv, false, reply)
    }

    /// What was asked so far, in order; unexpected calls too.
    pub fn calls(&self) -> Vec<Command> {
        self.script().calls.clone()
    }

    fn add<S: Into<String>>(
        self,
        argv: impl IntoIterator<Item = S>,
        whole: bool,
        reply: Reply,
    ) -> Self {
        let argv: Vec<String> = argv.into_iter().map(Into::into).collect();
        let mut script = self.script();
        match script.rules.iter_mut().find(|rule| rule.whole == whole && rule.argv == argv) {
            Some(rule) => rule.replies.push_back(reply),
            None => script.rules.push(Rule { argv, whole, replies: VecDeque::from([reply]) }),
        }
        drop(script);
        self
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply(&self, command: &Command) -> Result<Reply, Error> {
        let mut script = self.script();
        script.calls.push(command.clone());
        let argv = command.argv();
        let fitting = script.rules.iter_mut().filter(|rule| rule.fits(&argv));
        if let Some(rule) = fitting.max_by_key(|rule| (rule.whole, rule.argv.len())) {
            let next = if rule.replies.len() > 1 { rule.replies.pop_front() } else { None };
            return Ok(next.or_else(|| rule.replies.front().cloned()).unwrap_or_default());
        }
        let known = script.rules.iter().map(|rule| {
            format!("`{}{}`", rule.argv.join(" "), if rule.whole { "" } else { " .." })
        });
        let known = known.collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "nothing".to_owned() } else { known };
        Err(Error::new(ErrorKind::Process, format!("`{command}` was not expected"))
            .remedy(format!("the script answers {known}; add this one with `on`")))
    }
}

impl Runner for ScriptedRunner {
    fn run<'a>(
        &'a self,
        command: &'a Command,
        cx: &'a RunContext,
    ) -> BoxFuture<'a, Result<Output, Error>> {
        Box::pin(async move {
            command.teach(&cx.redactor);
            if cx.cancellation.is_cancelled() {
                return Err(Stop::before(command));
            }
            let reply = self.reply(command)?;
            if reply.not_found {
                let message = format!("the program `{}` is not found", command.name());
                return Err(Error::new(ErrorKind::Process, message).with("PATH", "scripted"));
            }
            let started = tokio::time::Instant::now();
            let stopped = tokio::select! {
                biased;
                () = tokio::time::sleep(reply.after), if !reply.hangs => None,
                stop = Stop::of(command, cx) => Some(stop),
            };
            let capture = |stream, bytes: &[u8]| {
                let mut capture = Capture::new(stream, command.output_cap, cx);
                capture.push(bytes);
                capture.finish()
            };
            let (stdout, stdout_cut) = capture(Stream::Stdout, &reply.stdout);
            let (stderr, stderr_cut) = capture(Stream::Stderr, &reply.stderr);
            let output = Output {
                code: reply.code,
                signal: reply.signal,
                stdout,
                stderr,
                duration: started.elapsed(),
                truncated: stdout_cut || stderr_cut,
                held_open: false,
            };
            match stopped {
                Some(stop) => Err(stop.error(command, &output)),
                None => Ok(output),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, Classify as _};
    use crate::secret::Secret;

    async fn ask(runner: &ScriptedRunner, argv: &[&str]) -> Result<Output, Error> {
        let command = Command::new(argv[0]).args(argv[1..].iter().copied());
        runner.run(&command, &RunContext::default()).await
    }

    #[tokio::test]
    async fn replies_come_in_order_and_the_nearest_rule_wins() {
        let runner = ScriptedRunner::new()
            .on_prefix(["git"], Reply::ok("any"))
            .on_prefix(["git", "log"], Reply::ok("log"))
            .on(["git", "log", "-1"], Reply::exit(3))
            .on(["git", "log", "-1"], Reply::signal(9));
        assert_eq!(ask(&runner, &["git", "x"]).await.unwrap().stdout, b"any");
        assert_eq!(ask(&runner, &["git", "log", "-2"]).await.unwrap().stdout, b"log");
        assert_eq!(ask(&runner, &["git", "log", "-1"]).await.unwrap().code, Some(3));
        assert_eq!(ask(&runner, &["git", "log", "-1"]).await.unwrap().signal, Some(9));
        assert_eq!(ask(&runner, &["git", "log", "-1"]).await.unwrap().signal, Some(9));
        let error = ask(&runner, &["hg", "log"]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "`hg log` was not expected; the script answers `git ..`, `git log ..`, `git log -1`; \
             add this one with `on`"
        );
        assert_eq!(runner.calls().len(), 6);
    }

    #[tokio::test]
    async fn a_hanging_reply_ends_at_the_deadline_and_secrets_stay_hidden() {
        let secret = Secret::new("hunter2");
        let runner = ScriptedRunner::new()
            .on(["x", "[redacted]"], Reply::hang().stderr("token hunter2 is bad"))
            .on(["y"], Reply::ok("").after(Duration::from_millis(20)));
        let command = Command::new("x").arg_secret(secret).deadline(Duration::from_millis(50));
        let error = runner.run(&command, &RunContext::default()).await.unwrap_err();
        assert_eq!(error.class(), Class::OutcomeUnknown);
        assert_eq!(
            error.to_string(),
            "`x` did not end within 50ms and was ended: token [redacted] is bad; \
             look whether it had its effect before it is run again"
        );
        assert!(ask(&runner, &["y"]).await.unwrap().duration >= Duration::from_millis(20));
    }
}
