//! The database that is backed up: the same in every run.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use super::random::{Random, WORDS};
use crate::Failure;

/// Half of it rows of text that compresses, half blobs that do not; its newest rows are in the
/// write-ahead log.
pub(super) async fn generate(path: &Path, bytes: u64) -> Result<SqliteConnection, Failure> {
    let mut db = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .disable_statement_logging()
        .connect()
        .await?;
    let tables = "CREATE TABLE event(id INTEGER PRIMARY KEY, at TEXT, about TEXT);
                  CREATE TABLE attachment(id INTEGER PRIMARY KEY, content BLOB)";
    sqlx::raw_sql(tables).execute(&mut db).await?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut written = 0;
    while written < bytes {
        // 1 MiB a transaction.
        let mut transaction = db.begin().await?;
        let mut text = 0;
        while text < 512 << 10 {
            let count = 8 + random.below(48);
            let about: Vec<_> = (0..count).map(|_| WORDS[random.below(WORDS.len())]).collect();
            let about = format!("{} {}", about.join(" "), random.next() % 1_000_000);
            let at = format!("2026-{:02}-{:02}", 1 + random.below(12), 1 + random.below(28));
            // What a row takes in a page beside its text.
            text += about.len() + at.len() + 10;
            let insert = sqlx::query("INSERT INTO event(at, about) VALUES(?, ?)");
            insert.bind(at).bind(about).execute(&mut *transaction).await?;
        }
        for _ in 0..8 {
            let blob: Vec<u8> =
                (0..(64 << 10) / 8).flat_map(|_| random.next().to_le_bytes()).collect();
            let insert = sqlx::query("INSERT INTO attachment(content) VALUES(?)");
            insert.bind(blob).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        written += 1 << 20;
    }
    let log = std::fs::metadata(path.with_extension("db-wal"))?.len();
    if log == 0 {
        return Err("the database has no write-ahead log".into());
    }
    Ok(db)
}
