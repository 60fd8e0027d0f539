//! Lines of JSON over a unix socket, and open files with one of them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// So many files go along.
pub(super) const FILES: usize = 4;
/// A line may be so long: each request under way takes some hundred bytes of one.
const LINE: usize = 64 * 1024 * 1024;

fn line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("messages are made of JSON values");
    line.push(b'\n');
    line
}

fn read<T: DeserializeOwned>(line: &[u8]) -> io::Result<T> {
    serde_json::from_slice(line).map_err(io::Error::from)
}

/// Says something short.
pub(super) async fn say(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    timeout(super::WORD_WAIT, stream.write_all(&line(message)))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Says something short, and gives these files along with it.
pub(super) async fn say_with(
    stream: &UnixStream,
    message: &impl Serialize,
    files: [BorrowedFd<'_>; FILES],
) -> io::Result<()> {
    let line = line(message);
    let sent = stream.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::Error::other("there is no room for the files"));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(sendmsg(stream.as_fd(), &[IoSlice::new(&line)], &mut control, flags)?)
    });
    // A short line fits into the buffer of a socket that is new.
    if sent.await? < line.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Hears something short, and takes the files that come along.
pub(super) async fn hear_with<T: DeserializeOwned>(
    stream: &UnixStream,
) -> io::Result<(T, Vec<OwnedFd>)> {
    let (mut heard, mut files) = (Vec::new(), Vec::new());
    while !heard.ends_with(b"\n") {
        let mut bytes = [0; 4096];
        let got = stream.async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let got =
                recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(came) = message {
                    files.extend(came);
                }
            }
            Ok(got.bytes)
        });
        let got = got.await?;
        if got == 0 || heard.len() > bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        heard.extend_from_slice(&bytes[..got]);
    }
    Ok((read(&heard)?, files))
}

/// The other process, line by line.
#[derive(Debug)]
pub(in crate::proxy) struct Peer {
    pub(super) hears: Hears,
    pub(super) says: Says,
}

#[derive(Debug)]
pub(super) struct Hears {
    half: OwnedReadHalf,
    seen: Vec<u8>,
    /// So many of the bytes seen have no end of a line.
    looked: usize,
}

#[derive(Debug)]
pub(super) struct Says(OwnedWriteHalf);

impl Peer {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (half, other) = stream.into_split();
        let hears = Hears { half, seen: Vec::new(), looked: 0 };
        Self { hears, says: Says(other) }
    }
}

impl Hears {
    /// The next line; `None` when the other has gone. Dropping the future loses nothing.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            let end = self.seen[self.looked..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end {
                let line: Vec<u8> = self.seen.drain(..=self.looked + end).collect();
                self.looked = 0;
                return read(&line).map(Some);
            }
            self.looked = self.seen.len();
            if self.looked > LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end"));
            }
            if self.half.read_buf(&mut self.seen).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next line, which comes within this time.
    pub(super) async fn within<T: DeserializeOwned>(&mut self, wait: Duration) -> io::Result<T> {
        match timeout(wait, self.next()).await {
            Ok(next) => next?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Says {
    /// Says it within the time that a word may take. Dropping the future may leave half a line.
    pub(super) async fn say(&mut self, message: &impl Serialize) -> io::Result<()> {
        let line = line(message);
        timeout(super::WORD_WAIT, self.0.write_all(&line))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}
