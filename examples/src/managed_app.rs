//! One application with everything that is needed to update it: its mirror, its backups, its
//! releases. The composed update lives here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_backup::{SourceSpec, Vault};
use ops_core::{Context, Plan, World};
use ops_deploy::{Gate, Identity, ProxyClient, ReleaseDirectory, ServiceSpec, Target as _};
use ops_git::{GitRepository, PullOptions};
use url::Url;

use crate::failure::Failure;

/// The set that its backups go into.
pub const SET: &str = "guestbook";

/// The application, opened from one folder. Every process that opens the same folder acts on the
/// same resources, and can recover what another one left.
///
/// ```text
/// DIR/mirror.git     what was pulled
/// DIR/site           releases, `current`, history
/// DIR/data/app.db    the database
/// DIR/backups        the store of the backups
/// DIR/proxy          the proxy's state
/// DIR/state          journals, locks, reports
/// ```
#[derive(Debug, Clone)]
pub struct ManagedApp {
    /// What was pulled.
    pub mirror: GitRepository,
    /// Its backups.
    pub vault: Vault,
    /// Its releases.
    pub site: ReleaseDirectory,
    /// Its database.
    pub database: SourceSpec,
}

impl ManagedApp {
    /// Opens it, and makes what is not there yet. `service` is program and arguments before those
    /// that every instance gets; `public` is where the proxy answers.
    ///
    /// # Errors
    /// If something is not as it should be.
    pub async fn open(
        dir: &Path,
        upstream: &Path,
        service: &[&str],
        public: Url,
    ) -> Result<Self, Failure> {
        for folder in ["site/releases", "data"] {
            ops_core::fs::create_dir_durable(&dir.join(folder))?;
        }
        let upstream = upstream.to_str().ok_or_else(|| Failure::usage("a path is not UTF-8"))?;
        let mirror = GitRepository::mirror(upstream, dir.join("mirror.git"))?;

        let store = Url::from_directory_path(dir.join("backups"))
            .map_err(|()| Failure::usage(format!("`{}` is not absolute", dir.display())))?;
        let vault = Vault::open_url(store.as_str()).await?;

        let database = database_path(dir);
        let arguments = ["--port", "{port}", "--version", "{version}", "--release", "{release}"];
        let own = service.iter().map(|argument| literal(argument));
        let argv = own.chain(arguments.map(str::to_owned)).chain([
            "--database".to_owned(),
            literal(database.to_str().ok_or_else(|| Failure::usage("a path is not UTF-8"))?),
        ]);
        let service = ServiceSpec::new(argv)
            .identity(Identity::JsonField("/version".to_owned()))
            .stop_grace(Duration::from_secs(5));
        let gate = Gate::default()
            .interval(Duration::from_millis(20))
            .timeout(Duration::from_secs(2))
            .deadline(Duration::from_secs(5));
        let site = ReleaseDirectory::builder(dir.join("site"), service)
            .required_files(["app.toml", "page.html"])
            .traffic(ProxyClient::new(dir.join("proxy")))
            .public_url(public)
            .gate(gate)
            .build()?;
        Ok(Self { mirror, vault, site, database: SourceSpec::sqlite(database) })
    }

    /// The update as one operation: pull, write the release, back the database up, deploy.
    ///
    /// Planning fetches, so that the plan can name what it is going to deploy; nothing else
    /// changes. If any step fails, the branch is where it was and the old version serves on; the
    /// backup stays.
    ///
    /// # Errors
    /// Whatever stands in the way.
    pub async fn plan_update(&self, cx: &Context) -> Result<Plan, Failure> {
        let pull = self.mirror.plan_pull(cx, PullOptions::default()).await?;
        let commit = pull.facts["sha_after"].clone();
        let version = self.mirror.resolve(&commit).await?.version();
        let export = self.mirror.plan_export(&commit, self.site.release_path(&version)).await?;
        let backup = self.vault.plan_backup(SET, std::slice::from_ref(&self.database))?;
        let deploy = self.site.plan_deploy(&version).await?;
        Ok(pull.then(export).then(backup).then(deploy).named("update"))
    }

    /// What the update acts on.
    pub fn world(&self) -> impl World {
        (&self.mirror, &self.vault, &self.site)
    }
}

/// Where the application keeps its rows.
pub fn database_path(dir: &Path) -> PathBuf {
    dir.join("data/app.db")
}

/// An argument that is no template.
fn literal(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}
