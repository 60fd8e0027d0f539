//! A backup of a live SQLite database, beside the same by hand with real programs.
//!
//! All sides read the same database in write-ahead mode, which a connection holds open, and end
//! with compressed bytes (zstd, level 3), a SHA-256 of them, and everything synced to the disk.
//!
//! | side | does beyond that |
//! |---|---|
//! | `ops` | checks the copy (`integrity_check`), digests the plain bytes too, cuts into chunks of 8 MiB, journals the operation, looks at each object again, writes the manifest |
//! | `peer: by hand` | nothing: `.backup`, then `zstd` to `tee` to `sha256sum`, at once on all cores |
//! | `peer: by hand, checked` | `integrity_check` and `sha256sum` of the copy before that |

mod by_hand;
mod database;

use std::path::Path;

use ops_backup::{Depth, Settings, SourceSpec, Vault, open_store};
use ops_core::{Context, Environment};
use tokio::runtime::Runtime;

use crate::Failure;
use crate::measurement::Measurement;
use crate::rounds::{Side, alternate, timed};
use by_hand::ByHand;
pub(crate) use by_hand::need_programs;

pub(crate) fn measure(
    quick: bool,
    dir: &Path,
    runtime: &Runtime,
) -> Result<Vec<Measurement>, Failure> {
    let (megabytes, rounds) = if quick { (64, 7) } else { (256, 15) };
    let path = dir.join("app.db");
    // Held open: the last connection to close would fold the log into the database.
    let live = runtime.block_on(database::generate(&path, megabytes << 20))?;

    let cx = Context::builder(dir.join("state")).environment(Environment::Development).build();
    let store = dir.join("store");
    let source = [SourceSpec::sqlite(&path)];
    let mut is_first = true;
    let ours = || {
        let url = format!("file://{}", store.display());
        let vault = runtime.block_on(Vault::open(open_store(&url)?, &url))?;
        settle(dir)?;
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
    let level = Settings::default().zstd_level;
    let by_hand = |name: &str, checked| {
        let mut hand =
            ByHand::new(&path, dir.join(if checked { "checked" } else { "plain" }), level);
        Side::new(name, move || {
            settle(dir)?;
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
    let found = alternate(&format!("SQLite backup of {megabytes} MiB"), rounds, 1, sides);
    runtime.block_on(database::close(live))?;
    let size = std::fs::metadata(&path)?.len() as f64;
    let rate = |mut one: Measurement| {
        if !one.is_ratio() {
            one.extra = format!("{}; {:.0} MB/s", one.extra, size / one.value * 1e3);
        }
        one
    };
    Ok(found?.into_iter().map(rate).collect())
}

/// Waits until the disk has nothing left to do for the one before.
fn settle(dir: &Path) -> Result<(), Failure> {
    Ok(rustix::fs::syncfs(std::fs::File::open(dir)?)?)
}
