//! Connections, and what their sessions are set to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_core::{Class, Refusal};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::url::PostgresUrl;
use crate::error::{Error, ErrorKind};
use crate::source::private::is_private;

/// How long a server may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a server may take to answer what a plan asks.
const LOOK: Duration = Duration::from_mins(10);

/// The oldest that reads a range of a table without reading the rest.
const OLDEST: u32 = 140_000;

/// So that a value is written in one way only, read back as what it was, and no query waits or ends
/// for reasons of its own.
const SETTINGS: &str = "
    SET client_encoding = 'UTF8';
    SET standard_conforming_strings = on;
    SET search_path = '';
    SET DateStyle = 'ISO, YMD';
    SET IntervalStyle = 'postgres';
    SET TimeZone = 'UTC';
    SET extra_float_digits = 3;
    SET bytea_output = 'hex';
    SET lc_monetary = 'C';
    SET xmloption = content;
    SET row_security = off;
    SET synchronize_seqscans = off;
    SET max_parallel_workers_per_gather = 0;
    SET enable_tidscan = on;
    SET jit = off;
    SET statement_timeout = 0;
    SET lock_timeout = 0;
    SET idle_in_transaction_session_timeout = 0;
    SET idle_session_timeout = 0;
    SET default_transaction_read_only = off;
    SET client_min_messages = warning;
";

/// Opens a connection with the settings that every session of this crate has.
pub(crate) async fn connect(url: &PostgresUrl) -> Result<PgConnection, Error> {
    within(PATIENCE, url, Box::pin(open(url))).await
}

/// What a server answers in so long a time, or that it does not.
async fn within<T>(
    patience: Duration,
    url: &PostgresUrl,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| {
        let message = format!("`{url}` does not answer within {} s", patience.as_secs());
        Err(Error::new(ErrorKind::Database, message).class_of(Class::Temporary))
    })
}

async fn open(url: &PostgresUrl) -> Result<PgConnection, Error> {
    let connected = options(url).await?.connect().await;
    let mut connection = connected.map_err(|e| failed(&format!("connect to `{url}`"), e))?;
    let version = connection.server_version_num().unwrap_or_default();
    if version < OLDEST {
        let message = format!("the server of `{url}` has version {}", version / 10_000);
        return Err(
            Error::new(ErrorKind::InvalidInput, message).remedy("14 is the oldest that is read")
        );
    }
    run(&mut connection, SETTINGS).await?;
    if version >= 170_000 {
        run(&mut connection, "SET transaction_timeout = 0").await?;
    }
    Ok(connection)
}

/// What a plan asks of a server, which may be counting rows, on a connection of its own.
pub(crate) async fn once<T>(
    url: &PostgresUrl,
    ask: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut connection = connect(url).await?;
    let answer = within(LOOK, url, ask(&mut connection)).await;
    if answer.is_ok() {
        let _ = connection.close().await;
    }
    answer
}

/// A connection, or why there is none.
pub(super) async fn reach(url: &PostgresUrl) -> Result<PgConnection, Refusal> {
    connect(url).await.map_err(|error| Refusal::of(&error, "name a database that answers"))
}

async fn options(url: &PostgresUrl) -> Result<PgConnectOptions, Error> {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(url.host())
        .port(url.port())
        .username(url.user())
        .database(url.database())
        .application_name("ops-backup")
        .disable_statement_logging();
    if let Some(mode) = url.parameter("sslmode") {
        let mode: PgSslMode = mode.parse().map_err(|e| failed("read `sslmode`", e))?;
        options = options.ssl_mode(mode);
    }
    if let Some(path) = url.parameter("sslrootcert") {
        options = options.ssl_root_cert(path);
    }
    if let Some(path) = url.parameter("sslcert") {
        options = options.ssl_client_cert(path);
    }
    if let Some(path) = url.parameter("sslkey") {
        options = options.ssl_client_key(path);
    }
    if let Some(password) = password(url).await? {
        options = options.password(&password);
    }
    Ok(options)
}

