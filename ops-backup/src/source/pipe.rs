//! From a blocking writer to a stream, and from a stream to a blocking reader; both bounded.

use std::io::{self, Read, Write};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::ByteStream;
use crate::error::{Error, ErrorKind};

const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

/// Runs the writer on a thread of its own; the stream holds four pieces of 256 KiB at most.
/// When the stream is dropped, the writer's next write fails.
pub(super) fn stream_of<F>(write: F) -> ByteStream
where
    F: FnOnce(&mut dyn Write) -> Result<(), Error> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let pipe = Pipe(sender.clone());
        let mut buffered = io::BufWriter::with_capacity(PIECE, pipe);
        let done = write(&mut buffered).and_then(|()| {
            buffered
                .flush()
                .map_err(|e| Error::new(ErrorKind::Source, "cannot hand on").caused_by(e))
        });
        // What is still in the buffer of a failed writer is of no use to anybody.
        let _ = buffered.into_parts();
        if let Err(error) = done {
            let _ = sender.blocking_send(Err(error));
        }
    });
    stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
    .boxed()
}

struct Pipe(mpsc::Sender<Result<Bytes, Error>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(piece)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hands the stream to a blocking reader on a thread of its own, and waits for it.
pub(super) async fn read_blocking<F, T>(bytes: ByteStream, read: F) -> Result<T, Error>
where
    F: FnOnce(&mut dyn Read) -> Result<T, Error> + Send + 'static,
    T: Send + 'static,
{
    let reader = StreamReader::new(bytes.map(|piece| piece.map_err(io::Error::other)));
    let mut bridge = SyncIoBridge::new(Box::pin(reader));
    tokio::task::spawn_blocking(move || {
        let answer = read(&mut bridge)?;
        // To the end, where the stream says whether all of it was right.
        io::copy(&mut bridge, &mut io::sink())
            .map(|_| answer)
            .map_err(|e| Error::new(ErrorKind::Corrupt, "the bytes end in an error").caused_by(e))
    })
    .await
    .map_err(Error::panicked)?
}
