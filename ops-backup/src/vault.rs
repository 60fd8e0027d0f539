//! A repository of backups, with the sources that the program knows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use ops_core::{Clock, Context, Plan, Progress, Report, Resource, ResourceId, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::attest::{Attestation, Proof};
use crate::backup::BackupStep;
use crate::drill::{DrillOptions, DrillStep};
use crate::error::{Error, ErrorKind};
use crate::format::Keys;
use crate::key::{KeyName, Recipient, Unlock};
use crate::manifest::{BackupId, Manifest, SetName, Settings};
use crate::open::open_store;
use crate::patience::Patience;
use crate::repository::Repository;
use crate::restore::{Place, RestoreOptions};
use crate::retention::Policy;
use crate::source::{Command, Directory, File, Source, SourceSpec, Sqlite, postgres, qdrant};
use crate::step::VaultStep;
use crate::throttle::Throttle;
use crate::verify::{self, Depth, Verification};
use crate::watch::Watch;

/// A repository of backups. Cheap to clone.
///
/// As a resource it excludes other backups into the same vault by programs that share a state
/// directory; the ids of backups keep the rest apart.
///
/// A backup says that it runs in `begun/<id>.json` before it looks for chunks to reuse, and a prune
/// deletes nothing that a backup which ran then may have seen. So any number of backups and prunes
/// may run at once, from any number of machines.
#[derive(Debug, Clone)]
pub struct Vault {
    pub(crate) repository: Repository,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) grace: Duration,
    /// Where the store is a folder of this machine.
    pub(crate) folder: Option<PathBuf>,
    /// How many chunks a backup compresses or uploads at once.
    pub(crate) parallel: usize,
    /// How many connections read a PostgreSQL database.
    connections: usize,
    /// How quickly sources are read.
    pub(crate) read_limit: Option<Throttle>,
    /// Passphrases that a key may be added for.
    pub(crate) passphrases: BTreeMap<KeyName, Recipient>,
    name: String,
    sources: BTreeMap<String, Arc<dyn Source>>,
}

/// What a [`Vault`] is opened with.
#[derive(Debug)]
#[must_use = "call `open`"]
pub struct VaultBuilder {
    settings: Settings,
    patience: Patience,
    clock: Arc<dyn Clock>,
    grace: Duration,
    parallel: usize,
    connections: usize,
    store_limit: Option<u64>,
    read_limit: Option<u64>,
    keys: Keys,
    sources: BTreeMap<String, Arc<dyn Source>>,
}

impl VaultBuilder {
    /// How new backups are cut and compressed.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// How long each call of the store may take, and how often it is made again.
    pub fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// The time source of verifications and probes. Default: the machine's.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// How long a backup may upload nothing before a prune gives it up. Longer than the longest
    /// pause of the slowest source. Default: 24 h.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How many chunks of half the largest size a backup compresses or uploads at once; it holds as
    /// much in memory, and what is being cut. Default: 3.
    pub fn parallel(mut self, chunks: usize) -> Self {
        self.parallel = chunks;
        self
    }

    /// How many connections read the rows of a PostgreSQL database, besides the one that holds the
    /// moment; 1 to 64. Each has 8 MiB of what is being cut. Default: 2.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// How many bytes of chunks a second go to the store and come from it at most, in all operations of
    /// this vault together. Default: no limit.
    pub fn store_limit(mut self, bytes_a_second: u64) -> Self {
        self.store_limit = Some(bytes_a_second);
        self
    }

    /// How many plain bytes a second backups read of their sources at most, all of this vault together,
    /// so that a database or disk that serves others is left in peace. Default: no limit.
    pub fn read_limit(mut self, bytes_a_second: u64) -> Self {
        self.read_limit = Some(bytes_a_second);
        self
    }

    /// Encrypts a repository that does not exist yet, and lets this recipient open it; may be called
    /// several times. Of a repository that exists, nothing changes, but it must be encrypted: add
    /// further recipients with [`Vault::add_recipient`].
    pub fn encrypt_for(mut self, name: KeyName, recipient: Recipient) -> Self {
        self.keys.recipients.push((name, recipient));
        self
    }

    /// Opens an encrypted repository with this; may be called several times, and one of them has to
    /// fit. A repository that is not encrypted is refused then.
    pub fn unlock(mut self, with: Unlock) -> Self {
        self.keys.unlock.push(with);
        self
    }

    /// The public key that the repository must have, as [`Vault::public_key`] told it before. Whoever
    /// can write to the store could otherwise put a repository of his own in its place, wrapped for
    /// your public recipient, and wait for the next backup.
    pub fn expect_public_key(mut self, key: impl Into<String>) -> Self {
        self.keys.expected = Some(key.into());
        self
    }

