//! Pruning: backups are taken out by tombstones, which can be taken back; after the commit, what
//! no listed backup names is deleted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use object_store::ObjectMeta;
use ops_core::{Classify as _, Effect, Plan, Refusal, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, SetName};
use crate::repository::{Repository, Sets, chunk_owner, moment};
use crate::retention::{self, Candidate, Policy};
use crate::step::VaultStep;
use crate::undeleted::Undeleted;
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

type Uploads = BTreeMap<BackupId, Uploaded>;

/// What the store's clock may tell of two objects in the wrong order.
const MARGIN: Duration = Duration::from_mins(1);
/// How often it is marked what is needed, when another prune deletes at the same time.
const MARKS: usize = 8;

fn add_upload(uploads: &mut Uploads, object: &ObjectMeta) {
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
    /// prune goes on with, so give a large vault a large one. What the store does not let go, for its
    /// objects are locked or its credentials may not delete, is named in the report's notes and stays
    /// hidden; the next prune tries again.
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
        let seen = Seen::look(repository).await?;
        let Seen { uploads, all, buried, .. } = &seen;
        let Some(listed) = all.get(&set).filter(|listed| !listed.is_empty()) else {
            let message = format!("set `{set}` has no backup");
            return Err(Error::new(ErrorKind::NotFound, message).remedy("is its name right?"));
        };
        let proven = newest_verified(repository, listed).await?;
        let candidate = |id: &BackupId| Candidate { id: *id, verified: Some(*id) == proven };
        let candidates: Vec<_> = listed.keys().map(candidate).collect();
        let mut plan = Plan::new("prune").fact("set", &set);
        let mut backups = Vec::new();
        for verdict in retention::plan(&candidates, policy, now) {
            let what = if verdict.keep { "keep" } else { "delete" };
            plan = plan.fact(format!("{what} {}", verdict.id), &verdict.reason);
            if !verdict.keep {
                backups.push(verdict.id);
            }
        }
        let mut abandoned = Vec::new();
        for (id, last) in seen.unfinished() {
            if is_over(last, self.grace, now) {
                let objects = uploads.get(&id).map_or(0, |upload| upload.objects);
                let why = format!("never finished, {objects} objects, the last of {last}");
                plan = plan.fact(format!("delete {id}"), why);
                abandoned.push(id);
            }
        }
        let gone: BTreeSet<_> = buried.keys().chain(&backups).chain(&abandoned).copied().collect();
        // A manifest that cannot be read is a reason to refuse, which the check of the sweep gives.
        let (free, shared) = match free(repository, uploads, &gone).await {
            Err(error) if error.kind() == ErrorKind::Store => return Err(error),
            seen => seen.unwrap_or_default(),
        };
        let freed: u64 = free.values().sum();
        let mut to_sweep = !free.is_empty() || buried.keys().any(|id| seen.remains.contains(id));
        for id in buried.keys().filter(|id| free.contains_key(id)) {
            plan = plan.fact(format!("delete {id}"), "taken out before, not yet swept");
        }
        to_sweep |= buried
            .iter()
            .any(|(id, since)| is_over(*since, self.grace, now) && !shared.contains(id));
        // Of a backup that ended, and was killed before it said so.
        to_sweep |= seen.begun.iter().any(|(id, since)| {
            is_over(*since, self.grace, now) && all.values().any(|of| of.contains_key(id))
        });
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
    ///
    /// A backup that runs may hold chunks of any that was listed when it began. So one that was
    /// taken out after that keeps its manifest, and what it names stays, until no such backup runs.
    /// The order matters: manifests go first; then who runs is asked again, for whoever has read
    /// one of them has begun before; then it is marked what is needed; then chunks go.
    ///
    /// Answers what the store did not let go. As long as there is such a thing, the tombstones stay.
    async fn sweep(&self) -> Result<Undeleted, Error> {
        let repository = &self.repository;
        let now = repository.now().await?;
        let begun = repository.begun().await?;
        let (buried, all) = (repository.buried().await?, repository.all().await?);
        let listed = |id: &BackupId| all.values().any(|backups| backups.contains_key(id));
        let running = |id: &&BackupId| !buried.contains_key(id) && !listed(id);
        let oldest = begun.iter().filter(|(id, _)| running(id)).map(|(_, began)| *began).min();
        let margin = SignedDuration::try_from(MARGIN.min(self.grace)).unwrap_or_default();
        let before = |since: Timestamp| {
            oldest.is_none_or(|oldest| since.saturating_add(margin).is_ok_and(|t| t < oldest))
        };
        let ripe: BTreeMap<_, _> =
            buried.iter().filter(|(_, since)| before(**since)).map(|(id, at)| (*id, *at)).collect();
        let objects = below_sets(repository).await?;
        let of_ripe = objects.into_iter().filter(|(id, _)| ripe.contains_key(id));
        let (manifests, attestations): (Vec<_>, Vec<_>) =
            of_ripe.map(|(_, key)| key).partition(|key| key.ends_with("/manifest.json"));
        let mut undeleted = repository.let_all_go(manifests).await?;
        ops_core::fault::point("deleted manifests");
        let meanwhile = repository.begun().await?;
        if meanwhile.keys().any(|id| !begun.contains_key(id) && !ripe.contains_key(id)) {
            // It may have looked before the manifests went. The next prune finds the chunks.
            return Ok(undeleted);
        }
        let named = named_chunks(repository, &ripe.keys().copied().collect()).await?;
        let chunks = |keys: &mut Vec<String>, object: &ObjectMeta| {
            let key = object.location.as_ref();
            if chunk_owner(key).is_some_and(|id| ripe.contains_key(&id)) && !named.contains(key) {
                keys.push(key.to_owned());
            }
        };
        let chunks = repository.fold("chunks", Vec::new, chunks).await?;
        undeleted.add(repository.let_all_go(chunks).await?);
        ops_core::fault::point("deleted chunks");
        undeleted.add(repository.let_all_go(attestations).await?);
        // Of those that ended, and could not say so any more.
        for id in begun.keys().filter(|id| ripe.contains_key(id) || listed(id)) {
            undeleted.add(repository.end(*id).await?);
        }
        if let Some(folder) = &self.folder {
            for file in staged(folder, self.grace).await? {
                ops_core::fs::remove_file_durable(&file)?;
            }
        }
        for (id, since) in repository.unburied().await? {
            if is_over(since, self.grace, now) {
                undeleted.add(repository.forget_tombstone(id).await?);
            }
        }
        // The tombstone goes last, and late: it hides what may still arrive.
        for (id, since) in &ripe {
            let shared = named.iter().any(|key| chunk_owner(key) == Some(*id));
            if undeleted.is_none() && is_over(*since, self.grace, now) && !shared {
                undeleted.add(repository.forget_tombstone(*id).await?);
                ops_core::fault::point("removed a tombstone");
            }
        }
        Ok(undeleted)
    }
}

