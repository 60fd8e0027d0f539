//! A small web server that lets git itself answer: `git http-backend` as CGI, in a process of its
//! own, whose work does not count.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use super::program::ours;
use crate::Failure;
use crate::own_program::say;

/// A server that ends with this.
pub(super) struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Serves the repositories in a folder.
    pub fn start(folder: &Path) -> Result<Self, Failure> {
        let mut command = ours("serve", folder, folder, &[])?;
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let said = child.stdout.take().ok_or("the server says nothing")?;
        let mut address = String::new();
        BufReader::new(said).read_line(&mut address)?;
        Ok(Self { child, address: address.trim_end().to_owned() })
    }

    pub fn url(&self, repository: &str) -> String {
        format!("http://{}/{repository}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says its address, and serves until it is killed.
pub(super) async fn serve(folder: &Path) -> Result<String, Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    say(&listener.local_addr()?.to_string());
    loop {
        let (stream, _) = listener.accept().await?;
        let folder = folder.to_owned();
        tokio::spawn(async move {
            let answer = hyper::service::service_fn(move |request| {
                let folder = folder.clone();
                async move {
                    Ok::<_, Infallible>(backend(folder, request).await.unwrap_or_else(|error| {
                        let mut response = Response::new(Full::from(error.to_string()));
                        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                        response
                    }))
                }
            });
            // Of a client that went away.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

async fn backend(
    folder: PathBuf,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Failure> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let header = |name: &str| {
        head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned()
    };
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or(""))
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or("git takes no input")?;
    let writing = tokio::spawn(async move { stdin.write_all(&body).await });
    let output = child.wait_with_output().await?;
    writing.await??;

    let ends = output.stdout.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = output.stdout.split_at(ends.ok_or("git answered without a head")?);
    let mut response = Response::builder();
    for line in std::str::from_utf8(head)?.split("\r\n") {
        let (name, value) = line.split_once(": ").ok_or("git's answer has a bad head")?;
        if name.eq_ignore_ascii_case("status") {
            response = response.status(value.get(..3).unwrap_or(value).parse::<u16>()?);
        } else {
            response = response.header(name, value);
        }
    }
    Ok(response.body(Full::new(Bytes::copy_from_slice(&body[4..])))?)
}
