//! What a journalled operation costs a step, beside one bare durable write a step.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use ops_core::{
    Context, Effect, Environment, Plan, Resource, ResourceId, Step, StepContext, StepError,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::Failure;
use crate::rounds::{Benchmark, Side, timed};

/// How many steps the operation has.
const STEPS: u32 = 50;

#[derive(Debug)]
struct Nothing;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Idle {
    number: u32,
}

impl Resource for Nothing {
    type Step = Idle;
    fn id(&self) -> ResourceId {
        ResourceId::new("nothing", "one")
    }
}

impl Step for Idle {
    const FAMILY: &'static str = "nothing";
    type Env = Nothing;

    fn name(&self) -> &'static str {
        "idle"
    }

    fn effect(&self) -> Effect {
        Effect::changes(format!("do nothing, {}", self.number))
    }

    async fn run(&self, _: &Nothing, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    async fn undo(&self, _: &Nothing, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}

/// Operations of steps that do nothing.
///
/// # Errors
/// Those of the disk.
pub fn benchmark(quick: bool, dir: &Path) -> Result<Benchmark, Failure> {
    let runtime = Runtime::new()?;
    let state = dir.join("saga");
    let cx = Context::builder(state).environment(Environment::Development).build();
    let mut bare = OpenOptions::new().append(true).create_new(true).open(dir.join("bare-steps"))?;
    let ours = move || {
        let mut plan = Plan::new("bench");
        for number in 0..STEPS {
            plan = plan.change(&Nothing, &Idle { number })?;
        }
        let (report, took) = timed(|| Ok(runtime.block_on(cx.execute(plan, &&Nothing))?))?;
        if report.outcome.name() == "completed" {
            return Ok(took);
        }
        Err(format!("the operation ended as {}", report.outcome.name()).into())
    };
    let peer = move || {
        let written = timed(|| {
            for _ in 0..STEPS {
                bare.write_all(&[b'x'; 120])?;
                bare.sync_data()?;
            }
            Ok(())
        });
        Ok(written?.1)
    };
    let sides = vec![Side::new("ops", ours), Side::new("peer: write + fdatasync", peer)];
    let group = format!("a step of an operation of {STEPS}");
    let rounds = if quick { 25 } else { 101 };
    Ok(Benchmark { group, items: STEPS, bytes: None, rounds, sides })
}
