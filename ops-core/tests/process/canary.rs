//! A secret is planted wherever an operation can meet one, and is then looked for in all that the
//! operation leaves behind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_core::process::{Command, RunContext, Runner as _, SystemRunner};
use ops_core::reporter::{JsonLinesReporter, TraceReporter};
use ops_core::{
    ApproveIf, Context, Effect, Environment, Plan, Redactor, Refusal, Resource, ResourceId, Secret,
    Step, StepContext, StepError, operations,
};
use serde::{Deserialize, Serialize};

const VARIABLE: &str = "OPS_CORE_CANARY";
const STATE: &str = "OPS_CORE_CANARY_STATE";
const CANARY: &str = "c4n4ry-\"quoted\"-%\u{e9}\\-v4lue/0123456789";

/// What none of it may show: the secret, parts of it, and parts of its base64.
const TRACES: [&str; 5] = ["c4n4ry", "0123456789", "YzRuNHJ5LSJxdW90", "v4lue", "nobody-knows"];

/// Where the secret is planted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Planted {
    Env,
    Argv,
    Input,
    Url,
    Base64,
    Deadline,
    NotFound,
    Error,
    Remedy,
    Panic,
    Undo,
    Note,
    NestedNote,
    NoteKey,
    Check,
    Output,
}

const ALL: [Planted; 16] = {
    use Planted::*;
    [
        Env, Argv, Input, Url, Base64, Deadline, NotFound, Error, Remedy, Panic, Undo, Note,
        NestedNote, NoteKey, Check, Output,
    ]
};

#[derive(Debug, Clone)]
struct Vault {
    secret: Secret,
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Use {
    planted: Planted,
    text: String,
    finisher: bool,
}

impl Resource for Vault {
    type Step = Use;

    fn id(&self) -> ResourceId {
        ResourceId::new("vault", &*self.name)
    }
}

impl Vault {
    fn error(&self) -> StepError {
        let cause = std::io::Error::other(format!("bad token {}", self.secret.expose()));
        let error =
            ops_core::Error::new(ops_core::ErrorKind::Io, format!("[{:?}]", self.secret.expose()));
        error.with("token", self.secret.expose()).caused_by(cause).into()
    }

    async fn fail(&self, command: Command, cx: &StepContext) -> Result<(), StepError> {
        let output = SystemRunner.run(&command, &RunContext::from(cx)).await?;
        tracing::info!(?command, stdout = %output.stdout_text(), ?output, "ran {command}");
        output.success(&command)?;
        Ok(())
    }
}

impl Step for Use {
    const FAMILY: &'static str = "vault";
    type Env = Vault;

    fn name(&self) -> &'static str {
        "use"
    }

    fn effect(&self) -> Effect {
        Effect::changes(format!("use the secret as {:?}", self.planted))
    }

    async fn check(&self, vault: &Vault, _: &StepContext) -> Result<Vec<Refusal>, StepError> {
        if self.planted != Planted::Check {
            return Ok(Vec::new());
        }
        let secret = vault.secret.expose();
        Ok(vec![Refusal::new(format!("`{secret}` is weak"), format!("change {secret:?}"))])
    }

    async fn run(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        let secret = || vault.secret.clone();
        let sh = |script: &str| Command::new("sh").args(["-c", script, "sh"]);
        match self.planted {
            Planted::Env => {
                let script = "echo \"$TOKEN\"; echo \"bad $TOKEN\" >&2; exit 1";
                vault.fail(sh(script).secret_env("TOKEN", secret()), cx).await
            }
            Planted::Argv => {
                vault.fail(sh("echo \"$1\" >&2; exit 2").arg_secret(secret()), cx).await
            }
            Planted::Input => vault.fail(sh("cat >&2; exit 3").stdin(secret().expose()), cx).await,
            Planted::Url => {
                let url = format!("postgres://ops:{}@db/x", secret().expose());
                let as_url = url::Url::parse("postgres://ops@db/x").map(|mut url| {
                    url.set_password(Some(secret().expose())).unwrap();
                    url.to_string()
                });
                let command = sh("echo \"cannot reach $1 or $2\" >&2; exit 4")
                    .arg(as_url.unwrap())
                    .arg_secret(Secret::new(url.clone()));
                let error = vault.fail(command, cx).await.unwrap_err();
                Err(StepError::permanent(format!("{error}; {url}")))
            }
            Planted::Base64 => {
                let script = "printf 'user:%s' \"$TOKEN\" | base64 -w0 >&2; exit 5";
                vault.fail(sh(script).secret_env("TOKEN", secret()), cx).await
            }
            Planted::Deadline => {
                let command = sh("echo \"$TOKEN\" >&2; sleep 1000").secret_env("TOKEN", secret());
                vault.fail(command.deadline(Duration::from_millis(300)), cx).await
            }
            Planted::NotFound => {
                vault.fail(Command::new(format!("/none/{}", secret().expose())), cx).await
            }
            Planted::Error => Err(vault.error()),
            Planted::Remedy => {
                Err(StepError::temporary("no").remedy(format!("drop {}", secret().expose())))
            }
            Planted::Panic => panic!("a bug with {}", secret().expose()),
            Planted::Undo => Err(StepError::permanent("now the undo")),
            Planted::Note => {
                cx.observe("token", async { Ok(secret().expose().to_owned()) }).await?;
                Ok(())
            }
            Planted::NestedNote => {
                let inner = serde_json::json!({ "token": secret().expose() }).to_string();
                cx.observe("answer", async { Ok(vec![Some(inner)]) }).await?;
                Ok(())
            }
            Planted::NoteKey => {
                let keyed = std::collections::BTreeMap::from([(secret().expose().to_owned(), 1)]);
                cx.observe("tokens", async { Ok(keyed) }).await?;
                Ok(())
            }
            Planted::Output => {
                let command = sh("echo \"got $TOKEN\"").secret_env("TOKEN", secret());
                let output = SystemRunner.run(&command, &RunContext::from(cx)).await?;
                cx.observe("said", async { Ok(output.stdout_text().into_owned()) }).await?;
                if self.finisher { Err(vault.error()) } else { Ok(()) }
            }
            Planted::Check => Ok(()),
        }
    }

