//! The real servers that the tests of this workspace run against are there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "`{variable}` is not set: run the tests by `scripts/test`, or this command by \
             `scripts/with-services`, which start the servers and set it"
        )
    })
}

#[tokio::test]
async fn postgresql_answers_a_query() {
    let url = service("OPS_TEST_POSTGRES_URL");
    let query = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
    let asked = Command::new("psql")
        .args(["--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--command", query])
        .arg(url)
        .kill_on_drop(true)
        .output();
    let answer = timeout(DEADLINE, asked).await.expect("an answer within 20 s").unwrap();
    let errors = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success(), "psql failed: {errors}");
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "t", "the tests are a superuser");
}

#[tokio::test]
async fn the_docker_engine_answers_a_ping() {
    let host = service("OPS_TEST_DOCKER_HOST");
    let socket = host.strip_prefix("unix://").unwrap_or_else(|| {
        panic!("`OPS_TEST_DOCKER_HOST` is `{host}`, and must be `unix://` and a path")
    });
    let ping = async {
        let stream = UnixStream::connect(socket).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = hyper::Request::get("/_ping")
            .header(hyper::header::HOST, "docker")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().contains_key("api-version"), "{:?}", answer.headers());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        driver.abort();
        body
    };
    let body = timeout(DEADLINE, ping).await.expect("an answer within 20 s");
    assert_eq!(body, "OK");
}
