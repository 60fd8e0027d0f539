//! The step that makes a backup.

use std::collections::BTreeMap;
use std::time::SystemTime;

use futures::StreamExt as _;
use ops_core::{Class, Classify as _, Effect, Refusal, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::asked::asked;
use crate::error::{Error, ErrorKind};
use crate::manifest::{
    BackupId, MANIFEST_FORMAT, Manifest, SetName, Settings, SourceRecord, UnitRecord,
};
use crate::pipeline::Writer;
use crate::repository::Repository;
use crate::source::{Session, SourceSpec, Unit};
use crate::undeleted::Undeleted;
use crate::vault::Vault;
use crate::verify::{self, Depth};
use crate::watch::Course;

/// Makes one backup of a set. It stays when the operation goes back.
///
/// The backup's id follows from operation and set, so one operation makes one backup of a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupStep {
    pub(crate) set: SetName,
    pub(crate) sources: Vec<SourceSpec>,
    pub(crate) settings: Settings,
}

impl BackupStep {
    /// Writes the streams of a session, several at once.
    async fn at_once(
        &self,
        (writer, stop): (&Writer<'_>, &CancellationToken),
        session: &dyn Session,
        course: &Course,
    ) -> Result<Vec<UnitRecord>, Error> {
        let one = async |unit: &Unit| {
            if stop.is_cancelled() {
                return Err(Error::cancelled());
            }
            let dump = session.dump(unit).await?;
            let mut written = writer.unit(unit.name.clone(), dump.bytes).await?;
            written.rows = dump.rows;
            Ok::<_, Error>(written)
        };
        let width = session.width().max(1);
        let mut writing = futures::stream::iter(session.units().iter().enumerate())
            .map(|(at, unit)| {
                let written = one(unit);
                async move { (at, written.await) }
            })
            .buffer_unordered(width);
        let mut units = Vec::new();
        while let Some((at, written)) = writing.next().await {
            let unit = match written {
                Ok(unit) => unit,
                Err(error) => {
                    // The others see to what they have under way before anybody goes back.
                    stop.cancel();
                    while writing.next().await.is_some() {}
                    return Err(error);
                }
            };
            units.push((at, unit));
            course.session(session, units.len() as u64);
        }
        units.sort_by_key(|(at, _)| *at);
        Ok(units.into_iter().map(|(_, unit)| unit).collect())
    }

    async fn make(
        &self,
        vault: &Vault,
        cx: &StepContext,
        cancel: &CancellationToken,
    ) -> Result<(), StepError> {
        let id = BackupId::of(cx.operation(), &self.set)?;
        let repository = &vault.repository;
        match repository.manifest(&self.set, id).await {
            // An earlier try wrote it, and may not have looked what became of it.
            Ok(manifest) => {
                living(repository, id).await?;
                self.stands(repository, &manifest, cancel).await?;
                repository.end(id).await?;
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        repository.upgrade().await?;
        if let Some(folder) = &vault.folder {
            chunk_folders(folder)?;
        }
        // Before it looks for chunks to reuse: a prune that does not see this finds none of them.
        repository.begin(id, &self.set, cx.operation()).await?;
        ops_core::fault::point("said that it runs");
        let known = repository.reusable(&self.set).await?;
        let created_at = cx.context().clock().now();
        let all: Result<Vec<_>, _> = self.sources.iter().map(|spec| vault.source(spec)).collect();
        let course = Course::of(cx.context().progress(), self.set.to_string(), all?);
        let progress = |bytes| course.read(bytes);
        let stop = cancel.child_token();
        let writer = Writer::new(vault, id, self.settings, known, &stop, &progress);
        let mut sources = Vec::new();
        for (at, spec) in self.sources.iter().enumerate() {
            let source = vault.source(spec)?;
            let key = observed(at, id);
            if cx.noted::<String>(&key)?.is_none()
                && let Some(seen) = source.observe().await?
            {
                cx.observe(&key, async { Ok(seen) }).await?;
            }
            let mut record = SourceRecord {
                source: spec.clone(),
                kind: source.kind().to_owned(),
                fingerprint: source.fingerprint().await?,
                versions: source.versions(),
                facts: BTreeMap::new(),
                tables: BTreeMap::new(),
                units: Vec::new(),
            };
            if let Some(session) = source.open(id).await? {
                if let Some(seen) = session.observe() {
                    cx.observe(&opened(at, id), async { Ok(seen) }).await?;
                }
                record.units = self.at_once((&writer, &stop), &*session, &course).await?;
                let learned = session.finish().await?;
                (record.facts, record.tables) =
                    (learned.facts, repository.seal_tables(learned.tables));
                sources.push(record);
                continue;
            }
            for unit in source.plan().await? {
                let dump = source.dump(&unit, id).await?;
                let mut written = writer.unit(unit.name, dump.bytes).await?;
                written.rows = dump.rows;
                record.units.push(written);
            }
            sources.push(record);
        }
        course.end();
        let manifest = Manifest {
            format: MANIFEST_FORMAT,
            id,
            set: self.set.clone(),
            operation: cx.operation(),
            created_at,
            environment: cx.context().environment(),
            tool: concat!("ops-backup ", env!("CARGO_PKG_VERSION")).to_owned(),
            settings: self.settings,
            sources,
        };
        let looked = SystemTime::now();
        let found = verify::verify(repository, &manifest, Depth::Quick, cancel).await?;
        if !found.is_whole() {
            let message = "the store lost what was uploaded";
            let error = Error::new(ErrorKind::Corrupt, message).with("first", &found.problems[0]);
            return Err(error.into());
        }
        living(repository, id).await?;
        // The last moment: a whole backup stays, even of an operation that was cancelled.
        if cancel.is_cancelled() || cx.context().cancellation().is_cancelled() {
            return Err(Error::cancelled().into());
        }
        // Whoever goes back then knows that a manifest may still arrive.
        cx.observe(&tried(id), async { Ok(true) }).await?;
        ops_core::fault::point("before the manifest");
        let key = Repository::manifest_key(&self.set, id);
        let bytes = manifest.seal(repository.identity().map(AsRef::as_ref))?;
        repository.create(&key, bytes.into()).await?;
        ops_core::fault::point("after the manifest");
        // A prune that gave this backup up in between wins: the backup is not listed.
        living(repository, id).await?;
        // A machine that slept for so long may have been given up, and the sign of it be gone.
        if looked.elapsed().unwrap_or_default() > vault.grace / 2 {
            self.stands(repository, &manifest, cancel).await?;
        }
        if let Err(error) = repository.end(id).await {
            // The backup is there; the next prune takes the mark away.
            tracing::warn!(target: "ops", set = %self.set, %id, "still marked as running: {error}");
        }
        Ok(())
    }
}

impl BackupStep {
    /// A backup that is listed has its chunks, or is taken out again.
    async fn stands(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        if verify::verify(repository, manifest, Depth::Quick, cancel).await?.is_whole() {
            return Ok(());
        }
        repository.bury(manifest.id, manifest.operation).await?;
        ops_core::fault::point("buried what lacks chunks");
        repository.let_go(&Repository::manifest_key(&self.set, manifest.id)).await?;
        let message = "a prune deleted chunks of this backup while its machine slept";
        Err(Error::new(ErrorKind::Source, message).remedy("make another"))
    }
}

/// Makes the folders of chunks at once: a store that finds one missing syncs the one above it, for
/// each of 256.
fn chunk_folders(store: &std::path::Path) -> Result<(), Error> {
    let chunks = store.join("chunks");
    for byte in 0..=u8::MAX {
        let folder = chunks.join(hex::encode([byte]));
        if !folder.is_dir() {
            std::fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
        }
    }
    // Even where nothing was missing: whoever made them may have been killed before this.
    ops_core::fs::sync_dir(&chunks)?;
    Ok(ops_core::fs::sync_dir(store)?)
}

/// The note of what a source observed before it was opened.
fn observed(source: usize, id: BackupId) -> String {
    format!("observed by source {source} of {id}")
}

/// The note of what a source's session observed.
fn opened(source: usize, id: BackupId) -> String {
    format!("opened by source {source} of {id}")
}

/// The note that the manifest of a backup was tried to be written.
fn tried(id: BackupId) -> String {
    format!("manifest of {id} tried")
}

async fn living(repository: &Repository, id: BackupId) -> Result<(), Error> {
    if !repository.is_buried(id).await? {
        return Ok(());
    }
    let message = format!("a prune gave backup {id} up while it was made");
    Err(Error::new(ErrorKind::Source, message)
        .remedy("make another; if it is this slow, give the vault of the prune a longer grace"))
}

impl BackupStep {
    /// Why it cannot be done now.
    async fn reasons(&self, vault: &Vault) -> Result<Vec<Refusal>, StepError> {
        let mut reasons = Vec::new();
        for spec in &self.sources {
            if let (SourceSpec::Directory { path, .. }, Some(store)) = (spec, &vault.folder)
                && let (Ok(path), Ok(store)) = (path.canonicalize(), store.canonicalize())
                && store.starts_with(&path)
            {
                reasons.push(Refusal::new(
                    format!("`{}` holds the store `{}` itself", path.display(), store.display()),
                    "keep the backups outside of what is backed up",
                ));
                continue;
            }
            match vault.source(spec) {
                Ok(source) => reasons.extend(source.preflight().await?),
                Err(error) => reasons.push(Refusal::new(
                    error.to_string(),
                    "register the source in the vault of this program",
                )),
            }
        }
        Ok(reasons)
    }
}

impl Step for BackupStep {
    const FAMILY: &'static str = "backup";
    type Env = Vault;

    fn name(&self) -> &'static str {
        "back_up"
    }

    fn effect(&self) -> Effect {
        let sources: Vec<_> = self.sources.iter().map(ToString::to_string).collect();
        Effect::retained(format!("back up {} into set `{}`", sources.join(", "), self.set))
    }

    async fn check(&self, vault: &Vault, cx: &StepContext) -> Result<Vec<Refusal>, StepError> {
        let (step, vault) = (self.clone(), vault.clone());
        asked(cx, async move { step.reasons(&vault).await }).await
    }

    async fn run(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        // On a thread that the engine waits for: a manifest must not appear after an undo looked.
        let (step, vault, own) = (self.clone(), vault.clone(), cx.clone());
        let runtime = tokio::runtime::Handle::current();
        cx.blocking(move |cancel| runtime.block_on(step.make(&vault, &own, cancel))).await
    }

    async fn undo(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        let id = BackupId::of(cx.operation(), &self.set)?;
        for (at, spec) in self.sources.iter().enumerate() {
            let source = vault.source(spec)?;
            source.clean_up(id).await?;
            let opened = cx.noted::<String>(&opened(at, id))?;
            if let Some(seen) = opened.or(cx.noted::<String>(&observed(at, id))?) {
                source.clean_up_observed(id, seen).await?;
            }
        }
        let (repository, operation) = (&vault.repository, cx.operation());
        let tried = cx.noted::<bool>(&tried(id))?.is_some();
        if tried {
            // A call that was given up may still write the manifest; with this it lists nothing.
            repository.bury(id, operation).await?;
            ops_core::fault::point("buried what may arrive");
        }
        let deletes = match repository.manifest(&self.set, id).await {
            // A prune may have given it up while its machine slept.
            Ok(manifest) => {
                let never = CancellationToken::new();
                !verify::verify(repository, &manifest, Depth::Quick, &never).await?.is_whole()
            }
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            // Not even whether it is there.
            Err(error) if error.kind() == ErrorKind::Store || error.class() != Class::Permanent => {
                return Err(error.into());
            }
            // Whatever is listed keeps its chunks, also where its content tells nothing any more.
            Err(error) => {
                tracing::warn!(target: "ops", set = %self.set, %id, "its manifest: {error}");
                false
            }
        };
        let mut undeleted = Undeleted::default();
        if deletes {
            undeleted.add(repository.let_go(&Repository::manifest_key(&self.set, id)).await?);
            ops_core::fault::point("deleted the manifest");
            undeleted.add(repository.let_chunks_go(id).await?);
        } else {
            repository.unbury(id, operation).await?;
        }
        let mark = repository.end(id).await?;
        if deletes && !mark.is_none() {
            // Or it would be taken for one that runs.
            repository.bury(id, operation).await?;
        }
        undeleted.add(mark);
        undeleted.tell();
        Ok(())
    }
}
