//! Backups of databases that are not standing still, by roles that may not do everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ops_backup::{DatabaseOptions, ErrorKind, Manifest, Postgres, Source as _, SourceSpec, Vault};
use ops_core::progress::{LatestProgress, Update};
use ops_core::{Class, Classify as _, Context, Environment, Progress};
use sqlx::{AssertSqlSafe, Connection as _};

use super::museum::assert_same;
use super::server::Server;

/// Runs statements one after the other, again and again; those that fail are part of the noise.
fn hammer(
    server: &Server,
    stop: &Arc<AtomicBool>,
    statements: &'static [&'static str],
) -> impl Future<Output = u64> + use<> {
    let (stop, connecting) = (stop.clone(), server.connector(&server.name));
    let task = tokio::spawn(async move {
        let mut db = connecting.await;
        let mut done = 0;
        for sql in statements.iter().cycle() {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            match sqlx::raw_sql(*sql).execute(&mut db).await {
                Ok(_) => done += 1,
                Err(sqlx::Error::Database(_)) => {
                    let _ = sqlx::raw_sql("ROLLBACK").execute(&mut db).await;
                }
                Err(lost) => panic!("{lost}"),
            }
        }
        db.close().await.unwrap();
        done
    });
    async { task.await.unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_moment_is_kept_under_a_hammer() {
    let server = Server::with(
        "CREATE TABLE a (n int); CREATE TABLE b (n int); CREATE SEQUENCE s;
        INSERT INTO a VALUES (0); INSERT INTO b VALUES (0);
        CREATE TABLE numbered (id bigserial PRIMARY KEY, pad text);
        INSERT INTO numbered (pad) SELECT repeat('x', 200) FROM generate_series(1, 20000);
        CREATE TABLE emptied (id int); INSERT INTO emptied SELECT generate_series(1, 1000);",
    )
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let noise = [
        hammer(&server, &stop, &["BEGIN; UPDATE a SET n = n + 1; UPDATE b SET n = n + 1; COMMIT"]),
        hammer(
            &server,
            &stop,
            &[
                "INSERT INTO numbered (pad) VALUES ('new')",
                "DELETE FROM numbered WHERE id % 97 = (random() * 97)::int",
            ],
        ),
        hammer(
            &server,
            &stop,
            &[
                "BEGIN; TRUNCATE emptied; INSERT INTO emptied SELECT generate_series(1, 1000); COMMIT",
            ],
        ),
        hammer(
            &server,
            &stop,
            &[
                "CREATE TABLE IF NOT EXISTS passing (id int)",
                "ALTER TABLE passing ADD COLUMN IF NOT EXISTS more text",
                "VACUUM FULL b",
                "DROP TABLE passing",
                // As a person alters tables: not without a pause.
                "SELECT pg_sleep(1)",
            ],
        ),
    ];
    let noise = noise.map(tokio::spawn);
    let source = Postgres::new(server.url()).range(64 << 10).connections(3);
    let vault = Vault::builder().source("pg", source.lock_timeout(Duration::from_mins(1)));
    let vault = vault.open(server.store.clone(), "test").await.unwrap();
    let begun = Instant::now();
    let mut made: Vec<Manifest> = Vec::new();
    while made.len() < 2 || begun.elapsed() < Duration::from_secs(3) {
        made.push(vault.create("pg", &[SourceSpec::named("pg")], &server.cx).await.unwrap());
    }
    stop.store(true, Ordering::SeqCst);
    for task in noise {
        assert!(task.await.unwrap() > 0, "each made noise");
    }
    for manifest in [made.first().unwrap(), made.last().unwrap()] {
        let tables = &manifest.sources[0].tables;
        assert_eq!(tables["public.a"], tables["public.b"], "both tables of one transaction");
        assert_eq!(tables["public.emptied"].rows, 1000, "a truncated table is never seen empty");
    }
    let other = format!("{}_other", server.name);
    let last = made.last().unwrap();
    server.restore(last, &other, &DatabaseOptions::default().connections(3)).await.unwrap();
    assert_eq!(server.ask(&other, "SELECT a.n = b.n FROM a, b").await, "true");
    let behind = "SELECT last_value >= max(id) FROM numbered, numbered_id_seq GROUP BY last_value";
    assert_eq!(server.ask(&other, behind).await, "true", "no sequence is behind its rows");
    server.sql(&other, "INSERT INTO numbered (pad) VALUES ('next')").await;
}

/// A store that ends every worker of the backup when the first chunk arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_fails_the_backup() {
    let server = Server::with(
        "CREATE TABLE large (id int, pad text);
        INSERT INTO large SELECT i, md5(i::text) || repeat(md5((i * 7)::text), 30) FROM generate_series(1, 60000) i;",
    )
    .await;
    for ending in ["pg_terminate_backend", "pg_cancel_backend"] {
        let ending_of = format!(
            "SELECT count({ending}(pid)) FROM pg_stat_activity
            WHERE datname = '{}' AND application_name = 'ops-backup' AND query LIKE 'COPY%' AND state = 'active'",
            server.name
        );
        let killer = tokio::spawn({
            let connecting = server.connector("postgres");
            async move {
                let mut db = connecting.await;
                let begun = Instant::now();
                loop {
                    let killed: i64 = sqlx::query_scalar(AssertSqlSafe(ending_of.clone()))
                        .fetch_one(&mut db)
                        .await
                        .unwrap();
                    if killed > 0 {
                        return;
                    }
                    assert!(begun.elapsed() < Duration::from_mins(1), "no worker was seen");
                }
            }
        });
        let error = server.vault.create("pg", &[server.spec()], &server.cx).await.unwrap_err();
        killer.await.unwrap();
        assert_eq!((error.kind(), error.class()), (ErrorKind::Operation, Class::Temporary));
        assert!(error.to_string().contains("read the rows"), "{error}");
        assert!(server.vault.list("pg").await.unwrap().is_empty(), "nothing is listed");
    }
    assert!(crate::fixture::all_objects(&*server.store).await.len() <= 2, "nothing is left");
    server.back_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_only_read_backs_up_and_what_it_may_not_is_told_at_once() {
    let server = Server::with(
        "CREATE ROLE \"ROLE plain\" LOGIN PASSWORD 'plain';
        CREATE TABLE open (id serial, t text); INSERT INTO open (t) VALUES ('x');
        CREATE TABLE closed (id serial); CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int);
        CREATE TABLE rows_hidden (id int); ALTER TABLE rows_hidden ENABLE ROW LEVEL SECURITY;
        SELECT lo_from_bytea(4711, 'x');
        GRANT SELECT ON open, open_id_seq, rows_hidden TO \"ROLE plain\";",
    )
    .await;
    let plain = server.url_as(&format!("{} plain", server.name), &server.name);
    let spec = SourceSpec::postgres(plain);
    let error =
        server.vault.create("pg", std::slice::from_ref(&spec), &server.cx).await.unwrap_err();
    let told = error.to_string();
    for part in [
        "`public.closed`",
        "closed_id_seq",
        "`hidden.t`",
        "hides table `public.rows_hidden`",
        "1 large objects",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("`public.open`"), "{told}");
    server.script(&server.named(
        "GRANT pg_read_all_data TO \"ROLE plain\"; ALTER ROLE \"ROLE plain\" BYPASSRLS;
        GRANT SELECT ON LARGE OBJECT 4711 TO \"ROLE plain\";",
    ));
    let made = server.vault.create("pg", &[spec], &server.cx).await.unwrap();
    let full = server.back_up().await;
    assert_eq!(made.sources[0].tables, full.sources[0].tables);
    assert_eq!(made.sources[0].fingerprint, full.sources[0].fingerprint);
    let other = format!("{}_other", server.name);
    server.restore(&made, &other, &DatabaseOptions::default()).await.unwrap();
    assert_same(&server.dump_of(&server.name), &server.dump_of(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_extensions_configuration_the_users_rows_are_kept() {
    let server = Server::with(
        "CREATE EXTENSION hstore;
        CREATE TABLE conf (id int, own bool); INSERT INTO conf VALUES (1, true), (2, false), (3, true);
        CREATE TABLE inner_table (id int); INSERT INTO inner_table VALUES (1);
        ALTER EXTENSION hstore ADD TABLE conf; ALTER EXTENSION hstore ADD TABLE inner_table;
        UPDATE pg_extension SET extconfig = ARRAY['conf'::regclass]::oid[], extcondition = ARRAY['WHERE own']
            WHERE extname = 'hstore';",
    )
    .await;
    let made = server.back_up().await;
    let tables = &made.sources[0].tables;
    assert_eq!(tables["public.conf"].rows, 2, "as pg_dump takes it");
    assert!(!tables.contains_key("public.inner_table"), "the extension makes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_lock_is_waited_for_and_not_for_ever() {
    let server = Server::with("CREATE TABLE held (id int); INSERT INTO held VALUES (1)").await;
    let mut holder = server.connect(&server.name).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE held").execute(&mut holder).await.unwrap();
    let source = Postgres::new(server.url()).lock_timeout(Duration::from_millis(300));
    let vault =
        Vault::builder().source("pg", source).open(server.store.clone(), "test").await.unwrap();
    let spec = [SourceSpec::named("pg")];
    let error = vault.create("pg", &spec, &server.cx).await.unwrap_err();
    assert!(error.to_string().contains("altered all the while"), "{error}");
    assert!(vault.list("pg").await.unwrap().is_empty());
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    // With the patience of the defaults: on a busy machine nothing is ready at once.
    server.back_up().await;
}

#[derive(Debug, Clone, Default)]
struct Watch(Arc<LatestProgress>);

impl Progress for Watch {
    fn update(&self, update: &Update) {
        self.0.update(update);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_backup_sees_its_bytes_streams_and_rows() {
    let server = Server::with(
        "CREATE TABLE a (n int); INSERT INTO a SELECT generate_series(1, 700);
        CREATE TABLE b (n int); INSERT INTO b SELECT generate_series(1, 300);",
    )
    .await;
    let watch = Watch::default();
    let cx = Context::builder(server.dir.path().join("watched"))
        .environment(Environment::Development)
        .progress(watch.clone())
        .build();
    let made = server.vault.create("pg", &[server.spec()], &cx).await.unwrap();
    let seen = watch.0.snapshot();
    let last = |phase: &str| seen.iter().find(|update| update.phase == phase).cloned().unwrap();
    let streams = made.sources[0].units.len() as u64;
    assert_eq!(last("streams of pg"), Update::items("streams of pg", streams, Some(streams)));
    assert_eq!(last("tables of pg"), Update::items("tables of pg", 2, Some(2)));
    assert_eq!(last("rows of pg"), Update::items("rows of pg", 1000, Some(1000)));
    let size = made.plain_size();
    assert_eq!(last("backing up pg"), Update::bytes("backing up pg", size, Some(size)));

    // So does who watches a restore; of it all is known beforehand.
    let other = format!("{}_other", server.name);
    let place = server.vault.database(&server.url_of(&other)).await.unwrap();
    let options = DatabaseOptions::default();
    server.vault.restore_database("pg", made.id, &place, &options, &cx).await.unwrap();
    let seen = watch.0.snapshot();
    let last = |phase: &str| {
        let phase = format!("{phase} {other}");
        let update = seen.iter().find(|update| update.phase == phase).unwrap();
        (update.done, update.total)
    };
    assert_eq!(last("tables of"), (2, Some(2)));
    assert_eq!(last("rows of"), (1000, Some(1000)));
    let rows = (1..=700).chain(1..=300).map(|n: u64| n.to_string().len() as u64 + 1).sum();
    assert_eq!(last("restoring"), (rows, Some(rows)));
}

#[tokio::test(flavor = "multi_thread")]
async fn how_much_there_is_is_known_before_it_is_read() {
    let server = Server::with(
        "CREATE TABLE a (id int, pad text);
        INSERT INTO a SELECT i, md5(i::text) FROM generate_series(1, 20000) i; ANALYZE a;
        CREATE TABLE large (t text); ALTER TABLE large ALTER t SET STORAGE EXTERNAL;
        INSERT INTO large VALUES (repeat('x', 3000000)); ANALYZE large;",
    )
    .await;
    let source = Postgres::new(server.url());
    let extent = source.extent().await.unwrap();
    let made = server.back_up().await;
    let (about, size) = (extent.bytes.unwrap(), made.plain_size());
    assert!((size * 2 / 3..size * 3 / 2).contains(&about), "{about} of {size}");
    assert_eq!(extent.rows, Some(20001));
    server.sql(&server.name, "CREATE TABLE b (n int); INSERT INTO b VALUES (1)").await;
    assert_eq!(source.extent().await.unwrap().rows, None, "of a table that nobody has analysed");
}
