//! A PostgreSQL database backed up and restored, beside the same by the programs of others.
//!
//! Each run of a side is one process, or one pipeline of them, from its start to its end: ours is
//! this program. The work of the server's sessions counts as a side's own, for what one program
//! leaves to the server another does itself. What each side made is looked at: the text of a dump has
//! to be that of `pg_dump` byte for byte, a restored database has to have the rows and the indexes.

mod backup;
mod data;
mod program;
mod restore;
mod server;
mod subject;

use std::rc::Rc;

use crate::rounds::Benchmark;
use crate::{Failure, Wish};
pub use program::{PROGRAM, act};
use server::Server;
use subject::Subject;

/// All that is measured.
pub(super) fn benchmarks(wish: &Wish) -> Result<Vec<Benchmark>, Failure> {
    let folder = wish.folder.join("postgres");
    std::fs::create_dir(&folder)?;
    let server = Rc::new(Server::start(&wish.folder.join("server"))?);
    let size = wish.megabytes.unwrap_or(if wish.quick { 150 } else { 1400 });
    let rounds = if wish.quick { 3 } else { 5 };
    let small = Subject::generate(&server, &folder, (size / 4).max(1))?;
    let subject = Subject::generate(&server, &folder, size)?;
    Ok(vec![
        backup::first(&subject, wish, rounds)?,
        backup::alone(&small)?,
        backup::verify(&subject, wish, rounds),
        restore::restore(&subject, rounds, false)?,
        restore::restore(&subject, rounds, true)?,
        backup::second(&subject, wish, rounds, true),
        backup::second(&subject, wish, rounds, false),
    ])
}
