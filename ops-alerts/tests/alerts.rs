//! Channels, deliveries and the reporter, against a real HTTP server and real files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, StatusCode};
use ops_alerts::{
    Alert, AlertReporter, Channel, ConsoleChannel, DeadLetter, Delivery, Error, ErrorKind,
    FileChannel, Limits, MemoryChannel, Receipt, Severity, WebhookChannel, contract,
};
use ops_core::{
    Class, Classify as _, Environment, ManualClock, Redactor, Report, Reporter, Secret,
};
use serde_json::{Value, json};

#[derive(Clone, Debug)]
enum Answer {
    Status(u16),
    Headed(u16, &'static str, String),
    Says(u16, String),
    /// Never.
    Hang,
}

#[derive(Debug)]
struct Seen {
    key: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Answers from a script, and 200 when that is at its end.
#[derive(Clone, Debug)]
struct Server {
    address: SocketAddr,
    script: Arc<Mutex<VecDeque<Answer>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    async fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            seen: Arc::default(),
        };
        let this = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let this = this.clone();
                        async move { Ok::<_, hyper::Error>(this.answer(request).await) }
                    });
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let http = hyper::server::conn::http1::Builder::new();
                    // A client that goes away is part of the test.
                    let _ = http.serve_connection(io, service).await;
                });
            }
        });
        server
    }

    async fn answer(&self, request: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return Response::default() };
        let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap().to_owned();
        let headers: Vec<_> =
            parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let key = parts.headers.get("idempotency-key").map(text).unwrap_or_default();
        self.seen.lock().unwrap().push(Seen { key, headers, body: body.to_bytes().to_vec() });
        let answer = self.script.lock().unwrap().pop_front().unwrap_or(Answer::Status(200));
        let mut response = Response::new(Full::new(Bytes::new()));
        let status = match answer {
            Answer::Hang => std::future::pending().await,
            Answer::Status(status) => status,
            Answer::Headed(status, name, value) => {
                response.headers_mut().insert(name, value.parse().unwrap());
                status
            }
            Answer::Says(status, body) => {
                *response.body_mut() = Full::new(Bytes::from(body));
                status
            }
        };
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    }

    fn url(&self, path: &str) -> Secret {
        Secret::new(format!("http://{}/{path}", self.address))
    }

    fn channel(&self) -> WebhookChannel {
        WebhookChannel::new("hook", self.url("alerts")).unwrap()
    }

    fn keys(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.key.clone()).collect()
    }
}

fn alert() -> Alert {
    Alert::new(Severity::High, "a title", Environment::Production).body("a body")
}

/// Waits between tries are short, so that the tests are.
fn quick() -> Delivery {
    Delivery::default().first(Duration::from_millis(5)).deadline(Duration::from_secs(20))
}

#[tokio::test]
async fn every_channel_keeps_the_contract() {
    let memory = MemoryChannel::new("memory").max_bytes(2048);
    let kept = memory.clone();
    contract::check(&memory, &|id| kept.alerts().iter().any(|a| a.id == *id)).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/alerts.jsonl");
    let file = FileChannel::new("file", &path).max_bytes(4096);
    contract::check(&file, &|id| read_alerts(&path).iter().any(|a| a.id == *id)).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().all(|line| line.len() < 4096));

    let shown = Shared::default();
    let console = ConsoleChannel::new("console", shown.clone()).max_bytes(2048);
    contract::check(&console, &|id| shown.text().contains(id.as_str())).await.unwrap();

    let server = Server::start([]).await;
    let webhook = server.channel().max_bytes(2048);
    contract::check(&webhook, &|id| server.keys().iter().any(|key| key == id.as_str()))
        .await
        .unwrap();
    for seen in server.seen.lock().unwrap().iter() {
        assert!(seen.body.len() <= 2048);
        let alert: Alert = serde_json::from_slice(&seen.body).unwrap();
        assert_eq!(alert.id.as_str(), seen.key);
    }
}

