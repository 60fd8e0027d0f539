//! Copying objects between two repositories as one pack.

use std::io::{BufReader, BufWriter, Seek as _, Write};

use gix::objs::Kind;
use gix::odb::pack;

use super::incoming::Incoming;
use super::link::Stop;
use crate::error::{Error, ErrorKind, GitResult as _};

/// Copies these objects as one pack, which is durable when the call returns. It holds whole
/// objects and no deltas, so it is larger than git's; git's next `gc` makes it small.
///
/// Answers its size. Needs the memory of the largest object, and room for the pack twice while it is
/// made.
pub(super) fn copy(
    repo: &gix::Repository,
    source: &gix::Repository,
    objects: &[gix::ObjectId],
    progress: &mut gix::progress::tree::Item,
    stop: &Stop,
) -> Result<u64, Error> {
    let incoming = Incoming::begin(repo)?;
    let folder = incoming.path().to_owned();
    let raw = tempfile::tempfile_in(&folder)
        .map_err(|source| Error::io("create a file in", &folder, source))?;
    let io = |source| Error::io("write a pack to", &folder, source);

    let copying = progress.add_child("copying objects");
    copying.init(Some(objects.len()), gix::progress::count("objects"));
    let mut out =
        Hashing { inner: BufWriter::new(raw), hasher: gix::hash::hasher(repo.object_hash()) };
    let count = u32::try_from(objects.len()).map_err(|_| {
        Error::new(ErrorKind::Git, format!("{} objects do not fit into one pack", objects.len()))
    })?;
    out.write_all(b"PACK\0\0\0\x02").map_err(io)?;
    out.write_all(&count.to_be_bytes()).map_err(io)?;
    for id in objects {
        stop.check()?;
        let object = source.find_object(*id).doing(|| format!("object {id} cannot be read"))?;
        out.write_all(&header(object.kind, object.data.len() as u64)).map_err(io)?;
        let mut deflate =
            gix::zlib::stream::deflate::Write::new(&mut out, gix::zlib::Compression::BEST_SPEED);
        deflate.write_all(&object.data).and_then(|()| deflate.flush()).map_err(io)?;
        copying.inc();
    }
    let Hashing { mut inner, hasher } = out;
    let checksum = hasher.try_finalize().map_err(|source| {
        Error::new(ErrorKind::Git, "the pack cannot be hashed").caused_by(source)
    })?;
    inner.write_all(checksum.as_slice()).map_err(io)?;
    let mut raw = inner.into_inner().map_err(|error| io(error.into_error()))?;
    raw.rewind().map_err(io)?;

    let written = pack::Bundle::write_to_directory(
        &mut BufReader::new(raw),
        Some(&folder),
        progress,
        stop.flag(),
        None::<gix::OdbHandle>,
        repo.object_hash(),
        pack::bundle::write::Options::default(),
    )
    .doing(|| "the pack cannot be put into place".into())?;
    match (&written.data_path, &written.index_path) {
        (Some(data), Some(index)) => incoming.publish(data, index),
        _ => Ok(0),
    }
}

/// The type and size of an entry, as the pack format has them: 3 bits of type and 4 of size, then
/// 7 bits of size a byte, low ones first.
fn header(kind: Kind, size: u64) -> Vec<u8> {
    let kind = match kind {
        Kind::Commit => 1_u8,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    };
    let mut bytes = vec![kind << 4 | (size & 0x0f) as u8];
    let mut left = size >> 4;
    while left > 0 {
        *bytes.last_mut().expect("it has one") |= 0x80;
        bytes.push((left & 0x7f) as u8);
        left >>= 7;
    }
    bytes
}

struct Hashing<W> {
    inner: W,
    hasher: gix::hash::Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_the_pack_format() {
        for (kind, size, bytes) in [
            (Kind::Commit, 0, vec![0x10]),
            (Kind::Tree, 15, vec![0x2f]),
            (Kind::Blob, 16, vec![0xb0, 0x01]),
            (Kind::Tag, 2047, vec![0xcf, 0x7f]),
            (Kind::Blob, 2048, vec![0xb0, 0x80, 0x01]),
        ] {
            assert_eq!(header(kind, size), bytes, "{kind:?} {size}");
        }
    }
}
