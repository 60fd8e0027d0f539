//! The steps that restore: into a new place beside the target, then the swap.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ops_core::{
    Effect, OperationId, Plan, Progress, Refusal, Resource, ResourceId, Step, StepContext,
    StepError,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::allowance::{self, allowances};
use crate::asked::asked;
use crate::chunk;
use crate::component;
use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, Manifest, SetName, SourceRecord, UnitRecord};
use crate::source::{Contents, Directory, Source, SourceSpec, Unit, beside};
use crate::swap::{Before, Swap};
use crate::vault::Vault;
use crate::verify::Depth;
use crate::watch::Watch;

/// More names than these a plan does not tell.
const MAX_NAMES: usize = 100;

/// Where a restore writes to: a database file or a directory, which need not exist.
///
/// It is a resource of its own, so restores of one place exclude each other whatever vault they
/// read. Programs that write to it must be stopped: the operation cannot see them.
#[derive(Debug, Clone)]
pub struct Place {
    vault: Vault,
    target: SourceSpec,
    path: PathBuf,
}

/// What a restore takes, and what it may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Which source of the backup; needed if it has several. Default: the only one.
    pub component: Option<SourceSpec>,
    /// Whether a backup of another source may replace what is there. Default: no.
    pub other_source: bool,
    /// Whether a backup of another environment may be restored. Default: no.
    pub other_environment: bool,
    /// Of a directory, only what these globs match, or what lies in a folder that they match; with
    /// the folders that lead there. A glob without a `/` is of a name at any depth. The target must
    /// not exist. Default: everything.
    pub only: Vec<String>,
}

allowances!(RestoreOptions);

impl RestoreOptions {
    /// Restores what this glob matches, or that of another call, instead of everything.
    pub fn only(mut self, glob: impl Into<String>) -> Self {
        self.only.push(glob.into());
        self
    }
}

/// A step of a restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
#[non_exhaustive]
pub enum RestoreStep {
    /// Verifies the backup, restores it beside the target, and checks it there.
    Stage {
        /// The backup's set.
        set: SetName,
        /// The backup.
        backup: BackupId,
        /// Which of its sources.
        component: SourceSpec,
        /// Whether a backup of another environment may be restored.
        other_environment: bool,
        /// Of a directory, what is restored, if not everything.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        only: Vec<String>,
    },
    /// Swaps what was restored with what is there.
    Swap {
        /// The target.
        path: PathBuf,
        /// Whether something is there.
        replaces: bool,
    },
    /// Puts what an earlier restore kept back in its place.
    Return {
        /// The target, for whoever recovers.
        target: SourceSpec,
        /// The restore that kept it.
        restore: OperationId,
    },
}

impl Place {
    pub(crate) fn new(vault: Vault, target: &SourceSpec) -> Result<Self, Error> {
        let (SourceSpec::Sqlite { path }
        | SourceSpec::Directory { path, .. }
        | SourceSpec::File { path }) = target
        else {
            return Err(Error::new(ErrorKind::InvalidInput, format!("`{target}` has no path"))
                .remedy("restore into a `sqlite`, `directory` or `file` target"));
        };
        let refuse =
            |why: &str| Error::new(ErrorKind::InvalidInput, format!("`{}` {why}", path.display()));
        // The folder's real path, so that a place has one name only.
        let name = path.file_name().ok_or_else(|| refuse("has no name"))?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent = parent.canonicalize().map_err(|e| Error::io("find", parent, e))?;
        let path = parent.join(name);
        if path.is_symlink() {
            return Err(refuse("is a symbolic link").remedy("name what it points to"));
        }
        Ok(Self { vault, target: target.clone(), path })
    }

    /// Where the operation keeps what it replaced.
    pub fn old(&self, operation: OperationId) -> PathBuf {
        beside(&self.path, &format!(".before-{operation}"))
    }

    fn staged(&self, operation: OperationId) -> PathBuf {
        beside(&self.path, &format!(".restore-{operation}"))
    }

    fn swap(&self, cx: &StepContext) -> Swap {
        Swap {
            target: self.path.clone(),
            staged: self.staged(cx.operation()),
            old: self.old(cx.operation()),
            sides: self.is_database(),
        }
    }

    fn is_database(&self) -> bool {
        matches!(self.target, SourceSpec::Sqlite { .. })
    }

