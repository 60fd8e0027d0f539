//! Pruning: backups are taken out by tombstones, which can be taken back; after the commit, what
//! no listed backup names is deleted.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use object_store::ObjectMeta;
use ops_core::{Effect, Plan, Refusal, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, SetName};
use crate::repository::{Repository, chunk_owner, moment};
use crate::retention::{self, Candidate, Policy};
use crate::step::VaultStep;
use crate::vault::Vault;

/// A step of a prune.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "prune")]
#[non_exhaustive]
pub enum PruneStep {
    /// Takes backups out of the vault, with everything of them still there.
    Bury {
        /// The set that they belong to.
        set: SetName,
        /// Listed backups that no rule keeps.
        backups: Vec<BackupId>,
        /// Backups that were never finished, and whose last chunk is older than the grace.
        abandoned: Vec<BackupId>,
    },
    /// Deletes everything of the backups that were taken out, by this operation or another.
    Sweep,
}

/// What lies in the store of one backup's chunks.
#[derive(Debug, Clone, Copy, Default)]
struct Uploaded {
    objects: usize,
    bytes: u64,
    last: Option<Timestamp>,
}

fn add_upload(uploads: &mut BTreeMap<BackupId, Uploaded>, object: &ObjectMeta) {
    if let Some(id) = chunk_owner(object.location.as_ref()) {
        let upload = uploads.entry(id).or_default();
        upload.objects += 1;
        upload.bytes += object.size;
        upload.last = upload.last.max(Some(moment(object)));
    }
}

fn is_over(since: Timestamp, grace: Duration, now: Timestamp) -> bool {
    let grace = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
    now.duration_since(since) >= grace
}

impl Vault {
    /// A prune of a set as a plan, whose facts say for each backup whether it is kept, and why.
    ///
    /// What killed backups of any set left, and nobody recovered, is taken out with it once the
    /// vault's [grace](crate::VaultBuilder::grace) has passed since its last upload. The newest
    /// backup and the newest verified one are always kept.
    ///
    /// The plan is empty if there is nothing to delete. What it deletes is deleted after the commit,
    /// within the context's `finish_budget`; what does not fit into that, `recover` or the next
    /// prune goes on with, so give a large vault a large one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a policy without a rule; [`ErrorKind::NotFound`] if the set
    /// has no backup; [`ErrorKind::Store`] if the store cannot be read.
    pub async fn plan_prune(
        &self,
        set: &str,
        policy: Policy,
        now: Timestamp,
    ) -> Result<Plan, Error> {
        let set: SetName = set.parse()?;
        if policy.is_empty() {
            let message = "the policy keeps nothing".to_owned();
            return Err(Error::new(ErrorKind::InvalidInput, message)
                .remedy("give at least one of last, daily, weekly, monthly, yearly"));
        }
        let repository = &self.repository;
        let uploads = repository.fold("chunks", BTreeMap::new, add_upload).await?;
        // After the chunks, so that what is finished meanwhile is listed here.
        let all = repository.all().await?;
        let buried = repository.buried().await?;
        let Some(listed) = all.get(&set).filter(|listed| !listed.is_empty()) else {
            let message = format!("set `{set}` has no backup");
            return Err(Error::new(ErrorKind::NotFound, message).remedy("is its name right?"));
        };
        let proven = newest_verified(repository, listed).await?;
        let candidate = |id: &BackupId| Candidate { id: *id, verified: Some(*id) == proven };
        let candidates: Vec<_> = listed.keys().map(candidate).collect();
        let mut plan = Plan::new("prune").fact("set", &set);
        let (mut backups, mut freed) = (Vec::new(), 0);
        for verdict in retention::plan(&candidates, policy, now) {
            let what = if verdict.keep { "keep" } else { "delete" };
            plan = plan.fact(format!("{what} {}", verdict.id), &verdict.reason);
            if !verdict.keep {
                backups.push(verdict.id);
                freed += uploads.get(&verdict.id).map_or(0, |upload| upload.bytes);
            }
        }
        let finished: HashSet<_> = all.values().flat_map(BTreeMap::keys).collect();
        let mut abandoned = Vec::new();
        let mut to_sweep = !backups.is_empty();
        for (id, upload) in uploads.iter().filter(|(id, _)| !finished.contains(id)) {
            let Uploaded { objects, bytes, last } = *upload;
            let last = last.unwrap_or(Timestamp::MAX);
            if buried.contains_key(id) {
                to_sweep = true;
                freed += bytes;
                plan = plan.fact(format!("delete {id}"), "taken out before, not yet swept");
            } else if is_over(last, self.grace, now) {
                let why = format!("never finished, {objects} objects, the last of {last}");
                plan = plan.fact(format!("delete {id}"), why);
                abandoned.push(*id);
                freed += bytes;
            }
        }
        to_sweep |= buried.values().any(|since| is_over(*since, self.grace, now));
        if let Some(folder) = &self.folder {
            let half = staged(folder, self.grace).await?;
            if !half.is_empty() {
                to_sweep = true;
                plan = plan.fact("half-written files", half.len());
            }
        }
        if !backups.is_empty() || !abandoned.is_empty() {
            to_sweep = true;
            let bury = PruneStep::Bury { set, backups, abandoned };
            plan = plan.change(self, &VaultStep::Prune(bury))?;
        }
        if to_sweep {
            plan = plan.fact("stored bytes freed", freed);
            plan = plan.finisher(self, &VaultStep::Prune(PruneStep::Sweep))?;
        }
        Ok(plan)
    }