    /// Registers a source of yours under the name that [`SourceSpec::Named`] uses.
    pub fn source(mut self, name: impl Into<String>, source: impl Source + 'static) -> Self {
        self.sources.insert(name.into(), Arc::new(source));
        self
    }

    /// Opens the repository in the store, or begins it in an empty one. `name` is the store's URL
    /// or path: it goes into journals, so it must be the same in every process, and hold no secret.
    ///
    /// # Errors
    /// [`ErrorKind::Foreign`] if a newer version wrote it; [`ErrorKind::WrongKey`] if it is
    /// encrypted and no key opens it, or is not and a key was given; [`ErrorKind::Store`] if it
    /// cannot be read or written.
    pub async fn open(
        self,
        store: Arc<dyn ObjectStore>,
        name: impl Into<String>,
    ) -> Result<Vault, Error> {
        let Self { settings, patience, clock, grace, keys, sources, .. } = self;
        let repository = Repository::open(store, patience, &keys).await?.limited(self.store_limit);
        Ok(Vault {
            repository,
            settings,
            clock,
            grace,
            folder: None,
            parallel: self.parallel,
            connections: self.connections,
            read_limit: self.read_limit.map(Throttle::new),
            passphrases: BTreeMap::new(),
            name: name.into(),
            sources,
        })
    }

    /// Opens the vault of a URL, as [`open_store`] reads it. Of a folder, a prune then also sweeps
    /// what a killed process was writing, which no store lists.
    ///
    /// # Errors
    /// Those of [`open_store`] and of [`open`](Self::open).
    pub async fn open_url(self, url: &str) -> Result<Vault, Error> {
        // A folder is synced, and a file with keys may be read.
        let address = url.to_owned();
        let opened = tokio::task::spawn_blocking(move || open_store(&address)).await;
        let vault = self.open(opened.map_err(Error::panicked)??, url).await?;
        Ok(Vault { folder: crate::open::folder(url), ..vault })
    }
}

impl Vault {
    /// Opens a vault with the default settings; see [`VaultBuilder::open`].
    ///
    /// # Errors
    /// Those of [`VaultBuilder::open`].
    pub async fn open(store: Arc<dyn ObjectStore>, name: impl Into<String>) -> Result<Self, Error> {
        Self::builder().open(store, name).await
    }

    /// Opens the vault of a URL with the default settings; see [`VaultBuilder::open_url`].
    ///
    /// # Errors
    /// Those of [`VaultBuilder::open_url`].
    pub async fn open_url(url: &str) -> Result<Self, Error> {
        Self::builder().open_url(url).await
    }

    /// Starts from the defaults.
    pub fn builder() -> VaultBuilder {
        VaultBuilder {
            settings: Settings::default(),
            patience: Patience::default(),
            clock: Arc::new(SystemClock::new()),
            grace: Duration::from_hours(24),
            parallel: 3,
            connections: 2,
            store_limit: None,
            read_limit: None,
            keys: Keys::default(),
            sources: BTreeMap::new(),
        }
    }

