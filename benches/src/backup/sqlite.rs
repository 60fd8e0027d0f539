//! A backup of a live SQLite database, beside the same by hand with real programs.

use std::path::Path;

use ops_backup::{Depth, Settings, SourceSpec, Vault};
use ops_core::{Context, Environment};
use tokio::runtime::Runtime;

use super::by_hand::ByHand;
use super::sqlite_data::generate;
use crate::Failure;
use crate::rounds::{Benchmark, Side, timed};

/// Backups of one database.
///
/// # Errors
/// Those of the disk.
pub(super) fn benchmark(quick: bool, dir: &Path) -> Result<Benchmark, Failure> {
    let runtime = Runtime::new()?;
    let (megabytes, rounds) = if quick { (64, 7) } else { (256, 15) };
    let database = dir.join("app.db");
    // Held open: the last connection to close would fold the log into the database.
    let live = runtime.block_on(generate(&database, megabytes << 20))?;
    let bytes = std::fs::metadata(&database)?.len();

    let cx = Context::builder(dir.join("state")).environment(Environment::Development).build();
    let (source, folder) = ([SourceSpec::sqlite(&database)], dir.to_owned());
    let mut is_first = true;
    let ours = move || {
        let _held_open = &live;
        let store = folder.join("store");
        let url = format!("file://{}", store.display());
        let vault = runtime.block_on(Vault::open_url(&url))?;
        settle(&folder)?;
        let (made, took) = timed(|| Ok(runtime.block_on(vault.create("bench", &source, &cx))?))?;
        if std::mem::take(&mut is_first) {
            let verified = runtime.block_on(vault.verify("bench", made.id, Depth::Full))?;
            if !verified.is_whole() || verified.bytes < (megabytes << 20) {
                return Err(format!("the backup is not whole: {verified:?}").into());
            }
        }
        std::fs::remove_dir_all(&store)?;
        Ok(took)
    };
    let by_hand = |name: &str, checked| {
        let level = Settings::default().zstd_level;
        let folder = dir.to_owned();
        let mut hand =
            ByHand::new(&database, dir.join(if checked { "checked" } else { "plain" }), level);
        Side::new(name, move || {
            settle(&folder)?;
            let took = timed(|| hand.back_up(checked))?.1;
            hand.prove_and_remove()?;
            Ok(took)
        })
    };
    let sides = vec![
        Side::new("ops", ours),
        by_hand("peer: by hand", false),
        by_hand("peer: by hand, checked", true),
    ];
    let group = format!("SQLite backup of {megabytes} MiB");
    Ok(Benchmark { group, items: 1, bytes: Some(bytes), rounds, sides })
}

/// Waits until the disk has nothing left to do for the one before.
pub(super) fn settle(dir: &Path) -> Result<(), Failure> {
    Ok(rustix::fs::syncfs(std::fs::File::open(dir)?)?)
}
