//! What files go through on their way into the repository and out of it.
//!
//! gix knows the conversions: line ends, `ident`, encodings. It would start the filters that the
//! repository configures, too, and wait for them for ever; so it is given none, and they run here,
//! where they can be ended. They are the outermost conversion on either way.

mod child;
mod programs;

use std::borrow::Cow;

use gix::bstr::BStr;
use gix::filter::plumbing::Pipeline;
use gix::filter::plumbing::driver::Operation;
use gix::filter::plumbing::pipeline::convert::to_worktree::{Options, UnknownEncoding};
use gix::filter::plumbing::pipeline::convert::{ToGitOutcome, ToWorktreeOutcome};
use gix::index::State;
use gix::worktree::Stack;

use crate::error::{Error, ErrorKind, GitResult as _};
use crate::path_bytes::on_disk;
use programs::Programs;

/// The conversions of a repository.
pub(crate) struct Filters<'repo> {
    repo: &'repo gix::Repository,
    pipeline: Pipeline,
    attributes: Stack,
    programs: Programs,
}

impl<'repo> Filters<'repo> {
    pub(crate) fn new(repo: &'repo gix::Repository, attributes: Stack) -> Result<Self, Error> {
        let doing = || "the configured filters cannot be read".to_owned();
        let pipeline = gix::filter::Pipeline::new(repo, attributes).doing(doing)?;
        let (mut pipeline, attributes) = pipeline.into_parts();
        let drivers = std::mem::take(&mut pipeline.options_mut().drivers);
        let programs = Programs::new(repo.command_context().doing(doing)?, drivers);
        Ok(Self { repo, pipeline, attributes, programs })
    }

    /// What the repository would store of a file with these bytes. `filter` is what the attributes
    /// call its filter.
    pub(crate) fn stored(
        &mut self,
        bytes: &[u8],
        path: &BStr,
        filter: Option<&str>,
        index: &State,
    ) -> Result<Vec<u8>, Error> {
        let cleaned = self.programs.apply(filter, Operation::Clean, path, bytes)?;
        let bytes = cleaned.as_deref().unwrap_or(bytes);
        let objects = &self.repo.objects;
        let entry = at(&mut self.attributes, path, objects)?;
        let outcome = self
            .pipeline
            .convert_to_git(
                bytes,
                on_disk(path),
                &mut |_, found| {
                    entry.matching_attributes(found);
                },
                &mut |buffer| {
                    let Some(entry) = index.entry_by_path(path) else { return Ok(None) };
                    let found = gix::objs::Find::try_find(objects, &entry.id, buffer)?;
                    Ok(found.filter(|found| found.kind == gix::objs::Kind::Blob).map(|_| ()))
                },
            )
            .doing(|| failed(path))?;
        match outcome {
            ToGitOutcome::Unchanged(same) => Ok(same.to_vec()),
            ToGitOutcome::Buffer(buffer) => Ok(buffer.to_vec()),
            ToGitOutcome::Process(_) => Err(Error::new(ErrorKind::Git, failed(path))),
        }
    }

    /// What the work tree holds of a file that is stored like this.
    pub(crate) fn written<'a>(
        &'a mut self,
        stored: &'a [u8],
        path: &BStr,
        filter: Option<&str>,
    ) -> Result<Cow<'a, [u8]>, Error> {
        let entry = at(&mut self.attributes, path, &self.repo.objects)?;
        let options = Options { unknown_encoding: UnknownEncoding::Fail, ..Default::default() };
        let mut attributes = |_: &BStr, found: &mut gix::attrs::search::Outcome| {
            entry.matching_attributes(found);
        };
        let converted = self
            .pipeline
            .convert_to_worktree(stored, path, &mut attributes, options)
            .doing(|| failed(path))?;
        let (ToWorktreeOutcome::Unchanged(bytes) | ToWorktreeOutcome::Buffer(bytes)) = converted
        else {
            return Err(Error::new(ErrorKind::Git, failed(path)));
        };
        let smudged = self.programs.apply(filter, Operation::Smudge, path, bytes)?;
        Ok(smudged.map_or(Cow::Borrowed(bytes), Cow::Owned))
    }
}

fn at<'a>(
    attributes: &'a mut Stack,
    path: &BStr,
    objects: &gix::OdbHandle,
) -> Result<gix::worktree::stack::Platform<'a>, Error> {
    attributes
        .at_entry(path, None, objects)
        .map_err(|source| Error::io("read the attributes of", on_disk(path), source))
}

fn failed(path: &BStr) -> String {
    format!("the filters of `{path}` failed")
}
