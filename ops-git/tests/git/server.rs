//! A tiny web server that lets git itself answer: `git http-backend` as CGI.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

/// How the server behaves.
#[derive(Debug, Clone)]
pub enum Manner {
    /// As git's own.
    Git,
    /// Takes requests and never answers.
    Hangs,
    /// Lists its refs, and never sends what they point to.
    HangsOnPost,
    /// Answers every request with this status.
    Status(u16),
    /// As git's own, for whoever sends this as `Authorization`.
    Asks(String),
    /// Ends the connection after so many bytes of a pack.
    Cuts(usize),
    /// Ends an answer that looks whole after so many bytes of a pack.
    Truncates(usize),
    /// Leaves every file out of its packs.
    LeavesOut,
    /// Stops sending after so many bytes of a pack.
    Stalls(usize),
    /// Sends everybody elsewhere.
    Redirects(String),
    /// As git's own, and notes the headers that it got.
    Listens(Arc<Mutex<Vec<String>>>),
}

pub struct Server {
    pub address: SocketAddr,
    pub requests: Arc<AtomicUsize>,
    /// How many answers have come to where they hang.
    stalled: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(root: PathBuf, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let stalled = Arc::<AtomicUsize>::default();
        let stalling = Arc::clone(&stalled);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (root, manner, counted) = (root.clone(), manner.clone(), Arc::clone(&counted));
                let stalling = Arc::clone(&stalling);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        counted.fetch_add(1, Ordering::Relaxed);
                        answer(root.clone(), manner.clone(), request, Arc::clone(&stalling))
                    });
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, requests, stalled, task }
    }

    /// Answers over https, with this certificate and its key.
    pub async fn start_with_tls(root: PathBuf, certificate: &Path, key: &Path) -> Self {
        use tokio_rustls::rustls::ServerConfig;
        use tokio_rustls::rustls::pki_types::pem::PemObject as _;
        use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let chain = CertificateDer::pem_file_iter(certificate).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                chain.map(Result::unwrap).collect(),
                PrivateKeyDer::from_pem_file(key).unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (root, acceptor) = (root.clone(), acceptor.clone());
                tokio::spawn(async move {
                    // Whoever does not trust it ends here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request| {
                        answer(root.clone(), Manner::Git, request, Arc::default())
                    });
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, requests: Arc::default(), stalled: Arc::default(), task }
    }

    /// Waits until so many answers hang.
    pub async fn hangs(&self, times: usize) {
        let waiting = async {
            while self.stalled.load(Ordering::Relaxed) < times {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("an answer that hangs");
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

async fn answer(
    root: PathBuf,
    manner: Manner,
    request: Request<Incoming>,
    stalled: Arc<AtomicUsize>,
) -> Result<Response<Body>, Infallible> {
    let authorization = request.headers().get("authorization").cloned();
    match manner {
        Manner::Git => Ok(backend(root, request, None, stalled).await),
        Manner::Listens(heard) => {
            let said = request.headers().iter().map(|(name, value)| format!("{name}: {value:?}"));
            heard.lock().unwrap().extend(said);
            Ok(backend(root, request, None, stalled).await)
        }
        Manner::HangsOnPost if request.method() == http::Method::GET => {
            Ok(backend(root, request, None, stalled).await)
        }
        Manner::Hangs | Manner::HangsOnPost => {
            stalled.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
        Manner::Status(status) => Ok(Response::builder().status(status).body(empty()).unwrap()),
        Manner::Asks(wanted) if authorization.as_ref().is_some_and(|got| got == &*wanted) => {
            Ok(backend(root, request, None, stalled).await)
        }
        Manner::Asks(_) => Ok(Response::builder()
            .status(401)
            .header("www-authenticate", "Basic realm=\"git\"")
            .body(empty())
            .unwrap()),
        Manner::Cuts(_) | Manner::Truncates(_) | Manner::Stalls(_) | Manner::LeavesOut => {
            Ok(backend(root, request, Some(manner), stalled).await)
        }
        Manner::Redirects(to) => {
            let tail = request.uri().path_and_query().unwrap().as_str();
            let to = format!("{to}{tail}");
            Ok(Response::builder().status(302).header("location", to).body(empty()).unwrap())
        }
    }
}

pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

fn empty() -> Body {
    whole(Bytes::new())
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The first bytes of an answer, and then what the manner says.
fn part(bytes: &[u8], manner: &Manner, stalled: Arc<AtomicUsize>) -> Body {
    use futures::StreamExt as _;
    let frame = |length: usize| {
        let part = &bytes[..length.min(bytes.len())];
        futures::stream::iter([Ok(Frame::data(Bytes::copy_from_slice(part)))])
    };
    match *manner {
        Manner::Cuts(length) => {
            let end = futures::stream::iter([Err(std::io::Error::other("cut"))]);
            StreamBody::new(frame(length).chain(end)).boxed_unsync()
        }
        Manner::Stalls(length) => {
            let hangs = futures::stream::once(async move {
                stalled.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            });
            StreamBody::new(frame(length).chain(hangs)).boxed_unsync()
        }
        Manner::Truncates(length) => whole(Bytes::copy_from_slice(&bytes[..length])),
        _ => whole(Bytes::copy_from_slice(bytes)),
    }
}

async fn backend(
    root: PathBuf,
    request: Request<Incoming>,
    spoils: Option<Manner>,
    stalled: Arc<AtomicUsize>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| {
        head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned()
    };
    let mut git = tokio::process::Command::new("git");
    if matches!(spoils, Some(Manner::LeavesOut)) {
        // Git's own packs are whole: this one takes the place of the program that makes them.
        let pack = "git rev-list --objects --all --filter=blob:none \
                    | git pack-objects --stdout --missing=allow-any -q #";
        git.env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "uploadpack.packObjectsHook")
            .env("GIT_CONFIG_VALUE_0", format!("cat > /dev/null; {pack}"));
    }
    let spoils = spoils.filter(|_| body.windows(13).any(|window| window == b"command=fetch"));
    let mut child = git
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &root)
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
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(&body).await });
    let output = child.wait_with_output().await.unwrap();
    let _ = writing.await;

    let split = output.stdout.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let (head, body) = output.stdout.split_at(split);
    let mut response = Response::builder();
    for line in std::str::from_utf8(head).unwrap().split("\r\n") {
        let (name, value) = line.split_once(": ").unwrap();
        if name.eq_ignore_ascii_case("status") {
            response = response.status(value[..3].parse::<u16>().unwrap());
        } else {
            response = response.header(name, value);
        }
    }
    let body = &body[4..];
    // Only an answer with a pack is spoilt: a negotiation is another.
    let has_pack = body.windows(4).any(|window| window == b"PACK");
    response
        .body(match spoils.filter(|_| has_pack) {
            Some(manner) => part(body, &manner, stalled),
            None => whole(Bytes::copy_from_slice(body)),
        })
        .unwrap()
}
