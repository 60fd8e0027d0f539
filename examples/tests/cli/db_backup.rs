use std::path::Path;

use ops_examples::guestbook::rows;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::runtime::Runtime;

use crate::answer::{Answer, run};
use crate::qdrant_server::Server;

fn write(path: &Path, row: &str) {
    Runtime::new().unwrap().block_on(async {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let mut db = options.connect().await.unwrap();
        let table = "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, message TEXT)";
        sqlx::query(table).execute(&mut db).await.unwrap();
        let insert = sqlx::query("INSERT INTO entries (message) VALUES (?)");
        insert.bind(row.to_owned()).execute(&mut db).await.unwrap();
        sqlx::Connection::close(db).await.unwrap();
    });
}

fn read(path: &Path) -> Vec<String> {
    Runtime::new().unwrap().block_on(rows(path)).unwrap()
}

fn db_backup(dir: &Path, words: &str) -> Answer {
    let words = words.replace("DIR", dir.to_str().unwrap());
    let store = format!("file://{}", dir.join("backups").display());
    let state = dir.join("state");
    let more = ["--json", "--store", &store, "--state-dir", state.to_str().unwrap()];
    run(env!("CARGO_BIN_EXE_db-backup"), &words, &more)
}

#[test]
fn a_database_is_backed_up_verified_and_restored_after_an_approval() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, path) = (dir.path(), dir.path().join("app.db"));
    write(&path, "before");

    db_backup(dir, "create --set nightly --source sqlite:DIR/app.db --dry-run").expect(0);
    let list = || db_backup(dir, "list --set nightly").expect(0).json["backups"].clone();
    assert_eq!(list(), serde_json::json!([]), "a dry run made a backup");
    db_backup(dir, "create --set nightly --source sqlite:DIR/app.db").expect(3);
    assert_eq!(list(), serde_json::json!([]), "a refused backup was made");

    let made = db_backup(dir, "create --yes --set nightly --source sqlite:DIR/app.db").expect(0);
    let id = made.json["backup"]["id"].as_str().unwrap().to_owned();
    assert_eq!(list()[0]["id"], id.as_str());
    let whole = db_backup(dir, "verify latest --set nightly").expect(0);
    assert_eq!((&whole.json["backup"], &whole.json["whole"]), (&id.clone().into(), &true.into()));
    for often in ["day", "week"] {
        let verify = format!("verify latest --subset {often} --store-limit 10M --set nightly");
        let part = db_backup(dir, &verify).expect(0).json;
        assert_eq!(part["objects"], whole.json["objects"]);
        assert!(part["read"].as_u64() <= part["objects"].as_u64(), "{part}");
    }

    write(&path, "after");
    let restore = format!("restore {id} --set nightly --to sqlite:DIR/app.db");
    let planned = db_backup(dir, &format!("{restore} --dry-run")).expect(0);
    let digest = planned.json["digest"].as_str().unwrap();
    // Production, and nobody approves.
    let refused = db_backup(dir, &restore).expect(3);
    assert_eq!(refused.json["report"]["outcome"], "refused");
    assert_eq!(read(&path), ["before", "after"]);

    // A backup of production does not land elsewhere by accident.
    db_backup(dir, &format!("{restore} --yes --environment staging")).expect(3);
    assert_eq!(read(&path), ["before", "after"]);

    let restored = db_backup(dir, &format!("{restore} --approve {digest}")).expect(0);
    assert_eq!(read(&path), ["before"]);
    let kept = std::fs::read_dir(dir)
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_str().unwrap().starts_with("app.db.before-"));
    assert_eq!(read(&kept.expect("what was replaced is kept").path()), ["before", "after"]);
    db_backup(dir, "recover").expect(0);

    let undo = format!("undo-restore {}", restored.json["report"]["id"].as_str().unwrap());
    let planned = db_backup(dir, &format!("{undo} --dry-run")).expect(0);
    assert!(planned.json["plan"]["facts"]["kept"].as_str().unwrap().contains("app.db.before-"));
    db_backup(dir, &undo).expect(3);
    db_backup(dir, &format!("{undo} --yes")).expect(0);
    assert_eq!(read(&path), ["before", "after"]);
    let gone = db_backup(dir, &format!("{undo} --yes")).expect(3);
    assert!(gone.err.contains("is gone"), "{}", gone.err);
    let made = made.json["report"]["id"].as_str().unwrap();
    let none = db_backup(dir, &format!("undo-restore {made}")).expect(3);
    assert!(none.err.contains("replaced nothing"), "{}", none.err);
}