    /// Deletes what the backups that were taken out have left.
    async fn sweep(&self) -> Result<(), Error> {
        let repository = &self.repository;
        let now = repository.now().await?;
        let buried = repository.buried().await?;
        let named = named_chunks(repository, &buried).await?;
        let below_sets = |keys: &mut Vec<String>, object: &ObjectMeta| {
            let id = object.location.parts().nth(2).and_then(|id| id.as_ref().parse().ok());
            if id.is_some_and(|id: BackupId| buried.contains_key(&id)) {
                keys.push(object.location.to_string());
            }
        };
        let objects = repository.fold("sets", Vec::new, below_sets).await?;
        let (manifests, attestations): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|key| key.ends_with("/manifest.json"));
        repository.delete_all(manifests).await?;
        ops_core::fault::point("deleted manifests");
        let chunks = |keys: &mut Vec<String>, object: &ObjectMeta| {
            let key = object.location.as_ref();
            if chunk_owner(key).is_some_and(|id| buried.contains_key(&id)) && !named.contains(key) {
                keys.push(key.to_owned());
            }
        };
        repository.delete_all(repository.fold("chunks", Vec::new, chunks).await?).await?;
        ops_core::fault::point("deleted chunks");
        repository.delete_all(attestations).await?;
        if let Some(folder) = &self.folder {
            for file in staged(folder, self.grace).await? {
                ops_core::fs::remove_file_durable(&file)?;
            }
        }
        // The tombstone goes last, and late: it hides what may still arrive.
        for (id, since) in &buried {
            let shared = named.iter().any(|key| chunk_owner(key) == Some(*id));
            if is_over(*since, self.grace, now) && !shared {
                repository.forget_tombstone(*id).await?;
                ops_core::fault::point("removed a tombstone");
            }
        }
        Ok(())
    }
}

async fn newest_verified(
    repository: &Repository,
    listed: &BTreeMap<BackupId, Vec<String>>,
) -> Result<Option<BackupId>, Error> {
    for (id, attestations) in listed.iter().rev() {
        let newest = repository.newest_attestation(attestations, |_| true).await?;
        if newest.is_some_and(|found| found.whole) {
            return Ok(Some(*id));
        }
    }
    Ok(None)
}

/// The chunks of these backups that a listed backup names. An unreadable manifest may name any, so
/// nothing may be deleted before a person has looked at it.
async fn named_chunks(
    repository: &Repository,
    of: &BTreeMap<BackupId, Timestamp>,
) -> Result<HashSet<String>, Error> {
    let mut named = HashSet::new();
    for (set, backups) in repository.all().await? {
        for id in backups.into_keys() {
            let manifest = match repository.manifest(&set, id).await {
                Ok(manifest) => manifest,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.with("set", set).with("backup", id)),
            };
            let chunks = manifest.units().flat_map(|unit| &unit.chunks);
            let ours = chunks.filter(|chunk| {
                chunk_owner(&chunk.key).is_some_and(|owner| of.contains_key(&owner))
            });
            named.extend(ours.map(|chunk| chunk.key.clone()));
        }
    }
    Ok(named)
}

/// The files that `object_store` was writing when its process died: `<name>#<number>`. It does not
/// list them.
async fn staged(folder: &Path, grace: Duration) -> Result<Vec<PathBuf>, Error> {
    let folder = folder.to_owned();
    let walk = move || staged_below(&folder, grace);
    tokio::task::spawn_blocking(walk).await.map_err(Error::panicked)
}

