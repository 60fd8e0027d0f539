//! `crash-backup DIR prepare|prepare-prune|back-up|prune|drill|restore|recover|lose-journal`: the operations that the crash tests kill.
#![expect(clippy::print_stderr, clippy::exit, reason = "a helper program of the tests")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ops_backup::retention::Policy;
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
        "prepare-prune" => {
            std::fs::create_dir_all(dir.join("live"))?;
            std::fs::write(dir.join("live/a"), vec![7; 9000])?;
            for _ in 0..3 {
                vault.create("first", &[SourceSpec::directory(dir.join("live"))], &cx).await?;
            }
        }
        "prune" => {
            vault.prune("first", Policy::new().last(1), &cx).await?;
        }
        "drill" => {
            let first = vault.latest("first").await?.ok_or("no backup")?;
            assert!(vault.drill("first", first.id, &cx).await?.whole, "it is whole");
        }
        "lose-journal" => {
            // The machine is gone with its state; another one prunes the store.
            match std::fs::remove_dir_all(dir.join("state")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error)?,
                _ => {}
            }
            let vault = Vault::builder().grace(Duration::ZERO).open_url(&url).await?;
            vault.prune("first", Policy::new().last(1), &cx).await?;
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
