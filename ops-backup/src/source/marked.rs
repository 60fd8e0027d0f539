//! A bounded stream of bytes that ends well only if its writer said that this is the end: one whose
//! writer panicked, or was dropped, must not look whole.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::ByteStream;
use crate::error::Error;

/// The side that writes. An empty piece is the mark of the end.
#[derive(Debug)]
pub(in crate::source) struct Writer(mpsc::Sender<Result<Bytes, Error>>);

/// A stream that holds so many pieces, and what writes to it.
pub(in crate::source) fn stream(pieces: usize) -> (Writer, ByteStream) {
    let (sender, receiver) = mpsc::channel(pieces);
    let bytes = stream::unfold(Some(receiver), |receiver| async {
        let mut receiver: mpsc::Receiver<Result<Bytes, Error>> = receiver?;
        match receiver.recv().await {
            Some(Ok(mark)) if mark.is_empty() => None,
            Some(Ok(piece)) => Some((Ok(piece), Some(receiver))),
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(Error::internal("what wrote a stream died")), None)),
        }
    });
    (Writer(sender), bytes.boxed())
}

impl Writer {
    /// Hands a piece on.
    ///
    /// # Errors
    /// An error of kind `Cancelled` if nobody reads any more.
    pub async fn send(&self, piece: Bytes) -> Result<(), Error> {
        if piece.is_empty() {
            return Ok(());
        }
        self.0.send(Ok(piece)).await.map_err(|_| Error::cancelled())
    }

    /// As [`send`](Self::send), from a thread that may block.
    pub fn blocking_send(&self, piece: Bytes) -> Result<(), Error> {
        if piece.is_empty() {
            return Ok(());
        }
        self.0.blocking_send(Ok(piece)).map_err(|_| Error::cancelled())
    }

    /// Ends the stream, well or with an error. That nobody reads any more is fine.
    pub async fn end(self, done: Result<(), Error>) {
        let _ = self.0.send(done.map(|()| Bytes::new())).await;
    }

    /// As [`end`](Self::end), from a thread that may block.
    pub fn blocking_end(self, done: Result<(), Error>) {
        let _ = self.0.blocking_send(done.map(|()| Bytes::new()));
    }

    /// Waits until nobody reads any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_stream_whose_end_was_said_is_whole() {
        let read = async |end: fn(Writer)| {
            let (writer, bytes) = stream(4);
            writer.send(Bytes::from_static(b"half")).await.unwrap();
            writer.send(Bytes::new()).await.unwrap();
            tokio::task::spawn_blocking(move || end(writer)).await.ok();
            bytes.collect::<Vec<_>>().await
        };
        let whole = read(|writer| writer.blocking_end(Ok(()))).await;
        assert_eq!(whole.len(), 1);
        assert_eq!(whole[0].as_ref().unwrap(), "half");
        for end in [
            (|writer| drop(writer)) as fn(Writer),
            |writer| {
                let _writer = writer;
                panic!("a bug");
            },
            |writer| writer.blocking_end(Err(Error::cancelled())),
        ] {
            let broken = read(end).await;
            assert_eq!(broken.len(), 2);
            broken[1].as_ref().unwrap_err();
        }
    }
}
