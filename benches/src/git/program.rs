//! Our side as a program of its own: `git-ours VERB REPOSITORY STATE [MORE...]`.

use std::path::Path;
use std::process::Command;

use ops_core::{
    Context, Effect, Environment, Outcome, Resource, ResourceId, Step, StepContext, StepError,
};
use ops_git::{CheckoutOptions, GitRepository, MergeResult, PullOptions};
use serde::{Deserialize, Serialize};

use super::server;
use crate::{Failure, own_program};

/// Its name.
pub const PROGRAM: &str = "git-ours";

/// What `recover` says when it went back.
pub(super) const ROLLED_BACK: &str = "rolled back\n";

/// A call of it.
pub(super) fn ours(
    verb: &str,
    repository: &Path,
    state: &Path,
    more: &[&str],
) -> Result<Command, Failure> {
    let mut command = own_program::ours(PROGRAM, [verb])?;
    command.arg(repository).arg(state).args(more);
    Ok(command)
}

/// Does it.
///
/// # Errors
/// Those of the work.
pub fn act(arguments: &[String]) -> Result<String, Failure> {
    let [verb, repository, state, more @ ..] = arguments else {
        return Err("it takes a verb, a repository and a folder for its state".into());
    };
    work(verb, Path::new(repository), Path::new(state), more)
}

fn work(verb: &str, path: &Path, state: &Path, more: &[String]) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let cx = Context::builder(state).environment(Environment::Development).build();
        if verb == "serve" {
            return server::serve(path).await;
        }
        if verb == "mirror" {
            let mirror = GitRepository::mirror(&more[0], path)?;
            mirror.safe_pull(&cx).await?;
            return Ok(String::new());
        }
        let repository = GitRepository::open(path)?;
        match verb {
            "status" => {
                let found = repository.inspect().await?;
                let reasons: Vec<_> = found.refusals().iter().map(ToString::to_string).collect();
                Ok(if found.is_clear() { "nothing".to_owned() } else { reasons.join("; ") })
            }
            "fetch" => {
                let plan = repository.plan_pull(&cx, PullOptions::default()).await?;
                Ok(plan.facts["sha_after"].clone())
            }
            "checkout" => {
                repository.safe_checkout(&cx, &more[0]).await?;
                Ok(String::new())
            }
            "checkout-killed" => {
                let plan = repository.plan_checkout(&more[0], CheckoutOptions::default()).await?;
                let plan = plan.change(&End, &Die)?;
                cx.execute(plan, &(&repository, &End)).await?;
                Ok(String::new())
            }
            "recover" => {
                let done = ops_core::recover(&(&repository, &End), &cx).await?;
                match done.reports.as_slice() {
                    [only] if matches!(only.outcome, Outcome::RolledBack { .. }) => {
                        Ok(ROLLED_BACK.trim_end().to_owned())
                    }
                    other => Err(format!("{other:?}").into()),
                }
            }
            "export" => {
                repository.export(&cx, &more[0], &more[1]).await?;
                Ok(String::new())
            }
            "merge" => match repository.preview_merge(&more[0], &more[1]).await?.result {
                MergeResult::Clean { tree } => Ok(tree),
                other => Err(format!("{other:?}").into()),
            },
            _ => Err(format!("no verb `{verb}`").into()),
        }
    })
}

/// What kills the process in the midst of an operation.
#[derive(Debug)]
struct End;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Die;

impl Resource for End {
    type Step = Die;
    fn id(&self) -> ResourceId {
        ResourceId::new("end", "of the process")
    }
}

impl Step for Die {
    const FAMILY: &'static str = "end";
    type Env = End;

    fn name(&self) -> &'static str {
        "die"
    }

    fn effect(&self) -> Effect {
        Effect::changes("be killed")
    }

    async fn run(&self, _: &End, _: &StepContext) -> Result<(), StepError> {
        use rustix::process::{Signal, getpid, kill_process};
        kill_process(getpid(), Signal::KILL)
            .map_err(|errno| StepError::permanent(errno.to_string()))
    }

    async fn undo(&self, _: &End, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}