/// What libpq takes too, so that `pg_dump` and we are let in alike. None leaves `PGPASSWORD`.
async fn password(url: &PostgresUrl) -> Result<Option<String>, Error> {
    let named = url.parameter("passfile").map(PathBuf::from);
    let must = named.is_some();
    if !must && std::env::var_os("PGPASSWORD").is_some() {
        return Ok(None);
    }
    let usual = || {
        let file = std::env::var_os("PGPASSFILE").map(PathBuf::from);
        file.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pgpass")))
    };
    let Some(path) = named.or_else(usual) else { return Ok(None) };
    let read = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || read_private(&path)).await.map_err(Error::panicked)?
    };
    match read {
        Ok(text) => Ok(find(&text, url)),
        Err(error) if must => Err(error),
        Err(_) => Ok(None),
    }
}

fn read_private(path: &Path) -> Result<String, Error> {
    let failed = |e| Error::io("read the password file", path, e);
    is_private(path, "the passwords")?;
    std::fs::read_to_string(path).map_err(failed)
}

/// The password of the first line that fits: `host:port:database:user:password`, with `*` for
/// anything, and `\` before a `:` or `\` that is meant.
fn find(text: &str, url: &PostgresUrl) -> Option<String> {
    let port = url.port().to_string();
    let host = if url.host().starts_with('/') { "localhost" } else { url.host() };
    let wanted = [host, &port, url.database(), url.user()];
    let fits = |field: &str, wanted: &str, raw: &str| raw == "*" || field == wanted;
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let (mut fields, mut raw, mut chars) =
            (vec![String::new()], vec![String::new()], line.chars());
        while let Some(c) = chars.next() {
            match c {
                ':' if fields.len() < 5 => {
                    fields.push(String::new());
                    raw.push(String::new());
                    continue;
                }
                '\\' => fields.last_mut()?.push(chars.next()?),
                c => fields.last_mut()?.push(c),
            }
            raw.last_mut()?.push(c);
        }
        let all = fields.len() == 5 && (0..4).all(|at| fits(&fields[at], wanted[at], &raw[at]));
        all.then(|| fields.pop()).flatten()
    })
}

/// Runs statements whose names and texts are quoted already.
pub(crate) async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), Error> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await;
    done.map(|_| ()).map_err(|e| failed(&format!("run `{}`", head(sql)), e))
}

fn head(sql: &str) -> String {
    let line: String = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(120) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// The SQLSTATE of an error of the server.
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// What a server refused, or did not answer.
pub(crate) fn failed(action: &str, source: sqlx::Error) -> Error {
    let error = Error::new(ErrorKind::Database, format!("cannot {action}"));
    let code = code(&source).unwrap_or_default();
    // Connections, resources, locks, deadlocks, cancellations and shut-downs pass.
    let passes = matches!(source, sqlx::Error::Io(_))
        || ["08", "40", "53", "55P03", "57"].iter().any(|class| code.starts_with(class));
    let error = match &*code {
        "40001" if source.to_string().contains("recovery") => error.remedy(
            "the replica had to apply what the primary did to rows that are being read: set \
             `hot_standby_feedback`, or a longer `max_standby_streaming_delay`, on the replica",
        ),
        "55P03" => error.remedy("somebody holds a lock for long; see pg_locks, and try again"),
        "28P01" | "28000" => error.remedy(
            "give the password in PGPASSWORD, PGPASSFILE or ~/.pgpass, or with ?passfile= in the address",
        ),
        "42501" => error.remedy("let the role read it, such as with `GRANT pg_read_all_data`"),
        _ => error,
    };
    let error = if passes { error.class_of(Class::Temporary) } else { error };
    error.caused_by(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_as_libpq_finds_them() {
        let url: PostgresUrl = "postgres://o%3Aps@db:5433/app".parse().unwrap();
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(find(text, &url).as_deref(), expected, "{text}");
        };
        check("db:5433:app:o\\:ps:secret", Some("secret"));
        check("#*:*:*:*:no\n*:*:*:*:se:cr\\\\et\n", Some("se:cr\\et"));
        check("db:5432:app:o\\:ps:secret\ndb:*:other:*:x\n*:5433:*:o\\:ps:second", Some("second"));
        check("db:5433:app:o:ps:secret", None);
        check("\\*:*:*:*:secret", None);
        check("", None);
    }
}