/// Everything that lies below the sets, with the backup that it belongs to.
async fn below_sets(repository: &Repository) -> Result<Vec<(BackupId, String)>, Error> {
    let add = |found: &mut Vec<_>, object: &ObjectMeta| {
        let id = object.location.parts().nth(2).and_then(|id| id.as_ref().parse().ok());
        if let Some(id) = id {
            found.push((id, object.location.to_string()));
        }
    };
    repository.fold("sets", Vec::new, add).await
}

/// What lies in the store, as a plan sees it.
struct Seen {
    uploads: Uploads,
    begun: BTreeMap<BackupId, Timestamp>,
    all: Sets,
    buried: BTreeMap<BackupId, Timestamp>,
    /// Who has anything below the sets.
    remains: BTreeSet<BackupId>,
}

impl Seen {
    async fn look(repository: &Repository) -> Result<Self, Error> {
        let uploads = repository.fold("chunks", Uploads::new, add_upload).await?;
        let begun = repository.begun().await?;
        // After these, so that what is finished meanwhile is listed here.
        let all = repository.all().await?;
        let buried = repository.buried().await?;
        let remains = below_sets(repository).await?.into_iter().map(|(id, _)| id).collect();
        Ok(Self { uploads, begun, all, buried, remains })
    }

    /// The backups that are neither listed nor taken out, and when they were last heard of.
    fn unfinished(&self) -> BTreeMap<BackupId, Timestamp> {
        let uploaded = self.uploads.iter().filter_map(|(id, upload)| Some((*id, upload.last?)));
        let began = self.begun.iter().map(|(id, began)| (*id, *began));
        let mut heard = BTreeMap::new();
        for (id, at) in uploaded.chain(began) {
            let last = heard.entry(id).or_insert(at);
            *last = at.max(*last);
        }
        let finished = |id: &BackupId| self.all.values().any(|of| of.contains_key(id));
        heard.retain(|id, _| !self.buried.contains_key(id) && !finished(id));
        heard
    }
}

