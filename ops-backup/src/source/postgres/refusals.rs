//! Every reason against a restore, before anything is changed.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ops_core::{OperationId, Refusal, StepContext};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

use super::connect::failed;
use super::database::too_old;
use super::facts::{Facts, scalar};
use super::place::{DatabaseOptions, DatabasePlace, exists};
use super::stage::told;
use crate::allowance;
use crate::error::Error;
use crate::manifest::{BackupId, SetName, SourceRecord};
use crate::source::SourceSpec;

pub(super) async fn stage(
    place: &DatabasePlace,
    set: &SetName,
    backup: BackupId,
    source: &SourceSpec,
    options: &DatabaseOptions,
    cx: &StepContext,
) -> Result<Vec<Refusal>, Error> {
    let manifest = place.vault.repository.manifest(set, backup).await?;
    let record = super::place::component(&manifest, Some(source))?;
    let mut reasons = Vec::new();
    let here = cx.context().environment();
    reasons.extend(allowance::environment(&manifest, here, options.other_environment));
    let target = place.fingerprint();
    if let Some(wanted) = options.fingerprint.as_ref().filter(|wanted| **wanted != target) {
        reasons.push(Refusal::new(
            format!("the target is `{target}`, and not the configured `{wanted}`"),
            "check which server the address leads to",
        ));
    }
    let mut connection = place.maintenance().await?;
    let replaces = exists(&mut connection, place.url.database()).await?;
    if replaces && record.fingerprint != target && !options.other_source {
        reasons.push(Refusal::new(
            format!("the backup is of `{}`, the target is `{target}`", record.fingerprint),
            "restore under a name that does not exist, or allow another source in the options",
        ));
    }
    // Those that are missing are a step of their own.
    let wanted = (options.unknown_space, !options.create_roles);
    reasons.extend(unfit(place, &mut connection, record, wanted).await?);
    let _ = connection.close().await;
    Ok(reasons)
}

/// What the server lacks, or has too little of, for the backup of a database: whether unknown space
/// is allowed, and whether missing roles count.
pub(super) async fn unfit(
    place: &DatabasePlace,
    connection: &mut PgConnection,
    record: &SourceRecord,
    (unknown_space, roles): (bool, bool),
) -> Result<Vec<Refusal>, Error> {
    let (facts, _) = told(&place.vault, record, &CancellationToken::new()).await?;
    let mut reasons = Vec::new();
    let version = connection.server_version_num().unwrap_or_default();
    if facts.server / 10_000 > version / 10_000 {
        reasons.push(Refusal::new(
            format!(
                "the backup is of PostgreSQL {}, the target has {}",
                facts.server / 10_000,
                version / 10_000
            ),
            "restore into a server of the same version or a newer one",
        ));
    }
    reasons.extend(lacking(connection, &facts, roles).await?);
    reasons.extend(room(connection, manifest_size(record), unknown_space).await?);
    let program = if record.kind == "postgres" { "psql" } else { "pg_restore" };
    // What the backup's pg_dump wrote, an older one may not read.
    reasons.extend(too_old(&place.programs, program, &place.url, facts.server).await);
    Ok(reasons)
}

fn manifest_size(record: &SourceRecord) -> u64 {
    record.units.iter().map(|unit| unit.plain_size).fold(0, u64::saturating_add)
}

pub(super) async fn swap(
    place: &DatabasePlace,
    replaces: bool,
    cx: &StepContext,
) -> Result<Vec<Refusal>, Error> {
    let mut reasons = Vec::new();
    let mut connection = place.maintenance().await?;
    let database = place.url.database();
    if exists(&mut connection, database).await? != replaces {
        reasons.push(Refusal::new(
            format!("database `{database}` appeared or vanished since the plan"),
            "plan the restore again",
        ));
    }
    for name in [place.staged(cx.operation()), place.old(cx.operation())] {
        if exists(&mut connection, &name).await? {
            reasons.push(Refusal::new(
                format!("database `{name}` exists already"),
                "rename or drop it",
            ));
        }
    }
    reasons.extend(immovable(place, &mut connection).await?);
    let _ = connection.close().await;
    Ok(reasons)
}

