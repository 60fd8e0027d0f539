//! What a journalled operation costs, beside one bare durable write a step.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::fs::OpenOptions;
use std::io::Write as _;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ops_core::{
    Context, Effect, Environment, Plan, Resource, ResourceId, Step, StepContext, StepError,
};
use serde::{Deserialize, Serialize};

/// How many steps the operation has.
const STEPS: usize = 50;

#[derive(Debug)]
struct Nothing;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Idle {
    number: usize,
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

fn plan() -> Plan {
    let step = |plan: Plan, number| plan.change(&Nothing, &Idle { number }).unwrap();
    (0..STEPS).fold(Plan::new("bench"), step)
}

fn operation(c: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cx = Context::builder(dir.path()).environment(Environment::Development).build();
    let mut group = c.benchmark_group(format!("saga of {STEPS} steps"));
    group.bench_function("ops", |b| {
        let run = |plan| runtime.block_on(cx.execute(plan, &&Nothing)).unwrap();
        b.iter_batched(plan, run, BatchSize::PerIteration);
    });

    let bare = OpenOptions::new().append(true).create(true).open(dir.path().join("bare"));
    let mut bare = bare.unwrap();
    group.bench_function("peer: one bare write + fdatasync a step", |b| {
        b.iter(|| {
            for _ in 0..STEPS {
                bare.write_all(&[b'x'; 120]).unwrap();
                bare.sync_data().unwrap();
            }
        });
    });
    group.finish();
}

criterion_group!(benches, operation);
criterion_main!(benches);
