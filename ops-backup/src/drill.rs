//! The drill: a backup is restored into scratch, compared there, and the result is attested.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ops_core::{Class, Classify as _, Effect, Refusal, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::asked::asked;
use crate::attest::{Attestation, Proof};
use crate::chunk;
use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, Manifest, SetName, SourceRecord};
use crate::source::{File, PostgresUrl, QdrantUrl, Source, SqlProbe, Unit};
use crate::vault::Vault;
use crate::verify::{self, Depth, Verification};

/// Where a drill restores what does not fit into a folder, and what it asks there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DrillOptions {
    /// A database of the PostgreSQL server on which scratch databases are made, and dropped
    /// afterwards; better not the server in production. It is connected to, and not changed.
    /// Default: none, and a drill of a PostgreSQL database is refused.
    pub database: Option<PostgresUrl>,
    /// An address of the Qdrant server on which scratch collections are made, and deleted
    /// afterwards; its collection does not matter. Default: none, and a drill of a collection is
    /// refused.
    pub collection: Option<QdrantUrl>,
    /// What each restored PostgreSQL database must answer. Default: nothing besides its rows being
    /// those of the backup.
    pub probes: Vec<SqlProbe>,
    /// Whether it may begin where nobody can tell how much space the PostgreSQL server has.
    /// Default: no.
    pub unknown_space: bool,
    /// How long a Qdrant server may take to unpack a snapshot, and again to be ready. Default:
    /// 30 min.
    pub patience: Duration,
}

impl Default for DrillOptions {
    fn default() -> Self {
        Self {
            database: None,
            collection: None,
            probes: Vec::new(),
            unknown_space: false,
            patience: Duration::from_mins(30),
        }
    }
}

impl DrillOptions {
    /// Makes scratch databases on the server of this database.
    pub fn database(mut self, url: PostgresUrl) -> Self {
        self.database = Some(url);
        self
    }

    /// Makes scratch collections on this server.
    pub fn collection(mut self, url: QdrantUrl) -> Self {
        self.collection = Some(url);
        self
    }

    /// Adds a question that each restored PostgreSQL database must answer with `true`.
    pub fn probe(mut self, probe: SqlProbe) -> Self {
        self.probes.push(probe);
        self
    }

    /// Lets the drill begin where the PostgreSQL server's free space cannot be told.
    pub fn allow_unknown_space(mut self) -> Self {
        self.unknown_space = true;
        self
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Restores a backup into scratch, compares it with its manifest, and attests what was found.
/// The attestation stays when the operation goes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillStep {
    /// Tells it from the other steps of a vault.
    pub(crate) drill: BackupId,
    pub(crate) set: SetName,
    #[serde(default, skip_serializing_if = "DrillOptions::is_default")]
    pub(crate) options: DrillOptions,
}

/// Where a source is restored to.
enum Scratch<'a> {
    Folder,
    #[cfg(feature = "postgres")]
    Database(&'a PostgresUrl),
    #[cfg(feature = "qdrant")]
    Collection(&'a QdrantUrl),
    /// On a server that nobody named.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "qdrant")),
        expect(dead_code, reason = "without databases everything fits into a folder")
    )]
    Nowhere(&'a str),
}

impl DrillStep {
    fn scratch(cx: &StepContext) -> PathBuf {
        cx.context().state_dir().join("scratch").join(format!("drill-{}", cx.operation()))
    }

    fn of(&self, record: &SourceRecord) -> Scratch<'_> {
        match &*record.kind {
            #[cfg(feature = "postgres")]
            "postgres" | "postgres_dump" => match &self.options.database {
                Some(url) => Scratch::Database(url),
                None => Scratch::Nowhere("PostgreSQL"),
            },
            #[cfg(feature = "qdrant")]
            "qdrant" => match &self.options.collection {
                Some(url) => Scratch::Collection(url),
                None => Scratch::Nowhere("Qdrant"),
            },
            _ => Scratch::Folder,
        }
    }

