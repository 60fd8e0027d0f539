//! Backups: the first one, and one after a change.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::program::SET;
use super::subject::{Subject, size};
use crate::child::output;
use crate::rounds::{Benchmark, Cost, Side};
use crate::{Failure, Wish};

/// What a peer does in a new folder, and how its result is looked at.
struct Peer {
    name: &'static str,
    /// Before the time begins.
    before: String,
    script: String,
    /// What prints the dump again, as the text of `pg_dump`.
    prints: String,
}

const RESTIC: &str = "export RESTIC_REPOSITORY=$PWD/repository RESTIC_PASSWORD=bench \
                      RESTIC_CACHE_DIR=$PWD/cache RESTIC_PROGRESS_FPS=0;";

fn peers(wish: &Wish) -> Vec<Peer> {
    let peer = |name, script: &str, prints: &str| Peer {
        name,
        before: String::new(),
        script: script.to_owned(),
        prints: prints.to_owned(),
    };
    let mut all = vec![
        peer("peer: pg_dump | gzip", "pg_dump | gzip > out && sync out .", "gzip -dc out"),
        peer(
            "peer: pg_dump | zstd -3 -T2",
            "pg_dump | zstd -3 -T2 -q -o out && sync out .",
            "zstd -dc out",
        ),
        peer("peer: pg_dump -Fc", "pg_dump -Fc -f out && sync out .", "pg_restore -f - out"),
        peer(
            "peer: pg_dump -Fd -j2",
            "pg_dump -Fd -j2 -f out && sync out/* out .",
            "pg_restore -f - out",
        ),
    ];
    if !wish.is_without("restic") {
        all.push(Peer {
            name: "peer: pg_dump | restic",
            before: format!("{RESTIC} restic init -q"),
            script: restic(),
            prints: format!("{RESTIC} restic dump latest /dump"),
        });
    }
    all
}

fn restic() -> String {
    // It syncs what it writes by itself.
    format!("{RESTIC} pg_dump | restic backup -q --stdin --stdin-filename dump")
}

/// The first backup of a database.
pub(super) fn first(subject: &Subject, wish: &Wish, rounds: usize) -> Result<Benchmark, Failure> {
    let group = subject.group("backup");
    let expected = Rc::new(subject.digest(&subject.folder, "pg_dump")?);
    let mut sides = vec![ours(subject, "first")?];
    for (at, peer) in peers(wish).into_iter().enumerate() {
        let (subject, expected) = (subject.clone(), Rc::clone(&expected));
        let folder = subject.folder.join(format!("peer-{at}"));
        let mut looked = false;
        sides.push(Side::new(peer.name, move || {
            std::fs::create_dir(&folder)?;
            output(&mut subject.script(&folder, &peer.before))?;
            let empty = size(&folder)?;
            subject.server.settle()?;
            let cost = subject.server.measured(&mut subject.script(&folder, &peer.script))?.1;
            let stored = size(&folder)? - empty;
            if !std::mem::replace(&mut looked, true) {
                let found = subject.digest(&folder, &peer.prints)?;
                if found != *expected {
                    return Err(format!("`{}` gives another dump: {found}", peer.script).into());
                }
            }
            std::fs::remove_dir_all(&folder)?;
            Ok(cost.with("stored", stored))
        }));
    }
    if !wish.is_without("pgbackrest") {
        sides.push(pgbackrest(subject));
    }
    sides.push(raw_copy(subject)?);
    let bytes = Some(u64::from(subject.size) * 1_000_000);
    Ok(Benchmark { group, items: 1, bytes, rounds, sides })
}

/// Ours alone, for its memory.
pub(super) fn alone(subject: &Subject) -> Result<Benchmark, Failure> {
    let (group, sides) = (subject.group("backup alone"), vec![ours(subject, "alone")?]);
    Ok(Benchmark { group, items: 1, bytes: None, rounds: 2, sides })
}

