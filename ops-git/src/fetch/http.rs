//! http and https, for gix's own protocol on top.

use std::any::Any;
use std::cell::RefCell;
use std::io::{self, BufRead, Cursor, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::blocking_io::http::{
    GetResponse, Http, PostBodyDataKind, PostResponse, Transport,
};
use ops_core::Class;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Method, Response};
use url::Url;

use super::credential_helpers::Helpers;
use super::link::Link;
use super::login::{Answers, shown};
use super::settings::Settings;
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind};

/// How often a list of refs may be elsewhere.
const REDIRECTIONS: usize = 5;

/// A question is a list of commits; more than this is a mistake.
const QUESTION: usize = 64 * 1024 * 1024;

/// Connects to a remote over http or https; nothing is sent yet.
pub(super) fn connect(
    repo: &gix::Repository,
    remote: &str,
    url: &gix::Url,
    given: Option<Credentials>,
    link: &Arc<Link>,
) -> Result<Transport<Remote>, Error> {
    let mut bare = url.clone();
    let given = given.or_else(|| in_the_url(url));
    bare.set_password(None);
    let parsed = Url::parse(&bare.to_bstring().to_string()).map_err(|source| {
        Error::new(ErrorKind::InvalidInput, format!("remote `{remote}`: its URL cannot be read"))
            .caused_by(source)
    })?;
    let config = repo.config_snapshot();
    let settings = Settings::of(config.plumbing(), remote, &parsed)?;
    for line in &settings.headers {
        let value = line.split_once(':').map_or("", |(_, value)| value.trim());
        link.redactor.add(&ops_core::Secret::new(value));
    }
    let helpers = match given {
        Some(_) => None,
        None => Helpers::of(repo, url)?,
    };
    let remote = Remote(Rc::new(RefCell::new(Inner {
        link: Arc::clone(link),
        client: settings.client()?,
        headers: settings.header_map()?,
        user_agent: settings.user_agent.clone(),
        follows: !settings.never_follows,
        answers: Answers::new(given, helpers),
        moved_to: None,
    })));
    Ok(Transport::new_http(remote, bare, Protocol::V2, false))
}

/// As git does, although it lies open in the configuration.
fn in_the_url(url: &gix::Url) -> Option<Credentials> {
    let (user, password) = (url.user()?, url.password()?);
    Some(Credentials::login(user, ops_core::Secret::new(password)))
}

/// A remote that speaks http.
pub(super) struct Remote(Rc<RefCell<Inner>>);

struct Inner {
    link: Arc<Link>,
    client: Client,
    headers: HeaderMap,
    user_agent: Option<String>,
    follows: bool,
    answers: Answers,
    moved_to: Option<String>,
}

