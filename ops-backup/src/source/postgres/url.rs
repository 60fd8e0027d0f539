//! The address of a database, without its password.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::{Error, ErrorKind};
use crate::source::percent;

/// What may stand behind the `?`.
const PARAMETERS: [&str; 7] =
    ["host", "maintenance", "passfile", "sslcert", "sslkey", "sslmode", "sslrootcert"];

/// The address of a PostgreSQL database: `postgres://user@host:5432/database`.
///
/// It goes into plans, journals and manifests, so it holds no password. That comes from where every
/// PostgreSQL program takes it: `PGPASSWORD`, the file that `PGPASSFILE` names, `~/.pgpass`; or from
/// the password file that the address itself names with `?passfile=/run/secrets/pgpass`.
///
/// Other parameters: `sslmode`, `sslrootcert`, `sslcert`, `sslkey` as libpq has them; `host` with
/// the folder of a Unix socket; `maintenance`, the database from which others are created and
/// renamed (default: `postgres`, or `template1` if `postgres` itself is restored).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PostgresUrl {
    user: String,
    host: String,
    port: u16,
    database: String,
    parameters: BTreeMap<String, String>,
}

impl PostgresUrl {
    /// The host's name or address, or the folder of its Unix socket.
    pub fn host(&self) -> &str {
        self.parameters.get("host").unwrap_or(&self.host)
    }

    /// The port. Default: 5432.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The role that connects.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Another database of the same server.
    pub fn with_database(&self, database: impl Into<String>) -> Self {
        Self { database: database.into(), ..self.clone() }
    }

    #[cfg(feature = "postgres")]
    pub(super) fn with_parameter(&self, name: &str, value: &str) -> Self {
        let mut url = self.clone();
        url.parameters.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        url
    }

    #[cfg(feature = "postgres")]
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

impl FromStr for PostgresUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // Never the text itself: it may hold a password.
        let wrong = |why: &str| {
            Error::new(ErrorKind::InvalidInput, format!("the address of the database {why}"))
                .remedy("write it as postgres://user@host:5432/database")
        };
        let url = Url::parse(text).map_err(|_| wrong("is no URL"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(wrong("does not begin with `postgres://`"));
        }
        let plain = |part: &str| {
            let decoded = percent::decoded(part).ok_or_else(|| wrong("is not UTF-8"))?;
            let sound = !decoded.contains(['\0', '\n', '\r']);
            if sound { Ok(decoded) } else { Err(wrong("holds a line break or a zero byte")) }
        };
        let mut parameters = BTreeMap::new();
        for (name, value) in url.query_pairs() {
            let known = PARAMETERS.contains(&&*name);
            if name == "password" {
                return Err(with_password());
            }
            if !known || parameters.insert(name.to_string(), value.to_string()).is_some() {
                return Err(wrong(&format!("has an unknown or repeated parameter `{name}`"))
                    .remedy(format!("use each of these once: {}", PARAMETERS.join(", "))));
            }
        }
        if url.password().is_some() {
            return Err(with_password());
        }
        let host = plain(url.host_str().unwrap_or_default())?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let database = plain(url.path().strip_prefix('/').unwrap_or_default())?;
        let user = plain(url.username())?;
        if user.is_empty() || database.is_empty() {
            return Err(wrong("names no role or no database"));
        }
        if host.is_empty() && !parameters.contains_key("host") {
            return Err(wrong("names no host"));
        }
        Ok(Self { user, host, port: url.port().unwrap_or(5432), database, parameters })
    }
}

fn with_password() -> Error {
    let message = "the address of the database holds a password, which would go into journals";
    Error::new(ErrorKind::InvalidInput, message).remedy(
        "take it out, and set PGPASSWORD or PGPASSFILE, or name a password file with ?passfile=",
    )
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port, database, parameters } = self;
        let (user, database) = (percent::encoded(user), percent::encoded(database));
        let host = if host.contains(':') { format!("[{host}]") } else { percent::encoded(host) };
        write!(f, "postgres://{user}@{host}:{port}/{database}")?;
        for (at, (name, value)) in parameters.iter().enumerate() {
            let mark = if at == 0 { '?' } else { '&' };
            write!(f, "{mark}{name}={}", percent::encoded(value).replace("%2F", "/"))?;
        }
        Ok(())
    }
}

impl TryFrom<String> for PostgresUrl {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<PostgresUrl> for String {
    fn from(url: PostgresUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_as_it_is() {
        for (text, host, database) in [
            ("postgres://ops@db:5432/app", "db", "app"),
            ("postgres://o%40ps@10.0.0.1:5433/a%22%20%2F%C3%A9", "10.0.0.1", "a\" /é"),
            ("postgres://ops@[::1]:5432/app?sslmode=require", "::1", "app"),
            ("postgres://ops@:5432/app?host=/var/run/postgresql", "/var/run/postgresql", "app"),
        ] {
            let text = text.replace("@:5432", "@local:5432");
            let url: PostgresUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.database()), (host, database), "{text}");
            assert_eq!(url.to_string(), text);
            let json = serde_json::to_string(&url).unwrap();
            assert_eq!(serde_json::from_str::<PostgresUrl>(&json).unwrap(), url);
        }
        let short: PostgresUrl = "postgresql://ops@db/app".parse().unwrap();
        assert_eq!(short.to_string(), "postgres://ops@db:5432/app");
        assert_eq!(short.with_database("other").to_string(), "postgres://ops@db:5432/other");
    }

    #[test]
    fn a_password_never_gets_in_and_is_never_told() {
        for (text, why) in [
            ("postgres://ops:hunter2@db/app", "holds a password"),
            ("postgres://ops@db/app?password=hunter2", "holds a password"),
            ("postgres://ops@db", "no database"),
            ("postgres://db/app", "no role"),
            ("postgres://ops@db/app?options=-chunter2", "unknown"),
            ("mysql://ops:hunter2@db/app", "postgres://"),
            ("hunter2", "no URL"),
            ("postgres://ops@db/a%0Ahunter2", "line break"),
        ] {
            let error = text.parse::<PostgresUrl>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let told = format!("{error} {error:?}");
            assert!(told.contains(why) && !told.contains("hunter2"), "{told}");
        }
    }
}