    async fn make(
        &self,
        vault: &Vault,
        (scratch, cx, at): (&Path, &StepContext, Timestamp),
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        self.sweep(vault, scratch, cx).await?;
        let manifest = vault.show(self.set.as_ref(), self.drill).await?;
        // Each byte is verified, restored and, of files, compared.
        let files = manifest.sources.iter().filter(|r| matches!(self.of(r), Scratch::Folder));
        let compared = files.flat_map(|record| &record.units).map(|unit| unit.plain_size);
        let total = compared.fold(manifest.plain_size().saturating_mul(2), u64::saturating_add);
        let phase = format!("drilling {}", self.set);
        let vault = &vault.watched(cx.context().progress(), phase, total);
        let mut found = verify::verify(&vault.repository, &manifest, Depth::Full, cancel).await?;
        if found.is_whole() {
            // What is restored is as secret as what was backed up.
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(scratch);
            made.map_err(|e| Error::io("create", scratch, e))?;
            ops_core::fault::point("made scratch");
            for (at, record) in manifest.sources.iter().enumerate() {
                let place = scratch.join(at.to_string());
                let rehearsed = match self.of(record) {
                    Scratch::Folder => {
                        rehearse(vault, &manifest, record, &place, cancel, &mut found).await
                    }
                    #[cfg(feature = "postgres")]
                    Scratch::Database(server) => {
                        use crate::source::postgres::scratch;
                        let (record, probes) = ((at, record), &self.options.probes);
                        let work =
                            scratch::rehearse(vault, &manifest, record, server, probes, cx, cancel);
                        Box::pin(work).await.map(|rows| found.rows += rows)
                    }
                    #[cfg(feature = "qdrant")]
                    Scratch::Collection(server) => {
                        use crate::source::qdrant::scratch;
                        let (record, patience) = ((at, record), self.options.patience);
                        let work = scratch::rehearse(
                            vault, &manifest, record, server, patience, cx, cancel,
                        );
                        Box::pin(work).await.map(|points| found.rows += points)
                    }
                    Scratch::Nowhere(_) => Err(nowhere(record)),
                };
                if cancel.is_cancelled() {
                    return Err(Error::cancelled());
                }
                match rehearsed {
                    Ok(()) => {}
                    Err(error) if says_damaged(&error) => {
                        let problem = ops_core::error::chain(&error).join(": ");
                        found.problems.push(of(record, manifest.id, &problem));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.sweep(vault, scratch, cx).await?;
        let attestation = Attestation {
            operation: Some(cx.operation()),
            ..Attestation::new(Proof::Drill, &manifest, at, &found)?
        };
        ops_core::fault::point("before the attestation");
        vault.repository.attest(&attestation).await
    }

    /// Removes what this operation restored, wherever.
    async fn sweep(&self, vault: &Vault, scratch: &Path, cx: &StepContext) -> Result<(), Error> {
        let _ = (vault, cx);
        #[cfg(feature = "postgres")]
        if let Some(server) = &self.options.database {
            crate::source::postgres::scratch::sweep(vault, server, cx.operation()).await?;
        }
        #[cfg(feature = "qdrant")]
        if let Some(server) = &self.options.collection {
            crate::source::qdrant::scratch::sweep(server, cx.operation()).await?;
        }
        Ok(ops_core::fs::remove_dir_durable(scratch)?)
    }

    /// Why a source cannot be restored into scratch.
    async fn unfit(
        &self,
        vault: &Vault,
        record: &SourceRecord,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, Error> {
        let _ = cx;
        if let Err(error) = vault.source(&record.source) {
            let remedy = "register the source in the vault of this program";
            return Ok(vec![Refusal::new(error.to_string(), remedy)]);
        }
        match self.of(record) {
            Scratch::Folder => Ok(Vec::new()),
            #[cfg(feature = "postgres")]
            Scratch::Database(server) => {
                let unknown = self.options.unknown_space;
                let operation = cx.operation();
                crate::source::postgres::scratch::unfit(vault, record, server, operation, unknown)
                    .await
            }
            #[cfg(feature = "qdrant")]
            Scratch::Collection(server) => {
                crate::source::qdrant::scratch::unfit(vault, record, server, cx.operation()).await
            }
            Scratch::Nowhere(server) => Ok(vec![Refusal::new(
                format!("`{}` cannot be restored into a folder", record.source),
                format!(
                    "name a {server} server for scratch in the options of the drill, better not the \
                     one in production"
                ),
            )]),
        }
    }
}

fn nowhere(record: &SourceRecord) -> Error {
    let message = format!("`{}` cannot be restored into a folder", record.source);
    Error::new(ErrorKind::InvalidInput, message)
}

fn of(record: &SourceRecord, backup: BackupId, problem: &str) -> String {
    format!("`{}` of backup {backup}: {problem}", record.source)
}

/// Restores one source, and notes what is not as the manifest says. What says nothing about the
/// backup (a full disk, a store that does not answer) is an error.
async fn rehearse(
    vault: &Vault,
    manifest: &Manifest,
    record: &SourceRecord,
    place: &Path,
    cancel: &CancellationToken,
    found: &mut Verification,
) -> Result<(), Error> {
    let source: Arc<dyn Source> = match &*record.kind {
        // A script, which concerns the whole server: only its bytes can be looked at.
        "postgres_globals" => Arc::new(File::new(place)),
        _ => vault.source(&record.source)?,
    };
    let read = |unit| chunk::read(vault.repository.clone(), unit, cancel.clone());
    let mut problems = Vec::new();
    for unit in &record.units {
        let name = Unit { name: unit.name.clone() };
        let restored = source.restore(&name, read(unit.clone()), place).await;
        ops_core::fault::point("restored into scratch");
        match restored {
            Ok(()) => problems.extend(source.compare(&name, read(unit.clone()), place).await?),
            Err(error) if says_damaged(&error) => problems.push(error.to_string()),
            Err(error) => return Err(error),
        }
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
    }
    if problems.is_empty() {
        match source.smoke(place).await {
            Ok(()) => {}
            Err(error) if says_damaged(&error) => problems.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    if problems.is_empty() {
        // What an older program wrote has no rows to compare with.
        for unit in record.units.iter().filter(|unit| !unit.rows.is_empty()) {
            let rows = source.rows(place).await?;
            found.rows = rows.values().fold(found.rows, |sum, rows| sum.saturating_add(*rows));
            if rows != unit.rows {
                problems.push(format!("rows are {rows:?}, the manifest says {:?}", unit.rows));
            }
        }
    }
    found.problems.extend(problems.iter().map(|problem| of(record, manifest.id, problem)));
    Ok(())
}

/// What may go well the next time says nothing about the backup.
fn says_damaged(error: &Error) -> bool {
    error.class() == Class::Permanent
        && matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Source | ErrorKind::NotFound)
}

impl DrillStep {
    /// Why it cannot be done now.
    async fn reasons(&self, vault: &Vault, cx: &StepContext) -> Result<Vec<Refusal>, StepError> {
        let manifest = vault.show(self.set.as_ref(), self.drill).await?;
        let mut reasons = Vec::new();
        for record in &manifest.sources {
            reasons.extend(self.unfit(vault, record, cx).await?);
        }
        let here = manifest.sources.iter().filter(|r| matches!(self.of(r), Scratch::Folder));
        let need: u64 = here
            .flat_map(|record| &record.units)
            .map(|unit| unit.plain_size)
            .fold(0, u64::saturating_add);
        let state = cx.context().state_dir();
        let free = ops_core::fs::space(state)?.available;
        if free < need {
            reasons.push(Refusal::new(
                format!("the drill needs {need} bytes in `{}`, {free} are free", state.display()),
                "make room there, or use a state directory on a larger file system",
            ));
        }
        Ok(reasons)
    }
}

impl Step for DrillStep {
    const FAMILY: &'static str = "backup";
    type Env = Vault;

    fn name(&self) -> &'static str {
        "drill"
    }

    fn effect(&self) -> Effect {
        let Self { drill, set, .. } = self;
        Effect::retained(format!(
            "restore backup {drill} of set `{set}` into scratch, compare it, attest the result"
        ))
    }

    async fn check(&self, vault: &Vault, cx: &StepContext) -> Result<Vec<Refusal>, StepError> {
        let (step, vault, own) = (self.clone(), vault.clone(), cx.clone());
        asked(cx, async move { step.reasons(&vault, &own).await }).await
    }

    async fn run(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        // Once, so that a second run writes the same attestation.
        let key = format!("drill of {}", self.drill);
        let at = cx.observe(&key, async { Ok(cx.context().clock().now()) }).await?;
        let (step, vault, scratch) = (self.clone(), vault.clone(), Self::scratch(cx));
        let (own, runtime) = (cx.clone(), tokio::runtime::Handle::current());
        cx.blocking(move |cancel| runtime.block_on(step.make(&vault, (&scratch, &own, at), cancel)))
            .await
    }

    async fn undo(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        Ok(self.sweep(vault, &Self::scratch(cx), cx).await?)
    }
}
