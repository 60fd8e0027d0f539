//! `docs/restore-by-hand.md`, followed to the letter.

use std::fs;
use std::path::Path;
use std::process::Command;

use age::secrecy::ExposeSecret as _;
use ops_backup::{Recipient, Settings, SourceSpec, Vault};
use ops_core::Secret;
use sqlx::Connection as _;

use crate::fixture::{database, execute, lenient, number, scratch, tree};

/// The `sh` blocks of the page.
fn script() -> String {
    let page = include_str!("../../docs/restore-by-hand.md");
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().join("\n")
}

fn follow(work: &Path, store: &Path, backup: &str, source: &str, key: &Path) {
    fs::create_dir(work).unwrap();
    let ended = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script()])
        .current_dir(work)
        .envs([("SET", "s"), ("BACKUP", backup), ("SOURCE", source)])
        .env("STORE", store)
        .env("KEY", key)
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_says_restores_every_source_encrypted_or_not() {
    assert!(script().lines().count() > 30, "the page has its commands");
    for encrypted in [false, true] {
        let dir = scratch();
        let data = dir.path().join("data");
        fs::create_dir_all(data.join("deep")).unwrap();
        let noise = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes();
        fs::write(data.join("deep/noise"), (0..60_000).flat_map(noise).collect::<Vec<u8>>())
            .unwrap();
        fs::write(data.join("a file with spaces"), "x").unwrap();
        std::os::unix::fs::symlink("deep", data.join("link")).unwrap();
        let db = dir.path().join("app.db");
        let mut conn = database(&db).await;
        execute(&mut conn, "CREATE TABLE t(n); INSERT INTO t VALUES(7)").await;
        conn.close().await.unwrap();
        let identity = age::x25519::Identity::generate();
        let key = dir.path().join("key.txt");
        fs::write(&key, identity.to_string().expose_secret()).unwrap();
        let store = dir.path().join("store");
        let mut settings = Settings::default();
        settings.chunk_size = 64 << 10;
        let mut builder = Vault::builder().settings(settings);
        if encrypted {
            let other = Recipient::passphrase(Secret::new("of somebody else")).work_factor(10);
            let ours = Recipient::public(&identity.to_public().to_string()).unwrap();
            builder = builder.encrypt_for("a".parse().unwrap(), other);
            builder = builder.encrypt_for("b".parse().unwrap(), ours);
        }
        let vault = builder.open_url(&format!("file://{}", store.display())).await.unwrap();
        let cx = lenient(&dir.path().join("state"));
        let specs = [
            SourceSpec::directory(&data),
            SourceSpec::sqlite(&db),
            SourceSpec::command(["echo", "printed"]),
        ];
        // The second one has its chunks from the first.
        vault.create("s", &specs, &cx).await.unwrap();
        let made = vault.create("s", &specs, &cx).await.unwrap();
        let id = made.id.to_string();
        for source in ["0", "1", "2"] {
            let work = dir.path().join(format!("by-hand-{source}"));
            follow(&work, &store, &id, source, &key);
        }
        assert_eq!(tree(&data), tree(&dir.path().join("by-hand-0/restored")));
        let mut conn = database(&dir.path().join("by-hand-1/restored")).await;
        assert_eq!(number(&mut conn, "SELECT n FROM t").await, 7);
        let printed = fs::read_to_string(dir.path().join("by-hand-2/restored")).unwrap();
        assert_eq!(printed, "printed\n");
    }
}
