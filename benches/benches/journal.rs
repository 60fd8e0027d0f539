//! What a durable record costs, beside the bare system calls that it cannot do without.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use ops_core::journal::{Began, JournalFile, Record, SystemIo};
use ops_core::{Environment, OperationId, Plan};

fn append(c: &mut Criterion) {
    // On the disk that holds the repository: a file system in memory would measure nothing.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut group = c.benchmark_group("journal append");

    let id = OperationId::generate();
    let began = Began::new(id, "bench".into(), Environment::Staging, None, Plan::new("bench"));
    let began = Record::Began(Box::new(began));
    let path = dir.path().join("journal.jsonl");
    let mut journal = JournalFile::create(&path, &began, Arc::new(SystemIo)).unwrap();
    // As durable as an intent, and legal in any number for the file itself.
    let record = Record::Intent { step: 0 };
    group.bench_function("ops", |b| b.iter(|| journal.append(&record).unwrap()));

    let bare = OpenOptions::new().append(true).create(true).open(dir.path().join("bare"));
    let mut bare = bare.unwrap();
    let line = [b'x'; 120];
    group.bench_function("peer: bare write + fdatasync", |b| {
        b.iter(|| {
            bare.write_all(&line).unwrap();
            bare.sync_data().unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
