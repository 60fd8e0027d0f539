//! A small server that speaks the part of Qdrant's HTTP interface that backups and restores use.
//!
//! It really keeps collections, points, aliases and snapshots, in memory; a snapshot is a tar of what
//! a collection holds. Status codes, answers and the names of snapshots are Qdrant's. It fails when it
//! is told to.
#![allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "each test uses a part, and fails by panicking"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

#[derive(Debug, Clone, Default)]
struct Collection {
    params: Value,
    payload_schema: Value,
    /// Vector and payload by id.
    points: BTreeMap<u64, Value>,
    /// How many more times it is asked for before it is green.
    busy: u32,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The call is answered with this status, and not carried out.
    Status(u16),
    /// It is carried out, and the connection closed without an answer.
    Lost,
    /// The answer comes after this long.
    Slow(Duration),
    /// The snapshot ends early, though its length was announced.
    CutShort,
    /// A byte of the snapshot is another one.
    Flipped,
    /// The snapshot that was uploaded is unpacked without one of its points.
    Forgetful,
    /// The collection that was uploaded is red.
    Red,
}

#[derive(Debug, Default)]
struct State {
    collections: BTreeMap<String, Collection>,
    aliases: BTreeMap<String, String>,
    /// By collection and name.
    snapshots: BTreeMap<(String, String), Bytes>,
    /// Method, part of the path, what goes wrong, and how often.
    troubles: Vec<(Method, String, Trouble, u32)>,
    peers: usize,
    version: String,
}

/// The server; it ends when it is dropped.
#[derive(Debug, Clone)]
pub struct Server {
    pub address: SocketAddr,
    key: Option<String>,
    state: Arc<Mutex<State>>,
    _running: Arc<Running>,
}