    /// A backup of these sources, all or none, as a plan.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the set's name is none, there is no source, or one is given
    /// twice or is not registered.
    pub fn plan_backup(&self, set: &str, sources: &[SourceSpec]) -> Result<Plan, Error> {
        let set: SetName = set.parse()?;
        if sources.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a backup needs a source"));
        }
        for (at, spec) in sources.iter().enumerate() {
            self.source(spec)?;
            if sources[..at].contains(spec) {
                let message = format!("source `{spec}` is given twice");
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        let step = BackupStep { set, sources: sources.to_vec(), settings: self.settings };
        Ok(Plan::new("backup").fact("set", &step.set).change(self, &VaultStep::Backup(step))?)
    }

    /// Makes a backup, and answers its manifest.
    ///
    /// # Errors
    /// Those of [`plan_backup`](Self::plan_backup); [`ErrorKind::Operation`] with the report if the
    /// operation was refused or went back. Nothing is listed then.
    ///
    /// # Cancellation
    /// Dropping the future is like a crash: the next `recover` tidies up. Nothing is listed that is
    /// not whole.
    pub async fn create(
        &self,
        set: &str,
        sources: &[SourceSpec],
        cx: &Context,
    ) -> Result<Manifest, Error> {
        let report = cx.execute(self.plan_backup(set, sources)?, &self).await?;
        let set: SetName = set.parse()?;
        self.repository.manifest(&set, BackupId::of(report.id, &set)?).await
    }

    /// The listed backups of a set, oldest first.
    ///
    /// # Errors
    /// If the store cannot be listed.
    pub async fn list(&self, set: &str) -> Result<Vec<BackupId>, Error> {
        self.repository.list(&set.parse()?).await
    }

    /// The newest listed backup of a set.
    ///
    /// # Errors
    /// If the store cannot be read, or the manifest is damaged.
    pub async fn latest(&self, set: &str) -> Result<Option<Manifest>, Error> {
        match self.list(set).await?.last() {
            Some(id) => self.show(set, *id).await.map(Some),
            None => Ok(None),
        }
    }

    /// The manifest of a backup.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Corrupt`] or [`ErrorKind::Foreign`].
    pub async fn show(&self, set: &str, id: BackupId) -> Result<Manifest, Error> {
        let set = set.parse()?;
        if self.repository.is_buried(id).await? {
            let message = format!("backup {id} was taken out of set `{set}`");
            return Err(Error::new(ErrorKind::NotFound, message)
                .remedy("list the set to see what there is"));
        }
        self.repository.manifest(&set, id).await
    }

    /// Whether a backup is whole. A full verification, and one of a part that finds damage, keeps an
    /// attestation of what it found, which is the one thing that is written outside an operation;
    /// where that fails (the store is read only), the answer says so.
    ///
    /// # Errors
    /// If the store cannot be read, or the manifest is damaged; damage of the objects is in the
    /// answer.
    pub async fn verify(
        &self,
        set: &str,
        id: BackupId,
        depth: Depth,
    ) -> Result<Verification, Error> {
        let manifest = self.show(set, id).await?;
        self.verified(&self.repository, &manifest, depth).await
    }

    /// As [`verify`](Self::verify), and tells how many bytes are read and how many there are.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify).
    pub async fn verify_watched(
        &self,
        set: &str,
        id: BackupId,
        depth: Depth,
        progress: &Arc<dyn Progress>,
    ) -> Result<Verification, Error> {
        let manifest = self.show(set, id).await?;
        let watch =
            Watch::new(progress, format!("verifying {set}"), verify::extent(&manifest, depth));
        self.verified(&self.repository.watched(watch), &manifest, depth).await
    }

    async fn verified(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        depth: Depth,
    ) -> Result<Verification, Error> {
        let (set, id) = (&manifest.set, manifest.id);
        let none = CancellationToken::new();
        let mut found = verify::verify(repository, manifest, depth, &none).await?;
        // A part that is whole says nothing of the rest.
        let attests = depth == Depth::Full || depth != Depth::Quick && !found.is_whole();
        if attests {
            let attestation = Attestation::new(Proof::Verify, manifest, self.clock.now(), &found)?;
            match self.repository.attest(&attestation).await {
                Ok(()) => found.attested = true,
                Err(error) => tracing::warn!(target: "ops", %set, %id, "not attested: {error}"),
            }
        }
        Ok(found)
    }

    /// The last full verification or drill of a backup.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn attestation(&self, set: &str, id: BackupId) -> Result<Option<Attestation>, Error> {
        let listed = self.repository.set(&set.parse()?).await?;
        let keys = listed.get(&id).map_or(&[][..], Vec::as_slice);
        self.repository.newest_attestation(keys, |_| true).await
    }