#[test]
fn what_may_pass_by_itself_is_told_from_what_stays() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = taken.local_addr().unwrap();
    drop(taken);
    for (source, class) in [
        (format!("postgres://ops@{nobody}/shop"), "temporary"),
        ("sqlite:DIR/none.db".to_owned(), "permanent"),
    ] {
        let create = format!("create --yes --set nightly --source {source}");
        let refused = db_backup(dir.path(), &create).expect(3);
        assert_eq!(refused.json["class"], class, "{}", refused.json);
        let passes = refused.json["reasons"][0]["class"] == "temporary";
        assert_eq!(passes, class == "temporary", "{}", refused.json);
    }
}

#[test]
fn a_damaged_backup_needs_a_person_and_is_never_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, path) = (dir.path(), dir.path().join("app.db"));
    write(&path, "row");
    db_backup(dir, "create --yes --set nightly --source sqlite:DIR/app.db").expect(0);

    let mut largest = (0, dir.to_owned());
    let mut folders = vec![dir.join("backups")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let (path, meta) = (entry.path(), entry.metadata().unwrap());
            if meta.is_dir() {
                folders.push(path);
            } else if meta.len() > largest.0 && !path.ends_with("manifest.json") {
                largest = (meta.len(), path);
            }
        }
    }
    let mut bytes = std::fs::read(&largest.1).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&largest.1, bytes).unwrap();

    let verified = db_backup(dir, "verify latest --set nightly").expect(5);
    assert!(verified.err.contains("is damaged"), "{}", verified.err);
    let restored = db_backup(dir, "restore latest --set nightly --to sqlite:DIR/app.db --yes");
    assert_eq!(restored.code, 4, "{}", restored.err);
    assert_eq!(read(&path), ["row"]);
}

#[test]
fn a_damaged_manifest_needs_a_person_and_a_backup_that_was_made_beside_it_is_told_as_made() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, path) = (dir.path(), dir.path().join("app.db"));
    write(&path, "row");
    let create = "create --yes --set nightly --source sqlite:DIR/app.db";
    let made = db_backup(dir, create).expect(0);
    let id = made.json["backup"]["id"].as_str().unwrap();
    let manifest = dir.join("backups/sets/nightly").join(id).join("manifest.json");
    let mut bytes = std::fs::read(&manifest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();

    for verb in ["verify latest", "show latest", "restore latest --to sqlite:DIR/other.db --yes"] {
        let damaged = db_backup(dir, &format!("{verb} --set nightly")).expect(5);
        assert!(damaged.err.contains("manifest is damaged"), "{verb}: {}", damaged.err);
    }
    let again = db_backup(dir, create).expect(0);
    assert_ne!(again.json["backup"]["id"], id, "{}", again.out);
}