    /// The exchange with what an earlier restore kept.
    fn exchange(&self, restore: OperationId, cx: &StepContext) -> Swap {
        Swap {
            target: self.path.clone(),
            staged: self.old(restore),
            old: self.old(cx.operation()),
            sides: self.is_database(),
        }
    }

    pub(crate) fn plan_undo(&self, restore: OperationId) -> Result<Plan, Error> {
        let step = RestoreStep::Return { target: self.target.clone(), restore };
        Ok(Plan::new("undo_restore")
            .fact("restore", restore)
            .fact("target", self.path.display())
            .fact("kept", self.old(restore).display())
            .change(self, &step)?)
    }

    pub(crate) async fn plan(
        &self,
        manifest: &Manifest,
        options: &RestoreOptions,
    ) -> Result<Plan, Error> {
        let component = match (&options.component, manifest.sources.as_slice()) {
            (Some(wanted), all) => all.iter().find(|record| record.source.is_same(wanted)),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let component = component.ok_or_else(|| {
            let all: Vec<_> = manifest.sources.iter().map(|s| s.source.to_string()).collect();
            Error::new(ErrorKind::NotFound, format!("backup {}: which source?", manifest.id))
                .remedy(format!("choose one of its sources: {}", all.join(", ")))
        })?;
        let replaces = self.path.symlink_metadata().is_ok();
        let target = self.vault.source(&self.target)?;
        let mut reasons = Vec::new();
        if target.kind() != component.kind {
            reasons.push(Refusal::new(
                format!("`{}` is a backup of kind `{}`", component.source, component.kind),
                format!("the target is of kind `{}`; name another", target.kind()),
            ));
        }
        if replaces && !options.other_source && self.path.to_str() != Some(&component.fingerprint) {
            reasons.push(Refusal::new(
                format!(
                    "the backup is of `{}`, not of `{}`",
                    component.fingerprint,
                    self.path.display()
                ),
                "restore to a path where nothing is, or allow another source in the options",
            ));
        }
        if !reasons.is_empty() {
            let message = "the backup does not fit the target";
            return Err(Error::new(ErrorKind::InvalidInput, message).refusals(reasons));
        }
        let stage = RestoreStep::Stage {
            set: manifest.set.clone(),
            backup: manifest.id,
            component: component.source.clone(),
            other_environment: options.other_environment,
            only: options.only.clone(),
        };
        let mut plan = Plan::new("restore")
            .fact("backup", manifest.id)
            .fact("made at", manifest.created_at)
            .fact("target", self.path.display());
        for (name, fact) in self.told_of_part(component, replaces, options).await? {
            plan = plan.fact(name, fact);
        }
        let plan = plan
            .change(self, &stage)?
            .change(self, &RestoreStep::Swap { path: self.path.clone(), replaces })?;
        Ok(plan)
    }

    /// What a plan tells of a part, if only one is restored.
    async fn told_of_part(
        &self,
        record: &SourceRecord,
        replaces: bool,
        options: &RestoreOptions,
    ) -> Result<Vec<(&'static str, String)>, Error> {
        if options.only.is_empty() {
            return Ok(Vec::new());
        }
        let refuse = |message: String, remedy: &str| {
            Err(Error::new(ErrorKind::InvalidInput, message).remedy(remedy))
        };
        let (SourceSpec::Directory { .. }, [unit]) = (&self.target, &*record.units) else {
            let message = format!("of `{}` no part can be chosen", record.source);
            return refuse(message, "only directories have parts; restore it whole");
        };
        if replaces {
            let message = format!("a part of a backup does not replace `{}`", self.path.display());
            return refuse(message, "restore it to a path where nothing is, and copy from there");
        }
        let part = self.part(unit, &options.only).await?;
        let shown = |names: &mut dyn Iterator<Item = &PathBuf>, all: usize| {
            let shown: Vec<_> =
                names.take(MAX_NAMES).map(|name| name.display().to_string()).collect();
            let more = all.saturating_sub(MAX_NAMES);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            shown.join(", ") + &more
        };
        if part.names.is_empty() {
            let globs = options.only.join("`, `");
            let message = format!("the backup has nothing that `{globs}` matches");
            let top = shown(&mut part.top.iter(), part.top.len());
            return Err(Error::new(ErrorKind::NotFound, message)
                .remedy(format!("at its top it has: {top}; list all with `*`")));
        }
        Ok(vec![
            ("files", part.names.len().to_string()),
            ("bytes", part.bytes.to_string()),
            ("comes", shown(&mut part.names.iter(), part.names.len())),
        ])
    }

    /// How many bytes a restore writes. Of a part it is looked only where the whole has no room.
    async fn needs(
        &self,
        manifest: &Manifest,
        component: &SourceSpec,
        only: &[String],
        free: u64,
    ) -> Result<u64, Error> {
        let mut records = manifest.sources.iter();
        let Some(record) = records.find(|record| record.source == *component) else {
            return Ok(0);
        };
        let whole = record.units.iter().map(|unit| unit.plain_size).fold(0, u64::saturating_add);
        match (only, &*record.units) {
            ([_, ..], [unit]) if whole > free => Ok(self.part(unit, only).await?.bytes),
            _ => Ok(whole),
        }
    }

    /// What a part of a directory consists of.
    async fn part(&self, unit: &UnitRecord, only: &[String]) -> Result<Contents, Error> {
        let never = CancellationToken::new();
        let bytes = chunk::read(self.vault.repository.clone(), unit.clone(), never);
        Directory::new(&self.path).restoring(only).contents(bytes).await
    }

    async fn stage(
        &self,
        (set, backup): (&SetName, BackupId),
        (component, only): (&SourceSpec, &[String]),
        staged: &Path,
        progress: &Arc<dyn Progress>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        discard(staged)?;
        let manifest = self.vault.repository.manifest(set, backup).await?;
        let size = manifest.sources.iter().find(|record| record.source == *component);
        let size = size.map_or(0, SourceRecord::plain_size);
        let watched = |what: &str| {
            let watch = Watch::new(progress, format!("{what} {}", self.path.display()), size);
            self.vault.repository.watched(watch)
        };
        let verifying = watched("verifying the backup for");
        let record =
            component::verified(&verifying, (set, backup), component, Depth::Full, cancel).await?;
        let repository = watched("restoring");
        let target: Arc<dyn Source> = if only.is_empty() {
            self.vault.source(&self.target)?
        } else {
            Arc::new(Directory::new(&self.path).restoring(only))
        };
        for unit in record.units {
            let name = Unit { name: unit.name.clone() };
            let bytes = chunk::read(repository.clone(), unit, cancel.clone());
            target.restore(&name, bytes, staged).await?;
            ops_core::fault::point("restored a unit");
        }
        target.smoke(staged).await?;
        if let (SourceSpec::Sqlite { .. } | SourceSpec::File { .. }, Ok(old)) =
            (&self.target, self.path.metadata())
        {
            // A tar brings modes and owners with it, a database takes those of the one it replaces.
            let failed = |e| Error::io("set mode and owner of", staged, e);
            let new = staged.metadata().map_err(failed)?;
            if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
                std::os::unix::fs::lchown(staged, Some(old.uid()), Some(old.gid()))
                    .map_err(failed)?;
            }
            std::fs::set_permissions(staged, old.permissions()).map_err(failed)?;
        }
        Ok(ops_core::fs::sync_tree(staged)?)
    }
}

