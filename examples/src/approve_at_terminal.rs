//! An approval by the person at the terminal.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use futures::future::{BoxFuture, FutureExt as _};
use ops_core::approval::VALID_FOR;
use ops_core::{ApprovalRequest, Approver, Decision, Error, ErrorKind};

/// Shows the plan on the standard error stream and asks. Where nobody can answer, it denies and
/// says how to approve without a terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApproveAtTerminal;

impl Approver for ApproveAtTerminal {
    fn decide<'a>(
        &'a self,
        request: &'a ApprovalRequest<'a>,
    ) -> BoxFuture<'a, Result<Decision, Error>> {
        let digest = request.digest.clone();
        let question = format!(
            "{}\nRun it in {}? [y/N] ",
            request.plan.to_string().trim_end(),
            request.environment
        );
        async move {
            if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
                return Ok(Decision::Denied {
                    reason: format!(
                        "nobody is at a terminal; read the plan with --dry-run, then approve it \
                         with `--approve {digest}`, or whatever it is with --yes"
                    ),
                });
            }
            // A thread of its own: the runtime would wait for its end, and so for Enter.
            let (answer, asked) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || answer.send(ask(&question)));
            let yes = asked
                .await
                .map_err(|gone| gone.to_string())
                .and_then(|answer| answer.map_err(|error| error.to_string()))
                .map_err(|why| {
                    Error::new(ErrorKind::Io, format!("the terminal gave no answer: {why}"))
                })?;
            Ok(if yes {
                Decision::Granted { by: user(), valid_for: VALID_FOR }
            } else {
                Decision::Denied { reason: "the answer was no".to_owned() }
            })
        }
        .boxed()
    }
}

fn ask(question: &str) -> std::io::Result<bool> {
    let mut stderr = std::io::stderr().lock();
    stderr.write_all(question.as_bytes())?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// In whose name this program approves.
pub fn user() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| "whoever runs this program".to_owned())
}