/// The stored bytes of these backups' chunks that none of the others needs, by who uploaded them;
/// and those of which others need some.
async fn free(
    repository: &Repository,
    uploads: &Uploads,
    of: &BTreeSet<BackupId>,
) -> Result<(BTreeMap<BackupId, u64>, BTreeSet<BackupId>), Error> {
    if of.iter().all(|id| !uploads.contains_key(id)) {
        return Ok(Default::default());
    }
    let named = named_chunks(repository, of).await?;
    let add = |free: &mut BTreeMap<BackupId, u64>, object: &ObjectMeta| {
        let key = object.location.as_ref();
        if let Some(id) = chunk_owner(key).filter(|id| of.contains(id))
            && !named.contains(key)
        {
            *free.entry(id).or_default() += object.size;
        }
    };
    let free = repository.fold("chunks", BTreeMap::new, add).await?;
    Ok((free, named.iter().filter_map(|key| chunk_owner(key)).collect()))
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

/// The chunks of these backups that another one names, whether it is listed or was taken out and
/// still has its manifest. An unreadable manifest may name any, so nothing may be deleted before a
/// person has looked at it.
async fn named_chunks(
    repository: &Repository,
    of: &BTreeSet<BackupId>,
) -> Result<HashSet<String>, Error> {
    'anew: for _ in 0..MARKS {
        let mut named = HashSet::new();
        for (id, key) in below_sets(repository).await? {
            if of.contains(&id) || !key.ends_with("/manifest.json") {
                continue;
            }
            let Some(set) = key.split('/').nth(1).and_then(|set| set.parse().ok()) else {
                continue;
            };
            let manifest = match repository.manifest(&set, id).await {
                Ok(manifest) => manifest,
                // Another prune deletes at the same time, for it saw a backup end that is not in
                // this listing yet.
                Err(error) if error.kind() == ErrorKind::NotFound => continue 'anew,
                Err(error) => return Err(error.with("set", set).with("backup", id)),
            };
            let chunks = manifest.units().flat_map(|unit| &unit.chunks);
            let ours = chunks
                .filter(|chunk| chunk_owner(&chunk.key).is_some_and(|owner| of.contains(&owner)));
            named.extend(ours.map(|chunk| chunk.key.clone()));
        }
        return Ok(named);
    }
    let message = "the vault changes all the while, so what is needed cannot be told";
    Err(Error::new(ErrorKind::Store, message).remedy("prune when less of it goes on"))
}

