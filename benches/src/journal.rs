//! What a durable record costs, beside the bare system calls that it cannot do without.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use ops_core::journal::{Began, JournalFile, Record, SystemIo};
use ops_core::{Environment, OperationId, Plan};

use crate::Failure;
use crate::rounds::{Benchmark, Side, timed};

/// How many records a round appends.
const RECORDS: u32 = 10;

/// Durable records, one after the other.
///
/// # Errors
/// Those of the disk.
pub fn benchmark(quick: bool, dir: &Path) -> Result<Benchmark, Failure> {
    let plan = Plan::new("bench");
    let began =
        Began::new(OperationId::generate(), "bench".into(), Environment::Staging, None, plan);
    let began = Record::Began(Box::new(began));
    let path = dir.join("journal.jsonl");
    let mut journal = JournalFile::create(&path, &began, Arc::new(SystemIo))?;
    // As durable as an intent, and legal in any number for the file itself.
    let record = Record::Intent { step: 0 };
    let line = [b'x'; 120];
    let mut bare = OpenOptions::new().append(true).create_new(true).open(dir.join("bare"))?;
    let ours = move || {
        let appended = timed(|| {
            for _ in 0..RECORDS {
                journal.append(&record).map_err(|e| format!("{e:?}"))?;
            }
            Ok(())
        });
        Ok(appended?.1)
    };
    let peer = move || {
        let written = timed(|| {
            for _ in 0..RECORDS {
                bare.write_all(&line)?;
                bare.sync_data()?;
            }
            Ok(())
        });
        Ok(written?.1)
    };
    let sides = vec![Side::new("ops", ours), Side::new("peer: write + fdatasync", peer)];
    let rounds = if quick { 101 } else { 501 };
    Ok(Benchmark { group: "journal append".into(), items: RECORDS, bytes: None, rounds, sides })
}
