//! One connection of a client that knows as much of HTTP/1.1 as it asks.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// The head of an answer may be so large.
const HEAD: u64 = 16 * 1024;
/// Its body may be so large.
const BODY: u64 = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Connection(pub BufReader<TcpStream>);

/// What was answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub status: u16,
    pub version: Option<String>,
    /// The connection can be asked again.
    pub stays: bool,
    length: Option<u64>,
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks for a path, and takes the whole answer.
    pub async fn ask(&mut self, path: &str, keep: bool) -> io::Result<Answer> {
        let keep = if keep { "" } else { "connection: close\r\n" };
        let head = format!("GET {path} HTTP/1.1\r\nhost: load.test\r\n{keep}\r\n");
        self.0.write_all(head.as_bytes()).await?;
        let answer = self.head().await?;
        let length = answer.length.ok_or_else(|| odd("an answer without a length"))?;
        if length > BODY {
            return Err(odd("an answer that is too long"));
        }
        let mut body = (&mut self.0).take(length);
        let read = tokio::io::copy(&mut body, &mut tokio::io::sink()).await?;
        if read < length {
            return Err(odd("half an answer"));
        }
        Ok(answer)
    }

    pub async fn head(&mut self) -> io::Result<Answer> {
        let mut head = (&mut self.0).take(HEAD);
        let mut line = String::new();
        let mut answer = Answer { stays: true, ..Answer::default() };
        if head.read_line(&mut line).await? == 0 {
            return Err(odd("no answer"));
        }
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        answer.status = status
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| odd("an answer that is not HTTP/1.1"))?;
        loop {
            line.clear();
            if head.read_line(&mut line).await? == 0 {
                return Err(odd("half a head"));
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => answer.length = value.parse().ok(),
                "x-version" => answer.version = Some(value.to_owned()),
                "connection" => answer.stays = !value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        Ok(answer)
    }
}