#[derive(Debug)]
struct Running(tokio::task::JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Failed(u16, String);

fn not_found(what: &str, name: &str) -> Failed {
    Failed(404, format!("Not found: {what} `{name}` doesn't exist!"))
}

impl Server {
    /// On a port of its own; with a key, nobody is let in without it.
    pub async fn start(key: Option<&str>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { peers: 1, version: "1.12.4".into(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let key = key.map(str::to_owned);
        let (ours, required) = (state.clone(), key.clone());
        let running = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (state, required) = (ours.clone(), required.clone());
                tokio::spawn(async move {
                    let service =
                        service_fn(|request| answer(state.clone(), required.clone(), request));
                    let io = TokioIo::new(stream);
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(io, service)
                        .await;
                });
            }
        });
        Self { address, key, state, _running: Arc::new(Running(running)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The address of a collection or an alias, without parameters.
    pub fn url(&self, collection: &str) -> String {
        format!("qdrant+http://{}/{collection}", self.address)
    }

    /// The key that it wants.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Makes a collection of vectors of four numbers with so many points.
    pub fn fill(&self, name: &str, points: u64) {
        let params = json!({"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 1});
        let payload_schema = json!({"city": {"data_type": "keyword", "points": points}});
        let point = |id: u64| {
            let payload = json!({"city": format!("city {id}")});
            (id, json!({"vector": [id, 1, 2, 3], "payload": payload}))
        };
        let points = (0..points).map(point).collect();
        let collection = Collection { params, payload_schema, points, busy: 0 };
        self.state().collections.insert(name.into(), collection);
    }

    /// Everything that a collection holds, also by an alias; nothing if there is none.
    pub fn content(&self, name: &str) -> Option<Value> {
        let state = self.state();
        let name = state.aliases.get(name).map_or(name, String::as_str);
        let found = state.collections.get(name)?;
        Some(json!({"params": found.params, "points": found.points}))
    }

    /// Forgets every collection and alias whose name begins so.
    pub fn forget(&self, beginning: &str) {
        let mut state = self.state();
        state.collections.retain(|name, _| !name.starts_with(beginning));
        state.aliases.retain(|name, _| !name.starts_with(beginning));
    }

    pub fn alias(&self, alias: &str, collection: &str) {
        self.state().aliases.insert(alias.into(), collection.into());
    }

    pub fn aliases(&self) -> BTreeMap<String, String> {
        self.state().aliases.clone()
    }

    pub fn collections(&self) -> Vec<String> {
        self.state().collections.keys().cloned().collect()
    }

    /// The names of all snapshots.
    pub fn snapshots(&self) -> Vec<String> {
        self.state().snapshots.keys().map(|(_, name)| name.clone()).collect()
    }

    pub fn peers(&self, peers: usize) {
        self.state().peers = peers;
    }

    pub fn version(&self, version: &str) {
        version.clone_into(&mut self.state().version);
    }

    /// The next so many calls of this method whose path contains this go wrong.
    pub fn trouble(&self, method: Method, path: &str, trouble: Trouble, times: u32) {
        self.state().troubles.push((method, path.to_owned(), trouble, times));
    }

    /// Whether some trouble was not met yet.
    pub fn has_trouble(&self) -> bool {
        self.state().troubles.iter().any(|(_, _, _, times)| *times > 0)
    }

    pub fn no_trouble(&self) {
        self.state().troubles.clear();
    }
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

fn respond(result: Result<Value, Failed>) -> Response<Body> {
    let (code, body) = match result {
        Ok(result) => (200, json!({"result": result, "status": "ok", "time": 0.001})),
        Err(Failed(code, error)) => (code, json!({"status": {"error": error}, "time": 0.0})),
    };
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(whole(body.to_string()))
        .unwrap()
}

fn plain(code: u16, text: &'static str) -> Response<Body> {
    Response::builder().status(code).body(whole(text)).unwrap()
}

async fn answer(
    state: Arc<Mutex<State>>,
    key: Option<String>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if let Some(key) = &key {
        match request.headers().get("api-key").and_then(|given| given.to_str().ok()) {
            Some(given) if given == key => {}
            Some(_) => return Ok(plain(403, "Invalid API key or JWT")),
            None => {
                return Ok(plain(401, "Must provide an API key or an Authorization bearer token"));
            }
        }
    }
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let boundary = request.headers().get("content-type").and_then(|v| v.to_str().ok());
    let boundary =
        boundary.and_then(|kind| kind.split_once("boundary=")).map(|(_, b)| b.to_owned());
    let trouble = {
        let mut state = state.lock().unwrap();
        let fits = |(m, part, _, times): &&mut (Method, String, Trouble, u32)| {
            *m == method && path.contains(&**part) && *times > 0
        };
        state.troubles.iter_mut().find(fits).map(|found| {
            found.3 -= 1;
            found.2
        })
    };
    if let Some(Trouble::Status(code)) = trouble {
        // To the end: to a client that still sends, a connection that closes is no answer.
        let _ = request.into_body().collect().await;
        return Ok(respond(Err(Failed(code, "Service internal error: told to fail".into()))));
    }
    if let Some(Trouble::Slow(pause)) = trouble {
        tokio::time::sleep(pause).await;
    }
    // A client that went away half-way has changed nothing.
    let Ok(body) = request.into_body().collect().await else { return Ok(plain(400, "cut short")) };
    let body = body.to_bytes();
    let parts: Vec<String> = path.split('/').skip(1).map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let done = carry_out(&state, &method, &parts, &query, boundary.as_deref(), &body, trouble);
    if trouble == Some(Trouble::Lost) {
        let broken = async { Err(std::io::Error::other("lost")) };
        let broken = StreamBody::new(futures::stream::once(broken));
        return Ok(Response::new(BodyExt::boxed(broken)));
    }
    Ok(done)
}

fn decode(part: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), part.as_bytes());
    while let [first, more @ ..] = rest {
        rest = more;
        if *first == b'%' {
            bytes.extend(hex::decode(&more[..2]).unwrap());
            rest = &more[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn carry_out(
    state: &Mutex<State>,
    method: &Method,
    parts: &[&str],
    query: &str,
    boundary: Option<&str>,
    body: &Bytes,
    trouble: Option<Trouble>,
) -> Response<Body> {
    let state = &mut *state.lock().unwrap();
    let parameter =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    // Aliases stand for collections nearly everywhere, but not where one is deleted.
    let real = |state: &State, name: &str| -> Result<String, Failed> {
        let name = state.aliases.get(name).map_or(name, String::as_str);
        let found = state.collections.contains_key(name).then(|| name.to_owned());
        found.ok_or_else(|| not_found("Collection", name))
    };
    let (get, post, delete) = (&Method::GET, &Method::POST, &Method::DELETE);
    let result = match parts {
        [""] if method == get => {
            let body = json!({"title": "qdrant - vector search engine", "version": state.version});
            return Response::new(whole(body.to_string()));
        }
        ["cluster"] if method == get => {
            let peers: BTreeMap<_, _> =
                (0..state.peers).map(|n| (n.to_string(), json!({"uri": "http://x"}))).collect();
            Ok(match state.peers {
                1 => json!({"status": "disabled"}),
                _ => json!({"status": "enabled", "peer_id": 0, "peers": peers}),
            })
        }
        ["aliases"] if method == get => {
            let pair = |(alias, collection): (&String, &String)| json!({"alias_name": alias, "collection_name": collection});
            Ok(json!({"aliases": state.aliases.iter().map(pair).collect::<Vec<_>>()}))
        }
        ["collections"] if method == get => {
            let all = state.collections.keys().map(|name| json!({"name": name}));
            Ok(json!({"collections": all.collect::<Vec<_>>()}))
        }
        ["collections", "aliases"] if method == post => change_aliases(state, body),
        ["collections", name] if method == get => real(state, name).map(|name| {
            let found = state.collections.get_mut(&name).unwrap();
            let status = if found.busy == u32::MAX {
                "red"
            } else if found.busy > 0 {
                found.busy -= 1;
                "yellow"
            } else {
                "green"
            };
            json!({
                "status": status,
                "optimizer_status": "ok",
                "points_count": found.points.len(),
                "segments_count": 1,
                "config": {"params": found.params},
                "payload_schema": found.payload_schema,
            })
        }),
        ["collections", name] if method == delete => {
            let there = state.collections.remove(*name).is_some();
            if there {
                state.aliases.retain(|_, collection| collection != name);
                state.snapshots.retain(|(collection, _), _| collection != name);
            }
            Ok(json!(there))
        }
        ["collections", name, "points", "count"] if method == post => {
            real(state, name).map(|name| json!({"count": state.collections[&name].points.len()}))
        }
        ["collections", name, "snapshots"] if method == get => real(state, name).map(|name| {
            let of = state.snapshots.iter().filter(|((collection, _), _)| *collection == name);
            of.map(|((_, name), bytes)| describe(name, bytes)).collect()
        }),
        ["collections", name, "snapshots"] if method == post => real(state, name).map(|name| {
            let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
            let snapshot = format!("{name}-5012-{}.snapshot", now.strftime("%Y-%m-%d-%H-%M-%S"));
            let bytes = pack(&state.collections[&name]);
            let described = describe(&snapshot, &bytes);
            state.snapshots.insert((name, snapshot), bytes);
            described
        }),
        ["collections", name, "snapshots", "upload"] if method == post => {
            upload(state, name, body, boundary, parameter("checksum"), trouble)
        }
        ["collections", name, "snapshots", snapshot] => match real(state, name) {
            Ok(name) => {
                let key = (name, (*snapshot).to_owned());
                match (state.snapshots.get(&key).cloned(), method) {
                    (Some(bytes), m) if m == get => return send(bytes, trouble),
                    (Some(_), m) if m == delete => {
                        state.snapshots.remove(&key);
                        Ok(json!(true))
                    }
                    _ => Err(not_found("Snapshot", snapshot)),
                }
            }
            Err(failed) => Err(failed),
        },
        _ => return plain(404, ""),
    };
    respond(result)
}

fn change_aliases(state: &mut State, body: &Bytes) -> Result<Value, Failed> {
    let body: Value = serde_json::from_slice(body).map_err(|e| Failed(400, e.to_string()))?;
    // All or none, as Qdrant does it.
    let mut aliases = state.aliases.clone();
    for action in body["actions"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(create) = action.get("create_alias") {
            let (alias, collection) =
                (text(&create["alias_name"]), text(&create["collection_name"]));
            if !state.collections.contains_key(&collection) {
                return Err(not_found("Collection", &collection));
            }
            if state.collections.contains_key(&alias) {
                return Err(Failed(
                    409,
                    format!("Wrong input: Collection `{alias}` already exists!"),
                ));
            }
            aliases.insert(alias, collection);
        }
        if let Some(delete) = action.get("delete_alias") {
            aliases.remove(&text(&delete["alias_name"]));
        }
    }
    state.aliases = aliases;
    Ok(json!(true))
}

fn describe(name: &str, bytes: &Bytes) -> Value {
    json!({
        "name": name,
        "creation_time": "2026-11-21T00:00:00",
        "size": bytes.len(),
        "checksum": hex::encode(Sha256::digest(bytes)),
    })
}

fn pack(collection: &Collection) -> Bytes {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("config.json", json!({"params": collection.params})),
        ("payload_index.json", collection.payload_schema.clone()),
        ("0/points.json", json!(collection.points)),
    ] {
        let content = content.to_string();
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().into()
}

fn unpack(bytes: &[u8]) -> Option<Collection> {
    let mut parts = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().ok()? {
        let mut entry = entry.ok()?;
        let name = entry.path().ok()?.to_str()?.to_owned();
        let mut content = String::new();
        entry.read_to_string(&mut content).ok()?;
        parts.insert(name, serde_json::from_str::<Value>(&content).ok()?);
    }
    Some(Collection {
        params: parts.get("config.json")?["params"].clone(),
        payload_schema: parts.get("payload_index.json")?.clone(),
        points: serde_json::from_value(parts.remove("0/points.json")?).ok()?,
        busy: 1,
    })
}

fn upload(
    state: &mut State,
    name: &str,
    body: &Bytes,
    boundary: Option<&str>,
    checksum: Option<&str>,
    trouble: Option<Trouble>,
) -> Result<Value, Failed> {
    let bad = |why: &str| Failed(400, format!("Wrong input: {why}"));
    let end = format!("\r\n--{}--\r\n", boundary.ok_or_else(|| bad("no boundary"))?);
    let begin = body.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(|| bad("no part"))? + 4;
    let head = String::from_utf8_lossy(&body[..begin]).into_owned();
    if !head.contains("name=\"snapshot\"") || !body.ends_with(end.as_bytes()) {
        return Err(bad("Multipart stream is incomplete"));
    }
    let bytes = body.slice(begin..body.len() - end.len());
    let found = hex::encode(Sha256::digest(&bytes));
    if let Some(checksum) = checksum.filter(|checksum| *checksum != found) {
        let message = format!("Checksum mismatch: expected {checksum}, actual {found}");
        return Err(Failed(400, message));
    }
    let mut collection = unpack(&bytes).ok_or_else(|| bad("the snapshot cannot be unpacked"))?;
    match trouble {
        Some(Trouble::Forgetful) => drop(collection.points.pop_last()),
        Some(Trouble::Red) => collection.busy = u32::MAX,
        _ => {}
    }
    if let Some(there) = state.collections.get(name)
        && there.params != collection.params
    {
        return Err(bad("Snapshot is not compatible with existing collection"));
    }
    // As a server does that takes an upload into the folder of snapshots.
    state.snapshots.insert((name.to_owned(), "ops-backup.snapshot".to_owned()), bytes);
    state.collections.insert(name.to_owned(), collection);
    Ok(json!(true))
}

fn send(bytes: Bytes, trouble: Option<Trouble>) -> Response<Body> {
    let answer = Response::builder().header("content-length", bytes.len());
    match trouble {
        Some(Trouble::CutShort) => {
            let half = Frame::data(bytes.slice(..bytes.len() / 2));
            let pieces = [Ok(half), Err(std::io::Error::other("cut short"))];
            let body = StreamBody::new(futures::stream::iter(pieces));
            answer.body(BodyExt::boxed(body)).unwrap()
        }
        Some(Trouble::Flipped) => {
            let mut other = bytes.to_vec();
            let middle = other.len() / 2;
            other[middle] ^= 1;
            answer.body(whole(other)).unwrap()
        }
        _ => answer.status(StatusCode::OK).body(whole(bytes)).unwrap(),
    }
}
