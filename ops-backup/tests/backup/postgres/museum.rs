//! One of everything: what `pg_dump` says of the original, it says of the restored one.

use ops_backup::{DatabaseOptions, Depth, Postgres, SourceSpec, Vault};

use super::server::Server;

pub const MUSEUM: &str = include_str!("museum.sql");

/// Tells the first line that differs, rather than megabytes.
pub fn assert_same(expected: &str, found: &str) {
    for (at, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
        assert_eq!(expected, found, "line {}", at + 1);
    }
    assert_eq!(expected.lines().count(), found.lines().count());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_as_it_was() {
    let server = Server::with(MUSEUM).await;
    let expected = server.dump_of(&server.name);
    let made = server.back_up().await;
    assert!(server.vault.verify("pg", made.id, Depth::Full).await.unwrap().is_whole());
    let record = &made.sources[0];
    assert_eq!(record.tables["public.no_columns"].rows, 3);
    assert_eq!(record.tables["public.nothing"].rows, 0);
    assert_eq!(record.tables["public.parent"].rows, 1, "without those of its children");
    assert!(!record.tables.contains_key("public.parted"), "it has no rows of its own");
    assert!(record.facts["lsn"].contains('/'), "{:?}", record.facts);

    // Over itself, after damage: the old one is kept.
    server.sql(&server.name, "DROP EVENT TRIGGER forbid; DROP TABLE wide; DELETE FROM types").await;
    let damaged = server.dump_of(&server.name);
    let options = DatabaseOptions::default();
    let report = server.restore(&made, &server.name, &options).await.unwrap();
    let old = format!("_before_{}", report.id.to_string().to_lowercase());
    let [first, second] = &server.databases().await[..] else { panic!("two databases") };
    assert_eq!((&**first, second), ("", &old));
    assert_same(&expected, &server.dump_of(&server.name));
    let kept = server.dump_of(&format!("{}{old}", server.name));
    // Of the old one's place in the server everything is kept but what went along.
    let inside = |dump: &str| dump.split_once("CREATE SCHEMA").unwrap().1.to_owned();
    assert_same(&inside(&damaged), &inside(&kept));

    // Into a name that does not exist, with everything of the backup.
    let other = format!("{} \"other\" é = x", server.name);
    server.restore(&made, &other, &options).await.unwrap();
    assert_same(&expected, &server.dump_of(&other));
    let spec = [SourceSpec::postgres(server.url_of(&other))];
    let again = server.vault.create("pg", &spec, &server.cx);
    assert_eq!(again.await.unwrap().sources[0].tables, record.tables, "the digests too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_ranges_is_the_same_table() {
    let server = Server::with(MUSEUM).await;
    let expected = server.dump_of(&server.name);
    let whole = server.back_up().await;
    let source = Postgres::new(server.url()).range(3 * 8192).connections(4);
    let vault = Vault::builder().source("pg", source).open(server.store.clone(), "test").await;
    let made = vault.unwrap().create("pg", &[SourceSpec::named("pg")], &server.cx).await.unwrap();
    let record = &made.sources[0];
    let ranges =
        record.units.iter().filter(|unit| unit.name.starts_with("table public.ranged blocks"));
    assert!(ranges.count() > 10, "{:?}", record.units.len());
    assert_eq!(record.tables, whole.sources[0].tables);
    let other = format!("{}_other", server.name);
    server.restore(&made, &other, &DatabaseOptions::default().connections(4)).await.unwrap();
    assert_same(&expected, &server.dump_of(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pg_dump_wrote_comes_back_too() {
    let server = Server::with(MUSEUM).await;
    let expected = server.dump_of(&server.name);
    let specs =
        [SourceSpec::postgres_dump(server.url()), SourceSpec::postgres_globals(server.url())];
    let made = server.vault.create("pg", &specs, &server.cx).await.unwrap();
    assert!(made.sources[1].units[0].plain_size > 100, "the roles");
    server.restore(&made, &server.name, &DatabaseOptions::default()).await.unwrap();
    assert_same(&expected, &server.dump_of(&server.name));
    assert_eq!(server.databases().await.len(), 2);
}
