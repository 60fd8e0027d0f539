//! HTTP probes against servers that do as they should, and against all the others.

use std::time::Duration;

use ops_core::probe::{Health, HttpProbe, Probe as _, observe};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How a server answers each request.
#[derive(Clone, Copy)]
enum Answers {
    /// These bytes, then the end of the connection.
    With(&'static str),
    /// These bytes, then nothing more.
    ThenHangs(&'static str),
    /// A header, then a body without an end.
    WithoutEnd,
    /// After this time, an empty 200.
    After(Duration),
    /// The end of the connection.
    NotAtAll,
}

/// A server on a port of its own, for as long as the runtime of the test.
async fn server(answers: Answers) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/health", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, answers));
        }
    });
    url
}

async fn answer(mut stream: TcpStream, answers: Answers) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    match answers {
        Answers::With(bytes) => stream.write_all(bytes.as_bytes()).await?,
        Answers::ThenHangs(bytes) => {
            stream.write_all(bytes.as_bytes()).await?;
            std::future::pending::<()>().await;
        }
        Answers::WithoutEnd => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(&[b'x'; 16 * 1024]).await?;
            }
        }
        Answers::After(time) => {
            tokio::time::sleep(time).await;
            stream.write_all(OK.as_bytes()).await?;
        }
        Answers::NotAtAll => {}
    }
    stream.shutdown().await
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const RELEASE: &str = "HTTP/1.1 200 OK\r\nx-version: 1a2b3c4\r\ncontent-length: 36\r\n\r\n\
                       {\"app\":{\"version\":\"1a2b3c4\",\"n\":10}}";

async fn check(answers: Answers, make: impl Fn(HttpProbe) -> HttpProbe, expected: &str) {
    let url = server(answers).await;
    let seen = observe(&make(HttpProbe::new(&url)), super::PATIENCE).await;
    super::assert_is(&seen.health, &expected.replace("URL", &url));
}

#[tokio::test]
async fn what_is_expected_is_compared() {
    let same = |probe: HttpProbe| probe;
    let with = Answers::With;
    check(with(OK), same, "healthy").await;
    check(with("HTTP/1.1 204 No Content\r\n\r\n"), same, "healthy").await;
    let sick = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    check(with(sick), same, "unhealthy: URL answered with status 503, expected 200 to 299").await;
    check(with(sick), |probe| probe.status(503..=503), "healthy").await;
    check(
        with(OK),
        |probe| probe.status(503..=503),
        "unhealthy: URL answered with status 200, expected 503",
    )
    .await;
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    check(with(moved), same, "unhealthy: URL answered with status 302").await;
    check(with(RELEASE), |probe| probe.body_contains("1a2b3c4"), "healthy").await;
    let other = "unhealthy: URL: the body does not contain `5d6e7f8`";
    check(with(RELEASE), |probe| probe.body_contains("5d6e7f8"), other).await;
}

/// An old release that answers 200 on the address of the new one is not the new one.
#[tokio::test]
async fn another_release_is_unhealthy_whatever_its_status() {
    let with = Answers::With;
    check(with(RELEASE), |probe| probe.header("X-Version", "1a2b3c4"), "healthy").await;
    let wrong = "unhealthy: URL: header `X-Version` is `1a2b3c4`, expected `5d6e7f8`";
    check(with(RELEASE), |probe| probe.header("X-Version", "5d6e7f8"), wrong).await;
    let long =
        format!("HTTP/1.1 200 OK\r\nx-version: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(9000));
    let cut =
        format!("unhealthy: URL: header `X-Version` is `{}...`, expected `1`", "x".repeat(200));
    check(with(long.leak()), |probe| probe.header("X-Version", "1"), &cut).await;
    let missing = "unhealthy: URL: header `X-Version` is missing, expected `5d6e7f8`";
    check(with(OK), |probe| probe.header("X-Version", "5d6e7f8"), missing).await;

    let field = |probe: HttpProbe| probe.json_field("/app/version", "1a2b3c4");
    check(with(RELEASE), field, "healthy").await;
    check(with(RELEASE), |probe| probe.json_field("/app/n", 10), "healthy").await;
    let wrong = "unhealthy: URL: `/app/version` is `\"1a2b3c4\"`, expected `\"5d6e7f8\"`";
    check(with(RELEASE), |probe| probe.json_field("/app/version", "5d6e7f8"), wrong).await;
    let missing = "unhealthy: URL: `/version` is missing, expected `\"5d6e7f8\"`";
    check(with(RELEASE), |probe| probe.json_field("/version", "5d6e7f8"), missing).await;
    check(with(OK), field, "unhealthy: URL: the body is no JSON").await;
    let page = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n<h1>ok</h1>";
    check(with(page), field, "unhealthy: URL: the body is no JSON").await;
}

#[tokio::test]
async fn a_slow_answer_is_unhealthy_where_latency_is_bounded() {
    let slow = Answers::After(Duration::from_millis(60));
    let bound = |probe: HttpProbe| probe.max_latency(Duration::from_millis(50));
    check(slow, bound, "unhealthy: URL answered after").await;
    check(slow, |probe| probe.max_latency(super::PATIENCE), "healthy").await;
}

#[tokio::test]
async fn what_cannot_be_read_is_unknown() {
    let with = Answers::With;
    let body = |probe: HttpProbe| probe.body_contains("ok");
    check(Answers::NotAtAll, body, "unknown: URL").await;
    check(with("this is not HTTP\r\n\r\n"), body, "unknown: URL").await;
    check(with("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nok"), body, "unknown: URL").await;
    check(
        with("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        body,
        "unknown: URL",
    )
    .await;
    let endless = "unknown: URL: the body is longer than 1048576 bytes";
    check(Answers::WithoutEnd, |probe| probe.body_contains("y"), endless).await;
    // Where no body is asked for, none is read.
    check(Answers::WithoutEnd, |probe| probe, "healthy").await;
}

#[tokio::test]
async fn silence_at_any_point_is_unknown_at_the_deadline() {
    for sent in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"] {
        let url = server(Answers::ThenHangs(sent)).await;
        let probe = HttpProbe::new(url).body_contains("ok");
        let seen = observe(&probe, Duration::from_millis(300)).await;
        super::assert_is(&seen.health, "unknown: no answer within 300ms");
    }
}

#[tokio::test]
async fn nobody_there_is_unhealthy_and_nonsense_is_unknown() {
    let refused = HttpProbe::new(format!("http://{}/", super::nobody().await));
    super::assert_is(&refused.check().await, "unhealthy: http://127.0.0.1:");
    for url in ["", "no url", "ftp://127.0.0.1/", "http://no-such-host.invalid/"] {
        let health = observe(&HttpProbe::new(url), super::PATIENCE).await.health;
        assert!(matches!(health, Health::Unknown { .. }), "`{url}`: {health}");
    }
}

#[tokio::test]
async fn its_name_can_be_given_and_hides_no_url() {
    assert_eq!(HttpProbe::new("http://h/x").name(), "http http://h/x");
    assert_eq!(HttpProbe::new("http://h/x").named("shop").name(), "shop");
}
