//! Drills in scratch databases.

use ops_backup::{DrillOptions, ErrorKind, SourceSpec, SqlProbe};

use ops_core::OperationId;

use super::museum::MUSEUM;
use super::server::Server;

/// Scratch is made on the same server, from the database `postgres`.
fn options(server: &Server) -> DrillOptions {
    DrillOptions::default().database(server.url_of("postgres"))
}

/// Of this operation: tests that run at the same time have scratch of their own.
async fn scratch_is_gone(server: &Server, operation: OperationId) {
    let operation = operation.to_string().to_lowercase();
    let left = format!(
        "SELECT count(*) FROM pg_database WHERE starts_with(datname, 'ops_drill_{operation}')"
    );
    assert_eq!(server.ask("postgres", &left).await, "0", "scratch is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_drilled_in_scratch_whatever_made_its_backup() {
    let server = Server::with(MUSEUM).await;
    let specs = [
        server.spec(),
        SourceSpec::postgres_dump(server.url()),
        SourceSpec::postgres_globals(server.url()),
    ];
    let made = server.vault.create("pg", &specs, &server.cx).await.unwrap();
    let before = server.dump_of(&server.name);
    let probe = SqlProbe::new("a parent", "SELECT count(*) = 1 FROM ONLY public.parent");
    let options = options(&server).probe(probe);
    let found = server.vault.drill_with("pg", made.id, &options, &server.cx).await.unwrap();
    assert!(found.whole, "{found:?}");
    let rows: u64 = made.sources[0].tables.values().map(|table| table.rows).sum();
    assert_eq!((found.rows, found.bytes), (rows, made.plain_size()));
    let operation = found.operation.unwrap();
    assert_eq!(server.vault.last_proven("pg").await.unwrap(), Some(found));
    assert_eq!(server.databases().await, [""]);
    super::museum::assert_same(&before, &server.dump_of(&server.name));
    scratch_is_gone(&server, operation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_fails_is_attested_and_what_says_nothing_is_not() {
    let server = Server::with("CREATE TABLE guests (id int); INSERT INTO guests VALUES (1)").await;
    let made = server.back_up().await;
    let bad = SqlProbe::new("two guests", "SELECT count(*) = 2 FROM public.guests");
    let drill = async |options: DrillOptions| {
        server.vault.drill_with("pg", made.id, &options, &server.cx).await
    };
    let found = drill(options(&server).probe(bad)).await.unwrap();
    assert!(
        !found.whole && found.problems[0].contains("fails the probe `two guests`"),
        "{found:?}"
    );
    // What is no question says nothing about the backup.
    let nonsense = SqlProbe::new("nonsense", "SELECT nonsense");
    let error = drill(options(&server).probe(nonsense)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Operation);
    assert!(error.to_string().contains("ask the probe `nonsense`"), "{error}");
    let proven = server.vault.attestation("pg", made.id).await.unwrap().unwrap();
    assert!(!proven.whole, "the newest is still the one before");
    for operation in [proven.operation.unwrap(), error.report().unwrap().id] {
        scratch_is_gone(&server, operation).await;
    }

    // Without a server, with one that does not answer, with a role that may not.
    let error = drill(DrillOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("cannot be restored into a folder"), "{error}");
    let nowhere = "postgres://ops@127.0.0.1:1/postgres".parse().unwrap();
    let error = drill(DrillOptions::default().database(nowhere)).await.unwrap_err();
    assert!(error.to_string().contains("cannot connect"), "{error}");
    server.script(&server.named("CREATE ROLE \"ROLE plain\" LOGIN PASSWORD 'plain'"));
    let plain = server.url_as(&format!("{} plain", server.name), "postgres");
    let error = drill(DrillOptions::default().database(plain)).await.unwrap_err().to_string();
    for part in ["may not create the scratch database", "how much room the server has"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}
