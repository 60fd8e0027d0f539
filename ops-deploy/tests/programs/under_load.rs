//! Deploys and rolls back while the public asks, and says what that has cost: `deploy-under-load
//! TARGET FOLDER [ROUNDS [RATE]]`. TARGET is `release` or `docker` (whose engine OPS_TEST_DOCKER_HOST
//! names), FOLDER is to be new. Default: 20 rounds at 1,200 requests a second.
//!
//! A round is a deployment and a rollback to what was stopped. There are a quarter as many rounds with
//! a previous version that stays warm, and, on an engine, with one of which only the image is left.
//! Ends with an error if a request has failed, or if fewer than 90 of 100 wanted ones were asked.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test program")]

#[path = "../shared/arena.rs"]
mod arena;
#[path = "../shared/asking.rs"]
mod asking;
mod dock;
#[path = "../shared/dock_state.rs"]
mod dock_state;
mod engine;
#[path = "../shared/images.rs"]
mod images;
mod site;
#[path = "../shared/site_state.rs"]
mod site_state;

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use arena::{Arena, Kind};
use asking::{get, http};
use bollard::query_parameters::ListContainersOptionsBuilder;
use ops_core::{Report, Version};
use ops_deploy::Target;
use ops_deploy::load::Load;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let kind = arguments.first().expect("give a target: release or docker");
    let folder = arguments.get(1).expect("give a folder that does not exist yet");
    let number = |at: usize, default: u32| {
        arguments.get(at).map_or(default, |text| text.parse().expect("give a number"))
    };
    let (rounds, rate) = (number(2, 20), number(3, 1_200));
    let arena = Arena::create(kind.parse().unwrap(), Path::new(folder));
    let load = Load::on(arena.address).fresh(4).kept(8).slow(2).sockets(2).per_second(rate);
    let load = load.start().unwrap();
    let kind = arena.kind;
    let mut ways = vec![("warm", true, rounds.div_ceil(4)), ("stopped", false, rounds)];
    if kind == Kind::Docker {
        ways.push(("cold", false, rounds.div_ceil(4)));
    }
    for (way, warm, rounds) in ways {
        let target = arena.kind.target(&arena.dir, warm);
        let mut times = Times::default();
        for _ in 0..rounds {
            arena.runtime.block_on(round(&arena, &*target, way, &mut times));
        }
        println!("{kind}, {rounds} deployments: {}", spread(&times.deployed));
        println!("  the public hears it: {}", spread(&times.heard_deployed));
        println!("{kind}, {rounds} rollbacks to what was {way}: {}", spread(&times.rolled_back));
        println!("  the public hears it: {}", spread(&times.heard_rolled_back));
        println!("  of which: {}", times.parts());
    }
    let figures = load.stop();
    println!("{kind}: {figures}");
    if let Err(why) = arena.agreement() {
        println!("{why}");
        return ExitCode::FAILURE;
    }
    if figures.failed > 0 {
        println!("requests have failed");
        return ExitCode::FAILURE;
    }
    if figures.rate() < f64::from(rate) * 0.9 {
        println!("only {:.0} requests a second were asked", figures.rate());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[derive(Default)]
struct Times {
    deployed: Vec<Duration>,
    heard_deployed: Vec<Duration>,
    rolled_back: Vec<Duration>,
    heard_rolled_back: Vec<Duration>,
    /// How long each step of a rollback took, in the order in which they come.
    steps: Vec<(String, Vec<Duration>)>,
    /// What was not spent in steps: planning, journal, locks.
    besides: Vec<Duration>,
}

impl Times {
    fn add_steps(&mut self, took: Duration, report: &Report) {
        let mut all = Duration::ZERO;
        for step in &report.steps {
            let time = Duration::from_millis(step.duration_ms);
            all += time;
            match self.steps.iter_mut().find(|(name, _)| *name == step.name) {
                Some((_, times)) => times.push(time),
                None => self.steps.push((step.name.clone(), vec![time])),
            }
        }
        self.besides.push(took.saturating_sub(all));
    }

    fn parts(&self) -> String {
        let parts = self.steps.iter().map(|(name, times)| (name.as_str(), times));
        let parts = parts.chain([("besides", &self.besides)]);
        let parts = parts.map(|(name, times)| format!("{name} {:.0?}", middle(times)));
        parts.collect::<Vec<_>>().join(", ")
    }
}

fn middle(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}

async fn round(arena: &Arena, target: &dyn Target, way: &str, times: &mut Times) {
    let (kind, [first, second]) = (arena.kind, arena.kind.versions());
    let cx = kind.context(&arena.dir);
    let (took, heard, _) = timed(arena, &second, target.deploy(&cx, &second)).await;
    times.deployed.push(took);
    times.heard_deployed.push(heard);
    if way == "cold" {
        let application = dock::application(&arena.dir);
        remove_stopped(&application).await;
    }
    let (took, heard, report) = timed(arena, &first, target.rollback(&cx, None)).await;
    times.rolled_back.push(took);
    times.heard_rolled_back.push(heard);
    times.add_steps(took, &report);
    let speed = report.notes.iter().find(|(key, _)| key.ends_with(" rollback speed"));
    let from = speed.and_then(|(_, speed)| speed["from"].as_str());
    assert_eq!(from, Some(way), "{:?}", report.notes);
    assert_eq!(target.observe().await.unwrap().current, Some(first));
}

/// How long it takes, and after how long the public hears the version.
async fn timed(
    arena: &Arena,
    version: &Version,
    work: impl Future<Output = Result<Report, ops_deploy::Error>>,
) -> (Duration, Duration, Report) {
    let begun = Instant::now();
    let url = format!("http://{}/", arena.address);
    let wanted = version.to_string();
    let listening = tokio::spawn(async move {
        let client = http();
        while get(&client, &url).await.unwrap().1 != wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        begun.elapsed()
    });
    let report = work.await.unwrap();
    let took = begun.elapsed();
    (took, listening.await.unwrap(), report)
}

fn spread(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort();
    let (least, middle) = (sorted[0], sorted[sorted.len() / 2]);
    format!("median {middle:.0?}, {least:.0?} to {:.0?}", sorted[sorted.len() - 1])
}

/// Removes the containers of an application that do not run.
async fn remove_stopped(application: &str) {
    let docker = images::docker().await;
    let label = format!("ops-deploy.application={application}");
    let filters =
        HashMap::from([("label", vec![label.as_str()]), ("status", vec!["exited", "created"])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    for container in docker.list_containers(Some(options)).await.unwrap() {
        docker.remove_container(&container.id.unwrap(), None).await.unwrap();
    }
}
