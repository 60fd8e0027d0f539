//! Backups and restores of live databases, beside the same by the programs of others.
//!
//! Of SQLite, all sides read the same database in write-ahead mode, which a connection holds open,
//! and end with compressed bytes (zstd, level of `Settings`), a SHA-256 of them, and everything synced to the
//! disk.
//!
//! | side | does beyond that |
//! |---|---|
//! | `ops` | checks the copy (`integrity_check`), digests the plain bytes too, cuts into chunks, journals the operation, looks at each object again, writes the manifest |
//! | `peer: by hand` | nothing: `.backup`, then `zstd` to `tee` to `sha256sum`, at once on all cores |
//! | `peer: by hand, checked` | `integrity_check` and `sha256sum` of the copy before that |
//!
//! Of PostgreSQL, see `postgres`.

mod by_hand;
mod postgres;
mod random;
mod sqlite;
mod sqlite_data;

use crate::rounds::Benchmark;
use crate::{Failure, Wish, peers};
pub use postgres::{PROGRAM, act};

/// What `--without` may name: programs that not every system has.
pub const OPTIONAL: [&str; 2] = ["pgbackrest", "restic"];

/// That each program is there, save those that are left out.
///
/// # Errors
/// Of those that are not, with their packages.
pub fn need_programs(wish: &Wish) -> Result<(), Failure> {
    let mut programs = vec![
        ("sqlite3", "sqlite3"),
        ("zstd", "zstd"),
        ("gzip", "gzip"),
        ("bash", "bash"),
        ("tee", "coreutils"),
        ("sha256sum", "coreutils"),
        ("pg_dump", "postgresql-client"),
        ("pg_restore", "postgresql-client"),
        ("psql", "postgresql-client"),
        ("setpriv", "util-linux"),
    ];
    programs
        .extend(OPTIONAL.iter().filter(|name| !wish.is_without(name)).map(|name| (*name, *name)));
    peers::need("backup", &programs)
}

/// All that is measured.
///
/// # Errors
/// Of a program that is missing, and those of the disk and of the databases.
pub fn benchmarks(wish: &Wish) -> Result<Vec<Benchmark>, Failure> {
    need_programs(wish)?;
    let mut all = vec![sqlite::benchmark(wish.quick, &wish.folder)?];
    all.extend(postgres::benchmarks(wish)?);
    Ok(all)
}
