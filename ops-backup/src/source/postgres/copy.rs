//! The rows of a table as a stream, and a stream as rows of a table.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt as _;
use ops_core::Class;
use sqlx::postgres::PgConnection;

use super::connect::failed;
use super::rows::Rows;
use crate::error::{Error, ErrorKind};
use crate::source::{ByteStream, marked};

/// The server sends a message a row; this many bytes of them are handed on at once.
const PIECE: usize = 128 << 10;
const PIECES: usize = 4;

/// A `COPY ... TO STDOUT` on a worker, which is free again when its stream has ended well.
pub(super) struct Out {
    pub statement: String,
    pub unit: String,
    /// How long the server may send nothing.
    pub stall: Duration,
    pub workers: Arc<Mutex<Vec<PgConnection>>>,
    pub read: Arc<Mutex<BTreeMap<String, Rows>>>,
}

impl Out {
    /// Rows are read and digested on a task of their own, so that several streams use several
    /// processors.
    pub fn stream(self, mut worker: PgConnection) -> ByteStream {
        let (writer, bytes) = marked::stream(PIECES);
        tokio::spawn(async move {
            let read =
                rows(&mut worker, &self.statement, self.stall, Rows::default(), Some(&writer))
                    .await;
            let done = read.map_err(|error| error.with("unit", &self.unit)).map(|rows| {
                self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(self.unit, rows);
                // Before the stream ends, for then somebody looks for it.
                self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
            });
            writer.end(done).await;
        });
        bytes
    }
}

/// Adds the rows of a `COPY ... TO STDOUT`, and hands their bytes on if somebody wants them.
pub(super) async fn rows(
    connection: &mut PgConnection,
    statement: &str,
    stall: Duration,
    mut rows: Rows,
    writer: Option<&marked::Writer>,
) -> Result<Rows, Error> {
    let failed = |e| failed("read the rows of a table", e);
    let stalled = |_| {
        let message = format!("the server sent no row for {} s", stall.as_secs());
        Error::new(ErrorKind::Database, message).class_of(Class::Temporary)
    };
    let begun = tokio::time::timeout(stall, connection.copy_out_raw(statement)).await;
    let mut pieces = begun.map_err(stalled)?.map_err(failed)?;
    let mut batch = BytesMut::new();
    loop {
        // Most rows are there already: a timer for each would cost as much as the row.
        let next = match futures::poll!(pieces.next()) {
            Poll::Ready(next) => next,
            Poll::Pending => tokio::time::timeout(stall, pieces.next()).await.map_err(stalled)?,
        };
        let piece = next.transpose().map_err(failed)?;
        let end = piece.is_none();
        let piece = piece.unwrap_or_default();
        rows.update(&piece);
        let Some(writer) = writer else {
            if end {
                break;
            }
            continue;
        };
        let full = end || batch.len() + piece.len() > PIECE;
        if full && !batch.is_empty() {
            writer.send(batch.split().freeze()).await?;
        }
        if piece.len() > PIECE {
            writer.send(piece).await?;
        } else {
            if batch.is_empty() {
                batch.reserve(PIECE);
            }
            batch.extend_from_slice(&piece);
        }
        if end {
            break;
        }
    }
    drop(pieces);
    rows.whole()
}

/// Writes a stream into a table by `COPY ... FROM STDIN`, and answers how many rows it took.
pub(super) async fn fill(
    connection: &mut PgConnection,
    statement: &str,
    mut bytes: ByteStream,
) -> Result<u64, Error> {
    let failed = |e| failed(&format!("run `{statement}`"), e);
    let mut copy = connection.copy_in_raw(statement).await.map_err(failed)?;
    while let Some(piece) = bytes.next().await {
        match piece {
            // The connection copies what it sends, and keeps the room for it.
            Ok(piece) => {
                for part in piece.chunks(PIECE) {
                    copy.send(part).await.map_err(failed)?;
                }
            }
            Err(error) => {
                let _ = copy.abort("the bytes end in an error").await;
                return Err(error);
            }
        }
    }
    copy.finish().await.map_err(failed)
}
