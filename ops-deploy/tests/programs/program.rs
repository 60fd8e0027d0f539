//! `ops-deploy-test-program VERB DIR [VERSION]`: `proxy`, `deploy`, `rollback`, `recover`.
#![expect(clippy::print_stderr, reason = "a helper program of the tests")]

mod site;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ops_deploy::{Error, ProxyConfig, Target, proxy};

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
    if verb == "proxy" {
        let listen = version.as_deref().unwrap_or("127.0.0.1:0").parse().expect("an address");
        let config = ProxyConfig::new(listen, dir.join("proxy"));
        return proxy::serve(config, tokio_util::sync::CancellationToken::new()).await;
    }
    let own = std::env::current_exe().expect("a path");
    let site = site::builder(dir, &own.with_file_name("ops-deploy-test-service")).build()?;
    let cx = site::context(dir);
    let version = version.map(|text| text.parse().expect("a version"));
    match verb {
        "deploy" => drop(site.deploy(&cx, &version.expect("a version")).await?),
        "rollback" => drop(site.rollback(&cx, version).await?),
        "recover" => {
            let world = site.world();
            let _ = ops_core::recover(&*world, &cx).await?;
        }
        other => unreachable!("no verb `{other}`"),
    }
    Ok(())
}
