//! `backup-faults SEEDS [--from N]`: so many rounds of backups, prunes and restores on stores that
//! fail by chance, of SQLite databases and directories, in memory and on a disk, encrypted or not.
//! After each operation a store that does not fail is asked: whatever is listed verifies in full and
//! is restored, whatever was reported as made is there, and no drill finds damage. Prints the figures,
//! or each seed of which that is not true.
#![allow(clippy::print_stdout, reason = "a test program")]

mod fault_rounds;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let number = |text: &String| text.parse::<u64>().ok();
    let (seeds, from) = match arguments.as_slice() {
        [seeds] => (number(seeds), Some(0)),
        [seeds, flag, from] if flag == "--from" => (number(seeds), number(from)),
        _ => (None, None),
    };
    let (Some(seeds), Some(from)) = (seeds, from) else {
        println!("usage: backup-faults SEEDS [--from N]");
        return ExitCode::from(2);
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let begun = std::time::Instant::now();
    match runtime.block_on(fault_rounds::run(from..from + seeds, 16)) {
        Ok(figures) => {
            println!("{figures}\n{} s", begun.elapsed().as_secs());
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}
