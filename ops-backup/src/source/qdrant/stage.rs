//! The new collection: made of the snapshot, and compared with what the backup says.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use ops_core::{Class, Refusal};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Collection};
use super::place::QdrantPlace;
use super::snapshot::{FACTS, FACTS_FORMAT, Facts, SNAPSHOT};
use crate::component;
use crate::error::{Error, ErrorKind};
use crate::manifest::{BackupId, SetName, SourceRecord};
use crate::source::SourceSpec;
use crate::vault::Vault;
use crate::verify::Depth;

/// More than this no program writes about a collection.
const MAX_FACTS: u64 = 16 << 20;

/// How often the server is asked whether it is ready.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Stage {
    pub place: QdrantPlace,
    pub set: SetName,
    pub backup: BackupId,
    pub component: SourceSpec,
    pub patience: Duration,
    /// The new collection's name.
    pub collection: String,
}

/// What the backup says of its collection.
pub(super) async fn told(
    vault: &Vault,
    record: &SourceRecord,
    cancel: &CancellationToken,
) -> Result<Facts, Error> {
    let all = component::read_all(&vault.repository, record, FACTS, MAX_FACTS, cancel).await?;
    let wrong = |e: serde_json::Error| {
        Error::new(ErrorKind::Corrupt, "what the backup says of its collection cannot be read")
            .caused_by(e)
    };
    let value: Value = serde_json::from_slice(&all).map_err(wrong)?;
    let format = value["format"].as_u64().unwrap_or_default();
    if format > u64::from(FACTS_FORMAT) {
        let message = format!("`{FACTS}` has format {format}, {FACTS_FORMAT} is the newest known");
        return Err(Error::new(ErrorKind::Foreign, message)
            .remedy("use the version of the program that wrote it, or a newer one"));
    }
    serde_json::from_value(value).map_err(wrong)
}

/// Major and minor.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Why the server cannot take the backup.
pub(super) async fn refusals(
    place: &QdrantPlace,
    record: &SourceRecord,
) -> Result<Vec<Refusal>, Error> {
    let facts = told(&place.vault, record, &CancellationToken::new()).await?;
    let mut reasons = Vec::new();
    let here = place.client.version().await?;
    if let (Some(made), Some(target)) = (version(&facts.server), version(&here))
        && made > target
    {
        reasons.push(Refusal::new(
            format!("the backup is of Qdrant {}, the target has {here}", facts.server),
            "restore into a server of the same version or a newer one",
        ));
    }
    let peers = place.client.peers().await?;
    if peers > 1 {
        reasons.push(Refusal::new(
            format!("the target is one of {peers} servers that share their data"),
            "restore into a single server, or with the snapshots of the cluster's keeper",
        ));
    }
    Ok(reasons)
}

/// Deletes what was staged, if anything was.
pub(super) async fn discard(client: &Client, collection: &str) -> Result<(), Error> {
    client.delete(collection).await?;
    ops_core::fault::point("deleted the new collection");
    Ok(())
}

impl Stage {
    /// Answers how many points there are.
    pub async fn run(self, cancel: &CancellationToken) -> Result<u64, Error> {
        let Self { place, collection, .. } = &self;
        let client = &place.client;
        discard(client, collection).await?;
        let repository = &place.vault.repository;
        // Every byte is checked again while it is read; this finds before the work what is missing.
        let backup = (&self.set, self.backup);
        let record =
            &component::verified(repository, backup, &self.component, Depth::Quick, cancel).await?;
        let facts = told(&place.vault, record, cancel).await?;
        let checksum = match &facts.snapshot.checksum {
            Some(checksum) => checksum.clone(),
            None => self.digest(record, cancel).await?,
        };
        let bytes = component::read(repository, record, SNAPSHOT, cancel)?;
        client.upload(collection, bytes, &checksum, self.patience).await?;
        ops_core::fault::point("uploaded the snapshot");
        // What was uploaded stays in the new collection's folder of snapshots, to nobody's use.
        for left in client.snapshots(collection).await?.0 {
            client.delete_snapshot(collection, &left.name).await?;
        }
        let found = self.ready(client).await?;
        let points = self.compare(client, &facts, &found).await?;
        ops_core::fault::point("compared the collection");
        Ok(points)
    }

    /// Of servers that gave no checksum: so that what arrives is what was read.
    async fn digest(
        &self,
        record: &SourceRecord,
        cancel: &CancellationToken,
    ) -> Result<String, Error> {
        let mut pieces = component::read(&self.place.vault.repository, record, SNAPSHOT, cancel)?;
        let mut digest = crate::digest::Hasher::default();
        while let Some(piece) = pieces.next().await {
            digest.update(&piece?);
        }
        Ok(digest.finish())
    }

    /// Waits until the server has the collection ready.
    async fn ready(&self, client: &Client) -> Result<Collection, Error> {
        let begun = Instant::now();
        loop {
            let found = client.collection(&self.collection).await?.ok_or_else(|| {
                let message =
                    format!("the server has no collection `{}` after all", self.collection);
                Error::new(ErrorKind::Source, message)
            })?;
            match &*found.status {
                "green" => return Ok(found),
                "red" => {
                    let message = format!("the restored collection `{}` is red", self.collection);
                    return Err(Error::new(ErrorKind::Source, message)
                        .remedy("look at the server's log; restore another backup"));
                }
                _ if begun.elapsed() > self.patience => {
                    let message = format!(
                        "the restored collection `{}` is still {} after {:?}",
                        self.collection, found.status, self.patience
                    );
                    return Err(Error::new(ErrorKind::Source, message)
                        .class_of(Class::Temporary)
                        .remedy("give it more time in the options"));
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn compare(
        &self,
        client: &Client,
        facts: &Facts,
        found: &Collection,
    ) -> Result<u64, Error> {
        let points = client.count(&self.collection).await?;
        let mut differ = Vec::new();
        if facts.points.is_some_and(|expected| expected != points) {
            differ.push(format!("{points} points instead of {}", facts.points.unwrap_or_default()));
        }
        if found.config.params["vectors"] != facts.params["vectors"]
            || found.config.params["sparse_vectors"] != facts.params["sparse_vectors"]
        {
            differ.push("other vectors".to_owned());
        }
        if kinds(&found.payload_schema) != kinds(&facts.payload_schema) {
            differ.push("other payload indexes".to_owned());
        }
        if differ.is_empty() {
            return Ok(points);
        }
        let message = format!("what was restored differs from the backup: {}", differ.join(", "));
        Err(Error::new(ErrorKind::Source, message).remedy("restore another backup of the set"))
    }
}

/// The payload indexes, without how many points each has.
fn kinds(schema: &Value) -> Vec<(&str, &Value)> {
    let fields = schema.as_object().into_iter().flatten();
    fields.map(|(name, field)| (&**name, &field["data_type"])).collect()
}
