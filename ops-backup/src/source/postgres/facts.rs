//! What is known of a database besides its content: who and what it is, and what it needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::catalog;
use super::connect::failed;
use crate::error::{Error, ErrorKind};

/// The properties of a database that lie outside of it, in the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Properties {
    pub owner: String,
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    /// The ICU locale, where that decides.
    pub icu: Option<String>,
    pub tablespace: String,
    pub connection_limit: i32,
    pub comment: Option<String>,
    /// Whether its privileges are other than the default ones.
    pub granted: bool,
    /// Grantee (empty for all), privilege, whether it may be passed on.
    #[serde(default)]
    pub grants: Vec<(String, String, bool)>,
    /// Role (empty for all), parameter and value.
    #[serde(default)]
    pub settings: Vec<(String, String, String)>,
}

/// The identity of a database, and what a server must have to take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub fingerprint: String,
    /// As `server_version_num` has it: 150018.
    pub server: u32,
    pub server_version: String,
    pub lsn: String,
    /// Whether it was a replica.
    #[serde(default)]
    pub standby: bool,
    /// The tables whose rows it did not have.
    #[serde(default)]
    pub unread: Vec<String>,
    /// Every role that owns something, or to whom something is granted.
    pub roles: Vec<String>,
    /// Name and version.
    pub extensions: Vec<(String, String)>,
    /// Name, and whether it is not the default one.
    pub tablespaces: Vec<String>,
    pub properties: Properties,
}

impl Facts {
    /// What the manifest tells of them.
    pub fn told(self) -> BTreeMap<String, String> {
        let mut told = BTreeMap::from([
            ("lsn".to_owned(), self.lsn),
            ("server".to_owned(), self.server_version),
        ]);
        if self.standby {
            told.insert("standby".to_owned(), "true".to_owned());
        }
        if !self.unread.is_empty() {
            told.insert("without_rows".to_owned(), self.unread.join(", "));
        }
        told
    }
}

/// `system_identifier/database`: the same for every way to reach it, another after a restore.
pub(crate) async fn fingerprint(connection: &mut PgConnection) -> Result<String, Error> {
    let name: String = scalar(connection, "SELECT current_database()::text").await?;
    Ok(format!("{}/{name}", system_identifier(connection).await?))
}

/// What tells a cluster from every other.
pub(super) async fn system_identifier(connection: &mut PgConnection) -> Result<String, Error> {
    scalar(connection, "SELECT system_identifier::text FROM pg_control_system()").await
}

pub(super) async fn scalar<T>(connection: &mut PgConnection, sql: &'static str) -> Result<T, Error>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let value = sqlx::query_scalar(sql).fetch_one(connection).await;
    value.map_err(|e| failed("look at the database", e))
}

/// The properties of a database of this server; none if there is no such database.
pub(super) async fn properties(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<Properties>, Error> {
    let failed = |e| failed("look at the database's properties", e);
    let icu = if connection.server_version_num().unwrap_or_default() >= 170_000 {
        "CASE WHEN d.datlocprovider <> 'c' THEN d.datlocale END"
    } else if connection.server_version_num().unwrap_or_default() >= 150_000 {
        "CASE WHEN d.datlocprovider <> 'c' THEN d.daticulocale END"
    } else {
        "NULL::text"
    };
    let sql = format!(
        "SELECT to_json(p)::text FROM (
            SELECT pg_get_userbyid(d.datdba)::text AS owner,
                pg_encoding_to_char(d.encoding)::text AS encoding, d.datcollate::text AS collate,
                d.datctype::text AS ctype, ({icu})::text AS icu, t.spcname::text AS tablespace,
                d.datconnlimit AS connection_limit,
                shobj_description(d.oid, 'pg_database') AS comment, d.datacl IS NOT NULL AS granted
            FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace
            WHERE d.datname = $1) p"
    );
    let found: Option<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(name)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    let Some(found) = found else { return Ok(None) };
    let mut found: Properties = serde_json::from_str(&found).map_err(|e| {
        Error::new(ErrorKind::Database, "the database's properties cannot be read").caused_by(e)
    })?;
    found.grants = sqlx::query_as(
        "SELECT CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee)::text END,
            a.privilege_type, a.is_grantable
        FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = $1 ORDER BY 1, 2",
    )
    .bind(name)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    let rows = sqlx::query(
        "SELECT coalesce(r.rolname::text, ''), u.setting
        FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
            LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) WITH ORDINALITY AS u(setting, at)
        WHERE d.datname = $1 ORDER BY 1, u.at",
    )
    .bind(name)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    for row in rows {
        let (role, setting): (String, String) =
            (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        if let Some((key, value)) = setting.split_once('=') {
            found.settings.push((role, key.to_owned(), value.to_owned()));
        }
    }
    Ok(Some(found))
}

/// The facts of the database that is connected to.
pub(super) async fn facts(connection: &mut PgConnection) -> Result<Facts, Error> {
    let failed = |e| failed("look at the database", e);
    let name: String = scalar(connection, "SELECT current_database()::text").await?;
    let properties = properties(connection, &name)
        .await?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("the database `{name}` is gone")))?;
    // The bootstrap superuser stands in no dependency, so owners are looked up besides.
    let roles = sqlx::query_scalar(
        "SELECT r.rolname::text FROM pg_roles r WHERE r.oid IN (
            SELECT s.refobjid FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass
                AND (s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                    OR s.classid = 'pg_database'::regclass AND s.objid =
                        (SELECT oid FROM pg_database WHERE datname = current_database()))
            UNION SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
            UNION SELECT p.proowner FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
            UNION SELECT n.nspowner FROM pg_namespace n WHERE n.nspname !~ '^pg_'
            UNION SELECT s.setrole FROM pg_db_role_setting s JOIN pg_database d
                ON d.oid = s.setdatabase WHERE d.datname = current_database()
        ) AND r.rolname !~ '^pg_' ORDER BY 1",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    let extensions =
        sqlx::query_as("SELECT extname::text, extversion FROM pg_extension ORDER BY 1")
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
    let tablespaces = sqlx::query_scalar(
        "SELECT DISTINCT t.spcname::text FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
        WHERE t.spcname !~ '^pg_' ORDER BY 1",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    let lsn = "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
        ELSE pg_current_wal_lsn() END)::text";
    Ok(Facts {
        fingerprint: fingerprint(connection).await?,
        server: connection.server_version_num().unwrap_or_default(),
        server_version: scalar(connection, "SELECT current_setting('server_version')").await?,
        lsn: scalar::<Option<String>>(connection, lsn).await?.unwrap_or_default(),
        standby: scalar(connection, "SELECT pg_is_in_recovery()").await?,
        unread: catalog::unread(connection).await?,
        roles,
        extensions,
        tablespaces,
        properties,
    })
}
