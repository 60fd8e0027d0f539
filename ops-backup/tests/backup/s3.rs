//! A real S3 server in this process, that checks signatures and digests, and a network that fails.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ops_backup::retention::Policy;
use ops_backup::{Depth, Patience, RestoreOptions, S3Options, Settings, SourceSpec, Vault};
use ops_core::retry::Retry;
use ops_core::{Class, Classify as _, Context, Environment, Outcome, Secret};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};

use crate::fixture::{lenient, scratch, tree};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Failure>;

/// What the network does to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The server is asked, and its answer never comes.
    AnswerLost,
    /// The server is never asked.
    Refused,
    /// 503 with `SlowDown`.
    SlowDown,
    /// 403 with `AccessDenied` for whatever deletes.
    NoDelete,
    /// 403 with `AccessDenied` for whatever asks for a manifest or writes one.
    NoManifest,
    /// The answer takes half a second.
    Slow,
    /// The answer's body ends in the middle, and the connection with it.
    Truncated,
}

type Hits = fn(u64) -> bool;
type Seen = (Method, String, Option<String>, bool);

#[derive(Debug, Default)]
struct Network {
    requests: AtomicU64,
    /// Which requests meet which trouble.
    plan: Mutex<Option<(Trouble, Hits)>>,
    /// Method, path, storage class, and whether it had a digest.
    seen: Mutex<Vec<Seen>>,
}

struct Server {
    address: std::net::SocketAddr,
    network: Arc<Network>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// As a server does: it reads the request before it refuses.
async fn refuse(request: Request<Incoming>, status: StatusCode, code: &str) -> Response<Body> {
    let _ = request.into_body().collect().await;
    let text = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
    let body = Full::from(text).map_err(|e: Infallible| match e {}).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}

async fn answer(
    service: S3Service,
    network: Arc<Network>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let number = network.requests.fetch_add(1, Ordering::SeqCst);
    let header = |name: &str| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let digest = header("x-amz-checksum-sha256").is_some();
    let seen = (request.method().clone(), request.uri().path().to_owned());
    network.seen.lock().unwrap().push((seen.0, seen.1, header("x-amz-storage-class"), digest));
    let plan = *network.plan.lock().unwrap();
    let trouble = plan.filter(|(_, hits)| hits(number)).map(|(trouble, _)| trouble);
    match trouble {
        Some(Trouble::Refused) => return Err("the network is down".into()),
        Some(Trouble::SlowDown) => {
            return Ok(refuse(request, StatusCode::SERVICE_UNAVAILABLE, "SlowDown").await);
        }
        Some(Trouble::NoDelete) if request.method() == Method::DELETE => {
            return Ok(refuse(request, StatusCode::FORBIDDEN, "AccessDenied").await);
        }
        Some(Trouble::NoManifest) if request.uri().path().ends_with("/manifest.json") => {
            return Ok(refuse(request, StatusCode::FORBIDDEN, "AccessDenied").await);
        }
        Some(Trouble::Slow) => tokio::time::sleep(Duration::from_millis(500)).await,
        _ => {}
    }
    let asked = hyper::service::Service::call(&service, request).await;
    let (head, body) = asked.map_err(|e| format!("{e:?}"))?.into_parts();
    match trouble {
        Some(Trouble::AnswerLost) => Err("the answer is lost".into()),
        Some(Trouble::Truncated) => {
            let bytes = BodyExt::collect(body).await.map_err(|e| e.to_string())?.to_bytes();
            let half = bytes.slice(..bytes.len() / 2);
            let frames: Vec<Result<Frame<Bytes>, Failure>> =
                vec![Ok(Frame::data(half)), Err("the connection is gone".into())];
            let body = StreamBody::new(futures::stream::iter(frames).then(async |frame| {
                tokio::time::sleep(Duration::from_millis(5)).await;
                frame
            }));
            Ok(Response::from_parts(head, BodyExt::boxed_unsync(body)))
        }
        _ => {
            let body = body.map_err(|e| -> Failure { e.to_string().into() });
            Ok(Response::from_parts(head, body.boxed_unsync()))
        }
    }
}

async fn serve(root: &Path) -> Server {
    fs::create_dir_all(root.join("bucket")).unwrap();
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    builder.set_auth(SimpleAuth::from_single("key", "secret"));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let network = Arc::new(Network::default());
    let shared = network.clone();
    let task = tokio::spawn(async move {
        // Connections end with this task.
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let (service, network) = (service.clone(), shared.clone());
            connections.spawn(async move {
                let answer =
                    service_fn(move |request| answer(service.clone(), network.clone(), request));
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(socket), answer).await;
            });
        }
    });
    Server { address, network, task }
}

