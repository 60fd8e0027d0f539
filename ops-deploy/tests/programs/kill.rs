//! Kills deployments and rollbacks at random moments while the public asks: `deploy-kill TARGET
//! FOLDER [KILLS [SEED]]`. TARGET is `release` or `docker` (whose engine OPS_TEST_DOCKER_HOST names),
//! FOLDER is to be new. Default: 200 kills.
//!
//! After each kill `recover` runs in a new process; every third of these is killed too, up to three
//! times. Then everything must agree upon the old version or the new one. Clients with fresh and with
//! kept connections, slow requests and WebSockets ask all the while, and say what they lost. Ends with
//! an error as soon as a state is neither old nor new, or a recovery takes more than 5 s, and in the
//! end if any request has failed.
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

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arena::{Arena, Kind};
use ops_deploy::load::Load;

/// A deployer that died is replaced, and the state is one again, within this.
const RESUMED: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [victim, verb, kind, folder] = arguments.as_slice()
        && victim == "victim"
    {
        return self::victim(verb, kind.parse().unwrap(), Path::new(folder));
    }
    let kind = arguments.first().expect("give a target: release or docker");
    let folder = arguments.get(1).expect("give a folder that does not exist yet");
    let number = |at: usize, default: u64| {
        arguments.get(at).map_or(default, |text| text.parse().expect("give a number"))
    };
    let (kills, seed) = (number(2, 200), number(3, 1));
    let arena = Arena::create(kind.parse().unwrap(), Path::new(folder));
    let load = Load::on(arena.address).fresh(2).kept(2).slow(1).sockets(1).per_second(200);
    let load = load.start().unwrap();
    let mut run = Run { arena, numbers: Numbers::new(seed), figures: Figures::default() };
    let outcome = run.all(kills).and_then(|()| {
        let figures = load.stop();
        println!("{} kills: {figures}", run.arena.kind);
        if figures.failed == 0 { Ok(()) } else { Err("requests have failed".to_owned()) }
    });
    println!("{}", run.figures);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("seed {seed}: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The process that is killed. It says a line when it begins to change something.
fn victim(verb: &str, kind: Kind, dir: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (target, cx) = (kind.target(dir, false), kind.context(dir));
    let world = target.world();
    let outcome = runtime.block_on(async {
        if verb == "recover" {
            println!("begun");
            let recovery = ops_core::recover(&*world, &cx).await.map_err(|e| e.to_string())?;
            for report in recovery.reports {
                println!("{} {}", report.operation, report.outcome.name());
            }
            return Ok(());
        }
        let [_, new] = kind.versions();
        let plan = match verb {
            "deploy" => target.plan_deploy(&new).await,
            _ => target.plan_rollback(None).await,
        };
        let plan = plan.map_err(|error| error.to_string())?;
        println!("planned");
        cx.execute(plan, &*world).await.map(drop).map_err(|error| format!("{error:?}"))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Numbers that look random and are the same for the same seed.
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        self.below(1 << 32) as f64 / (1_u64 << 32) as f64
    }
}

#[derive(Default)]
struct Figures {
    kills: u64,
    old: u64,
    new: u64,
    ended_first: u64,
    recoveries_killed: u64,
    /// Of recoveries that had something to do and were left in peace.
    recoveries: Vec<Duration>,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut times = self.recoveries.clone();
        times.sort();
        let at = |percent: usize| {
            let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(place).copied().unwrap_or_default()
        };
        write!(
            f,
            "{} kills: {} old, {} new; {} recoveries killed besides; {} operations ended before \
             their kill; {} recoveries, with the start of their process: p50 {:.0?}, p99 {:.0?}, \
             most {:.0?}",
            self.kills,
            self.old,
            self.new,
            self.recoveries_killed,
            self.ended_first,
            times.len(),
            at(50),
            at(99),
            at(100),
        )
    }
}

struct Run {
    arena: Arena,
    numbers: Numbers,
    figures: Figures,
}

/// How a process ended.
enum End {
    Killed,
    Itself { good: bool, took: Duration, said: String },
}

impl Run {
    fn all(&mut self, kills: u64) -> Result<(), String> {
        // How long a deployment, a rollback and a recovery take when nobody kills them.
        let mut typical: [Option<Duration>; 2] = [None; 2];
        let mut turn = 0_u64;
        while self.figures.kills < kills {
            let before = self.arena.agreement()?;
            let [first, second] = self.arena.kind.versions();
            let (of, verb, after) =
                if before == first { (0, "deploy", second) } else { (1, "rollback", first) };
            // Now and then one is left in peace, so that it is known how long that takes.
            let known = typical[of].filter(|_| !turn.is_multiple_of(17));
            turn += 1;
            let within = known.map(|known| known.mul_f64(1.1));
            match self.process(verb, within)? {
                End::Killed => {
                    self.figures.kills += 1;
                    let story = self.recover(known.unwrap_or_default() / 2)?;
                    let found = self.arena.agreement().map_err(|why| format!("{story}: {why}"))?;
                    if found == after {
                        self.figures.new += 1;
                    } else if found == before {
                        self.figures.old += 1;
                    } else {
                        return Err(format!("{found} after the {verb} of {after}; {story}"));
                    }
                }
                End::Itself { good: false, said, .. } => {
                    return Err(format!("the {verb} failed: {said}"));
                }
                End::Itself { took, .. } => {
                    self.figures.ended_first += u64::from(known.is_some());
                    typical[of] = Some(typical[of].map_or(took, |before| (before + took) / 2));
                }
            }
        }
        self.arena.agreement().map(drop)
    }

    /// Recovers; answers what happened.
    fn recover(&mut self, typical: Duration) -> Result<String, String> {
        let mut killed = 0;
        loop {
            let kill = killed < 3 && self.numbers.below(3) == 0;
            match self.process("recover", kill.then_some(typical))? {
                End::Killed => {
                    killed += 1;
                    self.figures.recoveries_killed += 1;
                }
                End::Itself { good: false, said, .. } => {
                    return Err(format!("the recovery failed: {said}"));
                }
                End::Itself { took, said, .. } => {
                    let story =
                        format!("recovered in {took:.0?} after {killed} more kills: {said}");
                    if took > RESUMED {
                        return Err(story);
                    }
                    if !said.is_empty() {
                        self.figures.recoveries.push(took);
                    }
                    return Ok(story);
                }
            }
        }
    }

    fn process(&mut self, verb: &str, within: Option<Duration>) -> Result<End, String> {
        // Half of the kills are to come late: after its commit an operation has less left to do.
        let least = if self.numbers.below(2) == 0 { 0.0 } else { 0.6 };
        let part = least + (1.0 - least) * self.numbers.fraction();
        let say = |error: std::io::Error| error.to_string();
        let mut command = Command::new(std::env::current_exe().map_err(say)?);
        command.args(["victim", verb, &self.arena.kind.to_string()]).arg(&self.arena.dir);
        let begun = Instant::now();
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().map_err(say)?;
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let watch = watch(&child);
        // It has planned, and goes to work.
        said.read_line(&mut line).map_err(say)?;
        let works = Instant::now();
        if let Some(most) = within {
            std::thread::sleep(most.mul_f64(part));
            // One that has ended is a zombie by now, and does not mind.
            child.kill().map_err(say)?;
        }
        let mut rest = String::new();
        said.read_to_string(&mut rest).map_err(say)?;
        let hung = watch.ended();
        let status = child.wait().map_err(say)?;
        if hung {
            return Err(format!("the {verb} hung: {line}{rest}"));
        }
        if status.signal() == Some(9) {
            return Ok(End::Killed);
        }
        // A deployment is killed while it works; a recovery counts from the start of its process.
        let took = if verb == "recover" { begun.elapsed() } else { works.elapsed() };
        let said = if status.success() { rest } else { format!("{line}{rest}") };
        Ok(End::Itself { good: status.success(), took, said: said.trim_end().to_owned() })
    }
}

/// Nothing that is asked of a process takes so long.
const HUNG: Duration = Duration::from_mins(2);

struct Watched {
    lives: mpsc::Sender<()>,
    thread: JoinHandle<bool>,
}

/// Ends a process that hangs. It must not have been waited for before that is asked.
fn watch(child: &Child) -> Watched {
    let (lives, gone) = mpsc::channel::<()>();
    let pid = rustix::process::Pid::from_child(child);
    let thread = std::thread::spawn(move || {
        let hung = gone.recv_timeout(HUNG) == Err(RecvTimeoutError::Timeout);
        if hung {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        hung
    });
    Watched { lives, thread }
}

impl Watched {
    /// Whether it had to be ended.
    fn ended(self) -> bool {
        let Self { lives, thread } = self;
        drop(lives);
        thread.join().unwrap()
    }
}
