//! What the manifest of an encrypted repository tells of tables.

use ops_backup::{DatabaseOptions, Recipient};

use super::server::Server;
use crate::fixture::{builder, memory};

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_the_rows_learns_nothing_from_an_encrypted_repository() {
    let script = "CREATE TABLE guests (t text); INSERT INTO guests VALUES ('ada'); CREATE TABLE twin (LIKE guests);
        INSERT INTO twin SELECT * FROM guests;";
    let server = Server::with(script).await;
    let plain = server.back_up().await;
    let guessed = &plain.sources[0].tables["public.guests"];
    assert_eq!(guessed, &plain.sources[0].tables["public.twin"]);
    let mut seen = Vec::new();
    for name in ["one", "two"] {
        let key = age::x25519::Identity::generate().to_public().to_string();
        let key = Recipient::public(&key).unwrap();
        let builder = builder().encrypt_for("a".parse().unwrap(), key);
        let vault = builder.open(memory(), "memory:test").await.unwrap();
        let made = vault.create("pg", &[server.spec()], &server.cx).await.unwrap();
        let tables = &made.sources[0].tables;
        assert!(!format!("{made:?}").contains(&guessed.content), "a guess can be proven");
        for table in ["public.guests", "public.twin"] {
            let told = &tables[table];
            assert!(told.rows == 1 && told.content.starts_with("blake3-xxh3:"), "{told:?}");
            assert!(!seen.contains(&told.content), "equal rows can be seen");
            seen.push(told.content.clone());
        }
        let again = vault.create("pg", &[server.spec()], &server.cx).await.unwrap();
        assert_eq!(again.sources[0].tables, *tables, "within the repository it stays the same");
        // The restore compares with it.
        let other = format!("{}_{name}", server.name);
        let place = vault.database(&server.url_of(&other)).await.unwrap();
        let options = DatabaseOptions::default();
        vault.restore_database("pg", made.id, &place, &options, &server.cx).await.unwrap();
        assert_eq!(server.ask(&other, "SELECT t FROM twin").await, "ada");
    }
}
