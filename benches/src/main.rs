//! `ops-bench`: runs the benchmarks, each with its peers in the same run, collects the results as
//! JSON, and compares two such files.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

mod compare;
mod measurement;
mod taking_turns;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use compare::{Comparison, Gate};
use measurement::Measurement;
use ops_benches::{ALL, Failure, backup, scratch};

/// How many times worse than the stored result is a regression, unless said otherwise.
const MAX_REGRESSION: f64 = 1.25;

#[derive(Debug, Parser)]
#[command(version, about = "Runs the benchmarks, and compares their results")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run all benchmarks and write the results as JSON.
    Run {
        /// Fewer rounds, and less data: about a minute, for CI.
        #[arg(long)]
        quick: bool,
        /// Where the results go.
        #[arg(long, alias = "json", default_value = "bench-results.json")]
        output: PathBuf,
        /// A folder on the disk to measure; it must not lie in memory. Default: the program's own.
        #[arg(long)]
        scratch: Option<PathBuf>,
        /// A stored result to compare with at once.
        #[arg(long)]
        base: Option<PathBuf>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Compare two results. Exits with 1 for a regression, with 2 for files that are no results.
    Compare {
        /// The stored result.
        base: PathBuf,
        /// The new result.
        new: PathBuf,
        #[command(flatten)]
        limit: Limit,
    },
}

#[derive(Debug, clap::Args)]
struct Limit {
    /// How many times worse than the stored result is a regression.
    #[arg(long, alias = "max-ratio", default_value_t = MAX_REGRESSION, value_parser = factor)]
    max_regression: f64,
    /// Look at our times too, and not only at their ratio to the peers: for two results of one
    /// machine.
    #[arg(long)]
    times: bool,
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if f64::is_finite(factor) && factor >= 1.0 => Ok(factor),
        _ => Err("give a factor of 1 or more, such as 1.25".to_owned()),
    }
}

fn main() -> ExitCode {
    match act(Arguments::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ops-bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing has become too slow.
fn act(verb: Verb) -> Result<bool, Failure> {
    match verb {
        Verb::Run { quick, output, scratch, base, limit } => {
            // Before a minute of measuring, not after it.
            let base = base.map(|base| measurement::read(&base)).transpose()?;
            let new = run(quick, scratch.as_deref())?;
            measurement::write(&output, &new)?;
            print!("\n{}", measurement::table(&new));
            println!("\nwritten to {}", output.display());
            base.map_or(Ok(true), |base| against(&base, &new, &limit))
        }
        Verb::Compare { base, new, limit } => {
            against(&measurement::read(&base)?, &measurement::read(&new)?, &limit)
        }
    }
}

fn run(quick: bool, scratch: Option<&Path>) -> Result<Vec<Measurement>, Failure> {
    backup::need_programs()?;
    if cfg!(debug_assertions) {
        eprintln!("ops-bench: this is a debug build: its figures mean nothing, use --release");
    }
    let scratch = scratch::open(scratch)?;
    let mut results = Vec::new();
    for make in ALL {
        let found = taking_turns::measure(make(quick, scratch.path())?)?;
        for one in &found {
            eprintln!("{one}");
        }
        results.extend(found);
    }
    Ok(results)
}

fn against(base: &[Measurement], new: &[Measurement], limit: &Limit) -> Result<bool, Failure> {
    let gate = if limit.times { Gate::RatiosAndTimes } else { Gate::Ratios };
    let comparison = Comparison::new(base, new, gate, limit.max_regression)?;
    print!("{comparison}");
    Ok(comparison.is_fine())
}
