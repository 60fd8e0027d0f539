//! Kills operations on a work tree, and their recoveries, at random moments, and looks at every byte
//! after each: `git-kill FOLDER [KILLS [FILES [SEED]]]`. FOLDER is to be new, and lies on the disk
//! that is meant. Default: 1,000 kills, 5,000 files, all of which differ between the two versions.
//!
//! Checkouts, checkouts whose operation fails at its end and goes back, and merges into the branch
//! that the work tree is on, which change half of its files, take turns. Every
//! third recovery is killed too, up to three times. Ends with an error as soon as a state is neither
//! the old nor the new one.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test program")]

mod arena;
mod state;
mod victim;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use arena::{Arena, Numbers};
use victim::{Verb, victim};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [victim_of, verb, folder, target] = arguments.as_slice()
        && victim_of == "victim"
    {
        return victim(verb.parse().unwrap(), Path::new(folder), target);
    }
    let folder = arguments.first().expect("give a folder that does not exist yet");
    let number = |at: usize, default: usize| {
        arguments.get(at).map_or(default, |text| text.parse().expect("give a number"))
    };
    let (kills, files, seed) = (number(1, 1_000), number(2, 5_000), number(3, 1));
    let arena = Arena::create(Path::new(folder), files, seed as u64);
    let mut run = Run::new(arena, seed as u64);
    match run.all(kills) {
        Ok(()) => {
            println!("{}", run.figures);
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{}\nseed {seed}: {why}", run.figures);
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Figures {
    kills: usize,
    old: usize,
    new: usize,
    ended_first: usize,
    needs_person: usize,
    recoveries_killed: usize,
    /// Of recoveries that had something to do and were left in peace.
    recoveries: Vec<Duration>,
    /// Those among them that put a whole checkout back.
    rollbacks: Vec<Duration>,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} kills: {} old, {} new", self.kills, self.old, self.new)?;
        writeln!(f, "  {} for a person", self.needs_person)?;
        writeln!(f, "  {} recoveries killed besides", self.recoveries_killed)?;
        writeln!(f, "  {} operations ended before their kill", self.ended_first)?;
        write!(f, "  recovery, with the start of its process: {}", spread(&self.recoveries))?;
        write!(f, "\n  of those, back from a checkout: {}", spread(&self.rollbacks))
    }
}

fn spread(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100) - 1];
    match sorted.last() {
        None => "none".into(),
        Some(most) => format!(
            "{} times, p50 {:.0?}, p99 {:.0?}, most {most:.0?}",
            sorted.len(),
            at(50),
            at(99)
        ),
    }
}

struct Run {
    arena: Arena,
    numbers: Numbers,
    figures: Figures,
    /// How long each verb takes when nobody kills it.
    typical: Vec<(Verb, Duration)>,
}

/// How a process ended.
enum End {
    Killed,
    Itself { good: bool, said: String },
}

impl Run {
    fn new(arena: Arena, seed: u64) -> Self {
        let numbers = Numbers::new(seed ^ 0x5eed);
        let figures = Figures::default();
        let typical = vec![
            (Verb::Checkout, Duration::from_millis(500)),
            (Verb::Fail, Duration::from_millis(500)),
            (Verb::Merge, Duration::from_millis(300)),
            (Verb::Recover, Duration::from_millis(200)),
        ];
        Self { arena, numbers, figures, typical }
    }

    fn all(&mut self, kills: usize) -> Result<(), String> {
        let verbs = [Verb::Checkout, Verb::Fail, Verb::Merge, Verb::Checkout, Verb::Fail];
        for (turn, verb) in verbs.into_iter().cycle().enumerate() {
            // Now and then one is left in peace, so that it is known how long that takes.
            if turn < verbs.len() || turn % 17 == 0 {
                self.once(verb, None)?;
            }
            let span = self.typical(verb).mul_f64(1.1);
            self.once(verb, Some(span))?;
            if turn % 100 == 99 {
                self.arena.sound()?;
            }
            if self.figures.kills >= kills {
                break;
            }
        }
        self.arena.sound()
    }

