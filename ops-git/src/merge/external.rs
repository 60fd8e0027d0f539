//! Merging by a program that the repository configures.
//!
//! It gets three files in a folder of its own and leaves the result in ours, as git has it. Its exit
//! code says how it went: 0 is merged, up to 127 a conflict.

use std::collections::BTreeMap;
use std::time::Duration;

use gix::bstr::{BStr, BString, ByteSlice as _};
use ops_core::process::{Command, RunContext, Runner as _, SystemRunner};
use tokio::runtime::Handle;

use crate::bound::Bound;
use crate::error::{Error, ErrorKind};
use crate::path_bytes::on_disk;
use crate::shell::{filled_in, quoted};

/// How long a program may take for one file.
const DEADLINE: Duration = Duration::from_mins(1);

/// A program and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub name: String,
    /// A line for the shell, with git's placeholders.
    pub line: BString,
}

/// Merges a file; `None` is a conflict.
///
/// Blocks, on a thread that may: never on one that drives the async runtime. It ends when the work
/// on this thread is to end.
pub(super) fn merge(
    repo: &gix::Repository,
    program: &Program,
    path: &BStr,
    [base, ours, theirs]: [&[u8]; 3],
) -> Result<Option<Vec<u8>>, Error> {
    let failed = |what: String| {
        Error::new(ErrorKind::Git, format!("merge driver `{}`: {what}", program.name))
            .with("path", path)
            .remedy("repair the driver, or merge by hand with `git merge`")
    };
    let folder = tempfile::tempdir()
        .map_err(|source| failed("there is no folder for it".into()).caused_by(source))?;
    let mut names = BTreeMap::from([
        (b'L', BString::from("7")),
        (b'P', quoted(path)),
        (b'S', quoted("base".into())),
        (b'X', quoted("ours".into())),
        (b'Y', quoted("theirs".into())),
        (b'%', BString::from("%")),
    ]);
    let file = |name: &str| folder.path().join(name);
    for (key, name, content) in
        [(b'O', "base", base), (b'A', "ours", ours), (b'B', "theirs", theirs)]
    {
        let file = file(name);
        std::fs::write(&file, content).map_err(|source| Error::io("write", &file, source))?;
        names.insert(key, quoted(file.as_os_str().as_encoded_bytes().as_bstr()));
    }
    let bound = Bound::here();
    let line = filled_in(program.line.as_bstr(), &names);
    let command = Command::new("sh")
        .arg("-c")
        .arg(on_disk(&line).as_os_str())
        .cwd(repo.workdir().unwrap_or_else(|| repo.git_dir()))
        .deadline(bound.left(DEADLINE));
    let runtime =
        Handle::try_current().map_err(|source| failed("no runtime".into()).caused_by(source))?;
    let context = RunContext::default().cancellation(bound.token().clone());
    let output = runtime.block_on(SystemRunner.run(&command, &context)).map_err(|source| {
        if bound.token().is_cancelled() {
            let what = format!("merge driver `{}` was ended, for its merge was", program.name);
            return Error::new(ErrorKind::Cancelled, what).with("path", path).caused_by(source);
        }
        failed("it did not run to its end".into()).caused_by(source)
    })?;
    match output.code {
        Some(0) => {
            let file = file("ours");
            std::fs::read(&file).map(Some).map_err(|source| Error::io("read", &file, source))
        }
        Some(1..=127) => Ok(None),
        code => {
            let code = code.map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"));
            Err(failed(format!("it ended with {code}: {}", output.stderr_text().trim())))
        }
    }
}
