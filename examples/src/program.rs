//! How the programs begin and end: the options that all of them have, their context, their answer.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ops_core::reporter::JsonLinesReporter;
use ops_core::{ApproveDigest, ApproveIf, Context, Environment, Plan, PlanDigest, Recovery, World};
use ops_logging::{Console, LogGuard, Logging};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::approve_at_terminal::{ApproveAtTerminal, user};
use crate::bars::Bars;
use crate::failure::{Code, Failure};

/// The options of every program.
#[derive(Debug, Clone, clap::Args)]
pub struct CommonArgs {
    /// Print the plan and change nothing.
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Print one JSON object on the standard output; logs go to the standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// Where this runs: development, staging or production.
    #[arg(long, global = true, default_value = "production")]
    pub environment: Environment,
    /// Approve whatever the plan is.
    #[arg(long, global = true)]
    pub yes: bool,
    /// Approve the plan with this digest, as --dry-run printed it.
    #[arg(long, global = true, value_name = "DIGEST", conflicts_with = "yes")]
    pub approve: Option<PlanDigest>,
    /// Where journals, locks, reports and logs lie [default: ~/.local/state/ops].
    #[arg(long, global = true, value_name = "DIR", env = "OPS_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
}

/// What a verb answers: for a person and for a machine.
#[derive(Debug)]
pub struct Answer {
    /// For a person.
    pub text: String,
    /// For a machine; an object.
    pub json: Value,
    /// Whether what was found needs a person: the exit code says so, too.
    pub needs_person: bool,
}

impl Answer {
    /// An answer of both kinds.
    pub fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, needs_person: false }
    }

    /// What was done is done, and something about it is to be said.
    pub fn warn(&mut self, what: impl std::fmt::Display) {
        self.text = format!("{}\nwarning: {what}", self.text);
        self.json["warning"] = what.to_string().into();
    }
}

/// A program that runs one verb.
#[derive(Debug)]
pub struct Program {
    args: CommonArgs,
    /// What surrounds its operations.
    pub cx: Context,
    /// Where a person watches; `None` where a machine reads.
    pub bars: Option<Bars>,
    _log: LogGuard,
}

impl Program {
    fn new(name: &'static str, args: CommonArgs) -> Result<Self, Failure> {
        let state_dir = match &args.state_dir {
            Some(dir) => dir.clone(),
            None => default_state_dir()?,
        };
        let log = Logging::builder()
            .directory(state_dir.join("log"))
            .file_prefix(name)
            .console(if args.json { Console::Stderr } else { Console::Off })
            .install()?;
        let bars = Bars::new(std::io::stderr(), std::io::stderr().is_terminal());
        let cancellation = CancellationToken::new();
        let builder = Context::builder(&state_dir)
            .program(name)
            .environment(args.environment)
            .cancellation(cancellation.clone())
            // A prune reads every manifest of its store after its commit.
            .finish_budget(Duration::from_mins(5))
            .reporter(JsonLinesReporter::new(state_dir.join("reports")));
        let builder =
            if args.json { builder } else { builder.observer(bars.clone()).progress(bars.clone()) };
        let builder = match &args.approve {
            Some(digest) => builder.approver(ApproveDigest::new(digest.clone(), user())),
            None if args.yes => builder.approver(ApproveIf::new(user(), |_: &_| true)),
            None => builder.approver(ApproveAtTerminal),
        };
        tokio::spawn(ended_by_signals(cancellation)?);
        let bars = (!args.json).then_some(bars);
        Ok(Self { args, cx: builder.build(), bars, _log: log })
    }

    /// Approves a plan and runs it, or only shows it if that was asked for.
    ///
    /// # Errors
    /// Each outcome but a success.
    pub async fn carry_out(&self, plan: Plan, world: &dyn World) -> Result<Answer, Failure> {
        if self.args.dry_run {
            return Ok(show(&plan));
        }
        if plan.is_empty() {
            let facts = &plan.facts;
            return Ok(Answer::new("nothing to do", json!({"changed": false, "facts": facts})));
        }
        let report = self.cx.execute(plan, world).await?;
        let text = format!("{}: {}", report.operation, report.outcome.name());
        Ok(Answer::new(text, json!({"changed": true, "report": report})))
    }

