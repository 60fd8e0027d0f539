//! Asks over HTTP, and waits.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ops_core::Version;

pub fn v(text: &str) -> Version {
    text.parse().unwrap()
}

pub type Http = Client<HttpConnector, Empty<Bytes>>;

pub fn http() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Gets a page: status, version header, body.
pub async fn get(http: &Http, url: &str) -> Result<(u16, String, String), String> {
    let request = Request::get(url).body(Empty::new()).map_err(|e| e.to_string())?;
    let answer: Response<_> = http.request(request).await.map_err(|e| format!("{e:?}"))?;
    let status = answer.status().as_u16();
    let version = answer.headers().get("x-version").map(|v| v.to_str().unwrap().to_owned());
    let body = answer.into_body().collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
    Ok((status, version.unwrap_or_default(), String::from_utf8_lossy(&body).into_owned()))
}

/// Waits until something is so, for at most half a minute.
pub async fn until<F: AsyncFnMut() -> Result<(), String>>(mut so: F) {
    let begun = Instant::now();
    loop {
        match so().await {
            Ok(()) => return,
            Err(last) if begun.elapsed() > Duration::from_secs(30) => panic!("still: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// That the public hears what is in service.
pub async fn public_hears(dir: &Path, current: Option<&Version>) -> Result<(), String> {
    let public = std::fs::read_to_string(dir.join("public")).map_err(|e| e.to_string())?;
    let (code, says, _) = get(&http(), &format!("http://{public}/health")).await?;
    let expected = current.map_or((503, ""), |version| (200, version.as_str()));
    if (code, says.as_str()) != expected {
        return Err(format!("the public hears {code} {says}, {current:?} is current"));
    }
    Ok(())
}