#[test]
fn a_drill_proves_and_a_prune_tells_each_fate_and_keeps_what_is_proven() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, path) = (dir.path(), dir.path().join("app.db"));
    write(&path, "row");
    let made: Vec<_> = (0..3)
        .map(|_| {
            let words = "create --yes --set nightly --source sqlite:DIR/app.db";
            let made = db_backup(dir, words).expect(0);
            made.json["backup"]["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let list = || db_backup(dir, "list --set nightly").expect(0).json;
    assert!(list()["last_proven"].is_null());
    let drill = format!("drill {} --set nightly", made[1]);
    db_backup(dir, &drill).expect(3);
    let drilled = db_backup(dir, &format!("{drill} --yes")).expect(0);
    assert_eq!(
        (&drilled.json["proof"]["whole"], &drilled.json["proof"]["rows"]),
        (&true.into(), &1.into())
    );
    assert_eq!(list()["last_proven"]["backup"], made[1].as_str());
    assert_eq!(list()["backups"][1]["proof"]["proof"], "drill");

    let prune = "prune --set nightly --keep-last 1 --keep-yearly 1";
    let planned = db_backup(dir, &format!("{prune} --dry-run")).expect(0);
    let fate = |what: &str, at: usize| {
        planned.json["plan"]["facts"][format!("{what} {}", made[at])].as_str().unwrap().to_owned()
    };
    assert!(fate("keep", 2).contains("one of the newest, yearly"));
    assert_eq!(fate("keep", 1), "the newest that is verified");
    assert_eq!(fate("delete", 0), "no rule keeps it");
    // It destroys, so it needs an approval everywhere.
    db_backup(dir, &format!("{prune} --environment development")).expect(3);
    assert_eq!(list()["backups"].as_array().unwrap().len(), 3);
    let digest = planned.json["digest"].as_str().unwrap();
    db_backup(dir, &format!("{prune} --approve {digest}")).expect(0);
    let left: Vec<_> =
        list()["backups"].as_array().unwrap().iter().map(|b| b["id"].clone()).collect();
    assert_eq!(left, made[1..]);
    let again = db_backup(dir, prune).expect(0);
    assert_eq!(again.json["changed"], false);
    for id in &made[1..] {
        db_backup(dir, &format!("verify {id} --set nightly")).expect(0);
    }
    db_backup(dir, &format!("verify {} --set nightly", made[0])).expect(3);
}

/// A file that only its owner reads.
fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// Runs SQL in a database of the test server.
fn postgres(url: &url::Url, database: &str, sql: &str) -> String {
    let mut url = url.clone();
    url.set_path(database);
    Runtime::new().unwrap().block_on(async {
        let options: sqlx::postgres::PgConnectOptions = url.as_str().parse().unwrap();
        let mut db = options.connect().await.unwrap();
        let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_all(&mut db).await.unwrap();
        let first = rows.first().map(|row| sqlx::Row::get::<String, _>(row, 0));
        sqlx::Connection::close(db).await.unwrap();
        first.unwrap_or_default()
    })
}

#[test]
fn a_postgres_database_is_backed_up_and_restored_beside_itself() {
    let admin: url::Url = std::env::var("OPS_TEST_POSTGRES_URL")
        .expect("OPS_TEST_POSTGRES_URL must name a PostgreSQL server: run scripts/test")
        .parse()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (dir, name) = (dir.path(), format!("ops_cli_{}", std::process::id()));
    let pass = dir.join("pass");
    private(&pass, &format!("*:*:*:*:{}\n", admin.password().unwrap_or_default()));
    let (user, host) = (admin.username(), admin.host_str().unwrap());
    let port = admin.port().unwrap_or(5432);
    let url = format!("postgres://{user}@{host}:{port}/{name}?passfile={}", pass.display());

    postgres(&admin, "postgres", &format!("CREATE DATABASE {name}"));
    postgres(&admin, &name, "CREATE TABLE entries (t text); INSERT INTO entries VALUES ('before')");
    let create =
        format!("create --yes --connections 3 --set nightly --source {url} --source globals:{url}");
    let made = db_backup(dir, &create).expect(0);
    let sources = made.json["backup"]["sources"].as_array().unwrap();
    assert_eq!(sources[0], url.as_str());
    postgres(&admin, &name, "UPDATE entries SET t = 'after'");

    let restore = format!("restore latest --set nightly --to {url}");
    let wrong = db_backup(dir, &format!("{restore} --yes --expect-target 1/other")).expect(3);
    assert!(wrong.err.contains("not the configured `1/other`"), "{}", wrong.err);
    let planned = db_backup(dir, &format!("{restore} --dry-run")).expect(0);
    db_backup(dir, &restore).expect(3);
    assert_eq!(postgres(&admin, &name, "SELECT t FROM entries"), "after");
    let digest = planned.json["digest"].as_str().unwrap();
    db_backup(dir, &format!("{restore} --approve {digest} --unknown-space")).expect(3);
    let restored = db_backup(dir, &format!("{restore} --approve {digest}")).expect(0);
    assert_eq!(postgres(&admin, &name, "SELECT t FROM entries"), "before");
    let old = format!("SELECT datname::text FROM pg_database WHERE datname LIKE '{name}_before_%'");
    let old = postgres(&admin, "postgres", &old);
    assert_eq!(postgres(&admin, &old, "SELECT t FROM entries"), "after");
    db_backup(dir, "recover").expect(0);
    let part = url.replace(&format!("/{name}?"), &format!("/{name}_part?"));
    let part = format!("restore latest --set nightly --to {part} --component {url} --create-roles");
    let planned = db_backup(dir, &format!("{part} --only public.entries --dry-run")).expect(0);
    assert_eq!(planned.json["plan"]["facts"]["tables"], "public.entries (1 rows)");
    let none = db_backup(dir, &format!("{part} --only nowhere --yes")).expect(3);
    assert!(none.err.contains("schemas with tables: public"), "{}", none.err);
    let id = restored.json["report"]["id"].as_str().unwrap();
    db_backup(dir, &format!("undo-restore {id} --yes")).expect(0);
    assert_eq!(postgres(&admin, &name, "SELECT t FROM entries"), "after");
    let scratch = url.replace(&format!("/{name}?"), "/postgres?");
    let drill = format!("drill latest --yes --set nightly --scratch {scratch}");
    let drilled = db_backup(dir, &drill).expect(0);
    assert_eq!(drilled.json["proof"]["rows"], 1);
    let old = format!("SELECT datname::text FROM pg_database WHERE datname LIKE '{name}_before_%'");
    let old = postgres(&admin, "postgres", &old);
    // Nothing is worth it, then everything; but only with a backup that was verified.
    let reindex = format!("reindex {url} --set nightly --yes");
    assert_eq!(db_backup(dir, &reindex).expect(0).json["changed"], false);
    postgres(&admin, &name, "CREATE UNIQUE INDEX unsure ON entries (t)");
    postgres(
        &admin,
        &name,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'unsure'::regclass",
    );
    let none = db_backup(dir, &reindex.replace("--set nightly", "--set other")).expect(3);
    assert!(none.err.contains("has no backup of database"), "{}", none.err);
    let done = db_backup(dir, &reindex).expect(0);
    assert_eq!(done.json["advice"][0]["index"], "unsure");
    let valid = "SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'unsure'::regclass";
    assert_eq!(postgres(&admin, &name, valid), "true");
    let vacuum = format!("vacuum {url} --set nightly");
    db_backup(dir, &vacuum).expect(3);
    let done = db_backup(dir, &format!("{vacuum} --yes")).expect(0);
    assert_eq!(done.json["report"]["facts"]["way back"], drilled.json["proof"]["backup"]);
    postgres(
        &admin,
        &name,
        "CREATE TABLE events AS SELECT now() - n * interval '1 day' - interval '1 hour' AS at
        FROM generate_series(0, 9) n",
    );
    let delete = format!("delete-old {url} --set nightly --older-than 5d --batch 2");
    let events = format!("{delete} --table public.events --column at");
    let left = || postgres(&admin, &name, "SELECT count(*)::text FROM events");
    let planned = db_backup(dir, &format!("{events} --dry-run")).expect(0);
    assert_eq!(planned.json["plan"]["facts"]["rows"], "5");
    // It destroys: everywhere it needs an approval.
    db_backup(dir, &format!("{events} --environment development")).expect(3);
    let stale = format!("{events} --yes --max-age 0");
    assert!(db_backup(dir, &stale).expect(3).err.contains(" old"));
    let none = db_backup(dir, &format!("{delete} --table public.entries --column t --yes"));
    assert!(none.expect(2).err.contains("no date or timestamp"));
    assert_eq!(left(), "10");
    db_backup(dir, &format!("{events} --yes")).expect(0);
    assert_eq!(left(), "5");
    assert_eq!(db_backup(dir, &events).expect(0).json["changed"], false);
    db_backup(dir, "recover").expect(0);
    for database in [&name, &old] {
        postgres(&admin, "postgres", &format!("DROP DATABASE {database} WITH (FORCE)"));
    }
}

#[test]
fn a_qdrant_collection_is_backed_up_and_restored_behind_its_alias() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(Server::start(Some("key-of-the-test")));
    server.fill("docs_1", 50);
    server.alias("docs", "docs_1");
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    private(&dir.join("key"), "key-of-the-test\n");
    let url = format!("{}?keyfile=DIR/key", server.url("docs"));
    db_backup(dir, &format!("create --yes --set docs --source {url}")).expect(0);
    let none = db_backup(dir, &format!("create --yes --set docs --source {}", server.url("docs")));
    assert!(none.expect(3).err.contains("QDRANT_API_KEY_FILE"));
    server.fill("docs_1", 2);
    let restore = format!("restore latest --set docs --to {url}");
    let planned = db_backup(dir, &format!("{restore} --dry-run")).expect(0);
    db_backup(dir, &restore).expect(3);
    assert_eq!(server.aliases()["docs"], "docs_1");
    let digest = planned.json["digest"].as_str().unwrap();
    let restored = db_backup(dir, &format!("{restore} --approve {digest}")).expect(0);
    assert_eq!(server.content("docs").unwrap()["points"].as_object().unwrap().len(), 50);
    assert_eq!(server.content("docs_1").unwrap()["points"].as_object().unwrap().len(), 2);
    let drill = "drill latest --yes --set docs";
    assert!(db_backup(dir, drill).expect(3).err.contains("name a Qdrant server for scratch"));
    let drilled = db_backup(dir, &format!("{drill} --scratch {url}")).expect(0);
    assert_eq!(drilled.json["proof"]["rows"], 50);
    let id = restored.json["report"]["id"].as_str().unwrap();
    db_backup(dir, &format!("undo-restore {id}")).expect(3);
    db_backup(dir, &format!("undo-restore {id} --yes")).expect(0);
    assert_eq!(server.aliases()["docs"], "docs_1");
    db_backup(dir, "recover").expect(0);
}

#[test]
fn what_makes_no_sense_is_usage() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        "create --set nightly",
        "create --yes --set nightly --source oracle:DIR/x",
        "create --yes --set nightly --source postgres://ops:hunter2@db/app",
        "create --yes --set nightly --source postgres://db",
        "create --yes --set nightly --source qdrant+http://hunter2@db/docs",
        "create --yes --set No/Name --source sqlite:DIR/x",
        "verify newest --set nightly",
        "verify latest --quick --subset day --set nightly",
        "verify latest --subset month --set nightly",
        "verify latest --store-limit 0 --set nightly",
        "verify latest --read-limit quick --set nightly",
        "create --yes --connections 0 --set nightly --source sqlite:DIR/x",
        "vacuum sqlite:DIR/x --set nightly",
        "delete-old postgres://ops@db/shop --set s --table events --column at --older-than 90d",
        "delete-old postgres://ops@db/shop --set s --table a.events --column at --older-than 0d",
        "delete-old postgres://ops@db/shop --set s --table a.events --column at --older-than soon",
        "prune --set nightly",
        "prune --set nightly --keep-last 0",
        "prune --yes --keep-last 1",
        "drill --set nightly",
    ] {
        let answer = db_backup(dir.path(), words);
        assert_eq!(answer.code, 2, "{words}: {}", answer.err);
        assert!(!words.contains("db/app") || answer.err.contains("PGPASSFILE"), "{}", answer.err);
    }
    let none = db_backup(dir.path(), "verify latest --set nightly").expect(3);
    assert!(none.err.contains("has no backup"), "{}", none.err);
}

