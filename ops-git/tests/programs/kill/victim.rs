//! The process that is killed.

use std::path::Path;
use std::process::ExitCode;

use ops_core::{Context, Environment};
use ops_git::{CheckoutOptions, GitRepository, GitStep, MergeOptions};

/// What a victim does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Checkout,
    /// A checkout whose operation fails at its end, and goes back.
    Fail,
    Merge,
    Recover,
}

const NAMES: [(Verb, &str); 4] = [
    (Verb::Checkout, "checkout"),
    (Verb::Fail, "fail"),
    (Verb::Merge, "merge"),
    (Verb::Recover, "recover"),
];

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(NAMES.iter().find(|(verb, _)| verb == self).unwrap().1)
    }
}

impl std::str::FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = NAMES.iter().find(|(_, name)| *name == text);
        known.map(|(verb, _)| *verb).ok_or_else(|| format!("no verb `{text}`"))
    }
}

/// Says a line when it begins to change something, and then does.
pub fn victim(verb: Verb, folder: &Path, target: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let state = folder.join("state");
    let cx = Context::builder(state).environment(Environment::Development).build();
    let repository = GitRepository::open(folder.join("work")).unwrap();
    runtime.block_on(async {
        let plan = match verb {
            Verb::Recover => return recover(&repository, &cx).await,
            Verb::Merge => {
                let options = MergeOptions::default().message("Merge the topic");
                repository.plan_merge(&cx, target, options).await.unwrap()
            }
            Verb::Checkout | Verb::Fail => {
                repository.plan_checkout(target, CheckoutOptions::default()).await.unwrap()
            }
        };
        let plan = if verb == Verb::Fail {
            let commit = "0".repeat(40).parse().unwrap();
            let branch = "no-such-branch".parse().unwrap();
            plan.change(&repository, &GitStep::VerifyBranch { branch, commit }).unwrap()
        } else {
            plan
        };
        println!("planned");
        match repository.execute(plan, &cx).await {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{}", ops_core::error::chain(&error).join(": "));
                ExitCode::FAILURE
            }
        }
    })
}

async fn recover(repository: &GitRepository, cx: &Context) -> ExitCode {
    println!("begun");
    match repository.recover(cx).await {
        Ok(done) => {
            for report in done.reports {
                let steps: Vec<_> = report
                    .steps
                    .iter()
                    .filter(|step| step.status != ops_core::StepStatus::NotRun)
                    .map(|step| step.name.as_str())
                    .collect();
                println!("{} {}", report.outcome.name(), steps.join(" "));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", ops_core::error::chain(&error).join(": "));
            ExitCode::FAILURE
        }
    }
}
