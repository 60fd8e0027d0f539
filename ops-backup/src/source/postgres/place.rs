//! A database as the target of a restore.

use ops_core::{
    Context, Effect, OperationId, Plan, Refusal, Report, Resource, ResourceId, Step, StepContext,
    StepError,
};
use serde::{Deserialize, Serialize};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

use super::connect::{connect, failed};
use super::facts::system_identifier;
use super::probe::SqlProbe;
use super::program::Programs;
use super::rename::{Before, Rename};
use super::select::TableChoice;
use super::url::PostgresUrl;
use super::{part, refusals, roles, select, stage};
use crate::allowance::allowances;
use crate::digest::sha256;
use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, Manifest, SetName, SourceRecord};
use crate::source::SourceSpec;
use crate::vault::Vault;

/// A PostgreSQL database that a restore writes to; it need not exist.
///
/// As a resource it is named after the server's own identifier, so restores exclude each other by
/// whatever address they reach it. Sessions in the old database are ended when it is replaced.
#[derive(Debug, Clone)]
pub struct DatabasePlace {
    pub(super) vault: Vault,
    pub(super) url: PostgresUrl,
    pub(super) system: String,
    pub(super) programs: Programs,
}

/// What a restore into a database takes, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that is allowed")]
pub struct DatabaseOptions {
    /// Which source of the backup; needed if it has several. Default: the only one.
    pub component: Option<SourceSpec>,
    /// Whether a backup of another database may replace what is there. Default: no.
    pub other_source: bool,
    /// Whether a backup of another environment may be restored. Default: no.
    pub other_environment: bool,
    /// Whether the restore may begin where nobody can tell how much space the server has. It can be
    /// told where the server's data lies on this machine and may be looked at. Default: no.
    pub unknown_space: bool,
    /// Which tables are restored; what has no rows comes along, but for what depends on a table that
    /// is left out. The target must not exist, or have no tables. Default: everything.
    #[serde(default)]
    pub only: Vec<TableChoice>,
    /// Whether roles that the backup needs and the server lacks are created, without login and
    /// password; the plan lists them. Else they are a reason to refuse. Default: no.
    #[serde(default)]
    pub create_roles: bool,
    /// What the target must be: `system_identifier/database`, as a manifest has it for its source.
    /// Default: whatever the address leads to.
    pub fingerprint: Option<String>,
    /// What the restored database must answer before it takes the place of the old. Default:
    /// nothing besides its rows being those of the backup.
    pub probes: Vec<SqlProbe>,
    /// How many connections write rows. Default: 2.
    pub connections: usize,
    /// Whether it is enough that each table takes as many rows as the backup has. Else every row is
    /// read again and compared, which takes about as long as a backup. Default: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counts_only: bool,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            component: None,
            other_source: false,
            other_environment: false,
            unknown_space: false,
            only: Vec::new(),
            create_roles: false,
            fingerprint: None,
            probes: Vec::new(),
            connections: 2,
            counts_only: false,
        }
    }
}

allowances!(DatabaseOptions);

impl DatabaseOptions {
    /// Lets the restore begin where the server's free space cannot be told.
    pub fn allow_unknown_space(mut self) -> Self {
        self.unknown_space = true;
        self
    }

    /// Restores these tables, and those of other calls, instead of everything.
    pub fn only(mut self, choice: TableChoice) -> Self {
        self.only.push(choice);
        self
    }

    /// Creates the roles that are missing, without login and password.
    pub fn create_roles(mut self) -> Self {
        self.create_roles = true;
        self
    }

    /// Refuses any target but this one: `system_identifier/database`.
    pub fn expect_target(mut self, fingerprint: impl Into<String>) -> Self {
        self.fingerprint = Some(fingerprint.into());
        self
    }

    /// Adds a question that the restored database must answer with `true`.
    pub fn probe(mut self, probe: SqlProbe) -> Self {
        self.probes.push(probe);
        self
    }

    /// Compares numbers of rows instead of rows.
    pub fn counts_only(mut self) -> Self {
        self.counts_only = true;
        self
    }

    /// How many connections write rows.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, 64);
        self
    }
}

/// A step of a restore into a database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
#[non_exhaustive]
pub enum DatabaseStep {
    /// Fills a new database beside the target, and checks it there.
    Stage {
        /// The target, for whoever recovers.
        url: PostgresUrl,
        /// The backup's set.
        set: SetName,
        /// The backup.
        backup: BackupId,
        /// Which of its sources.
        component: Box<SourceSpec>,
        /// What it may do.
        options: Box<DatabaseOptions>,
    },
    /// Swaps the names of the two databases.
    Swap {
        /// The target's name.
        database: String,
        /// Whether it exists.
        replaces: bool,
    },
    /// Creates roles that the backup needs and the server lacks, without login and password.
    Roles {
        /// Their names.
        roles: Vec<String>,
    },
    /// Gives the database that an earlier restore kept its name back.
    Return {
        /// The target, for whoever recovers.
        url: PostgresUrl,
        /// The restore that kept it.
        restore: OperationId,
    },
}