    /// Brings what was interrupted to its end, or only names it if that was asked for.
    ///
    /// # Errors
    /// If something is left that needs a person.
    pub async fn recover(&self, world: &dyn World) -> Result<Answer, Failure> {
        if self.args.dry_run {
            let (open, unreadable) =
                ops_core::operations::list(&self.cx, ops_core::operations::Which::Open)?;
            let open: Vec<_> = open
                .iter()
                .map(|o| json!({"id": o.id, "operation": o.plan.operation, "journal": o.journal}))
                .collect();
            let unreadable: Vec<_> = unreadable.iter().map(|u| u.id.to_string()).collect();
            let text = format!("{} operations are open", open.len() + unreadable.len());
            let json = json!({"dry_run": true, "open": open, "unreadable": unreadable});
            return Ok(Answer::new(text, json));
        }
        let Recovery { reports, running, .. } = ops_core::recover(world, &self.cx).await?;
        let lines =
            reports.iter().map(|r| format!("{} {}: {}", r.id, r.operation, r.outcome.name()));
        let text = match reports.len() {
            0 => "nothing was interrupted".to_owned(),
            _ => lines.collect::<Vec<_>>().join("\n"),
        };
        Ok(Answer::new(text, json!({"recovered": reports, "running": running})))
    }
}

/// At the first SIGINT or SIGTERM the operation goes back, and says so. The second one ends the program
/// where it stands, as a kill would: `recover` goes on from there.
#[expect(clippy::exit, reason = "the second signal is a kill")]
fn ended_by_signals(
    cancellation: CancellationToken,
) -> Result<impl Future<Output = ()> + use<>, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        loop {
            let number = tokio::select! {
                Some(()) = interrupt.recv() => 2,
                Some(()) = terminate.recv() => 15,
                else => return,
            };
            if cancellation.is_cancelled() {
                std::process::exit(128 + number);
            }
            cancellation.cancel();
        }
    })
}

/// A plan, for reading: the dry run.
pub fn show(plan: &Plan) -> Answer {
    let digest = plan.digest();
    let text = plan.to_string().trim_end().to_owned();
    Answer::new(text, json!({"dry_run": true, "plan": plan, "digest": digest}))
}

/// Runs a verb from beginning to end, and prints its answer.
pub async fn run(
    name: &'static str,
    args: CommonArgs,
    verb: impl AsyncFnOnce(&Program) -> Result<Answer, Failure>,
) -> ExitCode {
    let json = args.json;
    let result = match Program::new(name, args) {
        Ok(program) => verb(&program).await,
        Err(failure) => Err(failure),
    };
    let (code, out, err) = match result {
        Ok(Answer { text, json: mut object, needs_person }) => {
            let code = if needs_person { Code::NeedsPerson.number() } else { 0 };
            object["program"] = name.into();
            object["exit_code"] = code.into();
            (code, if json { object.to_string() } else { text }, String::new())
        }
        Err(failure) => {
            let mut object = failure.to_json();
            object["program"] = name.into();
            let out = if json { object.to_string() } else { String::new() };
            (failure.code().number(), out, format!("{name}: {failure}{}", advice(failure.code())))
        }
    };
    for (text, stream) in
        [(out, &mut std::io::stdout() as &mut dyn std::io::Write), (err, &mut std::io::stderr())]
    {
        if !text.is_empty() {
            // The exit code tells, too, and nobody is left to hear that nobody listens.
            let _ = writeln!(stream, "{text}").and_then(|()| stream.flush());
        }
    }
    ExitCode::from(code)
}

fn advice(code: Code) -> &'static str {
    match code {
        Code::Usage => "",
        Code::Refused => "\nNothing was changed.",
        Code::RolledBack => "\nEverything was put back.",
        Code::NeedsPerson => "\nA person must look.",
    }
}

fn default_state_dir() -> Result<PathBuf, Failure> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".local/state")))
        .map(|base| base.join("ops"))
        .ok_or_else(|| Failure::usage("there is no home for the state; give --state-dir"))
}
