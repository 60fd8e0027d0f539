//! What a program prints, as a stream that ends well only if the program did.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::{ByteStream, marked};
use crate::error::{Error, ErrorKind};

const PIECE: usize = 256 << 10;
const PIECES: usize = 4;
/// What is kept of what it says on its standard error.
const SAID: usize = 4 << 10;
/// How long its output may stay open after it has ended: a child of its own may hold it.
const LINGER: Duration = Duration::from_secs(10);
/// How long it has between TERM and KILL.
const GRACE: Duration = Duration::from_secs(5);
const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// Runs the program in a process group of its own, which ends when the stream is dropped.
pub(super) fn stream_of(argv: Vec<String>) -> ByteStream {
    let (writer, bytes) = marked::stream(PIECES);
    tokio::spawn(async move {
        let done = run(&argv, &writer).await;
        writer.end(done).await;
    });
    bytes
}

/// Ends the group of a child that was not waited for to its end.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // It may have ended meanwhile: that is what was wanted.
            let _ = kill_process_group(leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

async fn run(argv: &[String], to: &marked::Writer) -> Result<(), Error> {
    let [program, args @ ..] = argv else {
        return Err(Error::new(ErrorKind::InvalidInput, "a command needs a program"));
    };
    let failed = |what: &str| Error::new(ErrorKind::Source, format!("command `{program}` {what}"));
    let mut command = Command::new(program);
    command.args(args).env_clear().stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let mut child = command.spawn().map_err(|e| failed("cannot be started").caused_by(e))?;
    let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let mut group = Group(leader);
    let (Some(mut out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed("has no output"));
    };
    let said = tokio::spawn(tail(err));
    let copied = tokio::select! {
        copied = copy(&mut child, &mut out, to) => copied,
        () = to.closed() => None,
    };
    let Some(status) = copied else {
        group.signal(Signal::TERM);
        let _ = tokio::time::timeout(GRACE, child.wait()).await;
        return Err(Error::cancelled());
    };
    let status = status.map_err(|e| failed("cannot be read to its end").caused_by(e))?;
    // Reaped: its number may belong to another by now.
    group.0 = None;
    if status.success() {
        return Ok(());
    }
    let said = tokio::time::timeout(LINGER, said).await.ok().and_then(Result::ok);
    let said = said.unwrap_or_default();
    Err(failed(&format!("ended with {status}: {}", said.trim()))
        .remedy("run it by hand; its output is only kept when it ends with exit code 0"))
}

/// Nothing if nobody reads any more.
async fn copy(
    child: &mut Child,
    out: &mut (impl AsyncRead + Unpin),
    to: &marked::Writer,
) -> Option<std::io::Result<ExitStatus>> {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        // The end of the output comes first; a program that closes it and works on is waited for.
        match out.read_buf(&mut piece).await {
            Ok(0) => break,
            Ok(_) => to.send(piece.into()).await.ok()?,
            Err(error) => return Some(Err(error)),
        }
    }
    Some(child.wait().await)
}

async fn tail(mut err: impl AsyncRead + Unpin) -> String {
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = err.read(&mut buffer).await {
        said.extend_from_slice(&buffer[..read]);
        let over = said.len().saturating_sub(SAID);
        said.drain(..over);
    }
    String::from_utf8_lossy(&said).into_owned()
}
