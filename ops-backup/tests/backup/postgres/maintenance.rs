//! Maintenance needs a way back, and does what it says.

use std::time::Duration;

use jiff::Timestamp;
use object_store::ObjectStoreExt as _;
use ops_backup::Depth;
use ops_backup::maintenance::{IndexLimits, OldRows};
use sqlx::Connection as _;

use super::server::Server;

const DAY: Duration = Duration::from_hours(24);

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_go_in_batches_when_there_is_a_way_back() {
    let server = Server::with(
        "CREATE TABLE events (id int, at timestamptz NOT NULL, by text) PARTITION BY RANGE (at);
        CREATE TABLE events_all PARTITION OF events DEFAULT;
        INSERT INTO events SELECT i, now() - i * interval '1 day' - interval '1 hour', 'x' FROM generate_series(0, 99) i;
        CREATE TABLE kept (id int PRIMARY KEY, at date); CREATE TABLE lost (id int REFERENCES kept ON DELETE CASCADE);
        CREATE TABLE parted (id int, at date NOT NULL) PARTITION BY RANGE (at);
        CREATE TABLE parted_all PARTITION OF parted DEFAULT;
        CREATE UNIQUE INDEX ON parted_all (id);
        CREATE TABLE lost_too (id int REFERENCES parted_all (id) ON DELETE CASCADE);",
    )
    .await;
    let database = server.vault.maintenance(&server.url()).await.unwrap();
    let none = database.fresh_backup("pg", DAY).await.unwrap_err();
    assert!(none.to_string().contains("has no backup"), "{none}");
    let made = server.back_up().await;
    let unproven = database.fresh_backup("pg", DAY).await.unwrap_err();
    assert!(unproven.to_string().contains("never verified"), "{unproven}");
    assert!(server.vault.verify("pg", made.id, Depth::Full).await.unwrap().is_whole());
    let old = database.fresh_backup("pg", Duration::ZERO).await.unwrap_err();
    assert!(old.to_string().contains(" old"), "{old}");
    let backup = database.fresh_backup("pg", DAY).await.unwrap();

    let now = Timestamp::now();
    let rows = |table: &str, column: &str| OldRows::new("public", table, column, 30 * DAY).batch(7);
    for (rows, why) in [
        (rows("nowhere", "at"), "is not there"),
        (rows("events", "gone"), "no column `gone`"),
        (rows("events", "id"), "no date or timestamp"),
        (rows("kept", "at"), "ON DELETE CASCADE by public.lost"),
        (rows("parted", "at"), "ON DELETE CASCADE by public.lost_too"),
    ] {
        let error = database.plan_delete(&backup, &rows, now).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let rows = rows("events", "at");
    let plan = database.plan_delete(&backup, &rows, now).await.unwrap();
    assert_eq!(plan.facts["rows"], "70");
    assert!(plan.to_string().contains("delete the rows of `public.events`"), "{plan}");

    // Who maintains at the same time is left alone.
    let mut other = server.connect(&server.name).await;
    let lock = "SELECT pg_advisory_lock(hashtextextended('ops-backup maintenance', 0))";
    sqlx::raw_sql(lock).execute(&mut other).await.unwrap();
    let vacuum = database.plan_vacuum(&backup).unwrap();
    let error = server.cx.execute(vacuum.clone(), &&database).await.unwrap_err();
    assert!(error.to_string().contains("somebody else maintains"), "{error}");
    other.close().await.unwrap();

    let report = server.cx.execute(plan, &&database).await.unwrap();
    assert_eq!(report.outcome.name(), "completed");
    assert_eq!(
        server.ask(&server.name, "SELECT count(*) || ' ' || max(id) FROM events").await,
        "30 29"
    );
    let again = database.plan_delete(&backup, &rows, now).await.unwrap();
    assert!(again.is_empty(), "{again}");

    server.cx.execute(vacuum, &&database).await.unwrap();
    let vacuumed = "SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'events_all' AND vacuum_count > 0";
    let mut tries = 0;
    while server.ask(&server.name, vacuumed).await != "1" {
        tries += 1;
        assert!(tries < 500, "it was not vacuumed");
    }

    // The way back is looked at again when the plan runs.
    let plan = database.plan_vacuum(&backup).unwrap();
    let key = format!("sets/pg/{}/manifest.json", made.id).as_str().into();
    server.store.delete(&key).await.unwrap();
    let error = server.cx.execute(plan, &&database).await.unwrap_err();
    assert!(error.to_string().contains("has no backup"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_and_bloated_indexes_are_advised_and_built_anew_when_there_is_a_way_back() {
    let server = Server::with(
        "CREATE TABLE t (id int PRIMARY KEY, twice int, \"Odd\" text);
        INSERT INTO t SELECT i, i / 2, 'x' || i FROM generate_series(1, 60000) i;
        CREATE INDEX odd ON t (\"Odd\"); CREATE INDEX part ON t (id) WHERE id > 5;
        DELETE FROM t WHERE id % 20 > 0; VACUUM ANALYZE t;",
    )
    .await;
    // A unique index that cannot be: what an interrupted building leaves, and a half-built new one.
    let mut db = server.connect(&server.name).await;
    sqlx::raw_sql("INSERT INTO t VALUES (1, 10, 'y'), (2, 10, 'y')")
        .execute(&mut db)
        .await
        .unwrap();
    let broken = "CREATE UNIQUE INDEX CONCURRENTLY broken ON t (twice)";
    assert!(sqlx::raw_sql(broken).execute(&mut db).await.is_err());
    let left = "CREATE UNIQUE INDEX CONCURRENTLY odd_ccnew ON t (twice)";
    assert!(sqlx::raw_sql(left).execute(&mut db).await.is_err());
    sqlx::raw_sql("DELETE FROM t WHERE \"Odd\" = 'y'").execute(&mut db).await.unwrap();
    db.close().await.unwrap();

    let database = server.vault.maintenance(&server.url()).await.unwrap();
    assert!(database.index_advice(IndexLimits::default()).await.unwrap().iter().all(|a| a.invalid));
    let advice = async || database.index_advice(IndexLimits::new(0.5, 64 << 10)).await.unwrap();
    let found = advice().await;
    let names: Vec<_> = found.iter().map(|a| (&*a.index, a.invalid)).collect();
    assert_eq!(names[..2], [("broken", true), ("odd_ccnew", true)]);
    let mut bloated: Vec<_> = names[2..].iter().map(|(name, _)| *name).collect();
    bloated.sort_unstable();
    assert_eq!(bloated, ["odd", "t_pkey"], "of the partial one nothing is known: {found:?}");
    let size = found.iter().find(|a| a.index == "t_pkey").unwrap().bytes;

    let made = server.back_up().await;
    assert!(database.fresh_backup("pg", DAY).await.is_err(), "it is not verified");
    assert!(server.vault.verify("pg", made.id, Depth::Full).await.unwrap().is_whole());
    let backup = database.fresh_backup("pg", DAY).await.unwrap();
    let wanted: Vec<_> = found.into_iter().filter(|a| a.index != "odd_ccnew").collect();
    let plan = database.plan_reindex(&backup, &wanted).unwrap();
    assert!(plan.facts["public.t_pkey"].contains("probably wastes"), "{plan}");
    server.cx.execute(plan, &&database).await.unwrap();
    assert_eq!(advice().await, [], "what was half built beside `odd` went, too");
    let now = "SELECT pg_relation_size('t_pkey')";
    assert!(server.ask(&server.name, now).await.parse::<u64>().unwrap() < size / 4);
    assert!(database.plan_reindex(&backup, &[]).unwrap().is_empty());
}
