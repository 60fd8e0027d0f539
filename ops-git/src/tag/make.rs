//! Making a tag, and taking it away again.
//!
//! `refs/ops-git/tag-<operation>/<name>` is written first. It is the proof that this operation made
//! the tag: without it an undo has nothing to undo.

use gix::bstr::BString;
use gix::refs::FullName;
use ops_core::{CommitId, OperationId, Refusal, StepContext};
use serde::{Deserialize, Serialize};

use super::name::TagName;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::object_id;
use crate::identity::Identity;
use crate::objects::{self, Object};
use crate::refs::{self, Move, shown};

/// A tag that is to be made. Everything that the id of an annotated one depends on is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Tagging {
    /// Its name.
    pub name: TagName,
    /// What it names.
    pub commit: CommitId,
    /// What it says; none for a mere name.
    pub annotation: Option<Annotation>,
}

/// What an annotated tag says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Annotation {
    /// Who tags.
    pub tagger: Identity,
    /// When, in seconds since 1970.
    pub seconds: i64,
    /// What it says.
    pub message: String,
}

impl Tagging {
    fn object(&self, repo: &gix::Repository) -> Result<Option<Object>, Error> {
        let Some(note) = &self.annotation else { return Ok(None) };
        let tag = gix::objs::Tag {
            target: object_id(&self.commit)?,
            target_kind: gix::objs::Kind::Commit,
            name: BString::from(self.name.as_str()),
            tagger: Some(note.tagger.at(note.seconds)),
            message: BString::from(note.message.as_str()),
            signature: None,
        };
        Object::of(repo, &tag).map(Some)
    }
}

fn kept(name: &TagName, id: OperationId) -> FullName {
    FullName::try_from(format!("refs/ops-git/tag-{id}/{name}"))
        .expect("an operation's id and a tag's name make a ref's name")
}

pub(crate) fn check(repo: &gix::Repository, tag: &Tagging) -> Result<Vec<Refusal>, Error> {
    Ok(match refs::tip_raw(repo, &tag.name.full())? {
        None => Vec::new(),
        Some(id) => vec![Refusal::new(
            format!("tag `{}` exists already, at {id}", tag.name),
            "give another name; tags that were published do not move",
        )],
    })
}

pub(crate) fn run(repo: &gix::Repository, tag: &Tagging, cx: &StepContext) -> Result<(), Error> {
    let (name, keep) = (tag.name.full(), kept(&tag.name, cx.operation()));
    let object = tag.object(repo)?;
    let commit = object_id(&tag.commit)?;
    let id = object.as_ref().map_or(commit, |object| object.id);
    repo.find_commit(commit)
        .map(drop)
        .doing(|| format!("commit {commit} is not here, so it cannot be tagged"))?;
    if refs::tip_raw(repo, &keep)?.is_some() && refs::tip_raw(repo, &name)? == Some(id) {
        return refs::make_durable(repo, [&keep, &name].into_iter());
    }
    if let Some(object) = object {
        objects::write(repo, &[object], cx.operation())?;
    }
    let message = format!("ops-git: operation {}", cx.operation());
    let make = |name: &FullName| {
        let message = message.clone();
        refs::apply(repo, &[Move { name: name.clone(), from: None, to: Some(id), message }])
    };
    match refs::tip_raw(repo, &keep)? {
        None => make(&keep)?,
        Some(_) => refs::make_durable(repo, std::iter::once(&keep))?,
    }
    cx.fault_point("git-tag-announced");
    if let Err(error) = make(&name) {
        // Somebody else was faster: the tag is theirs, and nothing here is to be undone.
        if error.kind() == ErrorKind::Moved {
            refs::remove_private(repo, &keep)?;
        }
        return Err(error);
    }
    cx.fault_point("git-tag-made");
    Ok(())
}

/// Checks that the tag leads to its commit.
pub(crate) fn verify(repo: &gix::Repository, tag: &Tagging) -> Result<(), Error> {
    let (found, expected) = (refs::tip(repo, &tag.name.full())?, object_id(&tag.commit)?);
    if found == Some(expected) {
        return Ok(());
    }
    let what = format!("tag `{}` leads to {}, not to {expected}", tag.name, shown(found));
    Err(Error::new(ErrorKind::Moved, what).remedy("find out who moved it, then try again"))
}

pub(crate) fn undo(repo: &gix::Repository, tag: &Tagging, cx: &StepContext) -> Result<(), Error> {
    let (name, keep) = (tag.name.full(), kept(&tag.name, cx.operation()));
    objects::clear(repo, cx.operation())?;
    let Some(id) = refs::tip_raw(repo, &keep)? else { return refs::remove_private(repo, &keep) };
    refs::clear_own_lock(repo, &name, &[format!("{id}\n")])?;
    match refs::tip_raw(repo, &name)? {
        None => refs::make_durable(repo, std::iter::once(&name))?,
        Some(now) if now == id => {
            let message = String::new();
            refs::apply(repo, &[Move { name, from: Some(id), to: None, message }])?;
            cx.fault_point("git-tag-removed");
        }
        now => {
            return Err(Error::new(
                ErrorKind::Moved,
                format!("tag `{}` is at {}, not at {id}", tag.name, shown(now)),
            )
            .remedy("find out who moved it; then take it away by hand if it is not wanted"));
        }
    }
    refs::remove_private(repo, &keep)
}

pub(crate) fn release(
    repo: &gix::Repository,
    name: &TagName,
    id: OperationId,
) -> Result<(), Error> {
    refs::remove_private(repo, &kept(name, id))
}
