//! The layout of a store.
//!
//! ```text
//! format.json
//! keys/<name>.<ulid>.age                    the repository's identity, wrapped for one key
//! chunks/<aa>/<BLAKE3 of the plain bytes>.<backup id>.zst[.age]
//! sets/<set>/<backup id>/manifest.json
//! sets/<set>/<backup id>/attest/<time>-{verify,drill}.json
//! begun/<backup id>.json                    while it runs
//! tombstones/<backup id>.json
//! clock
//! ```
//!
//! A backup is listed if its manifest exists and no tombstone names it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;
use object_store::path::Path as Key;
use object_store::{
    GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::error::{Error, ErrorKind};
use crate::format::{self, Format, Keys};
use crate::identity::Identity;
use crate::key::{self, wrap};
use crate::manifest::{BackupId, Manifest, SetName};
use crate::patience::{Patience, bounded};
use crate::reuse::Content;
use crate::throttle::Throttle;
use crate::watch::Watch;

/// A manifest describes each 8 MiB in about 300 bytes, so this is a backup of some 7 TiB.
const MAX_MANIFEST: u64 = 256 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Repository {
    store: Arc<dyn ObjectStore>,
    patience: Patience,
    format: Format,
    identity: Option<Arc<Identity>>,
    limit: Option<Throttle>,
    watch: Option<Watch>,
}

/// When an object was written, by the store's clock.
pub(crate) fn moment(object: &ObjectMeta) -> Timestamp {
    Timestamp::from_millisecond(object.last_modified.timestamp_millis()).unwrap_or(Timestamp::MAX)
}

impl Repository {
    /// Opens the repository, or begins it in an empty store.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        patience: Patience,
        keys: &Keys,
    ) -> Result<Self, Error> {
        let mut repository = Self {
            store,
            patience,
            format: Format::plain(),
            identity: None,
            limit: None,
            watch: None,
        };
        match repository.get(format::KEY, 4096).await {
            Ok(found) => repository.format = Format::from_bytes(&found)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                repository.found(keys).await?;
                return Ok(repository);
            }
            Err(error) => return Err(error),
        }
        keys.fit(&repository.format)?;
        if let Some(recipient) = &repository.format.recipient {
            let identity = repository.unlock(recipient, &keys.unlock).await?;
            repository.identity = Some(Arc::new(identity));
        }
        Ok(repository)
    }

    /// Begins a repository; `format.json` is written last.
    async fn found(&mut self, keys: &Keys) -> Result<(), Error> {
        if !keys.recipients.is_empty() {
            let identity = Identity::generate()?;
            for (name, recipient) in &keys.recipients {
                let wrapped = wrap(recipient.clone(), &identity.to_text()).await?;
                self.create(&key::object(name, Ulid::generate()), wrapped.into()).await?;
            }
            self.format = Format::encrypted(identity.recipient());
            if !keys.unlock.is_empty() {
                // Better now than when the first restore is needed.
                self.unlock(&identity.recipient(), &keys.unlock).await?;
            }
            self.identity = Some(Arc::new(identity));
        }
        keys.fit(&self.format)?;
        self.create(format::KEY, self.format.to_bytes()?.into()).await
    }

    /// Lets no more bytes of chunks a second come and go.
    pub fn limited(self, bytes_a_second: Option<u64>) -> Self {
        Self { limit: bytes_a_second.map(Throttle::new), ..self }
    }

    /// Tells somebody of each chunk that is read.
    pub fn watched(&self, watch: Watch) -> Self {
        Self { watch: Some(watch), ..self.clone() }
    }

    /// Where each chunk that is read is told.
    pub fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    /// Waits until so many bytes of a chunk may come or go. Apart from the call itself, which has a
    /// deadline.
    pub async fn turn(&self, bytes: u64, cancel: &CancellationToken) -> Result<(), Error> {
        match &self.limit {
            Some(limit) => limit.turn(bytes, cancel).await,
            None if cancel.is_cancelled() => Err(Error::cancelled()),
            None => Ok(()),
        }
    }

    /// Before something is written that older programs would not understand.
    pub async fn upgrade(&self) -> Result<(), Error> {
        if self.format.is_current() {
            return Ok(());
        }
        self.put(format::KEY, Format::plain().to_bytes()?.into()).await
    }

    /// The keys, where it is encrypted.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    pub fn chunk_key(&self, content: &Content, id: BackupId) -> String {
        let (content, end) =
            (hex::encode(content), if self.identity.is_some() { ENCRYPTED } else { "" });
        format!("chunks/{}/{content}.{id}.zst{end}", &content[..2])
    }

    pub fn manifest_key(set: &SetName, id: BackupId) -> String {
        format!("sets/{set}/{id}/manifest.json")
    }

    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        // Overwriting is right: the key names content and backup, so only the same bytes come here.
        let put = || async {
            let put = self.store.put(&Key::from(key), PutPayload::from(bytes.clone())).await;
            put.map(|_| ()).map_err(|e| Error::store("write", key, e))
        };
        self.patience.call("write", key, put).await
    }

    /// Writes what must not be there yet. A lost or false answer is resolved by reading back.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] if something else is there.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let (deadline, retry) = (self.patience.deadline, &self.patience.retry);
        let create = || async {
            let put = async {
                let payload = PutPayload::from(bytes.clone());
                let put = self.store.put_opts(&Key::from(key), payload, options.clone()).await;
                put.map(|_| ()).map_err(|e| Error::store("create", key, e))
            };
            let Err(error) = bounded(deadline, "create", key, put).await else { return Ok(()) };
            // Without a retry of its own: this whole attempt is one.
            match bounded(deadline, "read", key, self.get_once(key, bytes.len() as u64)).await {
                Ok(found) if found == bytes => Ok(()),
                _ => Err(error),
            }
        };
        retry.run(&ops_core::SystemClock::new(), create).await
    }

    /// The bytes of an object that has `limit` of them at most.
    pub async fn get(&self, key: &str, limit: u64) -> Result<Bytes, Error> {
        self.patience.call("read", key, || self.get_once(key, limit)).await
    }

    async fn get_once(&self, key: &str, limit: u64) -> Result<Bytes, Error> {
        let fail = |e| Error::store("read", key, e);
        let answer = self.store.get(&Key::from(key)).await.map_err(fail)?;
        if answer.meta.size > limit {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("object `{key}` has {} bytes, expected {limit} at most", answer.meta.size),
            ));
        }
        let size = answer.meta.size;
        // A file's size is known; what comes over a network may go on for ever.
        let bytes = match answer.payload {
            GetResultPayload::Stream(pieces) => gathered(pieces, size).await.map_err(fail)?,
            GetResultPayload::File(..) => answer.bytes().await.map_err(fail)?,
        };
        // What ends early is the connection's fault: to be asked again, and no damage.
        if bytes.len() as u64 != size {
            let message = format!("object `{key}` came with {} of {size} bytes", bytes.len());
            return Err(Error::new(ErrorKind::Store, message));
        }
        Ok(bytes)
    }

    pub async fn exists(&self, key: &str) -> Result<bool, Error> {
        match self.head(key).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub async fn size(&self, key: &str) -> Result<u64, Error> {
        self.head(key).await.map(|meta| meta.size)
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, Error> {
        let head = || async {
            let meta = self.store.head(&Key::from(key)).await;
            meta.map_err(|e| Error::store("look at", key, e))
        };
        self.patience.call("look at", key, head).await
    }

    /// Deletes an object. One that is not there is fine: the answer may have been lost.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let delete = || async {
            match self.store.delete(&Key::from(key)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(Error::store("delete", key, error)),
            }
        };
        self.patience.call("delete", key, delete).await
    }

    /// Looks at every object below a folder. It begins anew, with a new `T`, when the store fails
    /// half-way; the deadline is that of each step of the listing.
    pub async fn fold<T>(
        &self,
        folder: &str,
        new: impl Fn() -> T,
        add: impl Fn(&mut T, &ObjectMeta),
    ) -> Result<T, Error> {
        let all = || async {
            let mut folded = new();
            let mut objects = self.store.list(Some(&Key::from(folder)));
            loop {
                let next = async { Ok(objects.next().await) };
                let Some(object) = bounded(self.patience.deadline, "list", folder, next).await?
                else {
                    return Ok(folded);
                };
                add(&mut folded, &object.map_err(|e| Error::store("list", folder, e))?);
            }
        };
        self.patience.retry.run(&ops_core::SystemClock::new(), all).await
    }

    /// What time it is for the store.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        self.put("clock", Bytes::new()).await?;
        self.head("clock").await.map(|meta| moment(&meta))
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
        let manifest = Manifest::unseal(&bytes, self.identity.as_deref())
            .map_err(|error| error.with("object", &key))?;
        if manifest.id == id && manifest.set == *set {
            return Ok(manifest);
        }
        Err(Error::new(ErrorKind::Corrupt, format!("`{key}` is the manifest of another backup")))
    }

    /// The listed backups of a set and what attests them.
    pub async fn set(&self, set: &SetName) -> Result<BTreeMap<BackupId, Vec<String>>, Error> {
        let mut found = self.sets(&format!("sets/{set}")).await?;
        Ok(found.remove(set).unwrap_or_default())
    }

    /// The listed backups of every set, each with the keys of what attests it, oldest first.
    pub async fn all(&self) -> Result<Sets, Error> {
        self.sets("sets").await
    }

    async fn sets(&self, folder: &str) -> Result<Sets, Error> {
        let add = |sets: &mut Sets, object: &ObjectMeta| {
            let parts: Vec<_> = object.location.parts().collect();
            let parts: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
            let (["sets", set, id, "manifest.json"] | ["sets", set, id, "attest", _]) =
                parts.as_slice()
            else {
                return;
            };
            let (Ok(set), Ok(id)) = (set.parse(), id.parse()) else { return };
            let keys = sets.entry(set).or_default().entry(id).or_default();
            keys.push(object.location.to_string());
        };
        let mut sets = self.fold(folder, Sets::new, add).await?;
        // After the manifests: what is taken out meanwhile must not be answered.
        let buried = self.buried().await?;
        for (set, backups) in &mut sets {
            backups.retain(|id, keys| {
                let manifest = Self::manifest_key(set, *id);
                let listed = keys.iter().position(|key| *key == manifest);
                if let Some(at) = listed {
                    keys.remove(at);
                }
                keys.sort();
                listed.is_some() && !buried.contains_key(id)
            });
        }
        Ok(sets)
    }

    /// The ids of the listed backups of a set, oldest first.
    pub async fn list(&self, set: &SetName) -> Result<Vec<BackupId>, Error> {
        Ok(self.set(set).await?.into_keys().collect())
    }
}

/// So many bytes, and those of the piece after at most.
async fn gathered(
    mut pieces: BoxStream<'static, object_store::Result<Bytes>>,
    size: u64,
) -> object_store::Result<Bytes> {
    let mut all = BytesMut::new();
    while all.len() as u64 <= size
        && let Some(piece) = pieces.next().await
    {
        all.extend_from_slice(&piece?);
    }
    Ok(all.freeze())
}

/// The listed backups by set, each with the keys of what attests it.
pub(crate) type Sets = BTreeMap<SetName, BTreeMap<BackupId, Vec<String>>>;

/// How the key of an encrypted chunk ends.
const ENCRYPTED: &str = ".age";

pub(crate) fn is_encrypted(key: &str) -> bool {
    key.ends_with(ENCRYPTED)
}

/// The backup that uploaded a chunk, as its key tells.
pub(crate) fn chunk_owner(key: &str) -> Option<BackupId> {
    let key = key.strip_prefix("chunks/")?;
    let key = key.strip_suffix(ENCRYPTED).unwrap_or(key);
    key.strip_suffix(".zst")?.rsplit_once('.')?.1.parse().ok()
}