impl Inner {
    /// Asks, and says who this is where the remote wants to know.
    fn exchange(
        &mut self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> io::Result<Response> {
        let mut asked = false;
        // The client would send a user in it unasked.
        let mut bare = url.clone();
        let _ = bare.set_username("");
        loop {
            let request = self
                .client
                .request(method.clone(), bare.clone())
                .headers(headers.clone())
                .headers(self.headers.clone());
            let request = self.answers.put_on(request);
            let request = if method == Method::POST { request.body(body.clone()) } else { request };
            let link = Arc::clone(&self.link);
            let response = link.wait(request.send())?.map_err(|source| {
                link.fail(
                    Error::new(ErrorKind::Remote, format!("{} cannot be reached", shown(url)))
                        .remedy("check that the remote is up, and the proxy if there is one")
                        .caused_by(source.without_url()),
                )
            })?;
            if response.status() == 401 {
                asked = true;
                self.answers.asked(&link, url).map_err(|error| link.fail(error))?;
                continue;
            }
            if response.status().is_success() && asked {
                self.answers.settle(&link, true);
            }
            return Ok(response);
        }
    }

    fn get(&mut self, url: &str, base: &str, headers: &HeaderMap) -> io::Result<Response> {
        let tail = url.strip_prefix(base).unwrap_or_default().to_owned();
        let mut at = self.parsed(url)?;
        for _ in 0..=REDIRECTIONS {
            let response = self.exchange(&Method::GET, &at, headers, &Bytes::new())?;
            if !response.status().is_redirection() {
                return self.checked(response, &at);
            }
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            at = self.redirected(&at, to, &tail)?;
        }
        Err(self.refused(&at, "it redirects again and again"))
    }

    /// Where a redirection leads, if it may be followed.
    fn redirected(&mut self, from: &Url, to: Option<&str>, tail: &str) -> io::Result<Url> {
        let to = to.and_then(|to| from.join(to).ok());
        let Some(to) = to.filter(|_| self.follows) else {
            return Err(self.refused(from, "it redirects, and that is not followed"));
        };
        let keeps = to.scheme() == from.scheme() || to.scheme() == "https";
        let base = to.as_str().strip_suffix(tail).map(ToOwned::to_owned);
        let Some(base) = base.filter(|_| keeps) else {
            let what = format!("it redirects to {}, which is no repository's place", shown(&to));
            return Err(self.refused(from, &what));
        };
        if to.origin() != from.origin() {
            // The same host, with its usual ports.
            let upgraded = from.scheme() == "http"
                && to.scheme() == "https"
                && to.host_str() == from.host_str()
                && (from.port(), to.port()) == (None, None);
            if !upgraded {
                self.answers.forget();
                // Any of them may hold a secret, whatever it is called.
                self.headers.clear();
            }
        }
        self.moved_to = Some(base);
        Ok(to)
    }

    fn refused(&self, url: &Url, what: &str) -> io::Error {
        self.link.fail(
            Error::new(ErrorKind::Remote, format!("{}: {what}", shown(url)))
                .class_of(Class::Permanent)
                .remedy("give the URL that it is at now"),
        )
    }

    fn parsed(&self, url: &str) -> io::Result<Url> {
        Url::parse(url).map_err(|source| {
            let what = "the remote's URL cannot be read";
            self.link.fail(Error::new(ErrorKind::InvalidInput, what).caused_by(source))
        })
    }

    fn checked(&self, response: Response, url: &Url) -> io::Result<Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let what = format!("{} answers {status}", shown(url));
        Err(self.link.fail(match status.as_u16() {
            403 => Error::new(ErrorKind::Unauthenticated, what)
                .remedy("give credentials that may read this repository"),
            404 | 410 => Error::new(ErrorKind::Remote, what)
                .class_of(Class::Permanent)
                .remedy("check the URL; some hosts answer so to whoever may not read, too"),
            400..=499 if status != 408 && status != 429 => {
                Error::new(ErrorKind::Remote, what).class_of(Class::Permanent)
            }
            _ => Error::new(ErrorKind::Remote, what).remedy("try again later"),
        }))
    }

    /// The headers that gix wants sent, each a line.
    fn header_map(
        &self,
        lines: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> io::Result<HeaderMap> {
        let mut map = HeaderMap::new();
        for line in lines {
            let (name, value) = line.as_ref().split_once(':').unwrap_or((line.as_ref(), ""));
            let name = name.trim().parse::<HeaderName>().map_err(io::Error::other)?;
            let value = HeaderValue::from_str(value.trim()).map_err(io::Error::other)?;
            map.insert(name, value);
        }
        if let Some(agent) = &self.user_agent {
            let agent = HeaderValue::from_str(agent).map_err(io::Error::other)?;
            map.insert(reqwest::header::USER_AGENT, agent);
        }
        Ok(map)
    }
}

impl Http for Remote {
    type Headers = Headers;
    type ResponseBody = Body;
    type PostBody = Question;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Headers, Body>> {
        let mut inner = self.0.borrow_mut();
        let answer =
            inner.header_map(headers).and_then(|headers| inner.get(url, base_url, &headers));
        drop(inner);
        let answer = answer.map_err(gix::Error::from_error)?;
        let exchange = Exchange::answered(Rc::clone(&self.0), answer);
        Ok(GetResponse { headers: Headers::of(&exchange), body: Body::of(exchange) })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Headers, Body, Question>> {
        let inner = self.0.borrow();
        let headers = inner.header_map(headers).map_err(gix::Error::from_error)?;
        let url = inner.parsed(url).map_err(gix::Error::from_error)?;
        drop(inner);
        let exchange = Exchange::to_ask(Rc::clone(&self.0), url, headers);
        Ok(PostResponse {
            post_body: Question(Rc::clone(&exchange)),
            headers: Headers::of(&exchange),
            body: Body::of(exchange),
        })
    }

    fn configure(&mut self, _config: &dyn Any) -> gix::Result {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.0.borrow().moved_to.clone()
    }
}

/// One question and its answer. A question is sent when its answer is first read: gix is done with
/// it then.
struct Exchange {
    remote: Rc<RefCell<Inner>>,
    question: Option<(Url, HeaderMap, Vec<u8>)>,
    answer: Option<Response>,
    headers: Vec<u8>,
}

impl Exchange {
    fn answered(remote: Rc<RefCell<Inner>>, answer: Response) -> Rc<RefCell<Self>> {
        let mut this = Self { remote, question: None, answer: None, headers: Vec::new() };
        this.take(answer);
        Rc::new(RefCell::new(this))
    }

