//! `crash-backup DIR VERB`: the operations that the crash tests kill.
#![expect(clippy::print_stderr, clippy::exit, reason = "a helper program of the tests")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ops_backup::retention::Policy;
use ops_backup::{RestoreOptions, Settings, SourceSpec, Vault, open_store};
use ops_core::operations::{self, Which};
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
    settings.chunk_size = 16 << 10;
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
        "undo-restore" => {
            let place = vault.place(&spec)?;
            let (operations, _) = operations::list(&cx, Which::All)?;
            let restored = operations.iter().find(|found| found.plan.operation == "restore");
            vault.undo_restore(&place, restored.ok_or("no restore")?.id, &cx).await?;
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
        "full-disk" => full_disk(dir, &cx).await?,
        #[cfg(feature = "postgres")]
        verb if verb.starts_with("postgres-") => postgres(dir, verb, &vault, &cx).await?,
        #[cfg(feature = "qdrant")]
        "qdrant-back-up" | "qdrant-restore" | "qdrant-recover" => {
            qdrant(dir, verb, &vault, &cx).await?;
        }
        _ => {
            let place = vault.place(&spec)?;
            let _ = ops_core::recover(&(&vault, &place), &cx).await?;
        }
    }
    Ok(())
}

/// `DIR/url` holds the address of a database, and set `first` the backups.
#[cfg(feature = "postgres")]
async fn postgres(dir: &Path, verb: &str, vault: &Vault, cx: &Context) -> Result<(), Failure> {
    use ops_backup::{DatabaseOptions, Depth, DrillOptions};
    let url: ops_backup::PostgresUrl = std::fs::read_to_string(dir.join("url"))?.parse()?;
    if verb == "postgres-back-up" {
        vault.create("first", &[SourceSpec::postgres(url)], cx).await?;
        return Ok(());
    }
    let first = vault.latest("first").await?.ok_or("no backup")?.id;
    match verb {
        "postgres-verify" => {
            assert!(vault.verify("first", first, Depth::Full).await?.is_whole(), "it is whole");
            return Ok(());
        }
        "postgres-drill" => {
            let options = DrillOptions::default().database(url);
            assert!(vault.drill_with("first", first, &options, cx).await?.whole, "it is whole");
            return Ok(());
        }
        "postgres-delete" | "postgres-reindex" | "postgres-recover-maintenance" => {
            return maintain(verb, vault, &url, cx).await;
        }
        _ => {}
    }
    let place = vault.database(&url).await?;
    let options = DatabaseOptions::default().allow_other_source().create_roles();
    match verb {
        "postgres-restore" => {
            vault.restore_database("first", first, &place, &options, cx).await?;
        }
        "postgres-restore-part" => {
            let options = options.only("public.t".parse()?);
            vault.restore_database("first", first, &place, &options, cx).await?;
        }
        "postgres-undo-restore" => {
            let (operations, _) = operations::list(cx, Which::All)?;
            let restored = operations.iter().find(|found| found.plan.operation == "restore");
            let restored = restored.ok_or("no restore")?.id;
            cx.execute(vault.plan_undo_database_restore(&place, restored)?, &&place).await?;
        }
        _ => {
            let _ = ops_core::recover(&(vault, &place), cx).await?;
        }
    }
    Ok(())
}

#[cfg(feature = "postgres")]
async fn maintain(
    verb: &str,
    vault: &Vault,
    url: &ops_backup::PostgresUrl,
    cx: &Context,
) -> Result<(), Failure> {
    use ops_backup::maintenance::{IndexLimits, OldRows};
    let database = vault.maintenance(url).await?;
    if verb == "postgres-recover-maintenance" {
        let _ = ops_core::recover(&&database, cx).await?;
        return Ok(());
    }
    let day = Duration::from_hours(24);
    let backup = database.fresh_backup("first", day).await?;
    let plan = if verb == "postgres-delete" {
        let rows = OldRows::new("public", "events", "at", day * 4 + day / 2).batch(2);
        database.plan_delete(&backup, &rows, cx.clock().now()).await?
    } else {
        let mut advice = database.index_advice(IndexLimits::default()).await?;
        advice.retain(|advice| advice.index == "built");
        database.plan_reindex(&backup, &advice)?
    };
    cx.execute(plan, &&database).await?;
    Ok(())
}

/// `DIR/url` holds the address of an alias, and set `docs` its backups.
#[cfg(feature = "qdrant")]
async fn qdrant(dir: &Path, verb: &str, vault: &Vault, cx: &Context) -> Result<(), Failure> {
    let url: ops_backup::QdrantUrl = std::fs::read_to_string(dir.join("url"))?.parse()?;
    if verb == "qdrant-back-up" {
        vault.create("docs", &[SourceSpec::qdrant(url)], cx).await?;
        return Ok(());
    }
    let place = vault.collection(&url).await?;
    if verb == "qdrant-recover" {
        let _ = ops_core::recover(&(vault, &place), cx).await?;
        return Ok(());
    }
    let made = vault.latest("docs").await?.ok_or("no backup")?;
    let options = ops_backup::QdrantOptions::default().allow_other_source();
    vault.restore_collection("docs", made.id, &place, &options, cx).await?;
    Ok(())
}

fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, Failure> {
    let entries: Result<Vec<_>, _> = std::fs::read_dir(dir)?.collect();
    Ok(entries?.iter().map(std::fs::DirEntry::file_name).collect())
}

/// `DIR/small` is a file system of 200 KiB.
async fn full_disk(dir: &Path, cx: &Context) -> Result<(), Failure> {
    let (small, data) = (dir.join("small"), dir.join("data"));
    let options = RestoreOptions::default();
    let vault = Vault::open(open_store("memory:")?, "memory:").await?;
    // In the archive a file takes 1 KiB, on this disk 4: the preflight cannot see it coming.
    std::fs::create_dir(&data)?;
    for n in 0..100 {
        std::fs::write(data.join(n.to_string()), "x")?;
    }
    let made = vault.create("tiny", &[SourceSpec::directory(&data)], cx).await?;
    let place = vault.place(&SourceSpec::directory(small.join("back")))?;
    let error = vault.restore("tiny", made.id, &place, &options, cx).await;
    let error = error.expect_err("it does not fit");
    assert!(error.to_string().contains("went back"), "{error}");
    assert_eq!(names(&small)?, Vec::<std::ffi::OsString>::new(), "nothing is left");

    let noise = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes();
    std::fs::write(data.join("large"), (0..200_000).flat_map(noise).collect::<Vec<u8>>())?;
    let made = vault.create("large", &[SourceSpec::directory(&data)], cx).await?;
    let error = vault.restore("large", made.id, &place, &options, cx).await;
    let error = error.expect_err("it does not fit");
    assert!(error.to_string().contains("are free"), "refused before: {error}");
    assert!(error.to_string().contains("make room on the target's file system"), "{error}");

    let url = format!("file://{}", small.display());
    let store = Vault::open_url(&url).await?;
    let error = store.create("large", &[SourceSpec::directory(&data)], cx).await;
    let error = error.expect_err("it does not fit");
    assert!(error.to_string().contains("went back"), "{error}");
    assert!(store.list("large").await?.is_empty());
    for entry in walkdir::WalkDir::new(&small) {
        let entry = entry?;
        let of_use = entry.file_name() == "format.json" || !entry.file_type().is_file();
        assert!(of_use, "`{}` is left", entry.path().display());
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
