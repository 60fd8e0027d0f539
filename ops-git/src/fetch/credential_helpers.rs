//! Git's credential helpers, run as programs that can be ended.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use gix::credentials::Program;
use gix::credentials::helper::{Action, NextAction};
use gix::credentials::protocol::{Context, ContextOptions};
use ops_core::Secret;

use super::child::Child;
use super::link::Link;
use crate::credentials::Login;
use crate::error::{Error, ErrorKind, GitResult as _};

/// More than this is no login.
const ANSWER: u64 = 64 * 1024;

/// The helpers that the repository's configuration names for a URL.
pub(super) struct Helpers {
    programs: Vec<Program>,
    options: ContextOptions,
    question: Context,
    /// What was answered, to be kept or forgotten once the remote has said what it thinks of it.
    answered: Option<Context>,
}

impl Helpers {
    /// `None` if there are none.
    pub(super) fn of(repo: &gix::Repository, url: &gix::Url) -> Result<Option<Self>, Error> {
        let doing = || "`credential.helper` cannot be read".to_owned();
        let config = repo.config_snapshot();
        let (cascade, action, _) = config.credential_helpers(url.clone()).doing(doing)?;
        let Action::Get(mut question) = action else { return Ok(None) };
        if cascade.programs.is_empty() {
            return Ok(None);
        }
        question.options = cascade.context_options;
        question.destructure_url_in_place(cascade.use_http_path).map(drop).doing(doing)?;
        question.url = None;
        let (programs, options) = (cascade.programs, cascade.context_options);
        Ok(Some(Self { programs, options, question, answered: None }))
    }

    /// Asks one after the other until one knows the user and the secret.
    pub(super) fn get(&mut self, link: &Arc<Link>) -> Result<Option<Login>, Error> {
        let mut known = self.question.clone();
        for program in &self.programs {
            let Some(said) = run(link, program, &Action::Get(known.clone()))? else { continue };
            // An answer that makes no sense is the next helper's turn.
            let Ok(said) = Context::from_bytes(&said, self.options) else { continue };
            known.username = said.username.or(known.username);
            known.password = said.password.or(known.password);
            if let (Some(user), Some(password)) = (&known.username, &known.password) {
                let login = Login::new(user.clone(), Secret::new(password.clone()));
                link.redactor.add(&login.secret);
                self.answered = Some(known);
                return Ok(Some(login));
            }
            if said.quit == Some(true) {
                break;
            }
        }
        Ok(None)
    }

    /// Tells the helpers what the remote thought of what they said.
    pub(super) fn tell(&mut self, link: &Arc<Link>, accepted: bool) {
        let Some(answered) = self.answered.take() else { return };
        let next = NextAction::from(answered);
        let action = if accepted { next.store() } else { next.erase() };
        for program in &self.programs {
            // It is advice to them: the fetch does not depend on it.
            let _ = run(link, program, &action);
        }
    }
}

/// What a helper answers; `None` if it fails.
fn run(link: &Arc<Link>, program: &Program, action: &Action) -> Result<Option<Vec<u8>>, Error> {
    let doing = || "a credential helper cannot be started".to_owned();
    let command = program.to_command(action).doing(doing)?;
    let argv: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let env = [("GIT_TERMINAL_PROMPT", "0".to_owned()), ("GCM_INTERACTIVE", "never".to_owned())];
    let Ok((mut child, output, mut input)) = Child::start(link, &argv, &env) else {
        return Ok(None);
    };
    let mut question = Vec::new();
    let written = action.send(&mut question);
    // One that does not read what it is asked may answer all the same.
    let _ = written.and_then(|()| input.write_all(&question)).and_then(|()| input.flush());
    drop(input);
    let mut answer = Vec::new();
    let read = output.take(ANSWER).read_to_end(&mut answer);
    if link.stop.is_raised() {
        return Err(Error::new(ErrorKind::Cancelled, "the fetch was asked to end"));
    }
    Ok((read.is_ok() && child.ended_well()).then_some(answer))
}
