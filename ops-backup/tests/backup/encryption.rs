//! Encrypted repositories: who can open them, what they tell to others, what tampering does.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use age::secrecy::ExposeSecret as _;
use object_store::{ObjectStore, ObjectStoreExt as _};
use ops_backup::{
    Depth, Error, ErrorKind, KeyName, KeyStep, Manifest, Recipient, RestoreOptions, SourceSpec,
    Unlock, Vault,
};
use ops_core::{Context, Outcome, Secret};

use crate::fixture::{all_objects, builder, flip_every_byte, lenient, memory, scratch, tree};

struct Key {
    public: String,
    secret: Unlock,
}

fn key() -> Key {
    let identity = age::x25519::Identity::generate();
    let secret = Secret::new(identity.to_string().expose_secret());
    Key { public: identity.to_public().to_string(), secret: Unlock::Identity(secret) }
}

fn name(text: &str) -> KeyName {
    text.parse().unwrap()
}

async fn begin(store: &Arc<dyn ObjectStore>, key: &Key) -> Vault {
    let recipient = Recipient::public(&key.public).unwrap();
    let builder = builder().encrypt_for(name("first"), recipient);
    builder.open(store.clone(), "memory:test").await.unwrap()
}

async fn open(store: &Arc<dyn ObjectStore>, with: &Unlock) -> Result<Vault, Error> {
    builder().unlock(with.clone()).open(store.clone(), "memory:test").await
}

fn data(dir: &Path) -> SourceSpec {
    let data = dir.join("data");
    fs::create_dir_all(&data).unwrap();
    let noise = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes();
    fs::write(data.join("noise"), (0..40_000).flat_map(noise).collect::<Vec<u8>>()).unwrap();
    fs::write(data.join("text"), "attack at dawn ".repeat(500)).unwrap();
    SourceSpec::directory(data)
}

async fn restores(vault: &Vault, made: &Manifest, dir: &Path, cx: &Context) {
    let back = dir.join(format!("back-{}", fs::read_dir(dir).unwrap().count()));
    let place = vault.place(&SourceSpec::directory(&back)).unwrap();
    let options = RestoreOptions::default();
    vault.restore(made.set.as_ref(), made.id, &place, &options, cx).await.unwrap();
    assert_eq!(tree(&dir.join("data")), tree(&back));
}

/// A repository that two keys open, `first` and `second`.
struct TwoKeys {
    dir: tempfile::TempDir,
    store: Arc<dyn ObjectStore>,
    first: Key,
    second: Key,
    vault: Vault,
    cx: Context,
}

impl TwoKeys {
    async fn new() -> Self {
        let (dir, store) = (scratch(), memory());
        let (first, second) = (key(), key());
        let vault = begin(&store, &first).await;
        let cx = lenient(&dir.path().join("state"));
        vault.add_recipient(name("second"), &second.public, &cx).await.unwrap();
        Self { dir, store, first, second, vault, cx }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_a_key_reads_anything_and_keys_come_and_go() {
    let (dir, store) = (scratch(), memory());
    let (first, second, third) = (key(), key(), key());
    let vault = begin(&store, &first).await;
    let cx = lenient(&dir.path().join("state"));
    let spec = [data(dir.path())];
    let made = vault.create("s", &spec, &cx).await.unwrap();
    assert!(vault.drill("s", made.id, &cx).await.unwrap().whole);
    let wrong = |opened: Result<Vault, Error>| {
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongKey, "{error}");
        error.to_string()
    };
    wrong(builder().open(store.clone(), "x").await);
    let text = wrong(open(&store, &second.secret).await);
    assert!(text.contains("does not open it"), "{text}");
    let plain = builder().open(memory(), "memory:plain").await.unwrap();
    let plain = plain.create("s", &spec, &cx).await.unwrap();
    let [sealed, guessed] = [&made, &plain].map(|made| &made.sources[0].units[0]);
    assert_eq!((sealed.plain_size, &*sealed.plain_sha256), (guessed.plain_size, ""));
    assert_ne!(sealed.plain_blake3, guessed.plain_blake3, "who guesses the content is told");

    // A recipient and a passphrase more; what was there stays as it is.
    let before: Vec<_> = all_objects(&*store).await;
    vault.add_recipient(name("second"), &second.public, &cx).await.unwrap();
    let phrase = Secret::new("correct horse battery staple");
    vault.add_passphrase(name("phrase"), phrase.clone(), &cx).await.unwrap();
    assert_eq!(all_objects(&*store).await.len(), before.len() + 2);
    assert_eq!(vault.keys().await.unwrap(), [name("first"), name("phrase"), name("second")]);
    for with in [&first.secret, &second.secret, &Unlock::Passphrase(phrase.clone())] {
        let vault = open(&store, with).await.unwrap();
        restores(&vault, &made, dir.path(), &cx).await;
    }
    wrong(open(&store, &Unlock::Passphrase(Secret::new("wrong"))).await);
    wrong(open(&store, &third.secret).await);
    let journals = walkdir::WalkDir::new(dir.path().join("state"));
    for entry in journals.into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file()) {
        let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
        assert!(!text.contains("battery") && !text.contains("AGE-SECRET-KEY"), "{entry:?}");
    }

