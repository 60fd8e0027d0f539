//! How rows get into a new database.

use ops_backup::DatabaseOptions;

use super::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written_frozen_and_a_table_in_parts_is_compared_in_parts() {
    // The second table is more than half of everything, and so is written by two connections.
    let server = Server::with(
        "CREATE TABLE small (id int, t text); CREATE TABLE nothing (id int);
        CREATE TABLE large (id int, t text);
        INSERT INTO small SELECT i, repeat('x', 100) FROM generate_series(1, 2000) i;
        INSERT INTO large SELECT i, repeat('y', 100) FROM generate_series(1, 20000) i;",
    )
    .await;
    let source = ops_backup::Postgres::new(server.url()).range(256 << 10);
    let vault = ops_backup::Vault::builder().source("pg", source);
    let vault = vault.open(server.store.clone(), "memory:test").await.unwrap();
    let spec = ops_backup::SourceSpec::named("pg");
    let made = vault.create("pg", &[spec], &server.cx).await.unwrap();
    let units = made.sources[0].units.iter().filter(|unit| unit.name.contains("large")).count();
    assert!(units > 3, "{units}");
    for (name, options) in [
        ("rows", DatabaseOptions::default()),
        ("counts", DatabaseOptions::default().counts_only()),
        ("alone", DatabaseOptions::default().connections(1)),
    ] {
        let other = format!("{}_{name}", server.name);
        let place = vault.database(&server.url_of(&other)).await.unwrap();
        vault.restore_database("pg", made.id, &place, &options, &server.cx).await.unwrap();
        let all =
            "SELECT (SELECT count(*) || md5(string_agg(t::text, '' ORDER BY id)) FROM small t)
            || (SELECT count(*) || md5(string_agg(t::text, '' ORDER BY id)) FROM large t)";
        assert_eq!(server.ask(&other, all).await, server.ask(&server.name, all).await, "{name}");
        // Nothing is left for a vacuum to do.
        let frozen = "SELECT string_agg(relname, ',' ORDER BY 1) FROM pg_class
            WHERE relname IN ('small', 'large') AND relpages > 0 AND relallvisible = relpages";
        let expected = if name == "alone" { "large,small" } else { "small" };
        assert_eq!(server.ask(&other, frozen).await, expected, "{name}");
    }
}