    fn to_ask(remote: Rc<RefCell<Inner>>, url: Url, headers: HeaderMap) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            remote,
            question: Some((url, headers, Vec::new())),
            answer: None,
            headers: Vec::new(),
        }))
    }

    fn take(&mut self, answer: Response) {
        for (name, value) in answer.headers() {
            self.headers.extend_from_slice(name.as_str().as_bytes());
            self.headers.extend_from_slice(b": ");
            self.headers.extend_from_slice(value.as_bytes());
            self.headers.push(b'\n');
        }
        self.answer = Some(answer);
    }

    fn ask(&mut self) -> io::Result<()> {
        let Some((url, headers, body)) = self.question.take() else { return Ok(()) };
        let mut remote = self.remote.borrow_mut();
        let answer = remote.exchange(&Method::POST, &url, &headers, &Bytes::from(body))?;
        let answer = remote.checked(answer, &url)?;
        drop(remote);
        self.take(answer);
        Ok(())
    }

    /// Waits for more; nothing is the end.
    fn next(&mut self) -> io::Result<Bytes> {
        self.ask()?;
        let link = Arc::clone(&self.remote.borrow().link);
        while let Some(answer) = &mut self.answer {
            match link.wait(answer.chunk())? {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(Some(chunk)) => return Ok(chunk),
                Ok(None) => self.answer = None,
                Err(source) => {
                    self.answer = None;
                    return Err(link.fail(
                        Error::new(ErrorKind::Remote, "the remote ended the connection half way")
                            .remedy("try again")
                            .caused_by(source.without_url()),
                    ));
                }
            }
        }
        Ok(Bytes::new())
    }
}

/// The body of a question.
pub(super) struct Question(Rc<RefCell<Exchange>>);

impl Write for Question {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0.borrow_mut().question {
            Some((.., body)) if body.len() + bytes.len() <= QUESTION => {
                body.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The headers of an answer.
pub(super) struct Headers {
    exchange: Rc<RefCell<Exchange>>,
    lines: Option<Cursor<Vec<u8>>>,
}

impl Headers {
    fn of(exchange: &Rc<RefCell<Exchange>>) -> Self {
        Self { exchange: Rc::clone(exchange), lines: None }
    }

    fn lines(&mut self) -> io::Result<&mut Cursor<Vec<u8>>> {
        if self.lines.is_none() {
            let mut exchange = self.exchange.borrow_mut();
            exchange.ask()?;
            self.lines = Some(Cursor::new(std::mem::take(&mut exchange.headers)));
        }
        self.lines.as_mut().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Read for Headers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.lines()?.read(buffer)
    }
}

impl BufRead for Headers {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.lines()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Some(lines) = &mut self.lines {
            lines.consume(amount);
        }
    }
}

/// The body of an answer.
pub(super) struct Body {
    exchange: Rc<RefCell<Exchange>>,
    chunk: Bytes,
}

impl Body {
    fn of(exchange: Rc<RefCell<Exchange>>) -> Self {
        Self { exchange, chunk: Bytes::new() }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let amount = self.fill_buf()?.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..amount]);
        Ok(amount)
    }
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.chunk.is_empty() {
            self.chunk = self.exchange.borrow_mut().next()?;
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, amount: usize) {
        self.chunk.advance(amount.min(self.chunk.len()));
    }
}
