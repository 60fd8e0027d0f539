//! The part of Qdrant's HTTP interface that backups and restores speak.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use ops_core::retry::Retry;
use ops_core::{Class, Secret, SystemClock};
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::url::QdrantUrl;
use crate::digest::Hasher;
use crate::error::{Error, ErrorKind};
use crate::source::private::is_private;
use crate::source::{ByteStream, percent};

/// How long a small call may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the server may send or take nothing in the middle of a snapshot.
const STALL: Duration = Duration::from_mins(2);
/// Of a small answer, no more is read.
const ANSWER: usize = 16 << 20;
/// Of what the server says of an error, no more is shown.
const SAID: usize = 300;

/// A snapshot, as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Described {
    pub name: String,
    pub size: u64,
    /// SHA-256; servers before 1.8 give none.
    #[serde(default)]
    pub checksum: Option<String>,
}

/// What is known of a collection.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Collection {
    /// `green`, `yellow`, `grey` or `red`.
    pub status: String,
    pub config: Config,
    #[serde(default)]
    pub payload_schema: Value,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Config {
    /// Vectors, shards and the like.
    pub params: Value,
}

#[derive(Deserialize)]
struct Alias {
    alias_name: String,
    collection_name: String,
}

/// A server.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    server: String,
}

impl Client {
    pub async fn new(url: &QdrantUrl) -> Result<Self, Error> {
        let key = key(url).await?;
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let mut value = HeaderValue::from_str(key.expose()).map_err(|_| {
                Error::new(
                    ErrorKind::InvalidInput,
                    "the API key of Qdrant cannot stand in a header",
                )
                .remedy("use visible ASCII characters")
            })?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("api-key"), value);
        }
        // Redirects and proxies would take the key somewhere else.
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(PATIENCE)
            .default_headers(headers);
        let refuse =
            |e| Error::new(ErrorKind::InvalidInput, "there is no HTTP client").caused_by(e);
        if let Some(path) = url.parameter("cacert").map(PathBuf::from) {
            let pem = tokio::fs::read(&path).await;
            let pem = pem.map_err(|e| Error::io("read the certificates in", &path, e))?;
            let trusted = reqwest::Certificate::from_pem_bundle(&pem).map_err(refuse)?;
            http = http.tls_certs_merge(trusted);
        }
        Ok(Self { http: http.build().map_err(refuse)?, server: url.server().to_owned() })
    }

    fn request(&self, method: Method, path: &[&str], query: &str) -> RequestBuilder {
        let path: Vec<_> = path.iter().map(|part| percent::encoded(part)).collect();
        self.http.request(method, format!("{}/{}{query}", self.server, path.join("/")))
    }

    /// Sends a request, and answers what has status 2xx within `patience`.
    async fn send(
        &self,
        action: &str,
        request: RequestBuilder,
        patience: Duration,
    ) -> Result<Response, Error> {
        let sent = tokio::time::timeout(patience, request.send()).await;
        let answer = sent.map_err(|_| self.silent(action, patience))?;
        let answer = answer.map_err(|e| self.lost(action, e))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said = self.body(action, answer).await.unwrap_or_default();
        Err(refused(action, &self.server, status, &said))
    }

    fn silent(&self, action: &str, patience: Duration) -> Error {
        let message =
            format!("cannot {action}: `{}` does not answer within {patience:?}", self.server);
        Error::new(ErrorKind::Database, message).class_of(Class::Temporary)
    }

    fn lost(&self, action: &str, source: reqwest::Error) -> Error {
        let message = format!("cannot {action}: `{}` does not answer", self.server);
        Error::new(ErrorKind::Database, message)
            .class_of(Class::Temporary)
            .caused_by(source.without_url())
    }

    /// The bytes of a small answer.
    async fn body(&self, action: &str, answer: Response) -> Result<Vec<u8>, Error> {
        let mut pieces = answer.bytes_stream();
        let mut all = Vec::new();
        let read = async {
            while let Some(piece) = pieces.next().await {
                all.extend_from_slice(&piece.map_err(|e| self.lost(action, e))?);
                if all.len() > ANSWER {
                    let message = format!("cannot {action}: the answer has more than 16 MiB");
                    return Err(Error::new(ErrorKind::Database, message));
                }
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, read).await.map_err(|_| self.silent(action, PATIENCE))??;
        Ok(all)
    }

    /// The `result` of an answer.
    async fn result<T: for<'de> Deserialize<'de>>(
        &self,
        action: &str,
        answer: Response,
    ) -> Result<T, Error> {
        let body = self.body(action, answer).await?;
        let strange = |e: serde_json::Error| {
            let message =
                format!("cannot {action}: `{}` does not answer as Qdrant does", self.server);
            Error::new(ErrorKind::Database, message).remedy("look whether it is one").caused_by(e)
        };
        let mut body: Value = serde_json::from_slice(&body).map_err(strange)?;
        serde_json::from_value(body["result"].take()).map_err(strange)
    }

    /// A call that may be made twice.
    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        action: &str,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<T, Error> {
        let retry = Retry::new().attempts(3);
        let call = || async {
            let answer = self.send(action, request(), PATIENCE).await?;
            self.result(action, answer).await
        };
        retry.run(&SystemClock::new(), call).await
    }

    /// The server's version: `1.12.4`.
    pub async fn version(&self) -> Result<String, Error> {
        let action = "ask for the version";
        let answer = self.send(action, self.request(Method::GET, &[], ""), PATIENCE).await?;
        let body: Value =
            serde_json::from_slice(&self.body(action, answer).await?).unwrap_or_default();
        body["version"].as_str().map(str::to_owned).ok_or_else(|| {
            let message = format!("`{}` does not say which version of Qdrant it is", self.server);
            Error::new(ErrorKind::Database, message).remedy("look whether it is one")
        })
    }

    /// How many servers share the data.
    pub async fn peers(&self) -> Result<usize, Error> {
        let cluster: Value =
            self.ask("look at the cluster", || self.request(Method::GET, &["cluster"], "")).await?;
        Ok(cluster["peers"].as_object().map_or(1, serde_json::Map::len).max(1))
    }

    /// Nothing if there is neither a collection nor an alias of this name.
    pub async fn collection(&self, name: &str) -> Result<Option<Collection>, Error> {
        let get = || self.request(Method::GET, &["collections", name], "");
        match self.ask(&format!("look at collection `{name}`"), get).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of all collections.
    pub async fn collections(&self) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        #[derive(Deserialize)]
        struct Collections {
            collections: Vec<Named>,
        }
        let all: Collections = self
            .ask("list the collections", || self.request(Method::GET, &["collections"], ""))
            .await?;
        Ok(all.collections.into_iter().map(|found| found.name).collect())
    }

    /// How many points a collection has now.
    pub async fn count(&self, name: &str) -> Result<u64, Error> {
        let count = || {
            let request = self.request(Method::POST, &["collections", name, "points", "count"], "");
            request.json(&json!({"exact": true}))
        };
        let found: Value = self.ask(&format!("count the points of `{name}`"), count).await?;
        found["count"].as_u64().ok_or_else(|| {
            let message = format!("`{}` counts no points of `{name}`", self.server);
            Error::new(ErrorKind::Database, message)
        })
    }

    /// The collection that an alias stands for.
    pub async fn behind(&self, alias: &str) -> Result<Option<String>, Error> {
        #[derive(Deserialize)]
        struct Aliases {
            aliases: Vec<Alias>,
        }
        let all: Aliases =
            self.ask("list the aliases", || self.request(Method::GET, &["aliases"], "")).await?;
        let found = all.aliases.into_iter().find(|found| found.alias_name == alias);
        Ok(found.map(|found| found.collection_name))
    }

    /// Lets an alias stand for a collection, in one step whether there is one already or not.
    pub async fn point(&self, alias: &str, collection: &str) -> Result<(), Error> {
        let mut actions = Vec::new();
        if self.behind(alias).await?.is_some() {
            actions.push(json!({"delete_alias": {"alias_name": alias}}));
        }
        actions.push(json!({"create_alias": {"collection_name": collection, "alias_name": alias}}));
        let body = json!({"actions": actions});
        let action = format!("let alias `{alias}` stand for `{collection}`");
        let post = self.request(Method::POST, &["collections", "aliases"], "").json(&body);
        self.send(&action, post, PATIENCE).await.map(|_| ())
    }

    /// Deletes a collection. One that is not there is fine.
    pub async fn delete(&self, collection: &str) -> Result<(), Error> {
        let delete = || self.request(Method::DELETE, &["collections", collection], "");
        let done = self.ask::<bool>(&format!("delete collection `{collection}`"), delete).await;
        gone_is_fine(done)
    }

    /// Makes a snapshot, which may take `patience`.
    pub async fn snapshot(&self, collection: &str, patience: Duration) -> Result<Described, Error> {
        let action = format!("make a snapshot of `{collection}`");
        let path = ["collections", collection, "snapshots"];
        let request = self.request(Method::POST, &path, "?wait=true");
        let answer = self.send(&action, request, patience).await?;
        self.result(&action, answer).await
    }

    /// The snapshots of a collection, and what time it is for the server.
    pub async fn snapshots(&self, name: &str) -> Result<(Vec<Described>, Timestamp), Error> {
        let action = format!("list the snapshots of `{name}`");
        let path = ["collections", name, "snapshots"];
        let answer = self.send(&action, self.request(Method::GET, &path, ""), PATIENCE).await?;
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        // Without a `GMT` that the parser of mails does not have; the rest is the same.
        let date = date.map(|date| date.replace("GMT", "+0000"));
        let date = date.and_then(|date| DateTimeParser::new().parse_timestamp(&date).ok());
        let now = date.unwrap_or_else(Timestamp::now);
        Ok((self.result(&action, answer).await?, now))
    }

    /// Deletes a snapshot. One that is not there is fine.
    pub async fn delete_snapshot(&self, collection: &str, name: &str) -> Result<(), Error> {
        let path = ["collections", collection, "snapshots", name];
        let delete = || self.request(Method::DELETE, &path, "?wait=true");
        let done = self.ask::<bool>(&format!("delete snapshot `{name}`"), delete).await;
        gone_is_fine(done)
    }

    /// The bytes of a snapshot. The stream ends well only if they have the size and the checksum
    /// that the server gave.
    pub async fn download(
        &self,
        collection: &str,
        snapshot: &Described,
    ) -> Result<ByteStream, Error> {
        let action = format!("download snapshot `{}`", snapshot.name);
        let path = ["collections", collection, "snapshots", &snapshot.name];
        let answer = self.send(&action, self.request(Method::GET, &path, ""), STALL).await?;
        let state = Some(Download {
            pieces: answer.bytes_stream().boxed(),
            digest: Hasher::default(),
            size: 0,
            expected: snapshot.clone(),
            client: self.clone(),
            action,
        });
        Ok(stream::unfold(state, |state| async move {
            let mut download = state?;
            match download.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(download))),
                Ok(None) => download.whole().err().map(|error| (Err(error), None)),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed())
    }

    /// Makes a collection of a snapshot; the server compares the checksum first.
    pub async fn upload(
        &self,
        collection: &str,
        bytes: ByteStream,
        checksum: &str,
        patience: Duration,
    ) -> Result<(), Error> {
        const BOUNDARY: &str = "ops-backup-3f1e6c0a9d";
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"snapshot\"; \
             filename=\"ops-backup.snapshot\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let text = |text: String| stream::once(async move { Ok(Bytes::from(text)) });
        // The client tells only that a body failed; whoever restores must know that it was ours.
        let failed = Arc::new(Mutex::new(None));
        let noted = failed.clone();
        let (moved, mut moves) = watch::channel(false);
        let ended = moved.clone();
        let end = stream::once(async move {
            ended.send_replace(true);
            Ok(Bytes::new())
        });
        let body = text(head).chain(bytes).chain(text(tail)).chain(end);
        let body = body.inspect_ok(move |_| moved.send_modify(|_| ())).map_err(move |error| {
            let told = std::io::Error::other(error.to_string());
            noted.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            told
        });
        let path = ["collections", collection, "snapshots", "upload"];
        let query = format!("?wait=true&priority=snapshot&checksum={checksum}");
        let request = self
            .request(Method::POST, &path, &query)
            .header(CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(reqwest::Body::wrap_stream(body));
        let action = format!("restore collection `{collection}`");
        // While it takes bytes it may take as long as it takes; then it has so long to unpack them.
        let stalls = async {
            while !*moves.borrow_and_update() {
                match tokio::time::timeout(STALL, moves.changed()).await {
                    Ok(Ok(())) => {}
                    // It takes no more of them, and will say why.
                    Ok(Err(_)) => break,
                    Err(_) => return Err(self.silent(&action, STALL)),
                }
            }
            tokio::time::sleep(patience).await;
            Err(self.silent(&action, patience))
        };
        let sent = tokio::select! {
            sent = self.send(&action, request, Duration::MAX) => sent,
            stalled = stalls => stalled,
        };
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                let ours = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Err(ours.unwrap_or(error));
            }
        };
        let done: bool = self.result(&action, answer).await?;
        if done {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Database, format!("`{}` did not {action}", self.server)))
    }
}

