//! A collection as the target of a restore.

use std::time::Duration;

use ops_core::{
    Context, Effect, OperationId, Plan, Refusal, Report, Resource, ResourceId, Step, StepContext,
    StepError,
};
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::snapshot::KIND;
use super::stage::{self, Stage};
use super::url::QdrantUrl;
use crate::allowance::{self, allowances};
use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, Manifest, SetName, SourceRecord};
use crate::source::SourceSpec;
use crate::vault::Vault;

/// A Qdrant collection that a restore writes to: an alias, which then stands for the restored
/// collection while the old one is kept, or a name that nothing has yet.
///
/// A collection under its own name is refused: Qdrant cannot rename one. As a resource it is named
/// after its address, so two addresses of one server do not exclude each other.
#[derive(Debug, Clone)]
pub struct QdrantPlace {
    pub(super) vault: Vault,
    pub(super) url: QdrantUrl,
    pub(super) client: Client,
}

/// What a restore into a collection takes, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QdrantOptions {
    /// Which source of the backup; needed if it has several. Default: the only one.
    pub component: Option<SourceSpec>,
    /// Whether a backup of another collection may replace what is there. Default: no.
    pub other_source: bool,
    /// Whether a backup of another environment may be restored. Default: no.
    pub other_environment: bool,
    /// How long the server may take to unpack the snapshot, and then again to make the collection
    /// ready (green). Default: 30 min.
    pub patience: Duration,
}

impl Default for QdrantOptions {
    fn default() -> Self {
        Self {
            component: None,
            other_source: false,
            other_environment: false,
            patience: Duration::from_mins(30),
        }
    }
}

allowances!(QdrantOptions);

impl QdrantOptions {
    /// How long the server may take to unpack the snapshot, and again to be ready.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// A step of a restore into a collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
#[non_exhaustive]
pub enum QdrantStep {
    /// Makes a new collection of the snapshot, and checks it.
    Stage {
        /// The target, for whoever recovers.
        url: QdrantUrl,
        /// The backup's set.
        set: SetName,
        /// The backup.
        backup: BackupId,
        /// Which of its sources.
        component: Box<SourceSpec>,
        /// What it may do.
        options: Box<QdrantOptions>,
        /// Whether the target is an alias, which is moved later; else the new collection has the
        /// target's name.
        beside: bool,
    },
    /// Lets the alias stand for the new collection.
    Swap {
        /// The alias.
        alias: String,
        /// The collection that it stood for when the restore was planned.
        old: String,
    },
    /// Lets the alias stand again for the collection that an earlier restore kept.
    Return {
        /// The target, for whoever recovers.
        url: QdrantUrl,
        /// What the restore made, and the alias stands for now.
        restored: String,
        /// What it kept.
        kept: String,
    },
}

/// What the name of a target is.
enum Named {
    Nothing,
    Alias(String),
    Collection,
}

impl QdrantPlace {
    pub(super) async fn new(vault: Vault, url: &QdrantUrl) -> Result<Self, Error> {
        let client = Client::new(url).await?;
        Ok(Self { vault, url: url.clone(), client })
    }

    /// What tells it from other collections: its address.
    pub fn fingerprint(&self) -> String {
        self.url.fingerprint()
    }

    /// The name of the collection that an operation restores an alias to.
    pub fn restored(&self, operation: OperationId) -> String {
        format!("{}_restore_{}", self.url.collection(), operation.to_string().to_ascii_lowercase())
    }

    async fn named(&self) -> Result<Named, Error> {
        let name = self.url.collection();
        if let Some(collection) = self.client.behind(name).await? {
            return Ok(Named::Alias(collection));
        }
        let there = self.client.collection(name).await?.is_some();
        Ok(if there { Named::Collection } else { Named::Nothing })
    }

    async fn plan(&self, manifest: &Manifest, options: &QdrantOptions) -> Result<Plan, Error> {
        let record = component(manifest, options.component.as_ref())?;
        let alias = self.url.collection();
        let old = match self.named().await? {
            Named::Nothing => None,
            Named::Alias(old) => Some(old),
            Named::Collection => {
                let message = format!("`{alias}` is a collection, which cannot be replaced");
                return Err(Error::new(ErrorKind::InvalidInput, message).remedy(format!(
                    "restore under a new name, or let programs use an alias: restore to `{alias}_2`, \
                     delete `{alias}`, and let an alias `{alias}` stand for `{alias}_2`"
                )));
            }
        };
        if old.is_some() && record.fingerprint != self.fingerprint() && !options.other_source {
            let refusal = Refusal::new(
                format!(
                    "the backup is of `{}`, not of `{}`",
                    record.fingerprint,
                    self.fingerprint()
                ),
                "restore under a name that does not exist, or allow another source in the options",
            );
            let message = "the backup does not fit the target";
            return Err(Error::new(ErrorKind::InvalidInput, message).refusals(vec![refusal]));
        }
        let stage = QdrantStep::Stage {
            url: self.url.clone(),
            set: manifest.set.clone(),
            backup: manifest.id,
            component: Box::new(record.source.clone()),
            options: Box::new(options.clone()),
            beside: old.is_some(),
        };
        let plan = Plan::new("restore")
            .fact("backup", manifest.id)
            .fact("made at", manifest.created_at)
            .fact("made of", &record.fingerprint)
            .fact("target", &self.url)
            .change(self, &stage)?;
        let Some(old) = old else { return Ok(plan) };
        Ok(plan.change(self, &QdrantStep::Swap { alias: alias.to_owned(), old })?)
    }

