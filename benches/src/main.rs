//! `ops-bench`: runs the benchmarks, each with its peers in the same run, collects the results as
//! JSON, and compares two such files.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

mod compare;
mod measurement;
mod taking_turns;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use compare::{Comparison, Gate};
use measurement::Measurement;
use ops_benches::{ALL, Failure, Family, Wish, backup, own_program, scratch};

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
        /// Of these families alone. Default: all.
        #[arg(long, value_parser = ALL.map(|family| family.name))]
        only: Vec<String>,
        /// A repository to measure the git family on, too; it is only read.
        #[arg(long)]
        git_repository: Option<PathBuf>,
        /// How much data of PostgreSQL is backed up, in MB of rows. Default: 150 in a quick run, 1400
        /// in a full one.
        #[arg(long)]
        megabytes: Option<u32>,
        /// A peer to leave out, for it cannot be had everywhere; else one that is missing fails the
        /// run.
        #[arg(long, value_parser = backup::OPTIONAL)]
        without: Vec<String>,
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
    if let Some(code) = own_program::run() {
        return code;
    }
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
        Verb::Run {
            quick,
            output,
            scratch,
            only,
            git_repository,
            megabytes,
            without,
            base,
            limit,
        } => {
            // Before a minute of measuring, not after it.
            let base = base.map(|base| measurement::read(&base)).transpose()?;
            let scratch = scratch::open(scratch.as_deref())?;
            let wish =
                Wish { git_repository, megabytes, without, ..Wish::new(quick, scratch.path()) };
            let new = run(&wish, &only)?;
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

fn run(wish: &Wish, only: &[String]) -> Result<Vec<Measurement>, Failure> {
    let is_wished =
        |family: &&Family| only.is_empty() || only.iter().any(|name| name == family.name);
    let families: Vec<_> = ALL.iter().filter(is_wished).collect();
    let missing: Vec<_> = families
        .iter()
        .filter_map(|family| (family.need)(wish).err().map(|error| error.to_string()))
        .collect();
    if !missing.is_empty() {
        return Err(missing.join("; ").into());
    }
    if cfg!(debug_assertions) {
        eprintln!("ops-bench: this is a debug build: its figures mean nothing, use --release");
    }
    let mut results = Vec::new();
    for family in families {
        for benchmark in (family.make)(wish)? {
            let found = taking_turns::measure(benchmark)?;
            for one in &found {
                eprintln!("{one}");
            }
            results.extend(found);
        }
    }
    Ok(results)
}

fn against(base: &[Measurement], new: &[Measurement], limit: &Limit) -> Result<bool, Failure> {
    let gate = if limit.times { Gate::RatiosAndTimes } else { Gate::Ratios };
    let comparison = Comparison::new(base, new, gate, limit.max_regression)?;
    print!("{comparison}");
    Ok(comparison.is_fine())
}