    // The first goes; the last never can. A removal needs an approval.
    let nobody = Context::builder(dir.path().join("no")).build();
    let refused = vault.remove_key(name("first"), &nobody).await.unwrap_err();
    assert!(matches!(refused.report().unwrap().outcome, Outcome::Refused { .. }));
    vault.remove_key(name("first"), &cx).await.unwrap();
    vault.remove_key(name("phrase"), &cx).await.unwrap();
    let error = vault.remove_key(name("second"), &cx).await.unwrap_err();
    assert!(error.to_string().contains("nobody could open"), "{error}");
    let error = vault.add_recipient(name("second"), &third.public, &cx).await.unwrap_err();
    assert!(error.to_string().contains("there is a key `second` already"), "{error}");
    wrong(open(&store, &first.secret).await);
    let vault = open(&store, &second.secret).await.unwrap();
    restores(&vault, &made, dir.path(), &cx).await;
    // Backups made before and after are read by the same identity.
    let later = vault.create("s", &spec, &cx).await.unwrap();
    assert_eq!(later.uploaded(), 0, "everything was there");
    restores(&vault, &later, dir.path(), &cx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_keys_that_goes_back_leaves_the_keys_as_they_were() {
    let TwoKeys { dir, store, first, vault, cx, .. } = TwoKeys::new().await;
    let before = all_objects(&*store).await;
    let add = KeyStep::AddRecipient { name: name("third"), recipient: key().public };
    let remove = KeyStep::Remove { name: name("first") };
    // The last step of the operation fails when it runs: its database is no database.
    let text = dir.path().join("text.db");
    fs::write(&text, "no database ".repeat(500)).unwrap();
    let fails = vault.plan_backup("s", &[SourceSpec::sqlite(&text)]).unwrap();
    let plan = vault.plan_key(add).unwrap().then(vault.plan_key(remove).unwrap()).then(fails);
    let error = cx.execute(plan, &&vault).await.unwrap_err();
    let outcome = &error.report().unwrap().outcome;
    let went_back = matches!(outcome, Outcome::RolledBack { .. } | Outcome::Refused { .. });
    assert!(went_back, "{outcome:?}");
    assert_eq!(all_objects(&*store).await, before);
    open(&store, &first.secret).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_learns_no_content_and_equal_content_has_no_equal_name_elsewhere() {
    let dir = scratch();
    let cx = lenient(&dir.path().join("state"));
    let spec = [data(dir.path())];
    let mut names = Vec::new();
    for _ in 0..2 {
        let store = memory();
        let vault = begin(&store, &key()).await;
        let made = vault.create("s", &spec, &cx).await.unwrap();
        for object in all_objects(&*store).await {
            let bytes = store.get(&object).await.unwrap().bytes().await.unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains("attack") && !text.contains("AGE-SECRET"), "{object}");
        }
        let content = |key: &str| key.split(['/', '.']).nth(2).unwrap().to_owned();
        let chunks = &made.sources[0].units[0].chunks;
        names.push(chunks.iter().map(|c| content(&c.key)).collect::<Vec<_>>());
    }
    assert!(names[0].len() > 3 && names[0].iter().all(|name| !names[1].contains(name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_manifest_is_named_even_with_its_digest_made_right() {
    let (dir, store) = (scratch(), memory());
    let ours = key();
    let vault = begin(&store, &ours).await;
    let cx = lenient(&dir.path().join("state"));
    let made = vault.create("s", &[data(dir.path())], &cx).await.unwrap();
    let path = format!("sets/s/{}/manifest.json", made.id).as_str().into();
    let good = store.get(&path).await.unwrap().bytes().await.unwrap();
    // Without the key, and with the key of another repository.
    let mut forged = Manifest::from_bytes(&good).unwrap();
    forged.sources[0].fingerprint = "/somewhere/else".into();
    let mac = good.len() - 66..good.len() - 2;
    let mut borrowed = forged.to_bytes().unwrap();
    borrowed.pop();
    borrowed.extend_from_slice(b",\"mac\":\"");
    borrowed.extend_from_slice(&good[mac]);
    borrowed.extend_from_slice(b"\"}");
    for bytes in [made.to_bytes().unwrap(), forged.to_bytes().unwrap(), borrowed] {
        store.put(&path, bytes.into()).await.unwrap();
        let vault = open(&store, &ours.secret).await.unwrap();
        let error = vault.show("s", made.id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tampered, "{error}");
        assert!(error.to_string().contains(&made.id.to_string()), "{error}");
        let place = vault.place(&SourceSpec::directory(dir.path().join("back"))).unwrap();
        let restored = vault.restore("s", made.id, &place, &RestoreOptions::default(), &cx).await;
        assert_eq!(restored.unwrap_err().kind(), ErrorKind::Tampered);
    }
    store.put(&path, good.into()).await.unwrap();
    assert!(open(&store, &ours.secret).await.unwrap().show("s", made.id).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_was_exchanged_is_refused() {
    let store = memory();
    let ours = key();
    let vault = begin(&store, &ours).await;
    let public = vault.public_key().unwrap();
    // Somebody who knows the public recipient puts a repository of his own there.
    let other = memory();
    begin(&other, &ours).await;
    let opened = builder()
        .unlock(ours.secret.clone())
        .expect_public_key(&public)
        .open(other.clone(), "memory:test")
        .await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::WrongKey);
    let open = builder().unlock(ours.secret.clone()).expect_public_key(&public);
    open.open(store, "memory:test").await.unwrap();
    // Or one without encryption, into which the next backup would go in the clear.
    let plain = memory();
    builder().open(plain.clone(), "memory:test").await.unwrap();
    for builder in [
        builder().unlock(ours.secret.clone()),
        builder().encrypt_for(name("a"), Recipient::public(&ours.public).unwrap()),
        builder().expect_public_key(public),
    ] {
        let error = builder.open(plain.clone(), "memory:test").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongKey, "{error}");
    }
    // Nobody begins a repository that he could not open, nor an open one by mistake.
    let empty = memory();
    let recipient = Recipient::public(&ours.public).unwrap();
    let opened = builder()
        .encrypt_for(name("a"), recipient)
        .unlock(key().secret)
        .open(empty.clone(), "memory:test")
        .await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::WrongKey);
    let opened = builder().unlock(ours.secret).open(empty.clone(), "memory:test").await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::WrongKey);
    let format = object_store::path::Path::from("format.json");
    assert!(!all_objects(&*empty).await.contains(&format));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchanged_format_is_no_damage_of_the_backup() {
    let (dir, store) = (scratch(), memory());
    let vault = begin(&store, &key()).await;
    let cx = lenient(&dir.path().join("state"));
    let made = vault.create("s", &[data(dir.path())], &cx).await.unwrap();
    let format = include_bytes!("../format-2.json");
    store.put(&"format.json".into(), format.to_vec().into()).await.unwrap();
    let vault = builder().open(store, "memory:test").await.unwrap();
    let error = vault.verify("s", made.id, Depth::Full).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKey, "{error}");
    assert!(error.to_string().contains("has no key"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_byte_of_an_encrypted_backup_is_found() {
    let (dir, store) = (scratch(), memory());
    let ours = key();
    let vault = begin(&store, &ours).await;
    let cx = lenient(&dir.path().join("state"));
    let small = dir.path().join("small");
    fs::create_dir(&small).unwrap();
    fs::write(small.join("a"), "some words").unwrap();
    let made = vault.create("s", &[SourceSpec::directory(&small)], &cx).await.unwrap();
    let flips =
        flip_every_byte(&*store, made.id, async || open(&store, &ours.secret).await, async |_| {})
            .await;
    assert!(flips > 1500, "{flips}");
}

#[test]
fn the_format_of_an_authenticated_manifest_is_what_it_was() {
    let golden = include_bytes!("../manifest-4.json");
    let manifest = Manifest::from_bytes(golden).unwrap();
    assert_eq!(manifest.format, 4);
    assert_eq!(manifest.sources[0].units[0].plain_blake3.len(), 64);
    let text = String::from_utf8(golden.to_vec()).unwrap();
    for (old, new) in [("\"mac\":\"a", "\"mac\":\"b"), ("app.db", "bpp.db"), ("\"mac\"", "\"mad\"")]
    {
        let changed = text.replacen(old, new, 1);
        let same = Manifest::from_bytes(changed.as_bytes());
        assert!(changed != text && (old.starts_with("\"mac\":") || same.is_err()), "{old}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removals_in_one_operation_leave_a_key() {
    let TwoKeys { dir: _dir, store, first, second, vault, cx } = TwoKeys::new().await;
    let before = all_objects(&*store).await;
    let remove = |key| vault.plan_key(KeyStep::Remove { name: name(key) }).unwrap();
    let both = remove("first").then(remove("second"));
    let error = cx.execute(both, &&vault).await.unwrap_err();
    assert!(matches!(error.report().unwrap().outcome, Outcome::RolledBack { .. }), "{error}");
    assert!(error.to_string().contains("nobody could open"), "{error}");
    assert_eq!(all_objects(&*store).await, before);
    open(&store, &first.secret).await.unwrap();
    open(&store, &second.secret).await.unwrap();
}
