//! Asks a service which version it is.

use std::sync::OnceLock;
use std::time::Duration;

use http::HeaderMap;
use ops_core::Version;
use reqwest::Client;

use super::Identity;

const ANSWER_CAP: usize = 1024 * 1024;

/// Asks services which version they are: each time on a connection of its own, so that it is not
/// an old process that answers, and never through a proxy of the environment.
///
/// A client is made when it is first needed: reading the machine's certificates takes a while, and
/// most questions go to this machine, without TLS.
#[derive(Debug, Default)]
pub(crate) struct Asker {
    plain: OnceLock<Result<Client, String>>,
    secure: OnceLock<Result<Client, String>>,
}

impl Asker {
    fn client(&self, url: &str) -> Result<&Client, String> {
        let secure = url.starts_with("https:");
        let made = if secure { &self.secure } else { &self.plain };
        let client = made.get_or_init(|| {
            let builder = Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .pool_max_idle_per_host(0);
            let builder = if secure { builder } else { builder.tls_certs_only([]) };
            builder.build().map_err(said)
        });
        client.as_ref().map_err(Clone::clone)
    }

    /// Asks once; an error says what is wrong with the answer.
    pub(crate) async fn ask(
        &self,
        url: &str,
        identity: &Identity,
        version: &Version,
        timeout: Duration,
    ) -> Result<(), String> {
        match tokio::time::timeout(timeout, self.answer(url)).await {
            Ok(answer) => {
                let (headers, body) = answer?;
                judge(&headers, &body, identity, version)
            }
            Err(_) => Err(format!("no answer within {timeout:?}")),
        }
    }

    async fn answer(&self, url: &str) -> Result<(HeaderMap, Vec<u8>), String> {
        let mut answer = self.client(url)?.get(url).send().await.map_err(said)?;
        if !answer.status().is_success() {
            return Err(format!("the answer is {}", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(said)? {
            if body.len() + piece.len() > ANSWER_CAP {
                return Err(format!("the answer has more than {ANSWER_CAP} bytes"));
            }
            body.extend_from_slice(&piece);
        }
        Ok((std::mem::take(answer.headers_mut()), body))
    }
}

fn said(error: reqwest::Error) -> String {
    ops_core::error::chain(&error.without_url()).join(": ")
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
