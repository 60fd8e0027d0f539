//! A small web application to deploy: `guestbook --port 8080 --version v1 --database app.db`, in
//! a folder with `app.toml` and `page.html`.
#![expect(clippy::print_stderr, reason = "a program says why it ends")]

use std::process::ExitCode;

use clap::Parser;
use ops_examples::guestbook::{GuestbookArgs, serve};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A guestbook on 127.0.0.1: GET / and /rows and /health, POST / adds a row.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    guestbook: GuestbookArgs,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        if let Ok(mut term) = signal(SignalKind::terminate()) {
            term.recv().await;
        }
        token.cancel();
    });
    match serve(args.guestbook, shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("guestbook: {failure}");
            ExitCode::FAILURE
        }
    }
}
