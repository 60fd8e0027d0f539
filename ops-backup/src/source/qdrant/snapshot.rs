//! A collection as a source: a snapshot that the server makes, and that is deleted when it was read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ops_core::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{Client, Described};
use super::url::QdrantUrl;
use crate::error::{Error, ErrorKind};
use crate::manifest::BackupId;
use crate::source::{ByteStream, Dump, Learned, Session, Source, Unit};

pub(super) const KIND: &str = "qdrant";
/// What a restore must know before it begins.
pub(super) const FACTS: &str = "collection.json";
/// The snapshot itself.
pub(super) const SNAPSHOT: &str = "collection.snapshot";
/// The format of the unit `collection.json`.
pub(super) const FACTS_FORMAT: u32 = 1;

/// How soon after the list of snapshots was read ours is begun.
const SOON: i64 = 10;

/// A Qdrant collection, backed up as a snapshot that its server makes.
///
/// The snapshot goes from the server straight into the backup, and its SHA-256 is compared with the
/// one that the server gives. It needs room on the server's disk while it is read, and is deleted
/// afterwards, also when the backup fails. Where a process was killed while the server still made
/// it, it may stay; see the server's list.
///
/// In it: points, payloads, vectors, the collection's settings, its payload indexes. Not in it:
/// aliases. A collection whose shards lie on several servers is refused: each would have a snapshot
/// of its part only.
#[derive(Debug, Clone)]
pub struct Qdrant {
    url: QdrantUrl,
    patience: Duration,
}

impl Qdrant {
    /// The collection at this address, or the one that an alias stands for.
    pub fn new(url: QdrantUrl) -> Self {
        Self { url, patience: Duration::from_mins(30) }
    }

    /// How long the server may take to make the snapshot. Default: 30 min.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn hold(&self) -> Result<Held, Error> {
        let client = Client::new(&self.url).await?;
        let collection = self.collection(&client).await?;
        let missing = || gone(&self.url);
        let found = client.collection(&collection).await?.ok_or_else(missing)?;
        let server = client.version().await?;
        let before = client.count(&collection).await?;
        let snapshot = client.snapshot(&collection, self.patience).await?;
        ops_core::fault::point("made a snapshot");
        let units = [FACTS, SNAPSHOT].map(|name| Unit { name: name.to_owned() }).to_vec();
        let (facts, contents) = (None, Vec::new());
        let mut held = Held { client, collection, snapshot, units, facts, contents };
        // Writers may be at work: then nobody knows how many points the snapshot has.
        let after = held.client.count(&held.collection).await?;
        let facts = Facts {
            format: FACTS_FORMAT,
            server,
            collection: held.collection.clone(),
            points: (before == after).then_some(before),
            params: found.config.params,
            payload_schema: found.payload_schema,
            snapshot: held.snapshot.clone(),
        };
        held.contents = serde_json::to_vec(&facts).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, "what is known of a collection cannot be written")
                .caused_by(e)
        })?;
        held.facts = Some(facts);
        Ok(held)
    }

    /// The collection's own name.
    async fn collection(&self, client: &Client) -> Result<String, Error> {
        let name = self.url.collection();
        Ok(client.behind(name).await?.unwrap_or_else(|| name.to_owned()))
    }
}

fn gone(url: &QdrantUrl) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no collection `{}`", url.collection()))
        .remedy("name a collection, or an alias, of that server")
}

/// What a backup says of its collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub format: u32,
    /// The server's version.
    pub server: String,
    pub collection: String,
    /// Nothing if somebody wrote while the snapshot was made.
    pub points: Option<u64>,
    pub params: Value,
    pub payload_schema: Value,
    pub snapshot: Described,
}

/// A snapshot that lies on the server.
#[derive(Debug)]
struct Held {
    client: Client,
    collection: String,
    snapshot: Described,
    units: Vec<Unit>,
    facts: Option<Facts>,
    contents: Vec<u8>,
}

impl Held {
    async fn delete(&self) -> Result<(), Error> {
        self.client.delete_snapshot(&self.collection, &self.snapshot.name).await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.snapshot.name.is_empty() {
            return;
        }
        // The backup failed. Its way back looks too, but only here the name is known for sure.
        let (client, collection) = (self.client.clone(), self.collection.clone());
        let name = std::mem::take(&mut self.snapshot.name);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { client.delete_snapshot(&collection, &name).await });
        }
    }
}

