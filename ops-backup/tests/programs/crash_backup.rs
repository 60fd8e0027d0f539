//! `crash-backup DIR prepare|back-up|restore|recover`: the operations that the crash tests kill.
#![expect(clippy::print_stderr, clippy::exit, reason = "a helper program of the tests")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ops_backup::{RestoreOptions, Settings, SourceSpec, Vault, open_store};
use ops_core::{ApproveIf, Context, Environment};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};

type Failure = Box<dyn std::error::Error>;

async fn execute(
    path: &Path,
    sql: &'static str,
) -> Result<sqlx::sqlite::SqliteConnection, Failure> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut db = options.journal_mode(SqliteJournalMode::Wal).connect().await?;
    sqlx::raw_sql(sql).execute(&mut db).await?;
    Ok(db)
}

async fn run(dir: &Path, verb: &str) -> Result<(), Failure> {
    let cx = Context::builder(dir.join("state"))
        .environment(Environment::Development)
        .approver(ApproveIf::new("crash test", |_: &_| true))
        .build();
    let url = format!("file://{}", dir.join("store").display());
    let mut settings = Settings::default();
    settings.chunk_size = 4096;
    let vault = Vault::builder().settings(settings).open(open_store(&url)?, "crash-test").await?;
    let path = dir.join("live/app.db");
    let spec = SourceSpec::sqlite(&path);
    match verb {
        "prepare" => {
            std::fs::create_dir(dir.join("live"))?;
            let db = execute(&path, "CREATE TABLE t(n); INSERT INTO t VALUES(1)").await?;
            vault.create("first", std::slice::from_ref(&spec), &cx).await?;
            drop(db);
            let db = execute(&path, "UPDATE t SET n = 2").await?;
            // The write-ahead log stays, as a program that died leaves it.
            std::mem::forget(db);
            std::process::exit(0);
        }
        "back-up" => {
            vault.create("second", &[spec], &cx).await?;
        }
        "restore" => {
            let first = vault.latest("first").await?.ok_or("no backup")?;
            let place = vault.place(&spec)?;
            vault.restore("first", first.id, &place, &RestoreOptions::default(), &cx).await?;
        }
        _ => {
            let place = vault.place(&spec)?;
            let _ = ops_core::recover(&(&vault, &place), &cx).await?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().expect("a directory"));
    let verb = args.next().expect("a verb");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(run(&dir, &verb)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", ops_core::error::chain(&*error).join(": "));
            ExitCode::FAILURE
        }
    }
}