/// Why the database that an earlier restore kept cannot have its name back.
pub(super) async fn back(
    place: &DatabasePlace,
    restore: OperationId,
    cx: &StepContext,
) -> Result<Vec<Refusal>, Error> {
    let mut reasons = Vec::new();
    let mut connection = place.maintenance().await?;
    let (kept, target) = (place.old(restore), place.url.database());
    if !exists(&mut connection, &kept).await? {
        reasons.push(Refusal::new(
            format!("what restore {restore} kept is gone: there is no database `{kept}`"),
            "restore a backup of that time instead",
        ));
    }
    if !exists(&mut connection, target).await? {
        reasons.push(Refusal::new(
            format!("there is no database `{target}` to exchange with"),
            format!("rename `{kept}` by hand"),
        ));
    }
    let old = place.old(cx.operation());
    if exists(&mut connection, &old).await? {
        let reason = format!("database `{old}` exists already");
        reasons.push(Refusal::new(reason, "rename or drop it"));
    }
    reasons.extend(immovable(place, &mut connection).await?);
    let _ = connection.close().await;
    Ok(reasons)
}

/// Why the target cannot be renamed.
async fn immovable(
    place: &DatabasePlace,
    connection: &mut PgConnection,
) -> Result<Vec<Refusal>, Error> {
    let mut reasons = Vec::new();
    let database = place.url.database();
    let found: Option<(bool, i64, bool, bool)> = sqlx::query_as(
        "SELECT d.datistemplate,
            (SELECT count(*) FROM pg_prepared_xacts p WHERE p.database = d.datname),
            pg_has_role(d.datdba, 'USAGE'), r.rolsuper OR r.rolcreatedb
        FROM pg_database d, pg_roles r WHERE d.datname = $1 AND r.rolname = current_user",
    )
    .bind(database)
    .fetch_optional(connection)
    .await
    .map_err(|e| failed("look at the target", e))?;
    if let Some((template, prepared, owns, creates)) = found {
        if template {
            reasons.push(Refusal::new(
                format!("database `{database}` is a template"),
                "restore under another name",
            ));
        }
        if prepared > 0 {
            reasons.push(Refusal::new(
                format!("database `{database}` holds {prepared} prepared transactions"),
                "commit them or roll them back: a database with prepared transactions cannot be renamed",
            ));
        }
        if !owns || !creates {
            reasons.push(Refusal::new(
                format!("role `{}` may not rename database `{database}`", place.url.user()),
                "make it the owner, with CREATEDB; or restore as a superuser",
            ));
        }
    }
    Ok(reasons)
}

/// The roles that own something in the database, or have rights or settings there, and that the
/// server does not have.
async fn absent(connection: &mut PgConnection, facts: &Facts) -> Result<Vec<String>, Error> {
    let properties = &facts.properties;
    let mut roles = facts.roles.clone();
    roles.push(properties.owner.clone());
    roles.extend(properties.grants.iter().map(|(grantee, _, _)| grantee.clone()));
    roles.extend(properties.settings.iter().map(|(role, _, _)| role.clone()));
    roles.retain(|role| !role.is_empty());
    roles.sort();
    roles.dedup();
    let missing = sqlx::query_scalar(
        "SELECT r FROM unnest($1::text[]) r
        WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) ORDER BY 1",
    );
    let missing = missing.bind(&roles).fetch_all(connection).await;
    missing.map_err(|e| failed("look at what the server has", e))
}

/// The roles that the server lacks for a backup.
pub(super) async fn missing_roles(
    place: &DatabasePlace,
    connection: &mut PgConnection,
    record: &SourceRecord,
) -> Result<Vec<String>, Error> {
    let (facts, _) = told(&place.vault, record, &CancellationToken::new()).await?;
    absent(connection, &facts).await
}

