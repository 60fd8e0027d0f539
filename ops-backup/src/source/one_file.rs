//! What every source has in common whose bytes are restored to one file.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{ByteStream, compare, pipe};
use crate::error::{Error, ErrorKind};

/// Writes a stream to a file where nothing is yet, durably. It is readable to its owner only, until
/// it has the mode of one that it replaces.
pub(super) async fn write(bytes: ByteStream, place: &Path) -> Result<(), Error> {
    let place = place.to_owned();
    pipe::read_blocking(bytes, move |input| {
        let failed = |e| Error::io("write", &place, e);
        let mut options = File::options();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(&place).map_err(failed)?;
        std::io::copy(input, &mut file).map_err(failed)?;
        file.flush().and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(ops_core::fs::sync_dir(place.parent().unwrap_or(Path::new("/")))?)
    })
    .await
}

/// Whether the file has these bytes; if not, it says so of the unit.
pub(super) async fn differences(
    bytes: ByteStream,
    place: &Path,
    unit: &str,
) -> Result<Vec<String>, Error> {
    let (place, unit) = (place.to_owned(), unit.to_owned());
    pipe::read_blocking(bytes, move |input| {
        let failed = |e| Error::io("read", &place, e);
        let mut file = File::open(&place).map_err(failed)?;
        let same = compare::same(input, &mut file).map_err(failed)?;
        Ok(if same { Vec::new() } else { vec![format!("unit `{unit}` differs")] })
    })
    .await
}

pub(super) fn exists(place: &Path) -> Result<(), Error> {
    if place.is_file() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Source, format!("`{}` is no file", place.display())))
}

/// The half of a [`Source`](super::Source) that writes: `restore` and `compare` of one file.
macro_rules! restored_as_one_file {
    () => {
        fn restore<'a>(
            &'a self,
            _: &'a Unit,
            bytes: ByteStream,
            place: &'a Path,
        ) -> BoxFuture<'a, Result<(), Error>> {
            crate::source::one_file::write(bytes, place).boxed()
        }

        fn compare<'a>(
            &'a self,
            unit: &'a Unit,
            bytes: ByteStream,
            place: &'a Path,
        ) -> BoxFuture<'a, Result<Vec<String>, Error>> {
            crate::source::one_file::differences(bytes, place, &unit.name).boxed()
        }
    };
}
pub(super) use restored_as_one_file;