#[tokio::test]
async fn the_contract_finds_a_channel_that_lies() {
    #[derive(Debug)]
    struct Lies;
    impl Channel for Lies {
        fn name(&self) -> &'static str {
            "lies"
        }
        fn limits(&self) -> Limits {
            Limits::new(2048)
        }
        fn send<'a>(&'a self, _: &'a Alert) -> BoxFuture<'a, Result<Receipt, Error>> {
            Box::pin(async { Ok(Receipt::new("lies", "taken")) })
        }
    }
    let error = contract::check(&Lies, &|_| false).await.unwrap_err();
    assert!(error.contains("there is a receipt for the plain alert"), "{error}");
    let full = MemoryChannel::new("fails");
    full.fail_next([ErrorKind::Refused]);
    let error = contract::check(&full, &|_| false).await.unwrap_err();
    assert!(error.contains("the plain alert was not taken"), "{error}");
}

fn read_alerts(path: &Path) -> Vec<Alert> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_is_temporary_is_tried_again_under_the_same_key() {
    for first in [
        Answer::Status(503),
        Answer::Status(429),
        Answer::Status(408),
        Answer::Status(425),
        Answer::Headed(503, "retry-after", "0".into()),
    ] {
        let server = Server::start([first.clone(), first.clone()]).await;
        let alert = alert();
        let receipt = quick().send(&server.channel(), &alert).await.unwrap();
        assert_eq!((receipt.channel.as_str(), receipt.answer.as_str()), ("hook", "200 OK"));
        assert_eq!(server.keys(), vec![alert.id.to_string(); 3], "{first:?}");
        let seen = server.seen.lock().unwrap();
        assert_eq!(serde_json::from_slice::<Alert>(&seen[2].body).unwrap(), alert);
    }
}

