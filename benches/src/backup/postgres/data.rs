//! A database like that of pgbench, with documents and texts besides: the same in every run.

use std::fmt::Write as _;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::super::random::{Random, WORDS};
use super::server::Server;
use crate::Failure;

const TABLES: &str = "
CREATE TABLE branches (bid int NOT NULL, bbalance int, filler char(88)) WITH (fillfactor = 100);
CREATE TABLE accounts (aid int NOT NULL, bid int, abalance int, filler char(84))
    WITH (fillfactor = 100);
CREATE TABLE history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
CREATE TABLE documents (id bigint NOT NULL, kind text NOT NULL, created_at timestamptz NOT NULL,
    body jsonb NOT NULL);
CREATE TABLE messages (id bigint NOT NULL, aid int NOT NULL, at timestamptz NOT NULL, text text);
";

const INDEXES: &str = "
ALTER TABLE branches ADD PRIMARY KEY (bid);
ALTER TABLE accounts ADD PRIMARY KEY (aid);
CREATE INDEX ON history (aid);
ALTER TABLE documents ADD PRIMARY KEY (id);
CREATE INDEX ON documents (kind, created_at);
ALTER TABLE messages ADD PRIMARY KEY (id);
CREATE INDEX ON messages (aid);
VACUUM ANALYZE;
";

/// The tables.
pub(super) const ALL: [&str; 5] = ["branches", "accounts", "history", "documents", "messages"];

/// How much is sent at once.
const PIECE: usize = 1 << 20;

/// Fills a new database with so many MB of rows, as `COPY` writes them: 40 % accounts, 10 % history,
/// 30 % documents and 20 % messages.
pub(super) async fn generate(server: &Server, name: &str, megabytes: u32) -> Result<(), Failure> {
    server.ask("postgres", &format!("CREATE DATABASE {name}"))?;
    let options: PgConnectOptions = server.url(name).parse()?;
    let mut db = options.disable_statement_logging().connect().await?;
    db.execute(TABLES).await?;
    let bytes = u64::from(megabytes) * 1_000_000;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let accounts = bytes * 4 / 10 / 105;
    let blank = |width: usize| " ".repeat(width);
    let (long, short) = (blank(84), blank(22));
    let branches = accounts.div_ceil(100_000);
    fill(
        &mut db,
        "branches",
        u64::MAX,
        |id, row, random| {
            (id <= branches).then(|| {
                let _ = write!(row, "{id}\t{}\t\\N", random.below(1_000_000));
            })
        },
        &mut random,
    )
    .await?;
    fill(
        &mut db,
        "accounts",
        bytes * 4 / 10,
        |id, row, random| {
            let balance = random.below(20_000).cast_signed() - 10_000;
            let _ = write!(row, "{id}\t{}\t{balance}\t{long}", id / 100_000 + 1);
            Some(())
        },
        &mut random,
    )
    .await?;
    let account = |random: &mut Random| random.next() % accounts + 1;
    fill(
        &mut db,
        "history",
        bytes / 10,
        |id, row, random| {
            let _ = write!(
                row,
                "{}\t{}\t{}\t{}\t{}\t{short}",
                random.below(10) + 1,
                id % branches + 1,
                account(random),
                random.below(10_000).cast_signed() - 5_000,
                moment(id),
            );
            Some(())
        },
        &mut random,
    )
    .await?;
    fill(
        &mut db,
        "documents",
        bytes * 3 / 10,
        |id, row, random| {
            document(id, row, random);
            Some(())
        },
        &mut random,
    )
    .await?;
    fill(
        &mut db,
        "messages",
        bytes * 2 / 10,
        |id, row, random| {
            let _ = write!(row, "{id}\t{}\t{}+00\t", account(random), moment(id));
            words(8 + random.below(56), row, random);
            Some(())
        },
        &mut random,
    )
    .await?;
    db.close().await?;
    // `VACUUM` is no part of a transaction, which several statements at once are.
    for statement in INDEXES.split_inclusive(';').filter(|sql| !sql.trim().is_empty()) {
        server.ask(name, statement)?;
    }
    Ok(())
}

/// Rows, made from their number, until there are so many bytes or no more rows.
async fn fill(
    db: &mut PgConnection,
    table: &str,
    bytes: u64,
    mut row: impl FnMut(u64, &mut String, &mut Random) -> Option<()>,
    random: &mut Random,
) -> Result<(), Failure> {
    let mut copy = db.copy_in_raw(&format!("COPY {table} FROM STDIN")).await?;
    let (mut sent, mut piece) = (0, String::new());
    for id in 1.. {
        if sent + piece.len() as u64 >= bytes || row(id, &mut piece, random).is_none() {
            break;
        }
        piece.push('\n');
        if piece.len() >= PIECE {
            sent += piece.len() as u64;
            copy.send(piece.as_bytes()).await?;
            piece.clear();
        }
    }
    copy.send(piece.as_bytes()).await?;
    copy.finish().await?;
    Ok(())
}

/// One a second.
fn moment(id: u64) -> String {
    let (day, second) = (id / 86_400, id % 86_400);
    let (year, month, day) = (2020 + day / 336, day / 28 % 12 + 1, day % 28 + 1);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

fn words(count: usize, row: &mut String, random: &mut Random) {
    for at in 0..count {
        let _ = write!(row, "{}{}", if at == 0 { "" } else { " " }, WORDS[random.below(32)]);
    }
    let _ = write!(row, " {}", random.below(1_000_000));
}

fn document(id: u64, row: &mut String, random: &mut Random) {
    let kind = WORDS[random.below(8)];
    let _ = write!(row, "{id}\t{kind}\t{}+00\t", moment(id));
    let _ = write!(
        row,
        r#"{{"id": {id}, "kind": "{kind}", "token": "{:016x}", "price": {}.{:02}, "tags": ["{}", "{}"], "lines": ["#,
        random.next(),
        random.below(5_000),
        random.below(100),
        WORDS[random.below(32)],
        WORDS[random.below(32)],
    );
    for at in 0..=random.below(4) {
        let separator = if at == 0 { "" } else { ", " };
        let _ = write!(row, r#"{separator}{{"quantity": {}, "about": ""#, random.below(100));
        words(2 + random.below(8), row, random);
        row.push_str("\"}");
    }
    row.push_str("]}");
}
