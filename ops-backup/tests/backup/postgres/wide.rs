//! Rows that are much larger than everything else.

use ops_backup::{DatabaseOptions, Postgres, SourceSpec, Vault};

use super::server::Server;

const MIB: u64 = 1 << 20;
/// The text of the row; on its way it has as many bytes, for nothing in it is escaped.
const ROW: u64 = 100 * MIB;

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_100_mib_comes_back_and_memory_stays_within_its_bound() {
    let server = Server::with(
        "CREATE TABLE wide (id int, t text); ALTER TABLE wide ALTER t SET STORAGE EXTERNAL;
        INSERT INTO wide VALUES (1, repeat(md5('wide'), 3276800)), (2, 'small');",
    )
    .await;
    // The default settings: chunks of 8 MiB.
    let source = Postgres::new(server.url());
    let vault = Vault::builder().source("pg", source);
    let vault = vault.open(server.store.clone(), "memory:test").await.unwrap();
    let made = vault.create("pg", &[SourceSpec::named("pg")], &server.cx).await.unwrap();
    assert!(made.plain_size() > ROW);
    assert_eq!(made.sources[0].tables["public.wide"].rows, 2);
    let other = format!("{}_other", server.name);
    let place = vault.database(&server.url_of(&other)).await.unwrap();
    let options = DatabaseOptions::default();
    vault.restore_database("pg", made.id, &place, &options, &server.cx).await.unwrap();
    let wide = "SELECT id || ' ' || length(t) || ' ' || md5(t) FROM wide WHERE id = 1";
    assert_eq!(server.ask(&other, wide).await, server.ask(&server.name, wide).await);
    // As the source's documentation has it; under `cargo test` other tests share the process.
    let bound = 64 * MIB + 5 * ROW;
    let alone = std::env::var_os("NEXTEST").is_some();
    assert!(!alone || peak() <= bound, "{} MiB, {} are allowed", peak() / MIB, bound / MIB);
}
