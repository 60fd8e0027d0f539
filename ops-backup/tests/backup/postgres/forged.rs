//! Backups that say of their database what no server of the tests has.

use std::collections::BTreeMap;
use std::path::Path;

use futures::future::{BoxFuture, FutureExt as _};
use futures::{StreamExt as _, stream};
use ops_backup::{
    BackupId, ByteStream, DatabaseOptions, Dump, Error, ErrorKind, Source, SourceSpec, Unit, Vault,
};
use ops_core::Refusal;
use serde_json::{Value, json};

use super::server::Server;

/// A backup of kind `postgres` whose catalog says this.
#[derive(Debug)]
struct Told(Value);

impl Source for Told {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<String, Error>> {
        async { Ok("1/elsewhere".to_owned()) }.boxed()
    }

    fn versions(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn preflight(&self) -> BoxFuture<'_, Result<Vec<Refusal>, Error>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn plan(&self) -> BoxFuture<'_, Result<Vec<Unit>, Error>> {
        async { Ok(vec![Unit { name: "catalog.json".into() }]) }.boxed()
    }

    fn dump<'a>(&'a self, _: &'a Unit, _: BackupId) -> BoxFuture<'a, Result<Dump, Error>> {
        let bytes = self.0.to_string();
        async { Ok(Dump::from(stream::once(async { Ok(bytes.into()) }).boxed())) }.boxed()
    }

    fn restore<'a>(
        &'a self,
        _: &'a Unit,
        _: ByteStream,
        _: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }

    fn smoke<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }
}

/// What a backup of an empty database of this server would say.
async fn honest(server: &Server) -> Value {
    let owner = server.ask("postgres", "SELECT current_user").await;
    json!({"format": 1, "tables": [], "large_objects": false, "facts": {
        "fingerprint": "1/elsewhere", "server": 150_000, "server_version": "15.0", "lsn": "0/0",
        "roles": [], "extensions": [["plpgsql", "1.0"]], "tablespaces": [],
        "properties": {
            "owner": owner, "encoding": "UTF8", "collate": "C", "ctype": "C", "icu": null,
            "tablespace": "pg_default", "connection_limit": -1, "comment": null, "granted": false,
        },
    }})
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_the_server_lacks_is_told_with_its_remedy_before_anything_is_made() {
    let server = Server::new().await;
    let honest = honest(&server).await;
    let other = format!("{}_other", server.name);
    let place = server.vault.database(&server.url_of(&other)).await.unwrap();
    for (at, (change, reason, remedy)) in [
        (
            json!({"facts": {"server": 990_004}}),
            "the backup is of PostgreSQL 99, the target has",
            "a newer one",
        ),
        (
            json!({"facts": {"extensions": [["plpgsql", "1.0"], ["no_such_extension", "7"]]}}),
            "the server lacks extensions: no_such_extension",
            "install their packages",
        ),
        (
            json!({"facts": {"roles": ["no such role"]}}),
            "the server lacks roles: no such role",
            "globals:",
        ),
        (
            json!({"facts": {"tablespaces": ["no_such_space"]}}),
            "the server lacks tablespaces: no_such_space",
            "globals:",
        ),
        (
            json!({"facts": {"properties": {"collate": "tlh_QO.UTF-8"}}}),
            "the server does not know the locale `tlh_QO.UTF-8` (LC_COLLATE)",
            "pg_import_system_collations",
        ),
        (json!({"format": 9}), "the catalog has format 9, 1 is the newest known", "or a newer one"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut told = honest.clone();
        merge(&mut told, &change);
        let set = format!("told-{at}");
        let vault: Vault = Vault::builder()
            .source("told", Told(told))
            .open(server.store.clone(), "memory:test")
            .await
            .unwrap();
        let made = vault.create(&set, &[SourceSpec::named("told")], &server.cx).await.unwrap();
        let options = DatabaseOptions::default();
        let restore = vault.restore_database(&set, made.id, &place, &options, &server.cx).await;
        let error = restore.unwrap_err();
        let text = ops_core::error::chain(&error).join(": ");
        assert!(text.contains(reason) && text.contains(remedy), "{change}: {text}");
        assert_eq!(server.databases().await, [""], "{change}: nothing was made");
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_for_which_no_disk_has_room_is_refused_before_anything_is_made() {
    let server = Server::with("CREATE TABLE guests (id int); INSERT INTO guests VALUES (1)").await;
    let mut made = server.back_up().await;
    let units = &mut made.sources[0].units;
    let table = units.iter_mut().find(|unit| unit.name.starts_with("table")).unwrap();
    table.plain_size = 1 << 60;
    let key = format!("sets/pg/{}/manifest.json", made.id).as_str().into();
    let forged = made.to_bytes().unwrap();
    object_store::ObjectStoreExt::put(&*server.store, &key, forged.into()).await.unwrap();
    let other = format!("{}_other", server.name);
    let error = server.restore(&made, &other, &DatabaseOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Operation);
    let text = error.to_string();
    assert!(
        text.contains("bytes at least, the server has") && text.contains("make room"),
        "{text}"
    );
    assert_eq!(server.databases().await, [""]);
}
