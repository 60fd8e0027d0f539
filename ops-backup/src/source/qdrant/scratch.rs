//! A collection that exists for the time of a drill only.

use std::time::Duration;

use ops_core::{OperationId, Refusal, StepContext};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::place::QdrantPlace;
use super::stage::{self, Stage};
use super::url::QdrantUrl;
use crate::error::Error;
use crate::manifest::{Manifest, SourceRecord};
use crate::vault::Vault;

fn beginning(operation: OperationId) -> String {
    format!("ops_drill_{}_", operation.to_string().to_ascii_lowercase())
}

async fn place(
    vault: &Vault,
    server: &QdrantUrl,
    operation: OperationId,
    at: usize,
) -> Result<QdrantPlace, Error> {
    let url = server.with_collection(format!("{}{at}", beginning(operation)));
    QdrantPlace::new(vault.clone(), &url).await
}

/// Why a server cannot take the scratch collection of a drill.
pub(crate) async fn unfit(
    vault: &Vault,
    record: &SourceRecord,
    server: &QdrantUrl,
    operation: OperationId,
) -> Result<Vec<Refusal>, Error> {
    let looked = async {
        let place = place(vault, server, operation, 0).await?;
        stage::refusals(&place, record).await
    };
    let remedy = "name a Qdrant server that answers";
    Ok(looked.await.unwrap_or_else(|error| vec![Refusal::of(&error, remedy)]))
}

/// Restores a collection of a backup into scratch, compares it there, and deletes it. Answers how
/// many points it had.
pub(crate) async fn rehearse(
    vault: &Vault,
    manifest: &Manifest,
    (at, record): (usize, &SourceRecord),
    server: &QdrantUrl,
    patience: Duration,
    cx: &StepContext,
    cancel: &CancellationToken,
) -> Result<u64, Error> {
    let place = place(vault, server, cx.operation(), at).await?;
    let collection = place.url.collection().to_owned();
    let work = Stage {
        place: place.clone(),
        set: manifest.set.clone(),
        backup: manifest.id,
        component: record.source.clone(),
        patience,
        collection: collection.clone(),
    };
    let restored = cancel.run_until_cancelled(work.run(cancel)).await;
    ops_core::fault::point("restored into a scratch collection");
    stage::discard(&place.client, &collection).await?;
    restored.unwrap_or_else(|| Err(Error::cancelled()))
}

/// Deletes what a drill left.
pub(crate) async fn sweep(server: &QdrantUrl, operation: OperationId) -> Result<(), Error> {
    let client = Client::new(server).await?;
    for collection in client.collections().await? {
        if collection.starts_with(&beginning(operation)) {
            stage::discard(&client, &collection).await?;
        }
    }
    Ok(())
}
