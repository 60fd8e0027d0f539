//! The programs beside this one: this one again, under a hidden verb, each a process of its own.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use ops_examples::Failure;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(15);

/// A child that works until its standard input ends, so it cannot outlive this program: not even
/// when that is killed.
#[derive(Debug)]
pub struct Companion {
    verb: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Companion {
    pub fn start(verb: &'static str, arguments: &[&str]) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(verb)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("it was asked for");
        Ok(Self { verb, child, stdin, lines: BufReader::new(stdout).lines() })
    }

    /// The next line that it prints.
    pub async fn line(&mut self) -> Result<String, Failure> {
        let failed =
            |why: &str| Failure::unexpected(format!("the companion `{}` {why}", self.verb));
        match timeout(DEADLINE, self.lines.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => Err(failed("ended without an answer")),
            Ok(Err(error)) => {
                Err(Failure::from(error).doing(format!("listening to {}", self.verb)))
            }
            Err(_) => Err(failed("did not answer in time")),
        }
    }

    /// Says that it is enough; what it prints can still be read.
    pub fn enough(&mut self) {
        self.stdin = None;
    }

    /// SIGKILL: no handler, no clean-up.
    pub async fn kill(mut self) -> Result<ExitStatus, Failure> {
        self.child.start_kill()?;
        Ok(timeout(DEADLINE, self.child.wait()).await??)
    }

    /// Lets it end by itself, and ends it if it does not.
    pub async fn end(mut self) {
        self.enough();
        if timeout(Duration::from_secs(5), self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}