#[tokio::test]
async fn what_is_permanent_is_not_tried_again() {
    for first in [
        Answer::Says(400, "no such field".into()),
        Answer::Status(401),
        Answer::Status(413),
        Answer::Headed(302, "location", "http://127.0.0.1:1/".into()),
    ] {
        let server = Server::start([first.clone()]).await;
        let error = quick().send(&server.channel(), &alert()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{first:?}");
        assert_eq!(server.keys().len(), 1, "{first:?}: {error}");
    }
    let server = Server::start([Answer::Says(400, "no such field".into())]).await;
    let error = quick().send(&server.channel(), &alert()).await.unwrap_err();
    let expected = "channel `hook` answered 400 Bad Request: \"no such field\" (attempts=1)";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn retry_after_is_honoured_on_the_clock() {
    let server = Server::start([Answer::Headed(429, "retry-after", "30".into())]).await;
    let clock = ManualClock::new("2026-11-21T00:00:00Z".parse().unwrap());
    let delivery = quick().deadline(Duration::from_mins(1)).clock(clock.clone());
    let (channel, alert, again) = (server.channel(), alert(), alert());
    let sending = tokio::spawn(async move { delivery.send(&channel, &alert).await });
    wait_until(|| server.keys().len() == 1).await;
    // Until the first try has ended, time that passes would pass before the wait.
    for _ in 0..29 {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
        assert_eq!(server.keys().len(), 1, "not before the receiver wants it");
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !sending.is_finished() {
        assert!(Instant::now() < deadline, "never tried again");
        // In steps that cannot reach the deadline of 60 s before the wait of 30 s is over.
        if clock_seconds(&clock) < 59 {
            clock.advance(Duration::from_secs(1));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sending.await.unwrap().unwrap();
    assert_eq!(server.keys().len(), 2);

    let server = Server::start([Answer::Headed(503, "retry-after", "30".into())]).await;
    let error = quick().send(&server.channel(), &again).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
    assert_eq!(server.keys().len(), 1, "a wait past the deadline is not begun");
}

fn clock_seconds(clock: &ManualClock) -> u64 {
    use ops_core::Clock as _;
    clock.elapsed().as_secs()
}

async fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_hanging_server_is_bounded_and_safe_to_try_again() {
    let server = Server::start([Answer::Hang]).await;
    let channel = server.channel().timeout(Duration::from_millis(100));
    let alert = alert();
    let error = channel.send(&alert).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Unknown, Class::OutcomeUnknown));
    quick().send(&channel, &alert).await.unwrap();
    assert_eq!(server.keys(), vec![alert.id.to_string(); 2]);

    let server = Server::start([Answer::Hang, Answer::Hang]).await;
    let begun = Instant::now();
    let delivery = quick().deadline(Duration::from_millis(300));
    let error = delivery.send(&server.channel(), &alert).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);
    assert!(begun.elapsed() < Duration::from_secs(8), "the timeout of one try is 10 s");
}

#[tokio::test]
async fn nobody_there_is_temporary() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Secret::new(format!("http://{}/s3cr3t-path", listener.local_addr().unwrap()));
    drop(listener);
    let channel = WebhookChannel::new("hook", url).unwrap();
    let error = channel.send(&alert()).await.unwrap_err();
    assert_eq!(error.class(), Class::Temporary);
    let all = ops_core::error::chain(&error).join(": ");
    assert!(!all.contains("s3cr3t-path"), "{all}");
}

#[tokio::test]
async fn of_an_endless_answer_only_the_beginning_is_read() {
    let server = Server::start([Answer::Says(400, "x".repeat(50_000_000))]).await;
    let error = server.channel().send(&alert()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().len() < 300, "{}", error.to_string().len());
}

#[tokio::test]
async fn no_secret_is_in_a_body_an_error_or_a_log() {
    let canary = "c4n4ry-0123456789";
    // A server that gives back what it was sent.
    let echo = format!("you sent Bearer {canary} to /{canary}");
    let server = Server::start([Answer::Says(403, echo)]).await;
    let hook = WebhookChannel::new("hook", server.url(canary)).unwrap();
    let hook = hook.bearer(&Secret::new(canary)).unwrap();
    let hook = hook.header("x-more", Secret::new(format!("{canary}-more"))).unwrap();
    assert!(!format!("{hook:?}").contains(canary), "{hook:?}");
    let redactor = Redactor::default();
    redactor.add(&Secret::new(canary));
    let memory = MemoryChannel::new("memory");
    let logged = Shared::default();
    let out = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || out.clone());
    let folder = tempfile::tempdir().unwrap();
    let reporter = AlertReporter::new()
        .channel(hook)
        .delivery(quick())
        .redactor(redactor)
        .dead_letters(folder.path().join("dead"));
    let leaky = Alert::new(Severity::High, format!("a {canary}"), Environment::Production)
        .body(format!("b {canary}"))
        .field("c", format!("c {canary}"));
    let _default = tracing::subscriber::set_default(subscriber.finish());
    let error = reporter.send(&leaky).await.unwrap_err();
    reporter.clone().channel(memory.clone()).send(&leaky).await.unwrap();

    let seen = server.seen.lock().unwrap();
    let token = ("authorization".to_owned(), format!("Bearer {canary}"));
    assert!(seen[0].headers.contains(&token), "the receiver itself gets the token");
    let places = [
        ("the body", String::from_utf8(seen[0].body.clone()).unwrap()),
        ("the error", ops_core::error::chain(&error).join(": ")),
        ("the log", logged.text()),
        ("the dead letters", std::fs::read_to_string(folder.path().join("dead")).unwrap()),
        ("another channel", format!("{:?}", memory.alerts())),
    ];
    for (place, text) in places {
        assert!(!text.is_empty() && !text.contains(canary), "{place}: {text}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused_when_it_is_given() {
    for url in ["", "hooks.example/x", "ftp://hooks.example", "file:///etc/passwd"] {
        let error = WebhookChannel::new("hook", Secret::new(url)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
    }
    let hook = || WebhookChannel::new("hook", Secret::new("https://hooks.example/")).unwrap();
    for (name, value) in [("a b", "x"), ("x-a", "s3cr3t\r\nx-evil: 1"), ("", "x")] {
        let error = hook().header(name, Secret::new(value)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(!error.to_string().contains("s3cr3t"));
    }
}

fn report(outcome: &Value) -> Report {
    let mut report = json!({
        "schema": 1, "timestamp": "2026-11-21T05:47:24Z", "event": "deploy_failure",
        "id": "01JD2Q5W3V8Y7K6M4N9P0R1S2T", "operation": "deploy", "environment": "production",
        "recovered": false, "duration_ms": 1, "hostname": "web-1", "user": "ada",
        "program": "ops", "steps": [],
    });
    for (key, value) in outcome.as_object().unwrap() {
        report[key] = value.clone();
    }
    serde_json::from_value(report).unwrap()
}

fn failed() -> Report {
    report(&json!({"outcome": "rolled_back", "why": "step_failed", "cause": "the gate"}))
}

/// Fails in a way of its own.
#[derive(Debug)]
enum Bad {
    Hangs,
    Panics,
}

impl Channel for Bad {
    fn name(&self) -> &'static str {
        "bad"
    }
    fn limits(&self) -> Limits {
        Limits::new(2048)
    }
    fn send<'a>(&'a self, _: &'a Alert) -> BoxFuture<'a, Result<Receipt, Error>> {
        match self {
            Self::Hangs => Box::pin(std::future::pending()),
            Self::Panics => panic!("a channel with a mistake"),
        }
    }
}

#[tokio::test]
async fn one_channels_failure_hides_no_other() {
    let good = MemoryChannel::new("good");
    let refuses = MemoryChannel::new("refuses");
    refuses.fail_next([ErrorKind::Refused]);
    let reporter = AlertReporter::new()
        .channel(Bad::Hangs)
        .channel(Bad::Panics)
        .channel(refuses.clone())
        .channel(good.clone())
        .delivery(quick().attempts(2).deadline(Duration::from_millis(200)));
    reporter.report(&failed()).await.unwrap();
    assert_eq!(good.alerts().len(), 1);
    assert_eq!(good.alerts()[0].title, "deploy FAILED in production");
    assert_eq!(refuses.sends(), 1);
    let counts = reporter.counts();
    assert_eq!((counts.accepted, counts.delivered, counts.undelivered), (1, 1, 0));
    assert_eq!(counts.failed_channels, 3);
}

#[tokio::test]
async fn success_and_refusal_make_no_alert() {
    let channel = MemoryChannel::new("memory");
    let reporter = AlertReporter::new().channel(channel.clone());
    for outcome in [
        json!({"outcome": "completed"}),
        json!({"outcome": "finishers_pending", "pending": ["tidy"]}),
        json!({"outcome": "refused", "reasons": []}),
    ] {
        reporter.report(&report(&outcome)).await.unwrap();
    }
    assert_eq!(channel.sends(), 0);
    for outcome in [
        json!({"outcome": "rolled_back", "why": "step_failed", "cause": "x"}),
        json!({"outcome": "needs_person", "what_to_do": "x"}),
        json!({"outcome": "commit_unknown"}),
    ] {
        reporter.report(&report(&outcome)).await.unwrap();
    }
    assert_eq!(channel.alerts().len(), 3);
}

fn dead_letters(path: &Path) -> Vec<DeadLetter> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn what_no_channel_took_is_an_error_and_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/dead.jsonl");
    let channel = MemoryChannel::new("memory");
    channel.fail_next([ErrorKind::Refused]);
    let reporter = AlertReporter::new().channel(channel.clone()).dead_letters(&path);
    let error = reporter.report(&failed()).await.unwrap_err();
    let all = ops_core::error::chain(&error).join(": ");
    assert!(all.contains("no channel took alert") && all.contains("memory: channel"), "{all}");
    let letters = dead_letters(&path);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].alert.title, "deploy FAILED in production");
    assert_eq!(letters[0].reasons[0].0, "memory");

    // The engine drops a reporter that takes too long.
    let reporter = AlertReporter::new().channel(Bad::Hangs).dead_letters(&path);
    let failed = failed();
    let dropped = tokio::time::timeout(Duration::from_millis(20), reporter.report(&failed)).await;
    assert!(dropped.is_err());
    assert_eq!(dead_letters(&path).len(), 2);
    let counts = reporter.counts();
    assert_eq!((counts.accepted, counts.undelivered, counts.lost), (1, 1, 0));

    let reporter = AlertReporter::new();
    reporter.report(&failed).await.unwrap_err();
    assert_eq!((reporter.counts().undelivered, reporter.counts().lost), (1, 1));
}