/// Whether one of the backups of a set that stay has all its chunks: a damaged one is no reason to take
/// the others away.
async fn keeps_a_whole_one(
    repository: &Repository,
    set: &SetName,
    gone: &BTreeSet<BackupId>,
) -> Result<bool, Error> {
    for id in repository.list(set).await?.into_iter().rev().filter(|id| !gone.contains(id)) {
        let manifest = match repository.manifest(set, id).await {
            Ok(manifest) => manifest,
            Err(error) if error.kind() == ErrorKind::Store => return Err(error),
            Err(_) => continue,
        };
        let needed = || -> HashMap<&str, u64> {
            let chunks = manifest.units().flat_map(|unit| &unit.chunks);
            chunks.map(|chunk| (&*chunk.key, chunk.stored_size)).collect()
        };
        let add = |missing: &mut HashMap<&str, u64>, object: &ObjectMeta| {
            let key = object.location.as_ref();
            if missing.get(key) == Some(&object.size) {
                missing.remove(key);
            }
        };
        if repository.fold("chunks", needed, add).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where the repository writes, below a store's folder. The rest of it may be somebody else's.
const WRITTEN: [&str; 5] = ["begun", "chunks", "keys", "sets", "tombstones"];
/// What it writes at the top.
const AT_TOP: [&str; 2] = ["clock", "format.json"];

/// The files that `object_store` was writing when its process died: `<name>#<number>`. It does not
/// list them.
async fn staged(folder: &Path, grace: Duration) -> Result<Vec<PathBuf>, Error> {
    let folder = folder.to_owned();
    let walk = move || staged_below(&folder, grace);
    tokio::task::spawn_blocking(walk).await.map_err(Error::panicked)
}

fn staged_below(folder: &Path, grace: Duration) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let below = WRITTEN.iter().flat_map(|name| walkdir::WalkDir::new(folder.join(name)));
    for entry in walkdir::WalkDir::new(folder).max_depth(1).into_iter().chain(below) {
        // What vanishes meanwhile is somebody's finished upload.
        let Ok(entry) = entry else { continue };
        let name = entry.file_name().to_string_lossy();
        let at_top = entry.path().parent() == Some(folder);
        let half = name.rsplit_once('#').is_some_and(|(name, number)| {
            !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
                && (!at_top || AT_TOP.contains(&name))
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
        let Self::Bury { set, backups, abandoned } = self else { return Ok(()) };
        if let Some(refusal) = self.reasons(vault).await?.pop() {
            return Err(Error::new(ErrorKind::InvalidInput, refusal.reason).remedy(refusal.remedy));
        }
        let repository = &vault.repository;
        // By the store's clock: the plan's may be wrong, and a backup may have gone on since.
        let now = repository.now().await?;
        let unfinished = Seen::look(repository).await?.unfinished();
        let silent = |id: &&BackupId| {
            unfinished.get(id).is_some_and(|last| is_over(*last, vault.grace, now))
        };
        let silent = abandoned.iter().filter(silent);
        let gone: BTreeSet<_> = backups.iter().chain(silent).copied().collect();
        if !backups.is_empty() && !keeps_a_whole_one(repository, set, &gone).await? {
            let message =
                format!("of set `{set}`, no backup that would be kept has all its chunks");
            return Err(Error::new(ErrorKind::Corrupt, message)
                .remedy("make a new backup, or verify those that there are, before you prune"));
        }
        for id in &gone {
            repository.bury(*id, operation).await?;
            ops_core::fault::point("buried a backup");
        }
        // Of two prunes, one may have kept what the other gave up, for it finished in between.
        // Whoever looks last sees it, and takes its tombstones back.
        let listed = repository.all().await?;
        for (id, key) in below_sets(repository).await? {
            let set: Option<SetName> = key.split('/').nth(1).and_then(|set| set.parse().ok());
            let Some(set) = set.filter(|_| gone.contains(&id)) else { continue };
            if listed.get(&set).is_none_or(BTreeMap::is_empty) {
                let message = format!("set `{set}` would be left without a backup");
                return Err(Error::new(ErrorKind::Changed, message)
                    .remedy("another prune runs at the same time; prune again when it has ended"));
            }
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
            && let Err(error) = named_chunks(&vault.repository, &BTreeSet::new()).await
        {
            let reason = format!("what is still needed cannot be told: {error}");
            let remedy = "repair or remove that manifest; nothing is deleted before";
            reasons.push(Refusal::new(reason, remedy).class_of(error.class()));
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
            Self::Sweep => {
                let undeleted = vault.sweep().await?;
                if !undeleted.is_none() {
                    undeleted.tell();
                    cx.observe("undeleted", async { Ok(undeleted) }).await?;
                }
                Ok(())
            }
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
