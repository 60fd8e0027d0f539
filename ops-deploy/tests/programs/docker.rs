//! `ops-deploy-test-docker VERB DIR [VERSION]`: `deploy`, `rollback`, `recover`.
#![expect(clippy::print_stderr, reason = "a helper program of the tests")]

mod dock;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ops_deploy::{Error, Target};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let verb = args.next().expect("a verb");
    let dir = PathBuf::from(args.next().expect("a directory"));
    match run(&verb, &dir, args.next()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", ops_core::error::chain(&error).join(": "));
            ExitCode::from(error.report().map_or(1, |report| report.outcome.exit_code()))
        }
    }
}

async fn run(verb: &str, dir: &Path, version: Option<String>) -> Result<(), Error> {
    let host = dock::bare(dir, dock::engine()).service(dock::web(dir)).build()?;
    let cx = dock::context(dir);
    let version = version.map(|text| text.parse().expect("a version"));
    match verb {
        "deploy" => drop(host.deploy(&cx, &version.expect("a version")).await?),
        "rollback" => drop(host.rollback(&cx, version).await?),
        "recover" => {
            let world = host.world();
            let _ = ops_core::recover(&*world, &cx).await?;
        }
        other => unreachable!("no verb `{other}`"),
    }
    Ok(())
}
