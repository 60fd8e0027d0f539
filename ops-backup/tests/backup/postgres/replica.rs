//! Backups of a replica, which cost the primary nothing.

use std::time::{Duration, Instant};

use ops_backup::{DatabaseOptions, ErrorKind, SourceSpec};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::cluster::Cluster;
use super::museum::{MUSEUM, assert_same};
use super::server::Server;
use crate::fixture::{builder, memory};

/// A primary with a database, and a replica that has all of it.
struct Pair {
    server: Server,
    replica: Cluster,
    _primary: Cluster,
}

impl Pair {
    async fn with(script: &str) -> Self {
        let primary = Cluster::start().await;
        let server = Server::at(primary.admin.clone()).await;
        server.script(&server.named(script));
        let replica = primary.replica().await;
        let pair = Self { server, replica, _primary: primary };
        let now = pair.server.ask("postgres", "SELECT pg_current_wal_lsn()").await;
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{now}'");
        let mut db = pair.replica("postgres").await;
        let begun = Instant::now();
        loop {
            let asked = sqlx::query_scalar(AssertSqlSafe(sql.clone()));
            if asked.fetch_one(&mut db).await.unwrap() {
                return pair;
            }
            assert!(begun.elapsed() < Duration::from_mins(1), "the replica does not follow");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A connection to the replica.
    async fn replica(&self, database: &str) -> PgConnection {
        let mut url = self.replica.admin.clone();
        url.set_path(database);
        PgConnection::connect(url.as_str()).await.unwrap()
    }

    fn spec(&self) -> SourceSpec {
        let mut url: url::Url = self.server.url().to_string().parse().unwrap();
        url.set_port(self.replica.admin.port()).unwrap();
        SourceSpec::postgres(url.to_string().parse().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_replica_is_one_of_its_primary_but_for_what_no_replica_has() {
    let pair = Pair::with(MUSEUM).await;
    let server = &pair.server;
    let made = server.vault.create("pg", &[pair.spec()], &server.cx).await.unwrap();
    let source = &made.sources[0];
    assert_eq!(source.facts["standby"], "true");
    assert_eq!(source.facts["without_rows"], "public.unlogged");
    assert!(!source.tables.contains_key("public.unlogged"));
    let primary = server.back_up().await;
    assert_eq!(primary.sources[0].fingerprint, source.fingerprint);
    assert!(!primary.sources[0].facts.contains_key("standby"));

    let other = format!("{}_other", server.name);
    server.restore(&made, &other, &DatabaseOptions::default()).await.unwrap();
    server.sql(&server.name, "TRUNCATE unlogged RESTART IDENTITY").await;
    assert_same(&server.dump_of(&server.name), &server.dump_of(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_with_what_the_primary_does_fails_the_backup_and_lists_nothing() {
    let script = "CREATE TABLE t AS SELECT g, repeat('x', 100) FROM generate_series(1, 200000) g;";
    let pair = Pair::with(script).await;
    let mut db = pair.replica("postgres").await;
    for sql in ["ALTER SYSTEM SET max_standby_streaming_delay = 0", "SELECT pg_reload_conf()"] {
        sqlx::query(sql).execute(&mut db).await.unwrap();
    }
    let server = &pair.server;
    let slow = builder().read_limit(4 << 20).open(memory(), "memory:test").await.unwrap();
    let specs = [pair.spec()];
    let backup = slow.create("pg", &specs, &server.cx);
    let truncate = async {
        let mut db = pair.replica(&server.name).await;
        // By more connections than `pg_dump` has.
        let held = "SELECT count(DISTINCT pid) > 2 FROM pg_locks WHERE relation = 't'::regclass";
        while !sqlx::query_scalar::<_, bool>(held).fetch_one(&mut db).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.sql(&server.name, "TRUNCATE t").await;
    };
    let (made, ()) = tokio::join!(backup, truncate);
    let error = made.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Operation);
    assert!(error.to_string().contains("set `hot_standby_feedback`"), "{error}");
    assert!(slow.list("pg").await.unwrap().is_empty());
}
