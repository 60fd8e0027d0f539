//! What a switch must have left behind.

use gix::bstr::BStr;
use ops_core::StepContext;

use super::browse::Browser;
use super::head;
use super::place::{Place, Switch};
use super::prepare::workdir;
use super::root::Seen;
use crate::error::{Error, ErrorKind};

/// Checks that `HEAD` is where it should be, that every file that was to come is the one that was
/// staged, and that every path that was to go is free.
pub(crate) fn verify(
    repo: &gix::Repository,
    switch: &Switch,
    cx: &StepContext,
) -> Result<(), Error> {
    let (position, commit) = head::now(repo)?;
    if position != switch.head_to || commit.as_ref() != Some(&switch.new) {
        let at = commit.map_or_else(|| "no commit".to_owned(), |commit| commit.to_string());
        return Err(Error::new(
            ErrorKind::Moved,
            format!("HEAD is on {position} at {at}, not on {} at {}", switch.head_to, switch.new),
        )
        .remedy("find out who moved it, then try again"));
    }
    let place = Place::of(repo, switch, cx.operation());
    let Some(manifest) = place.manifest()? else { return Ok(()) };
    let root = workdir(repo)?;
    let mut browser = Browser::new(&root);
    for file in &manifest.files {
        let path = BStr::new(file.path.as_bytes());
        let there = browser.look(path)?;
        let right = match &file.new {
            Some(new) => there.is_some_and(|seen| seen.identity == new.identity),
            None => there.as_ref().is_none_or(Seen::is_folder),
        };
        if !right {
            return Err(Error::new(
                ErrorKind::Moved,
                format!("`{path}` is not as {} has it", switch.new.version()),
            )
            .remedy("somebody writes there: let it come to rest, then try again"));
        }
    }
    Ok(())
}