fn ours(subject: &Subject, store: &str) -> Result<Side, Failure> {
    let (rows, subject) = (subject.rows(&subject.database)?, subject.clone());
    let store = subject.folder.join(format!("store-{store}"));
    let mut looked = false;
    Ok(Side::new("ops", move || {
        subject.server.settle()?;
        let made = subject.ours("back-up", &store, &[])?;
        let plain = &made.said["plain"];
        if made.said["rows"] != rows {
            return Err(format!("{} has {rows} rows: {}", subject.database, made.said).into());
        }
        let stored = size(&store)?;
        if !std::mem::replace(&mut looked, true) {
            let verified = subject.ours("verify", &store, &[])?.said;
            if verified["plain"] != *plain {
                return Err(format!("of {plain} bytes, these were verified: {verified}").into());
            }
        }
        std::fs::remove_dir_all(&store)?;
        Ok(made.cost.with("stored", stored))
    }))
}

/// The files of the whole server, with their indexes, and what is in the log.
fn pgbackrest(subject: &Subject) -> Side {
    let subject = subject.clone();
    let folder = subject.folder.join("pgbackrest");
    let mut looked = false;
    Side::new("peer: pgbackrest, files", move || {
        std::fs::create_dir(&folder)?;
        subject.server.give(&folder)?;
        let run = |verb: &str| {
            let mut command = subject.server.as_owner("pgbackrest");
            command.current_dir("/");
            let (data, repository) = (subject.server.data(), folder.join("repository"));
            let mut options = vec![("repo1-path", &*repository)];
            // Verbs that only look at the repository know of no server, and take no lock.
            if ["stanza-create", "backup"].contains(&verb) {
                options.push(("lock-path", &*folder));
                options
                    .extend([("pg1-path", &*data), ("pg1-socket-path", subject.server.folder())]);
                command.arg("--pg1-user=postgres");
            }
            for (name, value) in options {
                command.arg(format!("--{name}={}", value.display()));
            }
            command.args(["--stanza=bench", "--log-level-file=off"]);
            if verb == "backup" {
                command.args(["--compress-type=zst", "--compress-level=3", "--process-max=2"]);
                command.args(["--no-archive-check", "--start-fast", "--type=full"]);
            }
            command.arg(verb);
            command
        };
        output(&mut run("stanza-create"))?;
        subject.server.settle()?;
        let cost = subject.server.measured(&mut run("backup"))?.1;
        let stored = size(&folder)?;
        if !std::mem::replace(&mut looked, true) {
            let told = output(run("info").arg("--output=json"))?;
            let told: serde_json::Value = serde_json::from_str(&told)?;
            let made = &told[0]["backup"][0];
            if made["error"] != false || made["type"] != "full" {
                return Err(format!("pgbackrest says of its backup: {told}").into());
            }
            output(&mut run("verify"))?;
        }
        std::fs::remove_dir_all(&folder)?;
        Ok(cost.with("stored", stored))
    })
}

/// What the server needs to give all rows to two clients that throw them away: the limit.
fn raw_copy(subject: &Subject) -> Result<Side, Failure> {
    let folder = subject.folder.join("raw");
    std::fs::create_dir(&folder)?;
    let mut statements = Vec::new();
    for table in super::data::ALL {
        let sql = format!("SELECT pg_relation_size('{table}') / 8192");
        let blocks: u64 = subject.server.ask(&subject.database, &sql)?.parse()?;
        for from in (0..blocks.max(1)).step_by(8192) {
            let to = from + 8192;
            statements.push(format!(
                "COPY (SELECT * FROM {table} WHERE ctid >= '({from},0)' AND ctid < '({to},0)') TO STDOUT;\n"
            ));
        }
    }
    for (at, name) in ["even.sql", "odd.sql"].into_iter().enumerate() {
        let every: String = statements.iter().skip(at).step_by(2).map(String::as_str).collect();
        std::fs::write(folder.join(name), every)?;
    }
    let (rows, subject) = (subject.rows(&subject.database)?, subject.clone());
    let script = |into: &str| {
        let psql = |file: &str| format!("psql -XAtq -v ON_ERROR_STOP=1 -f {file} {into}");
        format!("{} & {} && wait $!", psql("even.sql"), psql("odd.sql"))
    };
    let (throws_away, counts) = (script("> /dev/null"), script("| wc -l"));
    let mut looked = false;
    Ok(Side::new("peer: raw parallel COPY", move || {
        if !std::mem::replace(&mut looked, true) {
            let found = output(&mut subject.script(&folder, &counts))?;
            let found: u64 = found.lines().map(|line| line.parse().unwrap_or(0)).sum();
            if found != rows {
                return Err(format!("{found} rows were copied of {rows}").into());
            }
        }
        subject.server.settle()?;
        Ok(subject.server.measured(&mut subject.script(&folder, &throws_away))?.1)
    }))
}

