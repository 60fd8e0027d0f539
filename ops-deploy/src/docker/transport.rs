//! Connections to engines that are not a plain socket: through TLS, or through `ssh`.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use http::Response;
use http::header::{HOST, HeaderValue};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, join};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::address::{EngineAddress, Scheme, Tls};

/// Idle connections beyond these are closed, and so are those that were idle for longer.
const KEPT: usize = 8;
const IDLE: Duration = Duration::from_secs(20);
/// Connecting may take as long.
const CONNECT: Duration = Duration::from_secs(20);
/// How much of what `ssh` says goes into an error.
const SAID: u64 = 2000;

type Sender = SendRequest<<BollardRequest as Body>::Body>;

/// The type of a request's body, which the library does not name.
trait Body {
    type Body;
}

impl<B> Body for http::Request<B> {
    type Body = B;
}

/// Connections to one engine, which are used again.
#[derive(Debug)]
struct Pool {
    address: EngineAddress,
    idle: Mutex<Vec<(Instant, Sender)>>,
}

/// The engine behind TLS or `ssh`, or at a plain address. `never` outlasts every call.
pub(super) fn connect(address: &EngineAddress, never: u64) -> Result<Docker, Error> {
    match (address.scheme(), &address.tls) {
        (Scheme::Unix, _) => {
            Docker::connect_with_unix(address.as_str(), never, API_DEFAULT_VERSION)
        }
        (Scheme::Tcp, None) => {
            Docker::connect_with_http(address.as_str(), never, API_DEFAULT_VERSION)
        }
        _ => {
            let pool = Arc::new(Pool { address: address.clone(), idle: Mutex::default() });
            let transport = move |request| Arc::clone(&pool).send(request);
            let named = Some("http://engine");
            Docker::connect_with_custom_transport(transport, named, never, API_DEFAULT_VERSION)
        }
    }
}

impl Pool {
    async fn send(
        self: Arc<Self>,
        mut request: BollardRequest,
    ) -> Result<Response<Incoming>, Error> {
        request.headers_mut().entry(HOST).or_insert(HeaderValue::from_static("engine"));
        // To one end of a connection only a path means something.
        let path = request.uri().path_and_query().map(ToString::to_string);
        *request.uri_mut() = path.unwrap_or_default().parse()?;
        let mut sender = match self.idle() {
            Some(sender) => sender,
            None => tokio::time::timeout(CONNECT, self.connect())
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                .map_err(|err| Error::IOError { err })?,
        };
        let answer = sender.send_request(request).await?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push((Instant::now(), sender));
        }
        Ok(answer)
    }

    /// A connection whose last answer is whole.
    fn idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, sender)| since.elapsed() < IDLE && !sender.is_closed());
        let ready = idle.iter().position(|(_, sender)| sender.is_ready())?;
        Some(idle.swap_remove(ready).1)
    }

    async fn connect(&self) -> io::Result<Sender> {
        match &self.address.tls {
            Some(tls) => open(tls_stream(&self.address, tls).await?, None).await,
            None => through_ssh(&self.address).await,
        }
    }
}

async fn through_ssh(address: &EngineAddress) -> io::Result<Sender> {
    let mut child = ssh(address)?;
    let (Some(input), Some(output), Some(mut errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::Error::other("`ssh` has no pipes"));
    };
    let said = tokio::spawn(async move {
        let mut text = Vec::new();
        let _ = (&mut errors).take(SAID).read_to_end(&mut text).await;
        // What it says later is not wanted, but must not stop it.
        tokio::spawn(async move {
            let _ = tokio::io::copy(&mut errors, &mut tokio::io::sink()).await;
        });
        String::from_utf8_lossy(&text).into_owned()
    });
    let sender = open(join(output, input), Some(child)).await?;
    // It connects while we talk: who is not let in is told so by the end of it.
    match first_word(sender).await {
        Ok(sender) => Ok(sender),
        Err(error) => {
            let wait = tokio::time::timeout(Duration::from_secs(1), said).await;
            let said = wait.ok().and_then(Result::ok).unwrap_or_default();
            let plain: String =
                said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            Err(io::Error::other(format!("`ssh` ended ({error}): {plain}")))
        }
    }
}

/// Asks the engine whether it is there.
async fn first_word(mut sender: Sender) -> Result<Sender, hyper::Error> {
    let ping = http::Request::get("/_ping")
        .header(HOST, "engine")
        .body(bollard::body_full(bytes::Bytes::new()));
    let ping = ping.expect("the parts are constants");
    let answer = sender.send_request(ping).await?;
    http_body_util::BodyExt::collect(answer.into_body()).await?;
    sender.ready().await?;
    Ok(sender)
}

/// Speaks HTTP on a stream, for as long as the answer of the sender is used.
async fn open<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    child: Option<tokio::process::Child>,
) -> io::Result<Sender> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        let _ = connection.await;
        drop(child);
    });
    Ok(sender)
}

async fn tls_stream(
    address: &EngineAddress,
    tls: &Tls,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let files = tls.clone();
    let config = tokio::task::spawn_blocking(move || config(&files)).await??;
    let authority = address.authority();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Trusts the one authority, and nobody whom the machine trusts besides.
fn config(tls: &Tls) -> io::Result<ClientConfig> {
    let unread = |path: &Path, error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("`{}`: {error}", path.display()))
    };
    let certificates = |path: &Path| {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unread(path, &error))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.ca)? {
        roots.add(certificate).map_err(|error| unread(&tls.ca, &error))?;
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| unread(&tls.key, &error))?;
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&tls.certificate)?, key)
        .map_err(|error| unread(&tls.certificate, &error))
}

/// The program, with the user's own settings and keys. It never asks: nobody is there to answer.
fn ssh(address: &EngineAddress) -> io::Result<tokio::process::Child> {
    let authority = address.authority();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, Some(port)),
        _ => (authority, None),
    };
    let mut command = Command::new(&address.ssh);
    command.args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]);
    if let Some(port) = port {
        command.args(["-p", port]);
    }
    command
        .args(["--", host, "docker system dial-stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}