impl DatabasePlace {
    pub(super) async fn new(vault: Vault, url: &PostgresUrl) -> Result<Self, Error> {
        let url = url.clone();
        let mut place = Self { vault, url, system: String::new(), programs: Programs::default() };
        let mut connection = place.maintenance().await?;
        let standby: bool =
            super::facts::scalar(&mut connection, "SELECT pg_is_in_recovery()").await?;
        place.system = system_identifier(&mut connection).await?;
        let _ = connection.close().await;
        if standby {
            let message = format!("`{}` is on a standby, which cannot be written", place.url);
            return Err(Error::new(ErrorKind::InvalidInput, message).remedy("name the primary"));
        }
        Ok(place)
    }

    /// The folder with PostgreSQL's client programs. Default: the `PATH`.
    pub fn programs(mut self, folder: impl Into<std::path::PathBuf>) -> Self {
        self.programs = Programs(Some(folder.into()));
        self
    }

    /// What tells it from every other database: `system_identifier/database`.
    pub fn fingerprint(&self) -> String {
        format!("{}/{}", self.system, self.url.database())
    }

    /// The name under which the operation keeps the database that it replaced.
    pub fn old(&self, operation: OperationId) -> String {
        beside(self.url.database(), "before", operation)
    }

    /// The name under which it is restored.
    pub(super) fn staged(&self, operation: OperationId) -> String {
        beside(self.url.database(), "restore", operation)
    }

    /// A connection to another database of the server: one's own cannot be renamed.
    pub(super) async fn maintenance(&self) -> Result<PgConnection, Error> {
        let usual = if self.url.database() == "postgres" { "template1" } else { "postgres" };
        let database = self.url.parameter("maintenance").unwrap_or(usual);
        connect(&self.url.with_database(database)).await
    }

    /// The exchange with what an earlier restore kept.
    fn exchange(&self, restore: OperationId, cx: &StepContext) -> Rename {
        Rename {
            target: self.url.database().to_owned(),
            staged: self.old(restore),
            old: self.old(cx.operation()),
        }
    }

    pub(crate) fn plan_undo(&self, restore: OperationId) -> Result<Plan, Error> {
        let step = DatabaseStep::Return { url: self.url.clone(), restore };
        Ok(Plan::new("undo_restore")
            .fact("restore", restore)
            .fact("target", &self.url)
            .fact("target is", self.fingerprint())
            .fact("kept", self.old(restore))
            .change(self, &step)?)
    }

    fn rename(&self, cx: &StepContext) -> Rename {
        Rename {
            target: self.url.database().to_owned(),
            staged: self.staged(cx.operation()),
            old: self.old(cx.operation()),
        }
    }

    async fn plan(&self, manifest: &Manifest, options: &DatabaseOptions) -> Result<Plan, Error> {
        let record = component(manifest, options.component.as_ref())?;
        let mut connection = self.maintenance().await?;
        let replaces = exists(&mut connection, self.url.database()).await?;
        let roles = if options.create_roles {
            refusals::missing_roles(self, &mut connection, record).await?
        } else {
            Vec::new()
        };
        let _ = connection.close().await;
        let stage = DatabaseStep::Stage {
            url: self.url.clone(),
            set: manifest.set.clone(),
            backup: manifest.id,
            component: Box::new(record.source.clone()),
            options: Box::new(options.clone()),
        };
        let swap = DatabaseStep::Swap { database: self.url.database().to_owned(), replaces };
        let mut plan = Plan::new("restore")
            .fact("backup", manifest.id)
            .fact("made at", manifest.created_at)
            .fact("made of", &record.fingerprint)
            .fact("target", &self.url)
            .fact("target is", self.fingerprint());
        for (name, fact) in self.told_of_choice(record, replaces, options).await? {
            plan = plan.fact(name, fact);
        }
        if !roles.is_empty() {
            plan = plan.fact("roles", roles.join(", "));
            plan = plan.change(self, &DatabaseStep::Roles { roles })?;
        }
        Ok(plan.change(self, &stage)?.change(self, &swap)?)
    }
}