#[tokio::test]
async fn a_torn_line_of_a_file_is_closed_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.jsonl");
    std::fs::write(&path, "{\"half").unwrap();
    FileChannel::new("file", &path).send(&alert()).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "{\"half"));
    serde_json::from_str::<Alert>(lines[1]).unwrap();
    let error = FileChannel::new("file", folder.path()).send(&alert()).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent, "{error}");
}

/// A thing that does not go the way it should.
struct Site;

#[derive(PartialEq, serde::Serialize, serde::Deserialize)]
enum Move {
    Breaks,
    Cancels,
    CannotBeUndone,
}

impl ops_core::Resource for Site {
    type Step = Move;
    fn id(&self) -> ops_core::ResourceId {
        ops_core::ResourceId::new("site", "web")
    }
}

impl ops_core::Step for Move {
    const FAMILY: &'static str = "test";
    type Env = Site;
    fn name(&self) -> &'static str {
        "move"
    }
    fn effect(&self) -> ops_core::Effect {
        ops_core::Effect::changes("moves the site")
    }
    async fn run(&self, _: &Site, cx: &ops_core::StepContext) -> Result<(), ops_core::StepError> {
        match self {
            Self::Breaks => Err(ops_core::StepError::permanent("the gate is shut")),
            Self::Cancels => {
                cx.context().cancellation().cancel();
                Ok(())
            }
            Self::CannotBeUndone => Ok(()),
        }
    }
    async fn undo(&self, _: &Site, _: &ops_core::StepContext) -> Result<(), ops_core::StepError> {
        match self {
            Self::CannotBeUndone => Err(ops_core::StepError::permanent("the way back is shut")),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_real_operation_that_goes_wrong_is_told() {
    for (steps, title, severity, part) in [
        (&[Move::Breaks][..], "rollback FAILED in staging", Severity::High, "the gate is shut"),
        (
            &[Move::Cancels, Move::Breaks],
            "rollback was cancelled in staging",
            Severity::Info,
            "The old state is back in place.",
        ),
        (
            &[Move::CannotBeUndone, Move::Breaks],
            "rollback NEEDS A PERSON in staging",
            Severity::High,
            "Step `move` on site:web could not be undone: moves the site",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let channel = MemoryChannel::new("memory");
        let cx = ops_core::Context::builder(folder.path())
            .environment(Environment::Staging)
            .undo_budget(Duration::from_secs(2))
            .reporter(AlertReporter::new().channel(channel.clone()))
            .build();
        let mut plan = ops_core::Plan::new("rollback");
        for step in steps {
            plan = plan.change(&Site, step).unwrap();
        }
        cx.execute(plan, &&Site).await.unwrap_err();
        let alerts = channel.alerts();
        assert_eq!(alerts.len(), 1, "{title}");
        assert_eq!((alerts[0].title.as_str(), alerts[0].severity), (title, severity));
        assert!(alerts[0].body.contains(part), "{}", alerts[0].body);
    }
}