#[test]
fn an_encrypted_repository_is_begun_used_and_shared() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir_all(dir.join("data/cache")).unwrap();
    std::fs::write(dir.join("data/a"), "keep me").unwrap();
    std::fs::write(dir.join("data/cache/b"), "not me").unwrap();
    std::fs::write(dir.join("phrase"), "correct horse\n").unwrap();
    std::fs::write(dir.join("second"), "battery staple\n").unwrap();
    db_backup(dir, "init").expect(2);
    let begun = db_backup(dir, "init --passphrase-file DIR/phrase").expect(0);
    assert!(begun.json["public_key"].as_str().unwrap().starts_with("age1"));
    let wrong = db_backup(dir, "list --set s").expect(3);
    assert!(wrong.json["error"].to_string().contains("no key was given"), "{}", wrong.json);
    let create = "create --yes --set s --source directory:DIR/data --source CMD --exclude cache";
    let with = " --passphrase-file DIR/phrase";
    // A word of the test's command line has no space, so the source is given as JSON.
    let create = create.replace("CMD", "cmd:[\"seq\",\"9\"]");
    db_backup(dir, &format!("{create}{with}")).expect(0);
    let again = db_backup(dir, &format!("{create}{with}")).expect(0);
    assert_eq!(again.json["backup"]["uploaded"], 0, "{}", again.json);
    let add = "key add --yes other --new-passphrase-file DIR/second";
    db_backup(dir, &format!("{add}{with}")).expect(0);
    let keys = db_backup(dir, "key list --passphrase-file DIR/second").expect(0);
    assert_eq!(keys.json["keys"], serde_json::json!(["other", "passphrase"]));
    db_backup(dir, "key remove --yes passphrase --passphrase-file DIR/second").expect(0);
    db_backup(dir, &format!("list --set s{with}")).expect(3);
    let with = " --passphrase-file DIR/second";
    db_backup(dir, &format!("verify latest --quick --set s{with}")).expect(0);
    let shown = db_backup(dir, &format!("show latest --set s{with}")).expect(0);
    assert_eq!(shown.json["sources"][0]["source"]["exclude"][0], "cache");
    let restore = "restore latest --yes --set s --component";
    let data = "directory:DIR/data --to directory:DIR/back";
    db_backup(dir, &format!("{restore} {data}{with}")).expect(0);
    assert_eq!(std::fs::read_to_string(dir.join("back/a")).unwrap(), "keep me");
    assert!(!dir.join("back/cache").exists());
    let numbers = "cmd:[\"seq\",\"9\"] --to file:DIR/numbers";
    db_backup(dir, &format!("{restore} {numbers}{with}")).expect(0);
    assert_eq!(std::fs::read_to_string(dir.join("numbers")).unwrap().lines().count(), 9);
}