struct Download {
    pieces: futures::stream::BoxStream<'static, Result<Bytes, reqwest::Error>>,
    digest: Hasher,
    size: u64,
    expected: Described,
    client: Client,
    action: String,
}

impl Download {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let next = tokio::time::timeout(STALL, self.pieces.next()).await;
        let next = next.map_err(|_| self.client.silent(&self.action, STALL))?;
        let Some(piece) = next.transpose().map_err(|e| self.client.lost(&self.action, e))? else {
            return Ok(None);
        };
        self.digest.update(&piece);
        self.size += piece.len() as u64;
        Ok(Some(piece))
    }

    fn whole(self) -> Result<(), Error> {
        let Described { name, size, checksum } = self.expected;
        let wrong = |why: String| {
            Err(Error::new(ErrorKind::Source, format!("snapshot `{name}` came damaged: {why}"))
                .class_of(Class::Temporary)
                .remedy("back up again; if it happens again, look at the server's disk"))
        };
        if self.size != size {
            return wrong(format!("{} of {size} bytes", self.size));
        }
        let found = self.digest.finish();
        match checksum {
            Some(checksum) if !checksum.eq_ignore_ascii_case(&found) => {
                wrong(format!("its SHA-256 is {found}, the server said {checksum}"))
            }
            _ => Ok(()),
        }
    }
}

