//! PostgreSQL databases.
//!
//! The path of a backup: `moment` holds one snapshot in several connections, `catalog` says what is
//! in it, `copy` streams it, `program` asks `pg_dump` for the schema. The path of a restore:
//! `place` is the resource, `refusals` look before, `stage` makes a new database beside the old,
//! `load` fills and compares it, `rename` swaps the two.

#[cfg(feature = "postgres")]
mod archive;
#[cfg(feature = "postgres")]
mod carry;
#[cfg(feature = "postgres")]
mod catalog;
#[cfg(feature = "postgres")]
pub(crate) mod connect;
#[cfg(feature = "postgres")]
mod copy;
#[cfg(feature = "postgres")]
mod database;
#[cfg(feature = "postgres")]
mod facts;
#[cfg(feature = "postgres")]
mod large;
#[cfg(feature = "postgres")]
mod load;
#[cfg(feature = "postgres")]
mod moment;
#[cfg(feature = "postgres")]
mod part;
#[cfg(feature = "postgres")]
mod place;
mod probe;
#[cfg(feature = "postgres")]
mod program;
#[cfg(feature = "postgres")]
pub(crate) mod quote;
#[cfg(feature = "postgres")]
mod refusals;
#[cfg(feature = "postgres")]
mod rename;
#[cfg(feature = "postgres")]
mod roles;
#[cfg(feature = "postgres")]
mod rows;
#[cfg(feature = "postgres")]
pub(crate) mod scratch;
#[cfg(feature = "postgres")]
mod script;
#[cfg(feature = "postgres")]
mod select;
#[cfg(feature = "postgres")]
mod signature;
#[cfg(feature = "postgres")]
mod stage;
mod url;

use std::sync::Arc;

use super::{Source, SourceSpec};
use crate::error::{Error, ErrorKind};
#[cfg(feature = "postgres")]
pub use archive::{PostgresDump, PostgresGlobals};
#[cfg(feature = "postgres")]
pub use database::Postgres;
#[cfg(feature = "postgres")]
pub(crate) use facts::fingerprint;
#[cfg(feature = "postgres")]
pub use place::{DatabaseOptions, DatabasePlace, DatabaseStep};
pub use probe::SqlProbe;
#[cfg(feature = "postgres")]
pub use select::TableChoice;
pub use url::PostgresUrl;

/// The source of one of the PostgreSQL kinds.
#[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "nothing connects"))]
pub(crate) fn source(spec: &SourceSpec, connections: usize) -> Result<Arc<dyn Source>, Error> {
    #[cfg(feature = "postgres")]
    match spec {
        SourceSpec::Postgres { url } => {
            return Ok(Arc::new(Postgres::new(url.clone()).connections(connections)));
        }
        SourceSpec::PostgresDump { url } => return Ok(Arc::new(PostgresDump::new(url.clone()))),
        SourceSpec::PostgresGlobals { url } => {
            return Ok(Arc::new(PostgresGlobals::new(url.clone())));
        }
        _ => {}
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("this program cannot read `{spec}`"))
        .remedy("build it with the feature `postgres` of ops-backup"))
}
