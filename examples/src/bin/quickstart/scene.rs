//! Where the story plays: a folder, an application in it, and the processes around.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_alerts::{AlertReporter, WebhookChannel};
use ops_backup::Place as RestorePlace;
use ops_core::context::ContextBuilder;
use ops_core::reporter::{JsonLinesReporter, MemoryReporter};
use ops_core::{Approver, Context, Environment, Secret};
use ops_deploy::{Detached, ServiceManager as _};
use ops_examples::Failure;
use ops_examples::managed_app::{ManagedApp, database_path};
use ops_examples::upstream::Upstream;
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::companion::Companion;
use crate::narrator::Narrator;
use crate::verbs::Seen;
use crate::versions::Versions;

/// What every process must know to act on the same things.
#[derive(Debug, Clone)]
pub struct Place {
    pub dir: PathBuf,
    /// Where the proxy answers.
    pub public: Url,
}

impl Place {
    pub async fn open(&self) -> Result<ManagedApp, Failure> {
        let own = std::env::current_exe()?;
        let own = own.to_str().ok_or_else(|| Failure::usage("this program's path is not UTF-8"))?;
        let upstream = upstream(&self.dir);
        ManagedApp::open(&self.dir, &upstream, &[own, "guestbook"], self.public.clone()).await
    }

    /// Production: the place that asks for an approval of every change.
    pub fn context(&self, approver: impl Approver + 'static) -> ContextBuilder {
        Context::builder(self.dir.join("state"))
            .program("quickstart")
            .environment(Environment::Production)
            .approver(approver)
            .reporter(JsonLinesReporter::new(self.dir.join("state/reports")))
    }
}

fn upstream(dir: &Path) -> PathBuf {
    dir.join("upstream.git")
}

/// The whole of it.
#[derive(Debug)]
pub struct Scene {
    pub narrator: Narrator,
    pub place: Place,
    pub app: ManagedApp,
    pub upstream: Upstream,
    pub http: reqwest::Client,
    /// Every report of this process.
    pub reports: MemoryReporter,
    /// Prints the alerts.
    pub chat: Companion,
    alerts: AlertReporter,
    proxy: Companion,
    instances: Instances,
}

impl Scene {
    pub async fn set(dir: &Path, narrator: Narrator) -> Result<(Self, Versions), Failure> {
        let upstream = Upstream::create(upstream(dir))?;
        let versions = Versions::commit(&upstream)?;
        let proxy_dir = dir.join("proxy");
        let proxy_dir = proxy_dir.to_str().ok_or_else(|| Failure::usage("a path is not UTF-8"))?;
        let mut proxy = Companion::start("proxy", &[proxy_dir])?;
        let public: Url = proxy.line().await?.parse()?;
        let mut chat = Companion::start("chat", &[])?;
        let webhook = WebhookChannel::new("chat", Secret::new(chat.line().await?))?;

        let place = Place { dir: dir.to_owned(), public };
        let app = place.open().await?;
        let scene = Self {
            narrator,
            app,
            upstream,
            http: client()?,
            reports: MemoryReporter::default(),
            chat,
            alerts: AlertReporter::new()
                .channel(webhook)
                .dead_letters(dir.join("undelivered-alerts.jsonl")),
            proxy,
            instances: Instances(dir.join("site/run")),
            place,
        };
        Ok((scene, versions))
    }

    /// What surrounds an operation of this process.
    pub fn context(&self, approver: impl Approver + 'static) -> Context {
        self.place
            .context(approver)
            .reporter(self.reports.clone())
            .reporter(self.alerts.clone())
            .observer(self.narrator.bars.clone())
            .progress(self.narrator.bars.clone())
            .build()
    }

    pub fn database_path(&self) -> PathBuf {
        database_path(&self.place.dir)
    }

    /// The database as something to restore into.
    pub fn restore_place(&self) -> Result<RestorePlace, Failure> {
        Ok(self.app.vault.place(&self.app.database)?)
    }

    pub fn url(&self, path: &str) -> Url {
        let mut url = self.place.public.clone();
        url.set_path(path);
        url
    }

