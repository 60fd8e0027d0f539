//! A program that logs into rotating files and tells a chat what went wrong: ops-logging and
//! ops-alerts, which share one redactor.
//!
//! `ALERT_URL=https://chat.example/hook cargo run --example logging_and_alerts -- /var/lib/shop`

use std::path::PathBuf;

use ops_alerts::{AlertReporter, ConsoleChannel, WebhookChannel};
use ops_core::{Context, Redactor, Secret};
use ops_logging::{Console, Logging};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let state: PathBuf = std::env::args().nth(1).ok_or("give the state directory")?.into();
    let redactor = Redactor::default();
    let _log = Logging::builder()
        .directory(state.join("log"))
        .file_prefix("shop")
        .console(Console::Stderr)
        .keep_days(14)
        .redactor(redactor.clone())
        .install()?;

    let mut alerts = AlertReporter::new()
        .channel(ConsoleChannel::stderr())
        .redactor(redactor.clone())
        .dead_letters(state.join("undelivered-alerts.jsonl"));
    if let Ok(url) = std::env::var("ALERT_URL") {
        let url = Secret::new(url);
        redactor.add(&url);
        alerts = alerts.channel(WebhookChannel::new("chat", url)?);
    }
    // Every operation of this context is heard: what fails or goes back becomes an alert.
    let cx = Context::builder(&state).redactor(redactor).reporter(alerts).build();
    tracing::info!(environment = %cx.environment(), "ready");
    Ok(())
}