impl DatabasePlace {
    /// What a plan tells of the tables that were chosen, if some were.
    async fn told_of_choice(
        &self,
        record: &SourceRecord,
        replaces: bool,
        options: &DatabaseOptions,
    ) -> Result<Vec<(&'static str, String)>, Error> {
        if options.only.is_empty() {
            return Ok(Vec::new());
        }
        let cancel = CancellationToken::new();
        let (_, catalog) = stage::told(&self.vault, record, &cancel).await?;
        let choices = &options.only;
        let chosen =
            select::choose(&self.vault, record, catalog.as_ref(), choices, &cancel).await?;
        if replaces {
            let mut connection = connect(&self.url).await?;
            let empty = part::is_empty(&mut connection).await?;
            let _ = connection.close().await;
            if !empty {
                let database = self.url.database();
                let message = format!("a part of a backup does not replace database `{database}`");
                return Err(Error::new(ErrorKind::InvalidInput, message).remedy(
                    "restore it into a database that does not exist, or has no tables, and copy from there",
                ));
            }
        }
        Ok(select::tell(record, &chosen).to_vec())
    }
}

/// A name that is derived from another. Where it would be longer than names can be, it is cut, and
/// tells by a digest which name it was.
fn beside(name: &str, what: &str, operation: OperationId) -> String {
    let mut suffix = format!("_{what}_{}", operation.to_string().to_ascii_lowercase());
    if name.len() + suffix.len() > 63 {
        suffix = format!("_{}{suffix}", &sha256(name.as_bytes())[..8]);
    }
    let mut end = name.len().min(63_usize.saturating_sub(suffix.len()));
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &name[..end])
}

pub(super) fn component<'m>(
    manifest: &'m Manifest,
    wanted: Option<&SourceSpec>,
) -> Result<&'m SourceRecord, Error> {
    let fits = |record: &&SourceRecord| matches!(&*record.kind, "postgres" | "postgres_dump");
    let mut databases = manifest.sources.iter().filter(fits);
    let found = match wanted {
        Some(wanted) => databases.find(|record| record.source == *wanted),
        None => databases.next().filter(|_| databases.next().is_none()),
    };
    found.ok_or_else(|| {
        let all: Vec<_> =
            manifest.sources.iter().filter(fits).map(|s| s.source.to_string()).collect();
        let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        Error::new(ErrorKind::NotFound, format!("backup {}: which database?", manifest.id))
            .remedy(format!("choose one of its databases: {all}"))
    })
}

pub(super) async fn exists(connection: &mut PgConnection, database: &str) -> Result<bool, Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(database)
        .fetch_one(connection)
        .await
        .map_err(|e| failed("look for the database", e))
}

impl Vault {
    /// The database that a restore writes to, as a resource. The server must answer.
    ///
    /// # Errors
    /// If it does not, or is a standby.
    pub async fn database(&self, url: &PostgresUrl) -> Result<DatabasePlace, Error> {
        DatabasePlace::new(self.clone(), url).await
    }

    /// A restore into a new database beside the old, and the swap of the two, as a plan.
    ///
    /// # Errors
    /// As [`show`](Self::show); [`ErrorKind::NotFound`] if the backup has no such component; if the
    /// server does not answer.
    pub async fn plan_database_restore(
        &self,
        set: &str,
        id: BackupId,
        place: &DatabasePlace,
        options: &DatabaseOptions,
    ) -> Result<Plan, Error> {
        place.plan(&self.show(set, id).await?, options).await
    }

    /// Restores into a database; see [`plan_database_restore`](Self::plan_database_restore). Over
    /// one that exists, it needs an approval everywhere.
    ///
    /// # Errors
    /// Those of the plan; [`ErrorKind::Operation`] with the report if the operation was refused or
    /// went back.
    ///
    /// # Cancellation
    /// Dropping the future is like a crash: the next `recover` drops the new database, and puts the
    /// old one back if it had been renamed.
    pub async fn restore_database(
        &self,
        set: &str,
        id: BackupId,
        place: &DatabasePlace,
        options: &DatabaseOptions,
        cx: &Context,
    ) -> Result<Report, Error> {
        let plan = self.plan_database_restore(set, id, place, options).await?;
        Ok(cx.execute(plan, &place).await?)
    }
}

impl Resource for DatabasePlace {
    type Step = DatabaseStep;

    fn id(&self) -> ResourceId {
        ResourceId::new("postgres", self.fingerprint())
    }
}

impl Step for DatabaseStep {
    const FAMILY: &'static str = "postgres_restore";
    type Env = DatabasePlace;