    pub async fn add_row(&self, text: &str) -> Result<(), Failure> {
        let answer = self.http.post(self.url("/")).body(text.to_owned()).send().await?;
        answer.error_for_status()?;
        Ok(())
    }

    /// The rows, as the public reads them.
    pub async fn rows(&self) -> Result<Vec<String>, Failure> {
        Ok(serde_json::from_str(&page(&self.http, &self.url("/rows")).await?)?)
    }

    /// Users who read the page meanwhile.
    pub async fn users(&self) -> Result<Companion, Failure> {
        let mut users = Companion::start("load", &[self.place.public.as_str()])?;
        users.line().await?;
        Ok(users)
    }

    /// What they saw. None of them may have been left without an answer.
    pub async fn ask_users(&self, mut users: Companion) -> Result<Seen, Failure> {
        users.enough();
        // Both say when they begin; what they saw comes last.
        let seen: Seen = loop {
            let line = users.line().await?;
            if line.starts_with('{') {
                break serde_json::from_str(&line)?;
            }
        };
        users.end().await;
        let versions: Vec<_> = seen.versions.iter().map(|(v, n)| format!("{n} by {v}")).collect();
        self.narrator.say(format!(
            "Users meanwhile: {} requests, {} failed; answered: {}.",
            seen.requests,
            seen.failed,
            versions.join(", ")
        ));
        if seen.failed > 0 {
            let first = seen.first_failure.as_deref().unwrap_or("?");
            return Err(Failure::unexpected(format!("{} requests failed: {first}", seen.failed)));
        }
        Ok(seen)
    }

    /// What mirror, symlink and public each say is in service.
    pub async fn look(&self) -> Result<Standing, Failure> {
        let head = self.app.mirror.inspect().await?.head;
        let link = std::fs::read_link(self.place.dir.join("site/current")).ok();
        let health: Value = serde_json::from_str(&page(&self.http, &self.url("/health")).await?)?;
        Ok(Standing {
            branch: head.map(|commit| commit.version().to_string()),
            current: link.and_then(|link| Some(link.file_name()?.to_str()?.to_owned())),
            traffic: health["version"].as_str().map(str::to_owned),
        })
    }

    /// Ends what was started.
    pub async fn end(self) {
        let Self { chat, proxy, instances, .. } = self;
        let _ = tokio::task::spawn_blocking(move || drop(instances)).await;
        proxy.end().await;
        chat.end().await;
    }
}

/// Which version is in service, according to each who has a say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    pub branch: Option<String>,
    pub current: Option<String>,
    pub traffic: Option<String>,
}

impl Standing {
    /// All of them say this version.
    pub fn all_say(&self, version: &str) -> Result<(), Failure> {
        let says = |who: &Option<String>| who.as_deref() == Some(version);
        if says(&self.branch) && says(&self.current) && says(&self.traffic) {
            return Ok(());
        }
        Err(Failure::unexpected(format!("{version} should be in service everywhere: {self}")))
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |who: &Option<String>| who.clone().unwrap_or_else(|| "nothing".to_owned());
        let (branch, current) = (name(&self.branch), name(&self.current));
        write!(f, "the mirror's branch is at {branch}, `current` names {current}, ")?;
        write!(f, "the public is answered by {}", name(&self.traffic))
    }
}

/// The application's processes, which are meant to outlive whoever starts them: here they must not.
#[derive(Debug)]
struct Instances(PathBuf);

impl Drop for Instances {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let grace = Duration::from_secs(2);
            let stopped = Detached::new().stop(&entry.path(), grace, &CancellationToken::new());
            if let Err(error) = stopped {
                tracing::warn!("an instance stays: {error}");
            }
        }
    }
}

/// A client that asks this machine only.
pub fn client() -> Result<reqwest::Client, Failure> {
    Ok(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?)
}

pub async fn page(client: &reqwest::Client, url: &Url) -> Result<String, Failure> {
    Ok(client.get(url.clone()).send().await?.error_for_status()?.text().await?)
}
