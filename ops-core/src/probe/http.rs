//! Whether an HTTP address answers as it should, and whether it is the release that should.

use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt as _};
use reqwest::{Client, ClientBuilder, Response};
use serde_json::Value;

use super::{Health, Probe};

/// How much of a body is looked at.
const BODY_CAP: usize = 1024 * 1024;

/// How many characters of a value are told.
const SHOWN: usize = 200;

/// Asks an HTTP address and compares the answer with what is expected.
///
/// A wrong answer, and a refused connection, is unhealthy; no answer, and one that cannot be read,
/// is unknown. Redirects are not followed, proxies of the environment are not used, and at most
/// 1 MiB of the body is read.
///
/// An address may belong to another program by now: for a release, expect its identity, with
/// [`header`](Self::header) or [`json_field`](Self::json_field).
#[derive(Debug, Clone)]
pub struct HttpProbe {
    name: String,
    url: String,
    status: RangeInclusive<u16>,
    body: Option<String>,
    headers: Vec<(String, String)>,
    fields: Vec<(String, Value)>,
    latency: Option<Duration>,
}

impl HttpProbe {
    /// Expects a status of 200 to 299 from this URL.
    pub fn new(url: impl Into<String>) -> Self {
        let url = url.into();
        Self {
            name: format!("http {url}"),
            url,
            status: 200..=299,
            body: None,
            headers: Vec::new(),
            fields: Vec::new(),
            latency: None,
        }
    }

    /// Gives it another name than `http URL`.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Expects a status in this range. Default: 200 to 299.
    pub fn status(mut self, range: RangeInclusive<u16>) -> Self {
        self.status = range;
        self
    }

    /// Expects this text in the body.
    pub fn body_contains(mut self, text: impl Into<String>) -> Self {
        self.body = Some(text.into());
        self
    }

    /// Expects a header with this value.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Expects a JSON body with this value at a JSON pointer (RFC 6901), such as `/version`.
    pub fn json_field(mut self, pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.push((pointer.into(), value.into()));
        self
    }

    /// Expects the whole answer within this time; a slower one is unhealthy.
    pub fn max_latency(mut self, latency: Duration) -> Self {
        self.latency = Some(latency);
        self
    }

    async fn ask(&self) -> Health {
        let started = Instant::now();
        let client = match client(&self.url) {
            Ok(client) => client,
            Err(error) => return Health::unknown(error.clone()),
        };
        let response = match client.get(&self.url).send().await {
            Ok(response) => response,
            Err(error) => return no_answer(&self.url, &error),
        };
        if let Some(health) = self.judge_head(&response) {
            return health;
        }
        if self.body.is_some() || !self.fields.is_empty() {
            match read(response).await {
                Ok(body) => {
                    if let Some(health) = self.judge_body(&body) {
                        return health;
                    }
                }
                Err(reason) => return Health::unknown(format!("{}: {reason}", self.url)),
            }
        }
        let took = started.elapsed();
        match self.latency.filter(|most| took > *most) {
            Some(most) => Health::unhealthy(format!(
                "{} answered after {took:?}, expected within {most:?}",
                self.url
            )),
            None => Health::Healthy,
        }
    }

    fn judge_head(&self, response: &Response) -> Option<Health> {
        let url = &self.url;
        let status = response.status().as_u16();
        if !self.status.contains(&status) {
            let (low, high) = (self.status.start(), self.status.end());
            let expected = if low == high { low.to_string() } else { format!("{low} to {high}") };
            let reason = format!("{url} answered with status {status}, expected {expected}");
            return Some(Health::unhealthy(reason));
        }
        self.headers.iter().find_map(|(name, expected)| {
            let found = response.headers().get(name).map(|v| String::from_utf8_lossy(v.as_bytes()));
            match found {
                Some(found) if found == *expected => None,
                Some(found) => {
                    Some(format!("header `{name}` is {}, expected `{expected}`", shown(&found)))
                }
                None => Some(format!("header `{name}` is missing, expected `{expected}`")),
            }
            .map(|what| Health::unhealthy(format!("{url}: {what}")))
        })
    }

    fn judge_body(&self, body: &[u8]) -> Option<Health> {
        let url = &self.url;
        if let Some(text) = &self.body
            && !String::from_utf8_lossy(body).contains(text)
        {
            return Some(Health::unhealthy(format!("{url}: the body does not contain `{text}`")));
        }
        if self.fields.is_empty() {
            return None;
        }
        let Ok(json) = serde_json::from_slice::<Value>(body) else {
            return Some(Health::unhealthy(format!("{url}: the body is no JSON")));
        };
        self.fields.iter().find_map(|(pointer, expected)| {
            let reason = match json.pointer(pointer) {
                Some(found) if found == expected => return None,
                Some(found) => {
                    format!("`{pointer}` is {}, expected `{expected}`", shown(&found.to_string()))
                }
                None => format!("`{pointer}` is missing, expected `{expected}`"),
            };
            Some(Health::unhealthy(format!("{url}: {reason}")))
        })
    }
}

impl Probe for HttpProbe {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        self.ask().boxed()
    }
}

/// A connection of its own for each question: a kept one may lead to a process that is gone, or
/// past a switch of traffic. Without TLS no certificates are loaded, which takes a while.
fn client(url: &str) -> Result<&'static Client, &'static String> {
    static PLAIN: OnceLock<Result<Client, String>> = OnceLock::new();
    static TLS: OnceLock<Result<Client, String>> = OnceLock::new();
    let make = |builder: ClientBuilder| {
        builder
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| format!("no HTTP client can be made: {error}"))
    };
    if url.starts_with("http:") {
        PLAIN.get_or_init(|| make(Client::builder().tls_certs_only([]))).as_ref()
    } else {
        TLS.get_or_init(|| make(Client::builder())).as_ref()
    }
}

/// What a stranger says, in an own message: on one line, and not for ever.
fn shown(text: &str) -> String {
    let mut shown = String::from("`");
    for c in text.chars().take(SHOWN) {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown.push_str(if text.chars().nth(SHOWN).is_some() { "...`" } else { "`" });
    shown
}

fn no_answer(url: &str, error: &reqwest::Error) -> Health {
    let messages = crate::error::chain(error).join(": ");
    let refused = error.is_connect() && messages.contains("refused");
    let reason = format!("{url} did not answer: {messages}");
    if refused { Health::unhealthy(reason) } else { Health::unknown(reason) }
}

async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
        let room = BODY_CAP - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == BODY_CAP {
            return Err(format!("the body is longer than {BODY_CAP} bytes"));
        }
    }
    Ok(body)
}
