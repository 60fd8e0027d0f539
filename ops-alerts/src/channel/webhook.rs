//! Alerts as HTTP requests.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use ops_core::{Redactor, Secret};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};

use super::{Channel, Limits, Receipt};
use crate::alert::Alert;
use crate::error::{Error, ErrorKind};

/// Of an answer, no more is read.
const ANSWER_CAP: usize = 16 * 1024;

/// Of an answer, no more is shown in an error.
const SHOWN: usize = 200;

/// A receiver that asks for more patience gets this.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Posts each alert as JSON to a URL.
///
/// - `Idempotency-Key` is the alert's id, the same in every try: a receiver that knows it takes an
///   alert once. That makes it safe to try again after a timeout.
/// - 2xx is taken. 408, 425, 429 and 5xx are temporary, and their `Retry-After` is honoured up to
///   an hour. Every other status is permanent; redirects are not followed.
/// - The URL and the values of the headers are secrets: they are in no error and no log.
/// - Proxies of the environment are not used.
#[derive(Debug)]
pub struct WebhookChannel {
    name: String,
    url: Secret,
    headers: Vec<(HeaderName, Secret)>,
    timeout: Duration,
    limits: Limits,
    redactor: Redactor,
    client: reqwest::Client,
}

impl WebhookChannel {
    /// Posts to this URL: `http` or `https`. A try takes at most 10 seconds; bodies are at most
    /// 256 KiB.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is no such URL, or TLS cannot be set up.
    pub fn new(name: impl Into<String>, url: Secret) -> Result<Self, Error> {
        let name = name.into();
        let parsed = reqwest::Url::parse(url.expose()).ok();
        if !parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            let message = format!("the URL of channel `{name}` is none");
            return Err(Error::new(ErrorKind::InvalidInput, message)
                .remedy("give an absolute `https` URL, such as https://hooks.example/alerts"));
        }
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|source| {
                let message = format!("channel `{name}` has no HTTP client");
                Error::new(ErrorKind::InvalidInput, message).caused_by(source)
            })?;
        let redactor = Redactor::default();
        redactor.add(&url);
        Ok(Self {
            name,
            url,
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            limits: Limits::new(256 * 1024),
            redactor,
            client,
        })
    }

    /// Sends this header too.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the name or the value cannot stand in a header.
    pub fn header(mut self, name: &str, value: Secret) -> Result<Self, Error> {
        let header = HeaderName::from_bytes(name.as_bytes()).ok();
        let usable = HeaderValue::from_str(value.expose()).is_ok();
        let Some(header) = header.filter(|_| usable) else {
            let message = format!("header {name:?} of channel `{}` cannot be sent", self.name);
            return Err(Error::new(ErrorKind::InvalidInput, message)
                .remedy("use a token as the name and visible ASCII as the value"));
        };
        self.redactor.add(&value);
        self.headers.push((header, value));
        Ok(self)
    }

    /// Sends `Authorization: Bearer` with this token.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the token cannot stand in a header.
    pub fn bearer(self, token: &Secret) -> Result<Self, Error> {
        self.redactor.add(token);
        self.header("authorization", Secret::new(format!("Bearer {}", token.expose())))
    }

    /// How long one try takes at most, its answer included. Default 10 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Cuts bodies to so many bytes. Default 256 KiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.limits = Limits::new(bytes);
        self
    }

    async fn post(&self, alert: &Alert) -> Result<Receipt, Error> {
        let body = alert.to_json_within(self.limits.max_bytes).ok_or_else(|| {
            Error::new(ErrorKind::Refused, "the alert is too large for the channel, even when cut")
                .with("channel", &self.name)
                .with("max_bytes", self.limits.max_bytes)
        })?;
        let mut request = self
            .client
            .post(self.url.expose())
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", alert.id.as_str())
            .body(body);
        for (name, value) in &self.headers {
            let mut value = HeaderValue::from_str(value.expose()).map_err(|source| {
                Error::new(ErrorKind::InvalidInput, "a header cannot be sent").caused_by(source)
            })?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let mut response = request.send().await.map_err(|source| self.unsent(source))?;
        let status = response.status();
        if status.is_success() {
            return Ok(Receipt::new(&self.name, status.to_string()));
        }
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, Timestamp::now()));
        let mut answer = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = ANSWER_CAP - answer.len();
            answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if answer.len() == ANSWER_CAP {
                break;
            }
        }
        let said = self.redactor.redact(&String::from_utf8_lossy(&answer));
        let said: String = said.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        let message = format!("channel `{}` answered {status}: {said:?}", self.name);
        Err(Error::new(kind_of(status, retry_after), message))
    }

    fn unsent(&self, source: reqwest::Error) -> Error {
        let (kind, what) = if source.is_builder() {
            (ErrorKind::InvalidInput, "cannot be asked")
        } else if source.is_connect() {
            (ErrorKind::Unavailable { retry_after: None }, "cannot be reached")
        } else {
            (ErrorKind::Unknown, "broke off before it answered")
        };
        // The URL is a secret.
        let source = source.without_url();
        Error::new(kind, format!("channel `{}` {what}", self.name)).caused_by(source)
    }
}

impl Channel for WebhookChannel {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn send<'a>(&'a self, alert: &'a Alert) -> BoxFuture<'a, Result<Receipt, Error>> {
        async move {
            tokio::time::timeout(self.timeout, self.post(alert)).await.unwrap_or_else(|_| {
                let message =
                    format!("channel `{}` did not answer within {:?}", self.name, self.timeout);
                Err(Error::new(ErrorKind::Unknown, message))
            })
        }
        .boxed()
    }
}

fn kind_of(status: StatusCode, retry_after: Option<Duration>) -> ErrorKind {
    match status.as_u16() {
        408 | 425 | 429 | 500..=599 => ErrorKind::Unavailable { retry_after },
        _ => ErrorKind::Refused,
    }
}

/// RFC 9110, 10.2.3: seconds, or a date.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let wait = if let Ok(seconds) = value.trim().parse() {
        Duration::from_secs(seconds)
    } else {
        let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
        Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = "1994-11-06T08:49:30Z".parse().unwrap();
        for (value, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn a_status_is_temporary_or_permanent() {
        let temporary = ErrorKind::Unavailable { retry_after: None };
        for (status, kind) in [
            (301, ErrorKind::Refused),
            (400, ErrorKind::Refused),
            (401, ErrorKind::Refused),
            (404, ErrorKind::Refused),
            (408, temporary),
            (413, ErrorKind::Refused),
            (425, temporary),
            (429, temporary),
            (500, temporary),
            (503, temporary),
        ] {
            assert_eq!(kind_of(StatusCode::from_u16(status).unwrap(), None), kind, "{status}");
        }
    }
}
