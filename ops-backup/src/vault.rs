//! A repository of backups, with the sources that the program knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;
use ops_core::{Context, Plan, Report, Resource, ResourceId};
use tokio_util::sync::CancellationToken;

use crate::backup::BackupStep;
use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, Manifest, SetName, Settings};
use crate::repository::Repository;
use crate::restore::{Place, RestoreOptions};
use crate::source::{Directory, Source, SourceSpec, Sqlite};
use crate::verify::{self, Depth, Verification};

/// A repository of backups. Cheap to clone.
///
/// As a resource it excludes other backups into the same vault by programs that share a state
/// directory; the ids of backups keep the rest apart.
#[derive(Debug, Clone)]
pub struct Vault {
    pub(crate) repository: Repository,
    pub(crate) settings: Settings,
    name: String,
    sources: BTreeMap<String, Arc<dyn Source>>,
}

/// What a [`Vault`] is opened with.
#[derive(Debug)]
#[must_use = "call `open`"]
pub struct VaultBuilder {
    settings: Settings,
    sources: BTreeMap<String, Arc<dyn Source>>,
}

impl VaultBuilder {
    /// How new backups are cut and compressed.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
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
    /// [`ErrorKind::Foreign`] if a newer version wrote it; [`ErrorKind::Store`] if it cannot be
    /// read or written.
    pub async fn open(
        self,
        store: Arc<dyn ObjectStore>,
        name: impl Into<String>,
    ) -> Result<Vault, Error> {
        let repository = Repository::open(store).await?;
        let Self { settings, sources } = self;
        Ok(Vault { repository, settings, name: name.into(), sources })
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

    /// Starts from the defaults.
    pub fn builder() -> VaultBuilder {
        VaultBuilder { settings: Settings::default(), sources: BTreeMap::new() }
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
        Ok(Plan::new("backup").fact("set", &step.set).change(self, &step)?)
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
        self.repository.manifest(&set.parse()?, id).await
    }

    /// Whether a backup is whole.
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
        verify::verify(&self.repository, &manifest, depth, &CancellationToken::new()).await
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
        place.plan(&self.show(set, id).await?, options)
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

    pub(crate) fn source(&self, spec: &SourceSpec) -> Result<Arc<dyn Source>, Error> {
        match spec {
            SourceSpec::Sqlite { path } => Ok(Arc::new(Sqlite::new(path))),
            SourceSpec::Directory { path } => Ok(Arc::new(Directory::new(path))),
            SourceSpec::Named { name } => self.sources.get(name).cloned().ok_or_else(|| {
                let known: Vec<_> = self.sources.keys().map(String::as_str).collect();
                Error::new(ErrorKind::InvalidInput, format!("source `{name}` is not registered"))
                    .remedy(format!("register it in the vault (known: {})", known.join(", ")))
            }),
        }
    }
}

impl Resource for Vault {
    type Step = BackupStep;

    fn id(&self) -> ResourceId {
        ResourceId::new("vault", &self.name)
    }
}
