//! The reverse proxy as a program: `ops-proxy --listen 127.0.0.1:8080 --state-dir /srv/shop/proxy`.
//!
//! Deployers on this machine move its traffic through the state directory. It ends on SIGTERM or
//! SIGINT, after it has answered what has begun.
#![expect(clippy::print_stderr, reason = "a program says why it ends")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ops_deploy::{ProxyConfig, proxy};
use ops_examples::Failure;
use ops_logging::{Console, Logging};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Sends HTTP/1.1 traffic to the instance in service, and moves it without losing a request.
#[derive(Debug, Parser)]
struct Args {
    /// Where it listens for the public; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where its pointer and its admin socket lie; one proxy a folder.
    #[arg(long)]
    state_dir: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ops-proxy: {failure}");
            ExitCode::from(failure.code().number())
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    let _log = Logging::builder().console(Console::Stderr).install()?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        token.cancel();
    });
    Ok(proxy::serve(ProxyConfig::new(args.listen, args.state_dir), shutdown).await?)
}