/// A backup after a change of one per cent of the accounts: those that follow one another, or every
/// hundredth.
pub(super) fn second(subject: &Subject, wish: &Wish, rounds: usize, localised: bool) -> Benchmark {
    let kind = if localised { "localised" } else { "scattered" };
    let condition =
        if localised { "aid <= (SELECT max(aid) / 100 FROM accounts)" } else { "aid % 100 = 0" };
    let change = format!("UPDATE accounts SET abalance = abalance + 1 WHERE {condition}");
    let side = |subject: &Subject, place: PathBuf, back_up: BackUp| {
        let (subject, change) = (subject.clone(), change.clone());
        move || {
            let first = !place.exists();
            if first {
                back_up(&subject, &place, true)?;
            }
            // The space of old rows is used again, as in any database that lives.
            subject.server.ask(&subject.database, "VACUUM accounts")?;
            subject.server.ask(&subject.database, &change)?;
            let before = size(&place)?;
            subject.server.settle()?;
            let cost = back_up(&subject, &place, false)?;
            Ok(cost.with("stored", size(&place)? - before))
        }
    };
    let store = |name: &str| subject.folder.join(format!("{name}-{kind}"));
    let ours: BackUp = |subject, place, _| Ok(subject.ours("back-up", place, &[])?.cost);
    let mut sides = vec![Side::new("ops", side(subject, store("store"), ours))];
    if !wish.is_without("restic") {
        let by_restic: BackUp = |subject, place, first| {
            if first {
                std::fs::create_dir(place)?;
                output(&mut subject.script(place, &format!("{RESTIC} restic init -q")))?;
            }
            Ok(subject.server.measured(&mut subject.script(place, &restic()))?.1)
        };
        sides.push(Side::new("peer: pg_dump | restic", side(subject, store("restic"), by_restic)));
    }
    let group = subject.group(&format!("backup after a {kind} change of 1 % of the accounts"));
    Benchmark { group, items: 1, bytes: None, rounds, sides }
}

/// Backs up into a folder; whether for the first time.
type BackUp = fn(&Subject, &Path, bool) -> Result<Cost, Failure>;

/// Every byte read and checked.
pub(super) fn verify(subject: &Subject, wish: &Wish, rounds: usize) -> Benchmark {
    let store = subject.folder.join("store-verified");
    let own = subject.clone();
    let mut sides = vec![Side::new("ops", move || {
        if !store.exists() {
            own.ours("back-up", &store, &[])?;
        }
        let verified = own.ours("verify", &store, &[])?;
        Ok(verified.cost)
    })];
    if !wish.is_without("restic") {
        let (folder, subject) = (subject.folder.join("restic-verified"), subject.clone());
        sides.push(Side::new("peer: restic check --read-data", move || {
            if !folder.exists() {
                std::fs::create_dir(&folder)?;
                let script = format!("{RESTIC} restic init -q; {}", restic());
                output(&mut subject.script(&folder, &script))?;
            }
            let check = format!("{RESTIC} restic check -q --read-data");
            Ok(subject.server.measured(&mut subject.script(&folder, &check))?.1)
        }));
    }
    Benchmark {
        group: subject.group(&format!("verify all of set `{SET}`")),
        items: 1,
        bytes: None,
        rounds,
        sides,
    }
}
