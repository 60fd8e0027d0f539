//! The reverse proxy as a program: `ops-proxy --listen 127.0.0.1:8080 --state-dir /srv/shop/proxy`.
//!
//! Deployers on this machine move its traffic through the state directory. It ends on SIGTERM or
//! SIGINT, after it has answered what has begun. On SIGHUP it starts its own program anew, which
//! takes its place.
#![expect(clippy::print_stderr, reason = "a program says why it ends")]

mod config;
mod service_manager;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use clap::Parser;
use ops_deploy::ReverseProxy;
use ops_examples::Failure;
use ops_logging::{Console, Logging};
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use config::Config;

/// Sends HTTP traffic to the instance in service, and moves it without losing a request.
///
/// SIGTERM and SIGINT end it after it has answered what has begun. SIGHUP starts the program that
/// lies where this one was started from, with the same options and --take-over: a new program, or a
/// changed configuration, comes into service without a connection refused or a request cut off. If
/// the new one cannot start, the old one serves on and the log says why.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where it listens for the public; port 0 takes a free one. Default: 127.0.0.1:8080.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where its pointer and its sockets lie; one proxy a folder.
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Limits and times, as TOML; the options above go before what it says. The keys:
    /// `listen`, `state_dir`, `max_connections`, and in seconds `client_timeout`, `connect_timeout`,
    /// `response_timeout`, `shutdown_grace`, `handover_grace`, `tunnel_idle`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take the place of the proxy that runs on the state directory, if one does. It serves until
    /// this one can, answers what it is still asked on its connections, and ends.
    #[arg(long)]
    take_over: bool,
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
    // Before a new program lies there: afterwards the path of the running one is another.
    let program = std::env::current_exe()?;
    let config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    let config = config.proxy(args.listen, args.state_dir)?;
    let (shutdown, hup) = (CancellationToken::new(), signal(SignalKind::hangup())?);
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        token.cancel();
    });
    let proxy = if args.take_over {
        ReverseProxy::take_over(config).await?
    } else {
        ReverseProxy::bind(config).await?
    };
    tokio::spawn(reload(hup, program));
    if let Err(error) = service_manager::say_ready() {
        tracing::warn!(target: "ops", %error, "the service manager does not hear that this process serves");
    }
    proxy.serve(shutdown).await;
    Ok(())
}

/// Starts a successor for each signal; one at a time.
async fn reload(mut hup: Signal, program: PathBuf) {
    while hup.recv().await.is_some() {
        match succeed(&program).await {
            Ok(status) => {
                tracing::error!(target: "ops", %status, "the successor has ended; see what it said");
            }
            Err(error) => {
                let program = program.display();
                tracing::error!(target: "ops", %program, %error, "no successor can be started; this process serves on");
            }
        }
    }
}

/// Runs a successor until it ends, which is later than this process where all goes well.
async fn succeed(program: &Path) -> std::io::Result<std::process::ExitStatus> {
    let mut options: Vec<OsString> = std::env::args_os().skip(1).collect();
    if !options.iter().any(|option| option == "--take-over") {
        options.push("--take-over".into());
    }
    let mut successor = Command::new(program).args(options).stdin(Stdio::null()).spawn()?;
    tracing::info!(target: "ops", pid = successor.id(), "a successor was started");
    successor.wait().await
}
