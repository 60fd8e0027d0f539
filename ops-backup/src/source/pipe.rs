//! From a blocking writer to a stream, and from a stream to a blocking reader; both bounded.

use std::io::{self, Read, Write};

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt as _;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{ByteStream, marked};
use crate::error::{Error, ErrorKind};

const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

/// Runs the writer on a thread of its own; the stream holds four pieces of 256 KiB at most.
/// When the stream is dropped, the writer's next write fails.
pub(super) fn stream_of<F>(write: F) -> ByteStream
where
    F: FnOnce(&mut dyn Write) -> Result<(), Error> + Send + 'static,
{
    let (writer, bytes) = marked::stream(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut buffered = io::BufWriter::with_capacity(PIECE, Pipe(writer));
        let done = write(&mut buffered).and_then(|()| {
            buffered
                .flush()
                .map_err(|e| Error::new(ErrorKind::Source, "cannot hand on").caused_by(e))
        });
        // What is still in the buffer of a failed writer is of no use to anybody.
        let (Pipe(writer), _) = buffered.into_parts();
        writer.blocking_end(done);
    });
    bytes
}

struct Pipe(marked::Writer);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        self.0
            .blocking_send(Bytes::copy_from_slice(piece))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hands the stream to a blocking reader on a thread of its own, and waits for it. An error of the
/// stream is answered as it is, whatever the reader makes of it.
pub(super) async fn read_blocking<F, T>(bytes: ByteStream, read: F) -> Result<T, Error>
where
    F: FnOnce(&mut dyn Read) -> Result<T, Error> + Send + 'static,
    T: Send + 'static,
{
    let failed: Arc<Mutex<Option<Error>>> = Arc::default();
    let first = failed.clone();
    let keep = move |error| {
        first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        io::Error::other("the bytes end in an error")
    };
    let reader = StreamReader::new(bytes.map(move |piece| piece.map_err(&keep)));
    let mut bridge = SyncIoBridge::new(Box::pin(reader));
    let answer = tokio::task::spawn_blocking(move || {
        let answer = read(&mut bridge)?;
        // To the end, where the stream says whether all of it was right.
        io::copy(&mut bridge, &mut io::sink())
            .map(|_| answer)
            .map_err(|e| Error::new(ErrorKind::Corrupt, "the bytes end in an error").caused_by(e))
    })
    .await
    .map_err(Error::panicked)?;
    let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
    failed.map_or(answer, Err)
}
