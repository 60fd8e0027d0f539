//! Large objects on their way back.

use bytes::BytesMut;
use futures::StreamExt as _;
use sqlx::postgres::PgConnection;

use super::connect::{failed, run};
use crate::error::{Error, ErrorKind};
use crate::source::ByteStream;

/// A row holds a piece of 256 KiB in hexadecimal.
const MAX_ROW: usize = 4 << 20;

/// Writes pieces, as [`large_objects`](super::catalog::large_objects) asks for them, into large
/// objects. The schema has created them, with their owners.
pub(super) async fn fill(
    connection: &mut PgConnection,
    mut bytes: ByteStream,
) -> Result<(), Error> {
    run(connection, "BEGIN").await?;
    let mut rest = BytesMut::new();
    while let Some(piece) = bytes.next().await {
        rest.extend_from_slice(&piece?);
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let row = rest.split_to(end + 1);
            put(connection, &row[..end]).await?;
        }
        if rest.len() > MAX_ROW {
            return Err(damaged());
        }
    }
    if !rest.is_empty() {
        return Err(damaged());
    }
    run(connection, "COMMIT").await
}

fn damaged() -> Error {
    Error::new(ErrorKind::Corrupt, "the pieces of large objects cannot be read")
}

async fn put(connection: &mut PgConnection, row: &[u8]) -> Result<(), Error> {
    let (object, offset, bytes) = parse(row).ok_or_else(damaged)?;
    // An object that is empty has one piece of no bytes.
    sqlx::query("SELECT lo_put($1::int8::oid, $2, $3)")
        .bind(object)
        .bind(offset)
        .bind(bytes)
        .execute(connection)
        .await
        .map_err(|e| failed("write a large object", e))?;
    Ok(())
}

/// A row of `COPY`: the id, the offset, and the bytes as `\\x` and hexadecimal digits.
fn parse(row: &[u8]) -> Option<(i64, i64, Vec<u8>)> {
    let mut fields = std::str::from_utf8(row).ok()?.split('\t');
    let (object, offset) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let bytes = hex::decode(fields.next()?.strip_prefix("\\\\x")?).ok()?;
    fields.next().is_none().then_some((object, offset, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_the_server_writes_them() {
        assert_eq!(parse(br"16500	262144	\\x00ff"), Some((16500, 262_144, vec![0, 255])));
        assert_eq!(parse(br"16500	0	\\x"), Some((16500, 0, Vec::new())));
        for wrong in [&br"16500	0"[..], br"x	0	\\x00", br"1	0	00", br"1	0	\\x00	1"] {
            assert_eq!(parse(wrong), None);
        }
    }
}