async fn vault(server: &Server, secret: &str, prefix: &str) -> Result<Vault, ops_backup::Error> {
    let store = S3Options::new("bucket")
        .prefix(prefix)
        .endpoint(format!("http://{}", server.address))
        .storage_class("REDUCED_REDUNDANCY")
        .credentials("key", Secret::new(secret))
        .open()?;
    let mut settings = Settings::default();
    settings.chunk_size = 64 << 10;
    let retry = Retry::new().attempts(6).first_delay(Duration::from_millis(1));
    let patience = Patience::default().deadline(Duration::from_secs(10)).retry(retry);
    Vault::builder().settings(settings).patience(patience).open(store, "s3://bucket").await
}

async fn everything(server: &Server, dir: &Path, round: &str) {
    let data = dir.join("data");
    let vault = vault(server, "secret", round).await.unwrap();
    let cx = lenient(&dir.join("state").join(round));
    let spec = [SourceSpec::directory(&data)];
    let first = vault.create("s", &spec, &cx).await.unwrap();
    let second = vault.create("s", &spec, &cx).await.unwrap();
    assert!(first.uploaded() > 100_000 && second.uploaded() == 0, "{round}");
    assert!(vault.drill("s", second.id, &cx).await.unwrap().whole, "{round}");
    vault.prune("s", Policy::new().last(1), &cx).await.unwrap();
    assert_eq!(vault.list("s").await.unwrap(), [second.id], "{round}");
    let found = vault.verify("s", second.id, Depth::Full).await.unwrap();
    assert!(found.is_whole(), "{round}: {found:?}");
    let back = dir.join(format!("back-{round}"));
    let place = vault.place(&SourceSpec::directory(&back)).unwrap();
    vault.restore("s", second.id, &place, &RestoreOptions::default(), &cx).await.unwrap();
    assert_eq!(tree(&data), tree(&back), "{round}");
}