/// What whoever cleans up after a killed backup must know.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    collection: String,
    /// By the server's clock.
    at: Timestamp,
    snapshots: BTreeSet<String>,
    /// What the server called ours, once it has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ours: Option<String>,
}

impl Seen {
    /// Whether this is the snapshot that was begun right after. Its name ends in the second in which
    /// the server began it.
    fn is_ours(&self, name: &str) -> bool {
        let begun = || {
            let name = name.strip_suffix(".snapshot")?;
            let at = name.get(name.len().checked_sub(19)?..)?;
            let at = DateTime::strptime("%Y-%m-%d-%H-%M-%S", at).ok()?;
            at.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
        };
        let soon =
            |begun: Timestamp| (-1..=SOON).contains(&(begun.as_second() - self.at.as_second()));
        !self.snapshots.contains(name) && begun().is_some_and(soon)
    }
}

impl Source for Qdrant {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<String, Error>> {
        async { Ok(self.url.fingerprint()) }.boxed()
    }

    fn preflight(&self) -> BoxFuture<'_, Result<Vec<Refusal>, Error>> {
        async {
            let looked = async {
                let client = Client::new(&self.url).await?;
                let found = client.collection(self.url.collection()).await?;
                let found = found.ok_or_else(|| gone(&self.url))?;
                Ok::<_, Error>((client.peers().await?, found.status))
            };
            let (peers, status) = match looked.await {
                Ok(found) => found,
                Err(error) => {
                    return Ok(vec![Refusal::of(&error, "name a collection that answers")]);
                }
            };
            let mut reasons = Vec::new();
            if peers > 1 {
                reasons.push(Refusal::new(
                    format!("`{}` is one of {peers} servers that share their data", self.url.server()),
                    "a snapshot holds the part of one server: use the snapshots of the cluster's keeper",
                ));
            }
            if status == "red" {
                reasons.push(Refusal::new(
                    format!("collection `{}` is red: its server cannot read all of it", self.url.collection()),
                    "look at the server's log, and mend the collection",
                ));
            }
            Ok(reasons)
        }
        .boxed()
    }

    fn plan(&self) -> BoxFuture<'_, Result<Vec<Unit>, Error>> {
        async { Err(through_a_session()) }.boxed()
    }

    fn dump<'a>(&'a self, _: &'a Unit, _: BackupId) -> BoxFuture<'a, Result<Dump, Error>> {
        async { Err(through_a_session()) }.boxed()
    }

    fn observe(&self) -> BoxFuture<'_, Result<Option<String>, Error>> {
        async {
            let client = Client::new(&self.url).await?;
            let collection = self.collection(&client).await?;
            let (snapshots, at) = client.snapshots(&collection).await?;
            let snapshots = snapshots.into_iter().map(|snapshot| snapshot.name).collect();
            let seen = serde_json::to_string(&Seen { collection, at, snapshots, ours: None });
            seen.map(Some).map_err(|e| {
                Error::new(ErrorKind::InvalidInput, "snapshots cannot be noted").caused_by(e)
            })
        }
        .boxed()
    }

    fn open(&self, _: BackupId) -> BoxFuture<'_, Result<Option<Box<dyn Session>>, Error>> {
        async { Ok(Some(Box::new(self.hold().await?) as Box<dyn Session>)) }.boxed()
    }

    fn clean_up_observed(&self, _: BackupId, seen: String) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let seen: Seen = serde_json::from_str(&seen).map_err(|e| {
                Error::new(ErrorKind::Corrupt, "the note of snapshots is damaged").caused_by(e)
            })?;
            let client = Client::new(&self.url).await?;
            let listed = match client.snapshots(&seen.collection).await {
                Ok((listed, _)) => listed,
                // With the collection its snapshots went too.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            if let Some(ours) = &seen.ours {
                if listed.iter().any(|found| found.name == *ours) {
                    client.delete_snapshot(&seen.collection, ours).await?;
                }
                return Ok(());
            }
            let ours: Vec<_> = listed.iter().filter(|found| seen.is_ours(&found.name)).collect();
            match ours[..] {
                [] => Ok(()),
                [only] => client.delete_snapshot(&seen.collection, &only.name).await,
                _ => {
                    // Somebody else made one in the same minute, and nobody knows which.
                    let names: Vec<_> = ours.iter().map(|found| &*found.name).collect();
                    let names = names.join(", ");
                    tracing::warn!(target: "ops", "one of these snapshots is left by a backup: {names}");
                    Ok(())
                }
            }
        }
        .boxed()
    }

    fn restore<'a>(
        &'a self,
        _: &'a Unit,
        _: ByteStream,
        _: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async { Err(self.no_path()) }.boxed()
    }

    fn smoke<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, Result<(), Error>> {
        async { Err(self.no_path()) }.boxed()
    }
}

