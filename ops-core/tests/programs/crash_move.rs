//! `crash-move DIR [fail]`: tidies the shelf `DIR/shelf`, with its state in `DIR/state`.
#![expect(clippy::print_stderr, reason = "a helper program of the tests")]

#[allow(dead_code, reason = "each program uses a part")]
mod shelf;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().expect("a directory"));
    let fails = args.next().is_some();
    let shelf = shelf::Shelf::new(dir.join("shelf"));
    let cx = shelf::context(&dir.join("state"));
    let plan = shelf::plan(&shelf, fails).expect("a plan");
    match shelf::block_on(cx.execute(plan, &&shelf)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", ops_core::error::chain(&error).join(": "));
            ExitCode::from(error.report().map_or(1, |report| report.outcome.exit_code()))
        }
    }
}