    pub(crate) fn plan_undo(&self, restore: OperationId, kept: &str) -> Result<Plan, Error> {
        let restored = self.restored(restore);
        let plan = Plan::new("undo_restore")
            .fact("restore", restore)
            .fact("target", &self.url)
            .fact("kept", kept)
            .fact("restored", &restored);
        let (url, kept) = (self.url.clone(), kept.to_owned());
        Ok(plan.change(self, &QdrantStep::Return { url, restored, kept })?)
    }

    /// Lets the alias stand for another collection, on a thread that the engine waits for.
    ///
    /// On the way `back` it is said even where it is so already: a call that was given up may still
    /// be under way, and this one comes after it.
    async fn turned(
        &self,
        from: String,
        to: String,
        back: bool,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let (place, runtime) = (self.clone(), tokio::runtime::Handle::current());
        cx.blocking(move |_| runtime.block_on(place.turn(&from, &to, back))).await
    }

    /// Lets the alias stand for another collection, if it stands for `from`.
    async fn turn(&self, from: &str, to: &str, back: bool) -> Result<(), Error> {
        let alias = self.url.collection();
        match self.client.behind(alias).await? {
            Some(now) if now == to && !back => Ok(()),
            Some(now) if now == from || now == to => self.client.point(alias, to).await,
            _ => {
                let message = format!("alias `{alias}` does not stand for `{from}` any more");
                let error = Error::new(ErrorKind::InvalidInput, message);
                Err(error.remedy("somebody moved it meanwhile: look at it, and plan again"))
            }
        }
    }

    /// The name of the new collection.
    fn staged(&self, beside: bool, operation: OperationId) -> String {
        if beside { self.restored(operation) } else { self.url.collection().to_owned() }
    }
}

pub(super) fn component<'m>(
    manifest: &'m Manifest,
    wanted: Option<&SourceSpec>,
) -> Result<&'m SourceRecord, Error> {
    let mut all = manifest.sources.iter().filter(|record| record.kind == KIND);
    let found = match wanted {
        Some(wanted) => all.find(|record| record.source == *wanted),
        None => all.next().filter(|_| all.next().is_none()),
    };
    found.ok_or_else(|| {
        let all = manifest.sources.iter().filter(|record| record.kind == KIND);
        let all: Vec<_> = all.map(|record| record.source.to_string()).collect();
        let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        Error::new(ErrorKind::NotFound, format!("backup {}: which collection?", manifest.id))
            .remedy(format!("choose one of its collections: {all}"))
    })
}

impl Vault {
    /// The Qdrant collection that a restore writes to, as a resource.
    ///
    /// # Errors
    /// If its API key cannot be read.
    pub async fn collection(&self, url: &QdrantUrl) -> Result<QdrantPlace, Error> {
        QdrantPlace::new(self.clone(), url).await
    }

    /// A restore into a new collection, for which the target's alias then stands, as a plan. A
    /// target that does not exist becomes a collection of that name.
    ///
    /// # Errors
    /// As [`show`](Self::show); [`ErrorKind::NotFound`] if the backup has no such component;
    /// [`ErrorKind::InvalidInput`] if the target is a collection under its own name, or the backup
    /// is of another one; if the server does not answer.
    pub async fn plan_collection_restore(
        &self,
        set: &str,
        id: BackupId,
        place: &QdrantPlace,
        options: &QdrantOptions,
    ) -> Result<Plan, Error> {
        place.plan(&self.show(set, id).await?, options).await
    }

    /// Restores into a collection; see [`plan_collection_restore`](Self::plan_collection_restore).
    /// Over one that exists, it needs an approval everywhere.
    ///
    /// # Errors
    /// Those of the plan; [`ErrorKind::Operation`] with the report if the operation was refused or
    /// went back.
    ///
    /// # Cancellation
    /// Dropping the future is like a crash: the next `recover` deletes the new collection, and lets
    /// the alias stand for the old one if it had been moved.
    pub async fn restore_collection(
        &self,
        set: &str,
        id: BackupId,
        place: &QdrantPlace,
        options: &QdrantOptions,
        cx: &Context,
    ) -> Result<Report, Error> {
        let plan = self.plan_collection_restore(set, id, place, options).await?;
        Ok(cx.execute(plan, &place).await?)
    }
}

impl Resource for QdrantPlace {
    type Step = QdrantStep;

    fn id(&self) -> ResourceId {
        ResourceId::new("qdrant", self.fingerprint())
    }
}

/// The note that a collection is the operation's own, because nothing had its name.
const OURS: &str = "nothing had the name";

impl Step for QdrantStep {
    const FAMILY: &'static str = "qdrant_restore";
    type Env = QdrantPlace;