    async fn undo(&self, vault: &Vault, _: &StepContext) -> Result<(), StepError> {
        if self.planted == Planted::Undo { Err(vault.error()) } else { Ok(()) }
    }
}

fn uses(planted: Planted) -> Use {
    Use { planted, text: String::new(), finisher: false }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The program that meets the secret; it prints all that it is told. Does nothing unless the test
/// below starts it.
#[tokio::test]
async fn the_program() {
    let Some(state) = std::env::var_os(STATE) else { return };
    // What a panic prints is the program's own affair, not the engine's.
    std::panic::set_hook(Box::new(|_| {}));
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).init();
    let state = PathBuf::from(state);
    let secret = Secret::from_env(VARIABLE).unwrap();
    let redactor = Redactor::default();
    redactor.add(&secret);
    let builder = || {
        Context::builder(&state)
            .environment(Environment::Staging)
            .redactor(redactor.clone())
            .reporter(JsonLinesReporter::new(state.join("reports")))
            .reporter(TraceReporter)
            .undo_budget(Duration::from_millis(200))
            .finish_budget(Duration::from_millis(200))
    };
    let cx = builder().build();
    let vault = Vault { secret: secret.clone(), name: "one".into() };
    let execute = async |plan: Plan| {
        println!("{plan}\n{plan:?}");
        let ended = cx.execute(plan, &&vault).await;
        println!("{ended:?}");
        if let Err(error) = &ended {
            println!("{error} {:?} {:?}", error.report(), error.reasons());
        }
        ended.is_ok()
    };
    for planted in ALL.into_iter().filter(|planted| *planted != Planted::Undo) {
        let plan = Plan::new("use").change(&vault, &uses(planted)).unwrap();
        assert_eq!(execute(plan).await, planted == Planted::Output, "{planted:?}");
    }
    let tidies = Use { finisher: true, ..uses(Planted::Output) };
    let plan = Plan::new("tidy").finisher(&vault, &tidies).unwrap();
    execute(plan).await;
    ops_core::recover(&&vault, &cx).await.map(|recovered| println!("{recovered:?}")).ok();

    // These are not shown: they carry it. They are refused, and the refusal is shown.
    let carries = Use { text: secret.expose().into(), ..uses(Planted::Check) };
    let named = Vault { name: secret.expose().into(), ..vault.clone() };
    let plain = |name: &str| Plan::new(name).change(&vault, &uses(Planted::Env)).unwrap();
    let refused = [
        Plan::new("carry").change(&vault, &carries).unwrap(),
        Plan::new("place").change(&named, &uses(Planted::Env)).unwrap(),
        plain(secret.expose()),
        plain("fact").fact("url", secret.expose()),
        plain("key").fact(secret.expose(), "url"),
        plain("unknown").fact("url", "postgres://ops:nobody-knows@db/x"),
    ];
    for plan in refused {
        let approved = cx.approve(plan.clone(), &(&vault, &named)).await.err();
        let error = cx.execute(plan, &(&vault, &named)).await.unwrap_err();
        println!("{approved:?} {error} {error:?}");
        assert_eq!(error.kind(), ops_core::ErrorKind::Plan, "{error}");
    }

    let says = secret.clone();
    let denies = ApproveIf::new("policy", move |_| says.expose().is_empty());
    let production = builder().environment(Environment::Production).approver(denies).build();
    let plan = Plan::new("deny").change(&vault, &uses(Planted::Env)).unwrap();
    println!("{:?}", production.execute(plan, &&vault).await.unwrap_err());

    // Last, for it blocks the resource.
    let plan = Plan::new("stuck").change(&vault, &uses(Planted::Undo)).unwrap();
    assert!(!execute(plan).await);
    let (listed, _) = operations::list(&cx, operations::Which::All).unwrap();
    println!("{listed:?}");
    for operation in &listed {
        println!("{:?}", operations::show(&cx, operation.id));
    }
    println!("the end of the program");
}

#[tokio::test]
async fn a_planted_secret_is_found_nowhere() {
    let state = tempfile::tempdir().unwrap();
    let program = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "canary::the_program", "--nocapture"])
        .env(VARIABLE, CANARY)
        .env(STATE, state.path())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(super::PATIENCE * 2, program).await.expect("an end").unwrap();
    let redactor = Redactor::default();
    redactor.add(&Secret::new(CANARY));
    let check = |name: &str, bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        for line in text.lines() {
            let shown = TRACES.iter().any(|part| line.contains(part)) || redactor.finds_in(line);
            assert!(!shown, "{name} shows it: {line}");
        }
        text.matches("[redacted]").count()
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    // The search first: what a failed program printed may be the reason.
    let marks = check("stdout", &output.stdout);
    check("stderr", &output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    assert!(printed.contains("the end of the program"), "{printed}");
    assert!(marks > 50, "{marks}: where it was planted, its mark is: {printed}");

    let (mut journals, mut reports) = (0, 0);
    for path in files(state.path()) {
        let marks = check(&path.display().to_string(), &std::fs::read(&path).unwrap());
        let name = path.to_string_lossy();
        if name.contains("/reports/") { reports += marks } else { journals += marks }
    }
    assert!(journals >= 10 && reports >= 10, "{journals} and {reports} marks");
}