    fn name(&self) -> &'static str {
        match self {
            Self::Stage { .. } => "stage",
            Self::Swap { .. } => "swap",
            Self::Roles { .. } => "roles",
            Self::Return { .. } => "return",
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Stage { set, backup, component, .. } => Effect::changes(format!(
                "restore `{component}` of backup {backup} of set `{set}` into a new database"
            )),
            Self::Swap { database, replaces: false } => {
                Effect::changes(format!("name the new database `{database}`"))
            }
            Self::Swap { database, .. } => Effect::destroys(format!(
                "end all sessions in database `{database}`, and put the new one in its place (the \
                 old is kept as `{database}_before_<operation id>`)"
            )),
            Self::Roles { roles } => Effect::changes(format!(
                "create roles without login and password: {}",
                roles.join(", ")
            )),
            Self::Return { url, restore } => Effect::destroys(format!(
                "end all sessions in database `{0}`, and put the one that restore {restore} kept in its \
                 place (what is there now is kept as `{0}_before_<operation id>`)",
                url.database()
            )),
        }
    }

    async fn check(
        &self,
        place: &DatabasePlace,
        cx: &StepContext,
    ) -> Result<Vec<Refusal>, StepError> {
        match self {
            Self::Stage { set, backup, component, options, .. } => {
                Ok(refusals::stage(place, set, *backup, component, options, cx).await?)
            }
            Self::Swap { replaces, .. } => Ok(refusals::swap(place, *replaces, cx).await?),
            Self::Roles { roles } => Ok(roles::refusals(place, roles).await?),
            Self::Return { restore, .. } => Ok(refusals::back(place, *restore, cx).await?),
        }
    }

    async fn run(&self, place: &DatabasePlace, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Stage { set, backup, component, options, .. } => {
                let work = stage::Stage {
                    place: place.clone(),
                    set: set.clone(),
                    backup: *backup,
                    component: (**component).clone(),
                    options: (**options).clone(),
                    database: place.staged(cx.operation()),
                    cx: cx.clone(),
                };
                let runtime = tokio::runtime::Handle::current();
                // On a thread that the engine waits for: an undo drops what this still fills.
                cx.blocking(move |cancel| {
                    let work = cancel.run_until_cancelled(work.run(cancel));
                    runtime.block_on(work).unwrap_or_else(|| Err(Error::cancelled()))
                })
                .await
            }
            Self::Swap { replaces, .. } => {
                let rename = place.rename(cx);
                let look = async { Ok(rename.look(place, *replaces).await?) };
                let before = cx.observe("swap", look).await?;
                let (place, runtime) = (place.clone(), tokio::runtime::Handle::current());
                cx.blocking(move |_| runtime.block_on(rename.forward(&place, &before))).await
            }
            Self::Roles { roles } => Ok(roles::create(place, roles, cx.operation()).await?),
            Self::Return { restore, .. } => {
                let rename = place.exchange(*restore, cx);
                let look = async { Ok(rename.look(place, true).await?) };
                let before = cx.observe("return", look).await?;
                let (place, runtime) = (place.clone(), tokio::runtime::Handle::current());
                cx.blocking(move |_| runtime.block_on(rename.forward(&place, &before))).await
            }
        }
    }

    async fn undo(&self, place: &DatabasePlace, cx: &StepContext) -> Result<(), StepError> {
        match self {
            Self::Stage { .. } => Ok(stage::discard(place, &place.staged(cx.operation())).await?),
            Self::Swap { .. } => {
                let rename = place.rename(cx);
                let Some(before) = cx.noted::<Before>("swap")? else { return Ok(()) };
                Ok(rename.back(place, &before).await?)
            }
            Self::Roles { roles } => Ok(roles::remove(place, roles, cx.operation()).await?),
            Self::Return { restore, .. } => {
                let rename = place.exchange(*restore, cx);
                let Some(before) = cx.noted::<Before>("return")? else { return Ok(()) };
                Ok(rename.back(place, &before).await?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_names_fit_and_tell_whose_they_are() {
        let operation = OperationId::generate();
        let check = |name: &str, kept: &str| {
            let derived = beside(name, "restore", operation);
            assert!(
                derived.len() <= 63 && derived.starts_with(&format!("{kept}_restore_")),
                "{derived}"
            );
            assert_eq!(derived, derived.to_lowercase());
        };
        check("app", "app");
        check("", "");
        let long = |name: &str, kept: usize| {
            let digest = &sha256(name.as_bytes())[..8];
            check(name, &format!("{}_{digest}", &name[..kept]));
        };
        long(&"x".repeat(63), 19);
        long(&"é".repeat(31), 18);
        let [a, b] = ["a", "b"].map(|end| beside(&("x".repeat(50) + end), "restore", operation));
        assert_ne!(a, b);
    }
}
