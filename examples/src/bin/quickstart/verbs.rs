//! What the hidden verbs do.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Subcommand;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ops_core::{ApproveIf, Event, Observer};
use ops_deploy::{ProxyConfig, ReverseProxy};
use ops_examples::Failure;
use ops_examples::guestbook::{self, GuestbookArgs};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::scene::{self, Place};

#[derive(Debug, Subcommand)]
pub enum Verb {
    #[command(hide = true)]
    /// The application, as the deployer starts it.
    Guestbook(GuestbookArgs),
    #[command(hide = true)]
    /// The proxy before it.
    Proxy { state_dir: PathBuf },
    #[command(hide = true)]
    /// Users, who count what fails.
    Load { url: Url },
    #[command(hide = true)]
    /// The team's chat, which prints each alert.
    Chat,
    #[command(hide = true)]
    /// An update that is killed while the traffic is at the new version already.
    DoomedUpdate { dir: PathBuf, public: Url },
}

impl Verb {
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Guestbook(args) => {
                let shutdown = CancellationToken::new();
                let token = shutdown.clone();
                let mut term = signal(SignalKind::terminate())?;
                tokio::spawn(async move {
                    term.recv().await;
                    token.cancel();
                });
                guestbook::serve(args, shutdown).await
            }
            Self::Proxy { state_dir } => {
                let listen = (Ipv4Addr::LOCALHOST, 0).into();
                let config =
                    ProxyConfig::new(listen, state_dir).shutdown_grace(Duration::from_secs(1));
                let proxy = ReverseProxy::bind(config).await?;
                print(&format!("http://{}", proxy.address()))?;
                proxy.serve(end_of_input()).await;
                Ok(())
            }
            Self::Load { url } => load(url, end_of_input()).await,
            Self::Chat => chat(end_of_input()).await,
            Self::DoomedUpdate { dir, public } => doomed_update(Place { dir, public }).await,
        }
    }
}

/// One line, at once: somebody waits for it.
fn print(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Cancelled when whoever started this process closes its standard input, or dies.
fn end_of_input() -> CancellationToken {
    let token = CancellationToken::new();
    let ended = token.clone();
    tokio::spawn(async move {
        let mut nothing = [0; 64];
        while let Ok(1..) = tokio::io::stdin().read(&mut nothing).await {}
        ended.cancel();
    });
    token
}

/// What the users saw.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    pub requests: u64,
    pub failed: u64,
    pub first_failure: Option<String>,
    /// Answers by version.
    pub versions: BTreeMap<String, u64>,
}

/// Two users who read the page without a pause worth mentioning.
async fn load(url: Url, end: CancellationToken) -> Result<(), Failure> {
    let client = scene::client()?;
    let one = || async {
        let mut seen = Seen::default();
        // A little longer than the operation: what it leaves behind counts, too.
        while !end.is_cancelled() || seen.requests < 250 {
            seen.requests += 1;
            match scene::page(&client, &url).await {
                Ok(page) => {
                    let version = page
                        .split_once("version ")
                        .and_then(|(_, rest)| rest.get(..7))
                        .unwrap_or("?");
                    *seen.versions.entry(version.to_owned()).or_default() += 1;
                }
                Err(failure) => {
                    seen.failed += 1;
                    seen.first_failure.get_or_insert(failure.to_string());
                }
            }
            if seen.requests == 1 {
                print("asking")?;
            }
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        Ok::<_, Failure>(seen)
    };
    let (mut seen, other) = tokio::try_join!(one(), one())?;
    seen.requests += other.requests;
    seen.failed += other.failed;
    seen.first_failure = seen.first_failure.or(other.first_failure);
    for (version, count) in other.versions {
        *seen.versions.entry(version).or_default() += count;
    }
    print(&serde_json::to_string(&seen)?)
}

/// A receiver of webhooks: prints its address, then each body in a line.
async fn chat(end: CancellationToken) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    print(&format!("http://{}/alerts", listener.local_addr()?))?;
    while let Some(accepted) = end.run_until_cancelled(listener.accept()).await {
        let (stream, _) = accepted?;
        let service = service_fn(|request: Request<Incoming>| async move {
            let body = Limited::new(request.into_body(), 256 * 1024).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let taken = print(&String::from_utf8_lossy(&body).replace('\n', " ")).is_ok();
            let mut response = Response::new(Full::new(Bytes::new()));
            if !taken {
                *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            }
            Ok::<_, Infallible>(response)
        });
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
    Ok(())
}

/// Stops the world after a step, so that the kill hits exactly there.
#[derive(Debug)]
struct HoldAfter(&'static str);

impl Observer for HoldAfter {
    fn event(&self, event: &Event<'_>) {
        if let Event::StepDone { step, .. } = event
            && step.name == self.0
        {
            let _ = print(&step.effect.what);
            std::thread::sleep(Duration::from_secs(30));
        }
    }
}

async fn doomed_update(place: Place) -> Result<(), Failure> {
    let app = place.open().await?;
    let cx = place
        .context(ApproveIf::new("quickstart", |_: &_| true))
        .observer(HoldAfter("switch_traffic"))
        .build();
    let plan = app.plan_update(&cx).await?;
    cx.execute(plan, &app.world()).await?;
    Ok(())
}