fn data(dir: &Path) {
    fs::create_dir(dir.join("data")).unwrap();
    let noise = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes();
    fs::write(dir.join("data/a"), (0..60_000).flat_map(noise).collect::<Vec<u8>>()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_takes_signed_and_digested_requests_only() {
    let dir = scratch();
    data(dir.path());
    let server = serve(&dir.path().join("s3")).await;
    everything(&server, dir.path(), "plain").await;
    let seen = std::mem::take(&mut *server.network.seen.lock().unwrap());
    let puts: Vec<_> = seen.iter().filter(|(method, ..)| method == Method::PUT).collect();
    assert!(puts.len() > 10, "{}", puts.len());
    for (_, path, class, digest) in puts {
        assert!(digest, "{path} came without a digest");
        let chunk = path.starts_with("/bucket/plain/chunks/");
        assert_eq!(class.as_deref(), chunk.then_some("REDUCED_REDUNDANCY"), "{path}");
    }
    let before = walkdir::WalkDir::new(dir.path().join("s3")).into_iter().count();
    let error = vault(&server, "wrong", "plain").await.unwrap_err();
    let chain = ops_core::error::chain(&error).join(": ");
    assert!(!error.is_retryable(), "{chain}");
    assert!(!chain.contains("wrong\""), "no secret is printed: {chain}");
    assert_eq!(walkdir::WalkDir::new(dir.path().join("s3")).into_iter().count(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_fails_costs_time_and_nothing_else() {
    let dir = scratch();
    data(dir.path());
    let server = serve(&dir.path().join("s3")).await;
    let cases: [(Trouble, &str, Hits); 6] = [
        (Trouble::AnswerLost, "lost", |n| n % 3 == 0),
        (Trouble::Refused, "refused", |n| n % 3 == 1),
        (Trouble::SlowDown, "storm", |n| n % 20 < 4),
        (Trouble::SlowDown, "half", |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62 == 0),
        (Trouble::Slow, "slow", |n| n % 11 == 0),
        (Trouble::Truncated, "truncated", |n| n % 3 == 2),
    ];
    for (trouble, round, hits) in cases {
        *server.network.plan.lock().unwrap() = Some((trouble, hits));
        everything(&server, dir.path(), round).await;
    }
    // A server that is away for good: the backup fails, and nothing is listed.
    let vault = vault(&server, "secret", "lost").await.unwrap();
    let listed = vault.list("s").await.unwrap();
    *server.network.plan.lock().unwrap() = Some((Trouble::Refused, |_| true));
    let cx = Context::builder(dir.path().join("away"))
        .environment(Environment::Development)
        .undo_budget(Duration::from_millis(200))
        .build();
    let spec = [SourceSpec::directory(dir.path().join("data"))];
    let error = vault.create("s", &spec, &cx).await.unwrap_err();
    // What is there cannot be told; nor, by itself, does it pass.
    assert_eq!(error.report().unwrap().outcome.name(), "needs_person", "{error}");
    assert_eq!(error.class(), Class::Permanent);
    *server.network.plan.lock().unwrap() = None;
    assert_eq!(vault.list("s").await.unwrap(), listed);
    let recovery = ops_core::recover(&&vault, &cx).await.unwrap();
    assert_eq!(recovery.reports[0].outcome.name(), "rolled_back");
    assert_eq!(recovery.reports[0].outcome.class(), Class::Temporary, "the store may answer");
    vault.create("s", &spec, &cx).await.unwrap();
}

/// How many chunks lie below a prefix.
fn chunks(dir: &Path, prefix: &str) -> usize {
    let all = walkdir::WalkDir::new(dir.join("s3/bucket").join(prefix).join("chunks"));
    let all = all.into_iter().filter_map(Result::ok);
    all.filter(|entry| entry.file_type().is_file()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_may_not_be_looked_at_is_neither_kept_nor_forgotten() {
    let dir = scratch();
    let server = serve(&dir.path().join("s3")).await;
    let vault = vault(&server, "secret", "blind").await.unwrap();
    let cx = lenient(&dir.path().join("state"));
    // Its end waits until the rights are gone.
    let go = dir.path().join("go");
    let script = "head -c 300000 /dev/urandom; until test -e \"$0\"; do sleep 0.01; done";
    let spec = [SourceSpec::command(["sh", "-c", script, go.to_str().unwrap()])];
    let forbid = async {
        while chunks(dir.path(), "blind") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        *server.network.plan.lock().unwrap() = Some((Trouble::NoManifest, |_| true));
        fs::write(&go, "").unwrap();
    };
    let forbid = tokio::time::timeout(Duration::from_mins(1), forbid);
    let (made, forbidden) = tokio::join!(vault.create("s", &spec, &cx), forbid);
    forbidden.expect("no chunk was stored");
    let error = made.unwrap_err();
    let outcome = &error.report().unwrap().outcome;
    assert_eq!(outcome.name(), "needs_person", "whether it is there cannot be told: {error}");
    assert!(chunks(dir.path(), "blind") > 0, "what it may have is not touched");

    *server.network.plan.lock().unwrap() = None;
    let recovery = ops_core::recover(&&vault, &cx).await.unwrap();
    assert_eq!(recovery.reports[0].outcome.name(), "rolled_back");
    assert_eq!((vault.list("s").await.unwrap(), chunks(dir.path(), "blind")), (vec![], 0));
    vault.create("s", &spec, &cx).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lets_nothing_go_is_backed_up_to_and_pruned_later() {
    let dir = scratch();
    data(dir.path());
    let server = serve(&dir.path().join("s3")).await;
    *server.network.plan.lock().unwrap() = Some((Trouble::NoDelete, |_| true));
    let vault = vault(&server, "secret", "locked").await.unwrap();
    let cx = lenient(&dir.path().join("state"));
    let spec = [SourceSpec::directory(dir.path().join("data"))];
    let first = vault.create("s", &spec, &cx).await.unwrap();
    fs::write(dir.path().join("data/b"), "more").unwrap();
    let second = vault.create("s", &spec, &cx).await.unwrap();

    // What fails goes back, and nothing of it is listed.
    let noise = ["sh", "-c", "head -c 200000 /dev/urandom; exit 3"];
    let error = vault.create("s", &[SourceSpec::command(noise)], &cx).await.unwrap_err();
    let report = error.report().unwrap();
    assert!(matches!(report.outcome, Outcome::RolledBack { .. }), "{error}");
    assert_eq!(error.class(), Class::Permanent, "{error}");
    assert_eq!(vault.list("s").await.unwrap(), [first.id, second.id]);

    // What is pruned is out of the list for good, and the report says what is still there.
    let objects = || chunks(dir.path(), "locked");
    let before = objects();
    let report = vault.prune("s", Policy::new().last(1), &cx).await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    let told: Vec<_> = report.notes.iter().filter(|(key, _)| key.ends_with("undeleted")).collect();
    let [(_, told)] = told[..] else { panic!("{:?}", report.notes) };
    assert!(told["objects"].as_u64().unwrap() >= 3, "{told}");
    assert!(told["such_as"].as_str().unwrap().contains(&first.id.to_string()), "{told}");
    assert_eq!((objects(), vault.list("s").await.unwrap()), (before, vec![second.id]));
    assert!(vault.verify("s", second.id, Depth::Full).await.unwrap().is_whole());

    // When the lock is over, the next prune takes it away.
    *server.network.plan.lock().unwrap() = None;
    vault.prune("s", Policy::new().last(1), &cx).await.unwrap();
    assert!(objects() < before, "{} of {before}", objects());
    let manifest = format!("s3/bucket/locked/sets/s/{}/manifest.json", first.id);
    assert!(!dir.path().join(manifest).exists());
    assert_eq!(vault.list("s").await.unwrap(), [second.id]);
    assert!(vault.drill("s", second.id, &cx).await.unwrap().whole);
}