    /// The last drill that found a backup of the set whole.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn last_proven(&self, set: &str) -> Result<Option<Attestation>, Error> {
        self.repository.newest_drill(&set.parse()?, |found| found.whole).await
    }

    /// A drill as a plan: the backup is restored into a scratch folder in the state directory, or
    /// where the options say, compared there byte by byte and row by row, and what was found is
    /// attested. What was restored is removed.
    ///
    /// # Errors
    /// As [`show`](Self::show).
    pub async fn plan_drill(
        &self,
        set: &str,
        id: BackupId,
        options: &DrillOptions,
    ) -> Result<Plan, Error> {
        let manifest = self.show(set, id).await?;
        let step = DrillStep { drill: id, set: manifest.set.clone(), options: options.clone() };
        let plan = Plan::new("drill")
            .fact("backup", id)
            .fact("made at", manifest.created_at)
            .fact("bytes", manifest.plain_size())
            .change(self, &VaultStep::Drill(step))?;
        Ok(plan)
    }

    /// Proves that a backup can be restored; see [`plan_drill`](Self::plan_drill). The answer says
    /// whether it is whole.
    ///
    /// # Errors
    /// Those of the plan; [`ErrorKind::Operation`] if the drill could not be carried out, which
    /// says nothing about the backup.
    ///
    /// # Cancellation
    /// Dropping the future is like a crash: the next `recover` removes what was restored.
    pub async fn drill(&self, set: &str, id: BackupId, cx: &Context) -> Result<Attestation, Error> {
        self.drill_with(set, id, &DrillOptions::default(), cx).await
    }

    /// Proves that a backup can be restored, with servers for what fits into no folder; see
    /// [`drill`](Self::drill).
    ///
    /// # Errors
    /// Those of [`drill`](Self::drill).
    ///
    /// # Cancellation
    /// As that of [`drill`](Self::drill).
    pub async fn drill_with(
        &self,
        set: &str,
        id: BackupId,
        options: &DrillOptions,
        cx: &Context,
    ) -> Result<Attestation, Error> {
        let report = cx.execute(self.plan_drill(set, id, options).await?, &self).await?;
        let listed = self.repository.set(&set.parse()?).await?;
        let keys = listed.get(&id).map_or(&[][..], Vec::as_slice);
        let ours = |found: &Attestation| found.operation == Some(report.id);
        self.repository.newest_attestation(keys, ours).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the attestation of backup {id} is gone"))
        })
    }

    /// Prunes a set; see [`plan_prune`](Self::plan_prune). It needs an approval everywhere.
    ///
    /// # Errors
    /// Those of the plan; [`ErrorKind::Operation`] with the report if the operation was refused or
    /// went back.
    pub async fn prune(&self, set: &str, policy: Policy, cx: &Context) -> Result<Report, Error> {
        let plan = self.plan_prune(set, policy, cx.clock().now()).await?;
        Ok(cx.execute(plan, &self).await?)
    }

    /// The place that a restore writes to, as a resource.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a named source, which has no path.
    pub fn place(&self, target: &SourceSpec) -> Result<Place, Error> {
        Place::new(self.clone(), target)
    }

    /// A restore into the place, as a plan; several join with [`Plan::then`].
    ///
    /// # Errors
    /// As [`show`](Self::show); [`ErrorKind::NotFound`] if the backup has no such component;
    /// [`ErrorKind::InvalidInput`] with every reason if it does not fit the place.
    pub async fn plan_restore(
        &self,
        set: &str,
        id: BackupId,
        place: &Place,
        options: &RestoreOptions,
    ) -> Result<Plan, Error> {
        place.plan(&self.show(set, id).await?, options).await
    }

    /// Restores; see [`plan_restore`](Self::plan_restore). Over something that exists, it needs an
    /// approval everywhere.
    ///
    /// # Errors
    /// Those of the plan; [`ErrorKind::Operation`] with the report if the operation was refused or
    /// went back.
    pub async fn restore(
        &self,
        set: &str,
        id: BackupId,
        place: &Place,
        options: &RestoreOptions,
        cx: &Context,
    ) -> Result<Report, Error> {
        let plan = self.plan_restore(set, id, place, options).await?;
        Ok(cx.execute(plan, &place).await?)
    }

    /// The same vault, of which somebody watches what is read.
    pub(crate) fn watched(&self, progress: &Arc<dyn Progress>, phase: String, total: u64) -> Self {
        let watch = Watch::new(progress, phase, total);
        Self { repository: self.repository.watched(watch), ..self.clone() }
    }

    pub(crate) fn source(&self, spec: &SourceSpec) -> Result<Arc<dyn Source>, Error> {
        match spec {
            SourceSpec::Sqlite { path } => Ok(Arc::new(Sqlite::new(path))),
            SourceSpec::Directory { path, include, exclude } => {
                let directory = Directory::new(path);
                let directory = include.iter().fold(directory, Directory::include);
                Ok(Arc::new(exclude.iter().fold(directory, Directory::exclude)))
            }
            SourceSpec::Command { argv } => Ok(Arc::new(Command::new(argv))),
            SourceSpec::File { path } => Ok(Arc::new(File::new(path))),
            SourceSpec::Postgres { .. }
            | SourceSpec::PostgresDump { .. }
            | SourceSpec::PostgresGlobals { .. } => postgres::source(spec, self.connections),
            SourceSpec::Qdrant { .. } => qdrant::source(spec),
            SourceSpec::Named { name } => self.sources.get(name).cloned().ok_or_else(|| {
                let known: Vec<_> = self.sources.keys().map(String::as_str).collect();
                Error::new(ErrorKind::InvalidInput, format!("source `{name}` is not registered"))
                    .remedy(format!("register it in the vault (known: {})", known.join(", ")))
            }),
        }
    }
}

impl Resource for Vault {
    type Step = VaultStep;

    fn id(&self) -> ResourceId {
        ResourceId::new("vault", &self.name)
    }
}