fn through_a_session() -> Error {
    Error::new(ErrorKind::InvalidInput, "a collection is read through a session")
}

impl Qdrant {
    fn no_path(&self) -> Error {
        Error::new(
            ErrorKind::InvalidInput,
            format!("`{}` cannot be restored into a file", self.url),
        )
        .remedy("restore it into a collection: `Vault::collection`")
    }
}

impl Session for Held {
    fn units(&self) -> &[Unit] {
        &self.units
    }

    fn observe(&self) -> Option<String> {
        let seen = Seen {
            collection: self.collection.clone(),
            at: Timestamp::UNIX_EPOCH,
            snapshots: BTreeSet::new(),
            ours: Some(self.snapshot.name.clone()),
        };
        serde_json::to_string(&seen).ok()
    }

    fn dump<'a>(&'a self, unit: &'a Unit) -> BoxFuture<'a, Result<Dump, Error>> {
        async move {
            match &*unit.name {
                FACTS => {
                    let contents = self.contents.clone();
                    Ok(Dump::from(stream::once(async move { Ok(contents.into()) }).boxed()))
                }
                SNAPSHOT => {
                    Ok(self.client.download(&self.collection, &self.snapshot).await?.into())
                }
                other => {
                    let message = format!("`{other}` is no part of a snapshot");
                    Err(Error::new(ErrorKind::InvalidInput, message))
                }
            }
        }
        .boxed()
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<Learned, Error>> {
        async move {
            let mut facts = BTreeMap::new();
            if let Some(known) = self.facts.take() {
                facts.insert("server".to_owned(), known.server);
                facts.insert("collection".to_owned(), known.collection);
                let points = known.points.map_or_else(|| "written meanwhile".into(), |n| n.to_string());
                facts.insert("points".to_owned(), points);
                if known.snapshot.checksum.is_none() {
                    facts.insert("checksum".to_owned(), "the server gave none".to_owned());
                }
            }
            // All is read: what the server keeps of it is a nuisance, and no reason to lose the backup.
            if let Err(error) = self.delete().await {
                let (name, collection) = (&self.snapshot.name, &self.collection);
                tracing::warn!(target: "ops", "snapshot `{name}` of `{collection}` is left: {error}");
                facts.insert("snapshot left on the server".to_owned(), name.clone());
            }
            ops_core::fault::point("deleted the snapshot");
            self.snapshot.name.clear();
            Ok(Learned { facts, tables: BTreeMap::new() })
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_ours_if_it_is_new_and_was_begun_right_after() {
        let seen = Seen {
            collection: "docs".into(),
            at: "2026-11-21T23:59:30Z".parse().unwrap(),
            snapshots: BTreeSet::from(["docs-1-2026-11-21-23-59-30.snapshot".to_owned()]),
            ours: None,
        };
        for (name, ours) in [
            ("docs-1-2026-11-21-23-59-31.snapshot", true),
            ("docs-1-2026-11-21-23-59-40.snapshot", true),
            ("docs-1-2026-11-22-00-00-20.snapshot", false),
            ("docs-1-2026-11-21-23-59-30.snapshot", false),
            ("docs-1-2026-11-21-23-58-00.snapshot", false),
            ("docs-1-2026-11-22-00-02-00.snapshot", false),
            ("docs-1-2026-11-21-23-59-31.tmp", false),
            ("mine.snapshot", false),
            ("é-2026-11-21-23-59-31.snapshot", true),
            ("", false),
        ] {
            assert_eq!(seen.is_ours(name), ours, "{name}");
        }
    }
}