    fn typical(&mut self, verb: Verb) -> Duration {
        self.typical.iter().find(|(of, _)| *of == verb).map_or(Duration::ZERO, |(_, time)| *time)
    }

    fn learn(&mut self, verb: Verb, took: Duration) {
        for (_, time) in self.typical.iter_mut().filter(|(of, _)| *of == verb) {
            *time = (*time + took) / 2;
        }
    }

    /// One operation, killed within this time of its beginning or not at all, and what follows.
    fn once(&mut self, verb: Verb, within: Option<Duration>) -> Result<(), String> {
        let aim = self.arena.aim(verb);
        let mut killed = false;
        let story = match self.process(verb, &aim.target, within)? {
            End::Killed => {
                killed = true;
                self.figures.kills += 1;
                self.recover()?
            }
            End::Itself { good, said } => {
                self.figures.ended_first += usize::from(within.is_some());
                if good != (verb != Verb::Fail) {
                    return Err(format!("{verb} ended as it should not: {said}"));
                }
                format!("{verb} ended by itself")
            }
        };
        let is_new = self.arena.settled(&aim).map_err(|why| format!("{story}: {why}"))?;
        self.figures.new += usize::from(killed && is_new);
        self.figures.old += usize::from(killed && !is_new);
        Ok(())
    }

    fn recover(&mut self) -> Result<String, String> {
        let mut killed = 0;
        loop {
            let kill = killed < 3 && self.numbers.below(3) == 0;
            let within = kill.then(|| self.typical(Verb::Recover));
            let begun = Instant::now();
            match self.process(Verb::Recover, "", within)? {
                End::Killed => {
                    killed += 1;
                    self.figures.recoveries_killed += 1;
                }
                End::Itself { good: false, said } => {
                    self.figures.needs_person += 1;
                    return Err(format!("the recovery failed: {said}"));
                }
                End::Itself { said, .. } => {
                    let took = begun.elapsed();
                    if !said.is_empty() {
                        self.figures.recoveries.push(took);
                    }
                    if said.contains("switch_worktree") {
                        self.figures.rollbacks.push(took);
                        self.learn(Verb::Recover, took);
                    }
                    return Ok(format!("recovered after {killed} kills of recoveries: {said}"));
                }
            }
        }
    }

    fn process(
        &mut self,
        verb: Verb,
        target: &str,
        within: Option<Duration>,
    ) -> Result<End, String> {
        // Half of the kills are to come late: after its commit an operation has less left to do.
        let least = if self.numbers.below(2) == 0 { 0.0 } else { 0.6 };
        let part = least + (1.0 - least) * self.numbers.fraction();
        let wait = within.map(|most| most.mul_f64(part));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["victim", &verb.to_string()]).arg(&self.arena.folder).arg(target);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| error.to_string())?;
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // It has planned, and goes to work.
        said.read_line(&mut line).map_err(|error| error.to_string())?;
        let begun = Instant::now();
        if let Some(wait) = wait {
            std::thread::sleep(wait);
            // One that has ended is a zombie by now, and does not mind.
            child.kill().map_err(|error| error.to_string())?;
        }
        end(child, said).inspect(|end| {
            if let (End::Itself { .. }, None) = (end, wait)
                && verb != Verb::Recover
            {
                self.learn(verb, begun.elapsed());
            }
        })
    }
}

fn end(mut child: Child, mut said: impl std::io::Read) -> Result<End, String> {
    use std::os::unix::process::ExitStatusExt as _;
    let mut text = String::new();
    let mut complaint = String::new();
    let io = |error: std::io::Error| error.to_string();
    said.read_to_string(&mut text).map_err(io)?;
    let mut stderr = child.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut complaint).map_err(io)?;
    let status = child.wait().map_err(io)?;
    if status.signal() == Some(9) {
        return Ok(End::Killed);
    }
    let said = format!("{text}{complaint}").trim_end().to_owned();
    Ok(End::Itself { good: status.success(), said })
}