    fn name(&self) -> &'static str {
        match self {
            Self::Stage { .. } => "stage",
            Self::Swap { .. } => "swap",
            Self::Return { .. } => "return",
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Stage { set, backup, component, .. } => Effect::changes(format!(
                "restore `{component}` of backup {backup} of set `{set}` into a new collection"
            )),
            Self::Swap { alias, old } => Effect::destroys(format!(
                "let alias `{alias}` stand for the new collection (the old is kept as `{old}`)"
            )),
            Self::Return { url, restored, kept } => Effect::destroys(format!(
                "let alias `{}` stand for `{kept}` again (`{restored}` is kept)",
                url.collection()
            )),
        }
    }

    async fn check(
        &self,
        place: &QdrantPlace,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        match self {
            Self::Stage { set, backup, component, options, beside, .. } => {
                let manifest = place.vault.repository.manifest(set, *backup).await?;
                let here = cx.context().environment();
                let mut reasons = Vec::new();
                reasons.extend(allowance::environment(&manifest, here, options.other_environment));
                let record = self::component(&manifest, Some(component))?;
                reasons.extend(stage::refusals(place, record).await?);
                let name = place.staged(*beside, cx.operation());
                if place.client.collection(&name).await?.is_some() {
                    reasons.push(Refusal::new(
                        format!("collection `{name}` appeared since the plan"),
                        "plan the restore again",
                    ));
                }
                Ok(reasons)
            }
            Self::Swap { alias, old } => match place.named().await? {
                Named::Alias(now) if now == *old => Ok(Vec::new()),
                _ => Ok(vec![Refusal::new(
                    format!("alias `{alias}` does not stand for `{old}` any more"),
                    "plan the restore again",
                )]),
            },
            Self::Return { url, restored, kept } => {
                let mut reasons = Vec::new();
                if place.client.collection(kept).await?.is_none() {
                    reasons.push(Refusal::new(
                        format!("what the restore kept is gone: there is no collection `{kept}`"),
                        "restore a backup of that time instead",
                    ));
                }
                if place.client.behind(url.collection()).await?.as_deref() != Some(restored) {
                    reasons.push(Refusal::new(
                        format!("alias `{}` does not stand for `{restored}`", url.collection()),
                        "somebody moved it since that restore: move it by hand",
                    ));
                }
                Ok(reasons)
            }
        }
    }

    async fn run(&self, place: &QdrantPlace, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Stage { set, backup, component, options, beside, .. } => {
                let collection = place.staged(*beside, cx.operation());
                // A name that is derived from the operation is nobody else's.
                let look = async {
                    let found = place.client.collection(place.url.collection()).await?;
                    Ok(found.is_none())
                };
                if !beside && !cx.observe(OURS, look).await? {
                    let message = format!("collection `{collection}` appeared since the plan");
                    let error = Error::new(ErrorKind::Exists, message);
                    return Err(error.remedy("plan the restore again").into());
                }
                let work = Stage {
                    place: place.clone(),
                    set: set.clone(),
                    backup: *backup,
                    component: (**component).clone(),
                    patience: options.patience,
                    collection,
                };
                let runtime = tokio::runtime::Handle::current();
                // On a thread that the engine waits for: an undo deletes what this still fills.
                cx.blocking(move |cancel| {
                    let work = cancel.run_until_cancelled(work.run(cancel));
                    runtime.block_on(work).unwrap_or_else(|| Err(Error::cancelled())).map(|_| ())
                })
                .await
            }
            Self::Swap { old, .. } => {
                let new = place.restored(cx.operation());
                place.turned(old.clone(), new, false, cx).await?;
                cx.fault_point("moved the alias");
                Ok(())
            }
            Self::Return { restored, kept, .. } => {
                place.turned(restored.clone(), kept.clone(), false, cx).await?;
                cx.fault_point("moved the alias to the kept");
                Ok(())
            }
        }
    }

    async fn undo(&self, place: &QdrantPlace, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Stage { beside, .. } => {
                let ours = *beside || cx.noted::<bool>(OURS)? == Some(true);
                if ours {
                    let name = place.staged(*beside, cx.operation());
                    stage::discard(&place.client, &name).await?;
                }
                Ok(())
            }
            Self::Swap { alias, old } => {
                let new = place.restored(cx.operation());
                let now = place.client.behind(alias).await?;
                if now.as_ref() != Some(&new) && now.as_ref() != Some(old) {
                    return Ok(());
                }
                if place.client.collection(old).await?.is_none() {
                    let message = format!("the old collection `{old}` of alias `{alias}` is gone");
                    let error = Error::new(ErrorKind::NotFound, message);
                    let remedy =
                        format!("the restored one is `{new}`: keep it, or restore another");
                    return Err(error.remedy(remedy).into());
                }
                place.turned(new, old.clone(), true, cx).await?;
                cx.fault_point("moved the alias back");
                Ok(())
            }
            Self::Return { restored, kept, .. } => {
                place.turned(kept.clone(), restored.clone(), true, cx).await
            }
        }
    }
}
