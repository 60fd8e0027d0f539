//! The layout of a store.
//!
//! ```text
//! format.json
//! chunks/<aa>/<SHA-256 of the plain bytes>.<backup id>.zst
//! sets/<set>/<backup id>/manifest.json
//! ```

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};

use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, Manifest, SetName};

const FORMAT_KEY: &str = "format.json";
const FORMAT: u64 = 1;
/// A manifest describes each 8 MiB in about 300 bytes, so this is a backup of some 7 TiB.
const MAX_MANIFEST: u64 = 256 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Repository {
    store: Arc<dyn ObjectStore>,
}

impl Repository {
    /// Opens the repository, or begins it in an empty store.
    pub async fn open(store: Arc<dyn ObjectStore>) -> Result<Self, Error> {
        let repository = Self { store };
        let ours = format!("{{\"repository\":\"ops-backup\",\"format\":{FORMAT}}}\n");
        match repository.get(FORMAT_KEY, 4096).await {
            Ok(found) => check_format(&found, ours.as_bytes())?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                repository.create(FORMAT_KEY, ours.into()).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(repository)
    }

    pub fn chunk_key(content: &str, id: BackupId) -> String {
        format!("chunks/{}/{content}.{id}.zst", content.get(..2).unwrap_or("00"))
    }

    pub fn manifest_key(set: &SetName, id: BackupId) -> String {
        format!("sets/{set}/{id}/manifest.json")
    }

    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        // Overwriting is right: the key names content and backup, so only the same bytes come here.
        let put = self.store.put(&Key::from(key), PutPayload::from(bytes)).await;
        put.map(|_| ()).map_err(|e| Error::store("write", key, e))
    }

    /// Writes what must not be there yet. A lost or false answer is resolved by reading back.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let size = bytes.len() as u64;
        let Err(error) =
            self.store.put_opts(&Key::from(key), PutPayload::from(bytes.clone()), options).await
        else {
            return Ok(());
        };
        match self.get(key, size).await {
            Ok(found) if found == bytes => Ok(()),
            _ => Err(Error::store("create", key, error)),
        }
    }

    /// The bytes of an object that has `limit` of them at most.
    pub async fn get(&self, key: &str, limit: u64) -> Result<Bytes, Error> {
        let fail = |e| Error::store("read", key, e);
        let answer = self.store.get(&Key::from(key)).await.map_err(fail)?;
        if answer.meta.size > limit {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("object `{key}` has {} bytes, expected {limit} at most", answer.meta.size),
            ));
        }
        answer.bytes().await.map_err(fail)
    }

    pub async fn size(&self, key: &str) -> Result<u64, Error> {
        let meta = self.store.head(&Key::from(key)).await;
        meta.map(|meta| meta.size).map_err(|e| Error::store("look at", key, e))
    }

    pub async fn manifest(&self, set: &SetName, id: BackupId) -> Result<Manifest, Error> {
        let key = Self::manifest_key(set, id);
        let bytes = self.get(&key, MAX_MANIFEST).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, format!("set `{set}` has no backup {id}"))
                    .remedy("list the set to see what there is")
            }
            _ => error,
        })?;
        let manifest = Manifest::from_bytes(&bytes)?;
        if manifest.id == id && manifest.set == *set {
            return Ok(manifest);
        }
        Err(Error::new(ErrorKind::Corrupt, format!("`{key}` is the manifest of another backup")))
    }

    /// The ids of the listed backups of a set, oldest first.
    pub async fn list(&self, set: &SetName) -> Result<Vec<BackupId>, Error> {
        let prefix = format!("sets/{set}");
        let mut ids = Vec::new();
        let mut objects = self.store.list(Some(&Key::from(prefix.as_str())));
        while let Some(object) = objects.next().await {
            let object = object.map_err(|e| Error::store("list", &prefix, e))?;
            let parts: Vec<_> = object.location.parts().collect();
            if let [_, _, id, name] = parts.as_slice()
                && name.as_ref() == "manifest.json"
                && let Ok(id) = id.as_ref().parse()
            {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// Deletes the chunks that a backup uploaded.
    pub async fn delete_chunks(&self, id: BackupId) -> Result<(), Error> {
        let mark = format!(".{id}.zst");
        let objects: Vec<_> = self
            .store
            .list(Some(&Key::from("chunks")))
            .try_filter(|o| futures::future::ready(o.location.as_ref().ends_with(&mark)))
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(|e| Error::store("list", "chunks", e))?;
        for key in objects {
            match self.store.delete(&key).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(Error::store("delete", key.as_ref(), error)),
            }
        }
        Ok(())
    }
}

fn check_format(found: &[u8], ours: &[u8]) -> Result<(), Error> {
    if found == ours {
        return Ok(());
    }
    let value: serde_json::Value = serde_json::from_slice(found).unwrap_or_default();
    match value["format"].as_u64() {
        Some(format) if format > FORMAT => Err(Error::new(
            ErrorKind::Foreign,
            format!("the repository has format {format}, this program reads up to {FORMAT}"),
        )
        .remedy("use the version of the program that wrote it, or a newer one")),
        _ => Err(Error::new(ErrorKind::Corrupt, "`format.json` is damaged, or of another program")
            .remedy("use an empty store, or put the file's one line back")),
    }
}