/// Removes what was staged, if anything was.
fn discard(staged: &Path) -> Result<(), Error> {
    match staged.symlink_metadata() {
        Ok(meta) if meta.is_dir() => Ok(ops_core::fs::remove_dir_durable(staged)?),
        _ => {
            for suffix in ["-wal", "-shm", "-journal", ""] {
                ops_core::fs::remove_file_durable(&beside(staged, suffix))?;
            }
            Ok(())
        }
    }
}

impl Resource for Place {
    type Step = RestoreStep;

    fn id(&self) -> ResourceId {
        ResourceId::new("place", self.path.display())
    }
}

impl RestoreStep {
    /// Why it cannot be done now.
    async fn reasons(&self, place: &Place, cx: &StepContext) -> Result<Vec<Refusal>, StepError> {
        let mut reasons = Vec::new();
        match self {
            Self::Stage { set, backup, component, other_environment, only } => {
                let manifest = place.vault.repository.manifest(set, *backup).await?;
                let here = cx.context().environment();
                reasons.extend(allowance::environment(&manifest, here, *other_environment));
                let free = ops_core::fs::space(&place.path)?.available;
                let need = place.needs(&manifest, component, only, free).await?;
                if free < need {
                    reasons.push(Refusal::new(
                        format!("the restore needs {need} bytes, {free} are free"),
                        "make room on the target's file system",
                    ));
                }
            }
            Self::Swap { path, replaces } => {
                let there = path.symlink_metadata().is_ok();
                if there != *replaces {
                    reasons.push(Refusal::new(
                        format!("`{}` appeared or vanished since the plan", path.display()),
                        "plan the restore again",
                    ));
                }
                if !there && place.is_database() {
                    for side in crate::swap::sidecars(path) {
                        reasons.push(Refusal::new(
                            format!("`{}` is there without its database", side.display()),
                            "move it away: it would be mixed with the restored database",
                        ));
                    }
                }
            }
            Self::Return { restore, .. } => {
                let kept = place.old(*restore);
                if kept.symlink_metadata().is_err() {
                    reasons.push(Refusal::new(
                        format!(
                            "what restore {restore} kept is gone: there is no `{}`",
                            kept.display()
                        ),
                        "restore a backup of that time instead",
                    ));
                }
                if place.path.symlink_metadata().is_err() {
                    reasons.push(Refusal::new(
                        format!("there is no `{}` to exchange with", place.path.display()),
                        format!("rename `{}` by hand", kept.display()),
                    ));
                }
            }
        }
        Ok(reasons)
    }
}

