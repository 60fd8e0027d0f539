//! Restores into a new database.

use std::process::Command;

use super::subject::Subject;
use crate::Failure;
use crate::child::output;
use crate::rounds::{Benchmark, Cost, Side};

const TARGET: &str = "restored";

/// What a side starts.
type Restore = Box<dyn Fn(&Subject) -> Result<Cost, Failure>>;

/// Ours gathers statistics, and reads every row again to compare it with the backup, or compares only
/// their number (`counted`), which nobody has to read anything for. A peer compares nothing, and
/// gathers statistics only where its name says so.
pub(super) fn restore(
    subject: &Subject,
    rounds: usize,
    counted: bool,
) -> Result<Benchmark, Failure> {
    let folder = subject.folder.join(if counted { "restore-counted" } else { "restore" });
    std::fs::create_dir(&folder)?;
    output(&mut subject.script(&folder, "pg_dump | zstd -3 -T2 -q -o out.zst"))?;
    output(&mut subject.script(&folder, "pg_dump -Fd -j2 -f out"))?;
    let store = folder.join("store");
    subject.ours("back-up", &store, &[])?;
    let rows = subject.rows(&subject.database)?;

    let side = |name: &str, restore: Restore| {
        let subject = subject.clone();
        Side::new(name, move || {
            subject.server.ask("postgres", &format!("DROP DATABASE IF EXISTS {TARGET}"))?;
            subject.server.settle()?;
            let cost = restore(&subject)?;
            let found = subject.rows(TARGET)?;
            if found != rows {
                return Err(format!("{found} rows were restored of {rows}").into());
            }
            let of = "SELECT count(*) FROM pg_index WHERE indisvalid AND indrelid >= 16384";
            let indexes = |database: &str| subject.server.ask(database, of);
            if indexes(TARGET)? != indexes(&subject.database)? {
                return Err("indexes are missing".into());
            }
            Ok(cost)
        })
    };
    let script = |then: &str| -> Restore {
        let (folder, script) = (folder.clone(), format!("createdb {TARGET} && {then}"));
        Box::new(move |subject| {
            let mut command: Command = subject.script(&folder, &script);
            Ok(subject.server.measured(&mut command)?.1)
        })
    };
    let how = if counted { "counted" } else { "compared" };
    let ours = move |subject: &Subject| Ok(subject.ours("restore", &store, &[TARGET, how])?.cost);
    let mut sides = vec![
        side("ops", Box::new(ours)),
        side(
            "peer: zstd | psql",
            script(&format!(
                "zstd -dc out.zst | psql -Xq -v ON_ERROR_STOP=1 -o /dev/null -d {TARGET}"
            )),
        ),
        side("peer: pg_restore -j2", script(&format!("pg_restore -j2 -d {TARGET} out"))),
        side(
            "peer: pg_restore -j2, analyzed",
            script(&format!("pg_restore -j2 -d {TARGET} out && psql -Xq -d {TARGET} -c ANALYZE")),
        ),
    ];
    if counted {
        sides.remove(1);
    }
    let group = subject.group(if counted { "restore, rows counted" } else { "restore" });
    Ok(Benchmark { group, items: 1, bytes: None, rounds, sides })
}
