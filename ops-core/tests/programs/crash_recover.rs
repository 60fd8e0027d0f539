//! `crash-recover DIR`: recovers what `crash-move` left. It knows no plan.
#![expect(clippy::print_stderr, reason = "a helper program of the tests")]

#[allow(dead_code, reason = "each program uses a part")]
mod shelf;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let dir = PathBuf::from(std::env::args().nth(1).expect("a directory"));
    let shelf = shelf::Shelf::new(dir.join("shelf"));
    let cx = shelf::context(&dir.join("state"));
    match shelf::block_on(ops_core::recover(&&shelf, &cx)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", ops_core::error::chain(&error).join(": "));
            ExitCode::FAILURE
        }
    }
}