impl Step for RestoreStep {
    const FAMILY: &'static str = "restore";
    type Env = Place;

    fn name(&self) -> &'static str {
        match self {
            Self::Stage { .. } => "stage",
            Self::Swap { .. } => "swap",
            Self::Return { .. } => "return",
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Stage { set, backup, component, only, .. } => {
                let part = match &**only {
                    [] => String::new(),
                    globs => format!(" what matches `{}` of", globs.join("`, `")),
                };
                Effect::changes(format!(
                    "verify backup {backup} of set `{set}` and restore{part} `{component}` beside the target"
                ))
            }
            Self::Swap { path, replaces: false } => {
                Effect::changes(format!("put what was restored at `{}`", path.display()))
            }
            Self::Swap { path, .. } => Effect::destroys(format!(
                "replace `{0}` with what was restored (the old is kept as `{0}.before-<operation id>`)",
                path.display()
            )),
            Self::Return { target, restore } => Effect::destroys(format!(
                "put what restore {restore} kept of `{target}` back in its place (what is there now is \
                 kept as `.before-<operation id>`)"
            )),
        }
    }

    async fn check(&self, place: &Place, cx: &StepContext) -> Result<Vec<Refusal>, StepError> {
        let (step, place, own) = (self.clone(), place.clone(), cx.clone());
        asked(cx, async move { step.reasons(&place, &own).await }).await
    }

    async fn run(&self, place: &Place, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Stage { set, backup, component, only, .. } => {
                let (set, backup, component) = (set.clone(), *backup, component.clone());
                let only = only.clone();
                let (place, staged) = (place.clone(), place.staged(cx.operation()));
                let progress = cx.context().progress().clone();
                let runtime = tokio::runtime::Handle::current();
                // On a thread that the engine waits for: an undo removes what this still writes.
                cx.blocking(move |cancel| {
                    let of = (&component, &*only);
                    runtime.block_on(place.stage((&set, backup), of, &staged, &progress, cancel))
                })
                .await
            }
            Self::Swap { replaces, .. } => {
                let swap = place.swap(cx);
                let replaces = *replaces;
                let look = swap.clone();
                let before = cx.observe("swap", async { Ok(look.look()?) }).await?;
                cx.blocking(move |_| swap.forward(&before, replaces)).await
            }
            Self::Return { restore, .. } => {
                let swap = place.exchange(*restore, cx);
                let look = swap.clone();
                let before = cx.observe("return", async { Ok(look.look()?) }).await?;
                cx.blocking(move |_| swap.back_in_place(&before)).await
            }
        }
    }

    async fn undo(&self, place: &Place, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Stage { .. } => {
                let staged = place.staged(cx.operation());
                cx.blocking(move |_| discard(&staged)).await
            }
            Self::Swap { .. } => {
                let swap = place.swap(cx);
                let Some(before) = cx.noted::<Before>("swap")? else { return Ok(()) };
                cx.blocking(move |_| swap.back(&before)).await
            }
            Self::Return { restore, .. } => {
                let swap = place.exchange(*restore, cx);
                let Some(before) = cx.noted::<Before>("return")? else { return Ok(()) };
                cx.blocking(move |_| swap.kept_again(&before)).await
            }
        }
    }
}