fn staged_below(folder: &Path, grace: Duration) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(folder) {
        // What vanishes meanwhile is somebody's finished upload.
        let Ok(entry) = entry else { continue };
        let name = entry.file_name().to_string_lossy();
        let half = name.rsplit_once('#').is_some_and(|(_, number)| {
            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
        });
        if !half || !entry.file_type().is_file() {
            continue;
        }
        let age = entry.metadata().ok().and_then(|meta| meta.modified().ok()?.elapsed().ok());
        if age.is_some_and(|age| age >= grace) {
            files.push(entry.into_path());
        }
    }
    files
}

impl PruneStep {
    async fn reasons(&self, vault: &Vault) -> Result<Vec<Refusal>, Error> {
        let Self::Bury { set, backups, .. } = self else {
            return Ok(Vec::new());
        };
        let listed = vault.repository.list(set).await?;
        if backups.is_empty() || listed.iter().any(|id| !backups.contains(id)) {
            return Ok(Vec::new());
        }
        let reason = format!("the prune would leave set `{set}` without a backup");
        Ok(vec![Refusal::new(reason, "the set has changed since the plan; plan it again")])
    }

    async fn bury(&self, vault: &Vault, operation: ops_core::OperationId) -> Result<(), Error> {
        let Self::Bury { backups, abandoned, .. } = self else { return Ok(()) };
        if let Some(refusal) = self.reasons(vault).await?.pop() {
            return Err(Error::new(ErrorKind::InvalidInput, refusal.reason).remedy(refusal.remedy));
        }
        let repository = &vault.repository;
        // By the store's clock: the plan's may be wrong, and a backup may have gone on since.
        let now = repository.now().await?;
        let uploads = repository.fold("chunks", BTreeMap::new, add_upload).await?;
        let all = repository.all().await?;
        let finished: HashSet<_> = all.values().flat_map(BTreeMap::keys).collect();
        let silent = |id: &&BackupId| {
            let last = uploads.get(id).and_then(|upload| upload.last);
            !finished.contains(id) && last.is_some_and(|last| is_over(last, vault.grace, now))
        };
        for id in backups.iter().chain(abandoned.iter().filter(silent)) {
            repository.bury(*id, operation).await?;
            ops_core::fault::point("buried a backup");
        }
        Ok(())
    }
}

impl Step for PruneStep {
    const FAMILY: &'static str = "backup";
    type Env = Vault;

    fn name(&self) -> &'static str {
        match self {
            Self::Bury { .. } => "bury",
            Self::Sweep => "sweep",
        }
    }

    fn effect(&self) -> Effect {
        let Self::Bury { set, backups, abandoned } = self else {
            return Effect::destroys("delete everything of the backups that were taken out");
        };
        let mut what = Vec::new();
        if !backups.is_empty() {
            what.push(format!("take {} backups out of set `{set}`", backups.len()));
        }
        if !abandoned.is_empty() {
            what.push(format!("give {} unfinished backups up", abandoned.len()));
        }
        Effect::changes(what.join(", "))
    }

    async fn check(&self, vault: &Vault, _: &StepContext) -> Result<Vec<Refusal>, StepError> {
        let mut reasons = self.reasons(vault).await?;
        if *self == Self::Sweep
            && let Err(error) = named_chunks(&vault.repository, &BTreeMap::new()).await
        {
            reasons.push(Refusal::new(
                format!("what is still needed cannot be told: {error}"),
                "repair or remove that manifest; nothing is deleted before",
            ));
        }
        Ok(reasons)
    }

    async fn run(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Bury { .. } => {
                let (step, vault, operation) = (self.clone(), vault.clone(), cx.operation());
                let runtime = tokio::runtime::Handle::current();
                // On a thread that the engine waits for: an undo must not meet a late tombstone.
                cx.blocking(move |_| runtime.block_on(step.bury(&vault, operation))).await
            }
            Self::Sweep => Ok(vault.sweep().await?),
        }
    }

    async fn undo(&self, vault: &Vault, cx: &StepContext) -> Result<(), StepError> {
        let Self::Bury { backups, abandoned, .. } = self else { return Ok(()) };
        let all: BTreeSet<_> = backups.iter().chain(abandoned).collect();
        for id in all {
            vault.repository.unbury(*id, cx.operation()).await?;
        }
        Ok(())
    }
}