/// What the server must have before the schema can be restored; `roles` says whether these too.
async fn lacking(
    connection: &mut PgConnection,
    facts: &Facts,
    roles: bool,
) -> Result<Vec<Refusal>, Error> {
    let failed = |e| failed("look at what the server has", e);
    let mut reasons = Vec::new();
    let names: Vec<&str> = facts.extensions.iter().map(|(name, _)| &**name).collect();
    let missing: Vec<String> = sqlx::query_scalar(
        "SELECT e FROM unnest($1::text[]) e
        WHERE NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = e) ORDER BY 1",
    )
    .bind(&names)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    if !missing.is_empty() {
        reasons.push(Refusal::new(
            format!("the server lacks extensions: {}", missing.join(", ")),
            "install their packages on the server",
        ));
    }
    let missing = if roles { absent(connection, facts).await? } else { Vec::new() };
    if !missing.is_empty() {
        reasons.push(Refusal::new(
            format!("the server lacks roles: {}", missing.join(", ")),
            "create them, such as from a `globals:` backup of the old server, or let the restore \
             create them without login and password",
        ));
    }
    let properties = &facts.properties;
    let mut tablespaces = facts.tablespaces.clone();
    tablespaces.push(properties.tablespace.clone());
    let missing: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT t FROM unnest($1::text[]) t
        WHERE NOT EXISTS (SELECT FROM pg_tablespace WHERE spcname = t) ORDER BY 1",
    )
    .bind(&tablespaces)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    if !missing.is_empty() {
        reasons.push(Refusal::new(
            format!("the server lacks tablespaces: {}", missing.join(", ")),
            "create them, such as from a `globals:` backup of the old server",
        ));
    }
    let mut locales = vec![(&properties.collate, "LC_COLLATE"), (&properties.ctype, "LC_CTYPE")];
    locales.dedup_by_key(|(locale, _)| (*locale).clone());
    for (locale, what) in locales {
        // Those that the system gave the server when it was made, and the built-in ones.
        let known: bool = sqlx::query_scalar(
            "SELECT $1 IN ('C', 'POSIX') OR EXISTS (SELECT FROM pg_database
                WHERE datcollate = $1 OR datctype = $1)
                OR EXISTS (SELECT FROM pg_collation WHERE collprovider = 'c'
                    AND (collname = $1 OR collcollate = $1))",
        )
        .bind(locale)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
        if !known {
            reasons.push(Refusal::new(
                format!("the server does not know the locale `{locale}` ({what})"),
                "generate it on the server's system, and import it with pg_import_system_collations",
            ));
        }
    }
    Ok(reasons)
}

/// Whether there is room for so many bytes, where that can be told.
async fn room(
    connection: &mut PgConnection,
    need: u64,
    unknown: bool,
) -> Result<Option<Refusal>, Error> {
    if let Some(free) = free(connection).await {
        if free >= need {
            return Ok(None);
        }
        return Ok(Some(Refusal::new(
            format!("the restore needs {need} bytes at least, the server has {free}"),
            "make room on the server: the old database stays until somebody drops it",
        )));
    }
    Ok((!unknown).then(|| {
        Refusal::new(
            format!("how much room the server has cannot be told from here; it needs {need} bytes at least"),
            "look at the server, then allow unknown space in the options",
        )
    }))
}

/// The free bytes beside the server's data, if that lies on this machine: the control file there
/// must have the server's own identifier.
async fn free(connection: &mut PgConnection) -> Option<u64> {
    let folder: String =
        scalar(connection, "SELECT current_setting('data_directory')").await.ok()?;
    let system: String =
        scalar(connection, "SELECT system_identifier::text FROM pg_control_system()").await.ok()?;
    tokio::task::spawn_blocking(move || {
        let folder = Path::new(&folder);
        let control = std::fs::File::open(folder.join("global/pg_control")).ok()?;
        let mut bytes = [0; 8];
        control.read_exact_at(&mut bytes, 0).ok()?;
        let same = u64::from_ne_bytes(bytes).to_string() == system;
        same.then(|| ops_core::fs::space(folder).ok()).flatten().map(|space| space.available)
    })
    .await
    .ok()?
}