fn gone_is_fine(done: Result<bool, Error>) -> Result<(), Error> {
    match done {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn refused(action: &str, server: &str, status: StatusCode, body: &[u8]) -> Error {
    let said = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let said = said["status"]["error"].as_str().map(str::to_owned);
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    let said: String = said.chars().filter(|c| !c.is_control()).take(SAID).collect();
    let kind =
        if status == StatusCode::NOT_FOUND { ErrorKind::NotFound } else { ErrorKind::Database };
    let error = Error::new(kind, format!("cannot {action}: `{server}` says {status}: {said}"));
    match status.as_u16() {
        401 | 403 => error.remedy(
            "give an API key that may do this in QDRANT_API_KEY or QDRANT_API_KEY_FILE, or with \
             ?keyfile= in the address",
        ),
        408 | 425 | 429 | 500.. => error.class_of(Class::Temporary),
        _ => error,
    }
}

/// The API key: of the file that the address names, of the variable, of the file that it names.
async fn key(url: &QdrantUrl) -> Result<Option<Secret>, Error> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let named = url.parameter("keyfile").map(PathBuf::from);
    if named.is_none() && variable("QDRANT_API_KEY").is_some() {
        return Ok(Some(Secret::from_env("QDRANT_API_KEY")?));
    }
    let Some(path) = named.or_else(|| variable("QDRANT_API_KEY_FILE").map(PathBuf::from)) else {
        return Ok(None);
    };
    let read = move || Ok(Some(read_private(&path)?));
    tokio::task::spawn_blocking(read).await.map_err(Error::panicked)?
}

fn read_private(path: &Path) -> Result<Secret, Error> {
    is_private(path, "the API key")?;
    Ok(Secret::from_file(path)?)
}
