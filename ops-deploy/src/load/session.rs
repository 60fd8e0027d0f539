//! A WebSocket (RFC 6455) that is opened, used for a moment, and closed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::connection::Connection;

const MESSAGES: u8 = 5;
const PAUSE: Duration = Duration::from_millis(20);
/// Any key is right; this is the one of the RFC's own example.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: [u8; 4] = [7, 21, 42, 99];
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

fn odd(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// A session from its begin to its end; answers which version it was with.
pub(super) async fn session(address: SocketAddr, path: &str) -> io::Result<Option<String>> {
    let mut connection = Connection::open(address).await?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: load.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
    );
    connection.0.write_all(head.as_bytes()).await?;
    let answer = connection.head().await?;
    if answer.status != 101 {
        return Err(odd(format!("a WebSocket was answered with {}", answer.status)));
    }
    for n in 0..MESSAGES {
        let said = format!("message {n}");
        send(&mut connection, TEXT, said.as_bytes()).await?;
        let (kind, heard) = receive(&mut connection).await?;
        if (kind, heard.as_slice()) != (TEXT, said.as_bytes()) {
            return Err(odd(format!("`{said}` was answered with {}", heard.escape_ascii())));
        }
        tokio::time::sleep(PAUSE).await;
    }
    send(&mut connection, CLOSE, &1000_u16.to_be_bytes()).await?;
    match receive(&mut connection).await? {
        (CLOSE, _) => Ok(answer.version),
        (kind, _) => Err(odd(format!("a close was answered with {kind:#x}"))),
    }
}

/// Sends a short frame.
async fn send(connection: &mut Connection, kind: u8, payload: &[u8]) -> io::Result<()> {
    let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126);
    let length = length.ok_or_else(|| odd("a frame that is too long"))?;
    let mut frame = vec![kind, 0x80 | length];
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    connection.0.write_all(&frame).await
}

/// Receives a short frame.
async fn receive(connection: &mut Connection) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    connection.0.read_exact(&mut head).await?;
    if head[1] >= 126 {
        return Err(odd("a frame that is masked or too long"));
    }
    let mut payload = vec![0; usize::from(head[1])];
    connection.0.read_exact(&mut payload).await?;
    Ok((head[0], payload))
}
