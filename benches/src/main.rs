//! `ops-bench`: runs the benchmarks, collects their results as JSON, and compares two such files.
#![expect(clippy::print_stdout, reason = "a program prints")]

mod compare;
mod measurement;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

use measurement::Measurement;

type Failure = Box<dyn std::error::Error>;

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
        /// Fewer samples: for CI.
        #[arg(long)]
        quick: bool,
        /// Where the results go.
        #[arg(long, default_value = "bench-results.json")]
        json: PathBuf,
        /// A stored result to compare with.
        #[arg(long)]
        base: Option<PathBuf>,
        /// How many times slower than the stored result is a regression.
        #[arg(long, default_value_t = 1.5)]
        max_ratio: f64,
    },
    /// Compare two results; the exit code is 1 if one benchmark has become too slow.
    Compare {
        /// The stored result.
        base: PathBuf,
        /// The new result.
        new: PathBuf,
        /// How many times slower than the stored result is a regression.
        #[arg(long, default_value_t = 1.5)]
        max_ratio: f64,
    },
}

fn main() -> ExitCode {
    match act(Arguments::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("ops-bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing has become too slow.
fn act(verb: Verb) -> Result<bool, Failure> {
    match verb {
        Verb::Run { quick, json, base, max_ratio } => {
            let new = run(quick)?;
            std::fs::write(&json, serde_json::to_string_pretty(&new)?)?;
            print!("{}", measurement::table(&new));
            println!("\nwritten to {}", json.display());
            base.map_or(Ok(true), |base| against(&base, &new, max_ratio))
        }
        Verb::Compare { base, new, max_ratio } => against(&base, &read(&new)?, max_ratio),
    }
}

fn run(quick: bool) -> Result<Vec<Measurement>, Failure> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let results = target.join("criterion");
    // What an earlier run left would be taken for a result of this one.
    if results.exists() {
        std::fs::remove_dir_all(&results)?;
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(["bench", "--package", "ops-benches", "--benches", "--"]);
    command.args(quick.then_some("--quick")).arg("--noplot");
    let status = command.status()?;
    if !status.success() {
        return Err(format!("`cargo bench` failed: {status}").into());
    }
    measurement::collect(&results)
}

fn read(path: &Path) -> Result<Vec<Measurement>, Failure> {
    let text = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()).into())
}

fn against(base: &Path, new: &[Measurement], max_ratio: f64) -> Result<bool, Failure> {
    let comparison = compare::compare(&read(base)?, new, max_ratio);
    print!("{comparison}");
    Ok(comparison.is_fine())
}
