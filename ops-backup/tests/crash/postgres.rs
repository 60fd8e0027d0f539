//! Drills, restores and maintenance of PostgreSQL databases, killed.

use std::sync::LazyLock;

use super::*;

/// The server, and the name that the databases of this test begin with.
static SERVER: LazyLock<(url::Url, String)> = LazyLock::new(|| {
    let url = std::env::var("OPS_TEST_POSTGRES_URL")
        .expect("OPS_TEST_POSTGRES_URL must name a PostgreSQL server: run scripts/test");
    (url.parse().unwrap(), format!("ops_crash_{}", std::process::id()))
});

fn sql(database: &str, sql: &str) -> Result<String, String> {
    let url = &SERVER.0;
    let output = Command::new("psql")
        .env("PGHOST", url.host_str().unwrap())
        .env("PGPORT", url.port().unwrap_or(5432).to_string())
        .env("PGUSER", url.username())
        .env("PGPASSWORD", url.password().unwrap_or_default())
        .env("PGDATABASE", database)
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .output()
        .map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn address(dir: &Path, database: &str) {
    let (url, pass) = (&SERVER.0, dir.join("pass"));
    let line = format!("*:*:*:*:{}\n", url.password().unwrap_or_default());
    fs::write(&pass, line).unwrap();
    fs::set_permissions(&pass, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (user, host) = (url.username(), url.host_str().unwrap());
    let port = url.port().unwrap_or(5432);
    let pass = pass.display();
    let address = format!("postgres://{user}@{host}:{port}/{database}?passfile={pass}");
    fs::write(dir.join("url"), address).unwrap();
}

/// The database of a round: another one each time, for the last round's may still be dropped.
fn base(dir: &Path) -> String {
    let tail: String = dir.file_name().unwrap().to_str().unwrap().to_lowercase();
    format!("{}_{}", SERVER.1, tail.trim_start_matches('.'))
}

/// The rows of the only table.
fn rows(database: &str) -> Result<String, String> {
    sql(database, "SELECT string_agg(n::text, ',' ORDER BY n) FROM t")
}

/// The databases of a name and of those that begin with it, in the order of their names.
fn databases(beginning: &str) -> Result<Vec<String>, String> {
    let names = format!(
        "SELECT datname FROM pg_database WHERE starts_with(datname, '{beginning}') ORDER BY 1"
    );
    Ok(sql("postgres", &names)?.lines().map(str::to_owned).collect())
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

/// A database with one table of one row, of which there is a verified backup in `dir`.
fn backed_up_database(dir: &Path, name: &str) {
    sql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
    sql(name, "CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t VALUES (1)").unwrap();
    back_up(dir, name);
}

fn back_up(dir: &Path, name: &str) {
    address(dir, name);
    assert!(program(dir, "postgres-back-up").status().unwrap().success());
}

/// What a restore makes of a database: the new one, and the old one beside it.
fn state(base: &str) -> Result<State, String> {
    let closed = format!(
        "SELECT count(*) FROM pg_database WHERE starts_with(datname, '{base}') AND NOT datallowconn"
    );
    if sql("postgres", &closed)? != "0" {
        return Err("a database lets nobody in".into());
    }
    let names = databases(base)?;
    let content: Result<Vec<_>, _> = names.iter().map(|name| rows(name)).collect();
    let content = content?;
    let content: Vec<_> = content.iter().map(String::as_str).collect();
    match (&*names, &*content) {
        ([only], ["1,2"]) if only == base => Ok(State::Old),
        ([new, old], ["1", "1,2"])
            if new == base && old.starts_with(&format!("{base}_before_")) =>
        {
            Ok(State::New)
        }
        _ => Err(format!("between: {names:?} {content:?}")),
    }
}

/// As it was before any restore: the one with both rows has its name again, the others are dropped.
fn reset(base: &str) -> Result<(), String> {
    let kept = |name: &String| Ok::<_, String>((name.clone(), rows(name)? == "1,2"));
    for (name, kept) in databases(base)?.iter().map(kept).collect::<Result<Vec<_>, _>>()? {
        if !kept {
            sql("postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)"))?;
        } else if name != base {
            sql("postgres", &format!("ALTER DATABASE \"{name}\" RENAME TO {base}"))?;
        }
    }
    Ok(())
}

fn drop_all(beginning: &str) {
    for name in databases(beginning).unwrap() {
        sql("postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)")).unwrap();
    }
}

#[test]
fn a_drill_of_postgres_killed_at_every_place_leaves_no_scratch_database() {
    let first = tempfile::tempdir().unwrap();
    let database = format!("{}_drilled", SERVER.1);
    backed_up_database(first.path(), &database);
    let store = first.path().join("store");
    let from = database.clone();
    let summary = CrashTest::new()
        .setup(move |dir| {
            address(dir, &from);
            copy(&store, dir);
            Ok(())
        })
        .operation(|dir| program(dir, "postgres-drill"))
        .recovery(|dir| program(dir, "postgres-recover"))
        .check(|dir| {
            // Those of tests that run at the same time are other operations'.
            let journals = walkdir::WalkDir::new(dir.join("state")).into_iter().flatten();
            let names = journals.map(|e| e.file_name().to_str().unwrap().to_lowercase());
            for id in names.filter_map(|name| Some(name.split_once('.')?.0.to_owned())) {
                let left = format!(
                    "SELECT count(*) FROM pg_database WHERE starts_with(datname, 'ops_drill_{id}')"
                );
                if sql("postgres", &left)? != "0" {
                    return Err("a scratch database is left".to_owned());
                }
            }
            drilled(dir)
        })
        .every(3)
        .recovery_every(41)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    drop_all(&database);
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
}

/// How many threads share the places: each round makes and drops databases, and waits.
const SHARES: u64 = 4;

/// Runs the shares of a test, and answers every place of all of them.
fn shared(
    shares: u64,
    share: impl Fn(u64) -> Result<ops_core::crash::Summary, String> + Sync,
) -> BTreeMap<String, u64> {
    let ended: Vec<_> = std::thread::scope(|threads| {
        let all: Vec<_> = (1..=shares)
            .map(|at| {
                threads.spawn({
                    let share = &share;
                    move || share(at)
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut places = BTreeMap::new();
    for share in ended {
        let share = share.unwrap_or_else(|e| panic!("{e}"));
        assert!(share.old > 0 && share.new > 0, "{share}");
        places.extend(share.places);
    }
    places
}

/// Over a database, with a role that the server lacks. Roles are the server's: each share has one.
#[test]
fn a_restore_of_postgres_killed_at_every_place_is_old_or_new() {
    let share = |share: u64| {
        let first = tempfile::tempdir().unwrap();
        let (name, role) = (format!("{}_{share}", SERVER.1), format!("{}_role_{share}", SERVER.1));
        sql("postgres", &format!("CREATE ROLE {role}"))?;
        sql("postgres", &format!("CREATE DATABASE {name}"))?;
        let table = "CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t VALUES (1)";
        sql(&name, &format!("{table}; ALTER TABLE t OWNER TO {role}"))?;
        back_up(first.path(), &name);
        let own = "INSERT INTO t VALUES (2); ALTER TABLE t OWNER TO CURRENT_USER";
        sql(&name, &format!("{own}; DROP ROLE {role}"))?;
        let store = first.path().join("store");
        let (own, found) = ((name.clone(), role.clone()), (name.clone(), role));
        let ended = CrashTest::new()
            .setup(move |dir| {
                let (name, role) = &own;
                address(dir, name);
                copy(&store, dir);
                reset(name)?;
                sql("postgres", &format!("DROP ROLE IF EXISTS {role}")).map(drop)
            })
            .operation(|dir| program(dir, "postgres-restore"))
            .recovery(|dir| program(dir, "postgres-recover"))
            .check(move |_| {
                let (name, role) = &found;
                let state = state(name)?;
                let role = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'");
                match (state, &*sql("postgres", &role)?) {
                    (State::Old, "0") | (State::New, "1") => Ok(state),
                    (_, roles) => Err(format!("{state:?} with {roles} roles")),
                }
            })
            .first(share)
            .every(SHARES)
            .recovery_every(37)
            .run();
        drop_all(&name);
        sql("postgres", &format!("DROP ROLE IF EXISTS {}_role_{share}", SERVER.1))?;
        ended
    };
    let places = shared(SHARES, share);
    for place in [
        "created a role",
        "created the new database",
        "blocked the old database",
        "swapped the names",
    ] {
        assert!(places.contains_key(place), "{place}: {places:?}");
    }
}

#[test]
fn a_restore_of_a_part_killed_at_every_place_is_whole_or_nothing() {
    let first = tempfile::tempdir().unwrap();
    let whole = format!("{}_whole", SERVER.1);
    sql("postgres", &format!("CREATE DATABASE {whole}")).unwrap();
    let tables = "CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t VALUES (1), (2);
        CREATE TABLE others (n int REFERENCES t); INSERT INTO others VALUES (1)";
    sql(&whole, tables).unwrap();
    back_up(first.path(), &whole);
    let store = first.path().join("store");
    let share = |share: u64| {
        let store = store.clone();
        CrashTest::new()
            .setup(move |dir| {
                address(dir, &base(dir));
                copy(&store, dir);
                Ok(())
            })
            .operation(|dir| program(dir, "postgres-restore-part"))
            .recovery(|dir| program(dir, "postgres-recover"))
            .check(|dir| {
                let base = base(dir);
                match &*databases(&base)? {
                    [] => Ok(State::Old),
                    [only] if *only == base => {
                        let others = sql(&base, "SELECT to_regclass('others') IS NULL")?;
                        match (&*rows(&base)?, &*others) {
                            ("1,2", "t") => Ok(State::New),
                            found => Err(format!("between: {found:?}")),
                        }
                    }
                    names => Err(format!("between: {names:?}")),
                }
            })
            .teardown(|dir| drop_all(&base(dir)))
            .first(share)
            .every(2)
            .recovery_every(101)
            .run()
    };
    let places = shared(2, share);
    drop_all(&whole);
    let place = "dropped what was not chosen";
    assert!(places.contains_key(place), "{places:?}");
}

#[test]
fn an_undone_restore_of_postgres_killed_at_every_place_is_as_restored_or_as_before() {
    let (first, name) = (tempfile::tempdir().unwrap(), format!("{}_undone", SERVER.1));
    backed_up_database(first.path(), &name);
    sql(&name, "INSERT INTO t VALUES (2)").unwrap();
    assert!(program(first.path(), "postgres-restore").status().unwrap().success());
    let names = databases(&name).unwrap();
    let [_, kept] = &*names else { panic!("{names:?}") };
    let (from, own, old) = (first.path().to_owned(), name.clone(), kept.clone());
    let (found, still) = (name.clone(), kept.clone());
    let summary = CrashTest::new()
        .setup(move |dir| {
            address(dir, &own);
            copy(&from.join("store"), dir);
            copy(&from.join("state"), dir);
            // As the restore left them, whatever became of them since.
            for database in databases(&own)? {
                let was = if rows(&database)? == "1" { "restored" } else { "original" };
                let rename = format!("ALTER DATABASE \"{database}\" RENAME TO {was}_{own}");
                sql("postgres", &rename)?;
            }
            sql("postgres", &format!("ALTER DATABASE restored_{own} RENAME TO {own}"))?;
            sql("postgres", &format!("ALTER DATABASE original_{own} RENAME TO {old}")).map(drop)
        })
        .operation(|dir| program(dir, "postgres-undo-restore"))
        .recovery(|dir| program(dir, "postgres-recover"))
        .check(move |_| {
            let names = databases(&found)?;
            let rows: Result<Vec<_>, _> = names.iter().map(|name| rows(name)).collect();
            let rows = rows?;
            let rows: Vec<_> = rows.iter().map(String::as_str).collect();
            match (&*names, &*rows) {
                ([live, beside], ["1", "1,2"]) if *live == found && *beside == still => {
                    Ok(State::Old)
                }
                ([live, _], ["1,2", "1"]) if *live == found => Ok(State::New),
                _ => Err(format!("between: {names:?} {rows:?}")),
            }
        })
        .recovery_every(37)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    drop_all(&name);
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
    let place = "swapped the names";
    assert!(summary.places.contains_key(place), "{summary:?}");
}

/// A database that is maintained, and backups of which there is a verified one; the same for all
/// rounds.
fn maintained(name: &str, tables: &str) -> tempfile::TempDir {
    let first = tempfile::tempdir().unwrap();
    sql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
    sql(name, tables).unwrap();
    back_up(first.path(), name);
    assert!(program(first.path(), "postgres-verify").status().unwrap().success());
    first
}

#[test]
fn a_deletion_of_old_rows_killed_at_every_place_has_not_begun_or_is_finished() {
    let name = format!("{}_deleted", SERVER.1);
    let first = maintained(&name, "CREATE TABLE events (id int, at timestamptz)");
    let (store, own, found) = (first.path().join("store"), name.clone(), name.clone());
    let summary = CrashTest::new()
        .setup(move |dir| {
            address(dir, &own);
            copy(&store, dir);
            let rows = "TRUNCATE events; INSERT INTO events SELECT n, now() - n * interval '1 day'
                FROM generate_series(1, 9) n";
            sql(&own, rows).map(drop)
        })
        .operation(|dir| program(dir, "postgres-delete"))
        .recovery(|dir| program(dir, "postgres-recover-maintenance"))
        .check(move |_| {
            let rows = "SELECT string_agg(id::text, '' ORDER BY id) FROM events";
            match &*sql(&found, rows)? {
                "123456789" => Ok(State::Old),
                "1234" => Ok(State::New),
                rows => Err(format!("between: {rows}")),
            }
        })
        .recovery_every(41)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    drop_all(&name);
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
    assert!(summary.places.contains_key("deleted a batch"), "{summary:?}");
}

#[test]
fn a_reindex_killed_at_every_place_leaves_nothing_half_built() {
    let name = format!("{}_reindexed", SERVER.1);
    let table = "CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 100);
        CREATE INDEX built ON t (n)";
    let first = maintained(&name, table);
    let (store, own, found) = (first.path().join("store"), name.clone(), name.clone());
    let summary = CrashTest::new()
        .setup(move |dir| {
            address(dir, &own);
            copy(&store, dir);
            // And what a server that was killed while it built leaves.
            let invalid = "DROP INDEX IF EXISTS built_ccnew; CREATE INDEX built_ccnew ON t (n);
                UPDATE pg_index SET indisvalid = false
                    WHERE indexrelid IN ('built'::regclass, 'built_ccnew'::regclass)";
            sql(&own, invalid).map(drop)
        })
        .operation(|dir| program(dir, "postgres-reindex"))
        .recovery(|dir| program(dir, "postgres-recover-maintenance"))
        .check(move |_| {
            let built = "SELECT string_agg(relname || ' ' || indisvalid, ',' ORDER BY relname)
                FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE indrelid = 't'::regclass";
            match &*sql(&found, built)? {
                "built true" => Ok(State::New),
                "built false" | "built false,built_ccnew false" => Ok(State::Old),
                indexes => Err(format!("between: {indexes}")),
            }
        })
        .recovery_every(41)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    drop_all(&name);
    assert!(summary.old > 0 && summary.new > 0, "{summary}");
    assert!(summary.places.contains_key("built an index anew"), "{summary:?}");
}
