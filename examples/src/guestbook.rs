//! A small web application with a database: something real to deploy.
//!
//! `GET /` is a page with the rows, `POST /` adds one, `GET /rows` lists them as JSON, `GET /health`
//! says who answers. Page and settings come from the release's folder, so that each version has its
//! own; rows come from a SQLite database that all versions share.
//!
//! It opens the database for each request. That costs a fraction of a millisecond, and lets a
//! restored database take the old one's place while it runs.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use serde::Deserialize;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Of a new row, no more is read.
const ROW_CAP: usize = 4096;

/// How one instance is started.
#[derive(Debug, Clone, clap::Args)]
pub struct GuestbookArgs {
    /// The port on 127.0.0.1.
    #[arg(long)]
    pub port: u16,
    /// Which version this is; the health answer says it.
    #[arg(long)]
    pub version: String,
    /// The release's folder, with `app.toml` and `page.html`.
    #[arg(long, default_value = ".")]
    pub release: PathBuf,
    /// The SQLite database, which is created if it is missing.
    #[arg(long)]
    pub database: PathBuf,
}

/// The settings of a release: its `app.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    title: String,
    /// A version that starts but does not work: its health is 500.
    #[serde(default)]
    broken: bool,
}

struct Guestbook {
    version: String,
    settings: Settings,
    page: String,
    database: PathBuf,
}

/// Serves until the token is cancelled, then answers what has begun.
///
/// # Errors
/// If the release is not complete, the port is taken, or the database cannot be used.
pub async fn serve(args: GuestbookArgs, shutdown: CancellationToken) -> Result<(), Failure> {
    let read = |name: &str| {
        let path = args.release.join(name);
        std::fs::read_to_string(&path)
            .map_err(|error| Failure::from(error).doing(format!("reading `{}`", path.display())))
    };
    let settings = toml::from_str(&read("app.toml")?)
        .map_err(|error| Failure::usage(format!("app.toml makes no sense: {error}")))?;
    let page = read("page.html")?;
    create_table(&args.database).await?;
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, args.port))).await?;
    let app =
        Arc::new(Guestbook { version: args.version, settings, page, database: args.database });

    let graceful = GracefulShutdown::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        let app = Arc::clone(&app);
        let service = service_fn(move |request| {
            let app = Arc::clone(&app);
            async move { Ok::<_, Infallible>(app.answer(request).await) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that hangs up is its own affair.
            let _ = connection.await;
        });
    }
    let _ = tokio::time::timeout(Duration::from_secs(5), graceful.shutdown()).await;
    Ok(())
}

impl Guestbook {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let answered = match (request.method(), path.as_str()) {
            (&Method::GET, "/health") => Ok(self.health().await),
            (&Method::GET, "/") => self.page().await,
            (&Method::GET, "/rows") => rows(&self.database)
                .await
                .map(|rows| respond(StatusCode::OK, "application/json", json!(rows).to_string())),
            (&Method::POST, "/") => self.add(request).await,
            _ => Ok(respond(StatusCode::NOT_FOUND, "text/plain", "no such page\n".to_owned())),
        };
        answered.unwrap_or_else(|error| {
            let text = format!("the database does not answer: {error}\n");
            respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", text)
        })
    }

    async fn health(&self) -> Response<Full<Bytes>> {
        let database = match rows(&self.database).await {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        let well = !self.settings.broken && database == "ok";
        let body = json!({
            "status": if well { "ok" } else { "broken" },
            "version": self.version,
            "pid": std::process::id(),
            "database": database,
        });
        let status = if well { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        respond(status, "application/json", body.to_string())
    }

    async fn page(&self) -> Result<Response<Full<Bytes>>, sqlx::Error> {
        let rows = rows(&self.database).await?;
        let list: Vec<_> = rows.iter().map(|row| format!("<li>{}</li>\n", escape(row))).collect();
        let page = self.page.replace("{title}", &escape(&self.settings.title));
        let page =
            page.replace("{version}", &escape(&self.version)).replace("{rows}", &list.concat());
        Ok(respond(StatusCode::OK, "text/html; charset=utf-8", page))
    }

    async fn add(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, sqlx::Error> {
        let body = Limited::new(request.into_body(), ROW_CAP).collect().await;
        let text = body.ok().and_then(|body| String::from_utf8(body.to_bytes().to_vec()).ok());
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
            let why = format!("a row is text of 1 to {ROW_CAP} bytes\n");
            return Ok(respond(StatusCode::BAD_REQUEST, "text/plain", why));
        };
        let mut db = open(&self.database).await?;
        sqlx::query("INSERT INTO entries (message) VALUES (?)").bind(text).execute(&mut db).await?;
        db.close().await?;
        Ok(respond(StatusCode::CREATED, "text/plain", "added\n".to_owned()))
    }
}

async fn open(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    options
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(5))
        .connect()
        .await
}

async fn create_table(path: &Path) -> Result<(), sqlx::Error> {
    let mut db = open(path).await?;
    let table =
        "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, message TEXT NOT NULL)";
    sqlx::query(table).execute(&mut db).await?;
    db.close().await
}

/// All rows, oldest first.
///
/// # Errors
/// If the database cannot be read.
pub async fn rows(path: &Path) -> Result<Vec<String>, sqlx::Error> {
    let mut db = open(path).await?;
    let rows = sqlx::query("SELECT message FROM entries ORDER BY id").fetch_all(&mut db).await?;
    db.close().await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn respond(status: StatusCode, kind: &str, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .body(Full::new(Bytes::from(body)))
        .expect("status and header are constants")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
