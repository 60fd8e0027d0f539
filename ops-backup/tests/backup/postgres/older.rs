//! Backups that an older program wrote.

use object_store::ObjectStoreExt as _;
use ops_backup::{DatabaseOptions, Depth, ErrorKind};
use sha2::{Digest as _, Sha256};

use super::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_digests_of_sha_256_is_verified_restored_and_compared() {
    let server = Server::with("CREATE TABLE t AS VALUES (1, 'a'), (2, 'b')").await;
    let mut made = server.back_up().await;
    let object = |key: &str| object_store::path::Path::from(key);
    made.format = 5;
    let source = &mut made.sources[0];
    for unit in &mut source.units {
        let mut digest = Sha256::new();
        for chunk in &unit.chunks {
            let stored =
                server.store.get(&object(&chunk.key)).await.unwrap().bytes().await.unwrap();
            digest.update(zstd::decode_all(&*stored).unwrap());
        }
        unit.plain_blake3.clear();
        unit.plain_sha256 = hex::encode(digest.finalize());
    }
    let [one, two] = [&b"1\ta"[..], b"2\tb"].map(|row| <[u8; 32]>::from(Sha256::digest(row)));
    let half =
        |digest: &[u8; 32], at: usize| u128::from_be_bytes(digest[at..at + 16].try_into().unwrap());
    let (low, carry) = half(&one, 16).overflowing_add(half(&two, 16));
    let high = half(&one, 0).wrapping_add(half(&two, 0)).wrapping_add(carry.into());
    let table = source.tables.get_mut("public.t").unwrap();
    assert!(table.rows == 2 && table.content.starts_with("xxh3:"), "{table:?}");
    table.content = format!("{high:032x}{low:032x}");
    let key = object(&format!("sets/pg/{}/manifest.json", made.id));
    server.store.put(&key, made.to_bytes().unwrap().into()).await.unwrap();

    assert!(server.vault.verify("pg", made.id, Depth::Full).await.unwrap().is_whole());
    let other = format!("{}_other", server.name);
    server.restore(&made, &other, &DatabaseOptions::default()).await.unwrap();
    assert_eq!(server.ask(&other, "SELECT sum(column1) FROM t").await, "3");

    // The comparison sees a row that is not the one of the manifest.
    let table = made.sources[0].tables.get_mut("public.t").unwrap();
    table.content.replace_range(..1, if table.content.starts_with('0') { "1" } else { "0" });
    server.store.put(&key, made.to_bytes().unwrap().into()).await.unwrap();
    let third = format!("{}_third", server.name);
    let error = server.restore(&made, &third, &DatabaseOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Operation, "{error}");
    assert!(error.to_string().contains("`public.t` (2 rows, 2 in the backup)"), "{error}");
}
