//! Asks a service which version it is.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use ops_core::Version;

use super::Identity;

const ANSWER_CAP: usize = 1024 * 1024;

/// Asks once, on a connection of its own; an error says what is wrong with the answer.
pub(crate) async fn ask(
    url: &str,
    identity: &Identity,
    version: &Version,
    timeout: Duration,
) -> Result<(), String> {
    match tokio::time::timeout(timeout, answer(url)).await {
        Ok(answer) => {
            let (headers, body) = answer?;
            judge(&headers, &body, identity, version)
        }
        Err(_) => Err(format!("no answer within {timeout:?}")),
    }
}

async fn answer(url: &str) -> Result<(HeaderMap, Bytes), String> {
    let uri: Uri = url.parse().map_err(|error| format!("`{url}` is no address: {error}"))?;
    let request = Request::get(uri)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let said = |error: &(dyn std::error::Error + 'static)| ops_core::error::chain(error).join(": ");
    let answer = client.request(request).await.map_err(|error| said(&error))?;
    if !answer.status().is_success() {
        return Err(format!("the answer is {}", answer.status()));
    }
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_CAP).collect().await;
    let body = body.map_err(|error| format!("the answer cannot be read: {error}"))?;
    Ok((parts.headers, body.to_bytes()))
}

fn judge(
    headers: &HeaderMap,
    body: &[u8],
    identity: &Identity,
    version: &Version,
) -> Result<(), String> {
    let found = match identity {
        Identity::Header(name) => headers
            .get(name)
            .ok_or_else(|| format!("the answer has no header `{name}`"))?
            .to_str()
            .map_err(|_| format!("the header `{name}` is no text"))?
            .to_owned(),
        Identity::JsonField(pointer) => {
            let json: serde_json::Value = serde_json::from_slice(body)
                .map_err(|error| format!("the answer is no JSON: {error}"))?;
            match json.pointer(pointer) {
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => return Err(format!("the answer has no field `{pointer}`")),
            }
        }
    };
    if found == version.as_str() {
        return Ok(());
    }
    let shown: String = found.chars().filter(|c| !c.is_control()).take(80).collect();
    Err(format!("it says that it is `{shown}`, not `{version}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_version_is_right() {
        let mut headers = HeaderMap::new();
        headers.insert("x-version", "v1".parse().unwrap());
        let by_header = Identity::Header("X-Version".into());
        let by_field = Identity::JsonField("/build/version".into());
        let right = br#"{"build":{"version":"v1"}}"#;
        for (identity, version, body, expected) in [
            (&by_header, "v1", &b""[..], Ok(())),
            (&by_header, "v2", b"", Err("it says that it is `v1`, not `v2`")),
            (&by_field, "v1", right, Ok(())),
            (&by_field, "v2", right, Err("it says that it is `v1`, not `v2`")),
            (&by_field, "v1", b"{}", Err("the answer has no field `/build/version`")),
        ] {
            let found = judge(&headers, body, identity, &version.parse().unwrap());
            assert_eq!(found, expected.map_err(str::to_owned));
        }
    }
}
