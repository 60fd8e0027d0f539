//! `PROGRAM VERB DIR [VERSION]`: `deploy`, `rollback`, `recover`, and how it ends.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ops_core::{Context, Version};
use ops_deploy::{Error, Target};

/// What the arguments say.
pub struct Asked {
    pub verb: String,
    pub dir: PathBuf,
    pub rest: Option<String>,
}

pub fn asked() -> Asked {
    let mut args = std::env::args().skip(1);
    let verb = args.next().expect("a verb");
    let dir = PathBuf::from(args.next().expect("a directory"));
    Asked { verb, dir, rest: args.next() }
}

pub async fn act(
    asked: Asked,
    target: impl FnOnce(&Path) -> Result<Box<dyn Target>, Error>,
    context: impl FnOnce(&Path) -> Context,
) -> Result<(), Error> {
    let (target, cx) = (target(&asked.dir)?, context(&asked.dir));
    let version: Option<Version> = asked.rest.map(|text| text.parse().expect("a version"));
    match asked.verb.as_str() {
        "deploy" => drop(target.deploy(&cx, &version.expect("a version")).await?),
        "rollback" => drop(target.rollback(&cx, version).await?),
        "recover" => {
            let world = target.world();
            let _ = ops_core::recover(&*world, &cx).await?;
        }
        other => unreachable!("no verb `{other}`"),
    }
    Ok(())
}

pub fn ended(outcome: Result<(), Error>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", ops_core::error::chain(&error).join(": "));
            ExitCode::from(error.report().map_or(1, |report| report.outcome.exit_code()))
        }
    }
}
