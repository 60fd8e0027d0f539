//! Receiving what is missing from a remote, over whatever connection.

use gix::negotiate::Algorithm;
use gix::odb::pack;
use gix::protocol::Handshake;
use gix::protocol::fetch::refmap::{Mapping, Source, SpecIndex, init};
use gix::protocol::fetch::{
    Arguments, Context, Negotiate, Options, RefMap, Response, Shallow, Tags, negotiate,
};
use gix::protocol::handshake::Ref;
use gix::protocol::transport::Service;
use gix::protocol::transport::client::blocking_io::Transport;
use gix::refs::FullName;

use super::incoming::Incoming;
use super::{Fetched, Job, Tag, connected, shallow};
use crate::error::Error;
use crate::id::BranchName;

/// What goes wrong while gix talks, or while what it received is put into place.
pub(super) enum Failure {
    Talk(gix::Error),
    Here(Error),
}

impl From<gix::Error> for Failure {
    fn from(error: gix::Error) -> Self {
        Self::Talk(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

fn agent() -> (&'static str, Option<String>) {
    ("agent", Some(concat!("ops-git/", env!("CARGO_PKG_VERSION")).to_owned()))
}

/// A connection on which the remote has listed its refs.
pub(super) struct Listed {
    handshake: Handshake,
    pub(super) fetched: Fetched,
}

/// Asks the remote for its branches and tags.
pub(super) fn list(transport: &mut impl Transport, job: &mut Job) -> Result<Listed, Failure> {
    let mut progress = job.progress.add_child("listing refs");
    let mut handshake = gix::protocol::handshake(
        &mut *transport,
        Service::UploadPack,
        |_| Ok(None),
        Vec::new(),
        &mut progress,
    )?;
    // Some hosts have a hundred thousand refs besides these. Where they would go is never looked at.
    let specs = ["HEAD", "+refs/heads/*:refs/none/heads/*", "+refs/tags/*:refs/none/tags/*"]
        .into_iter()
        .map(|spec| {
            let operation = gix::refspec::parse::Operation::Fetch;
            gix::refspec::parse(spec.into(), operation).map(|spec| spec.to_owned())
        });
    let fetch_refspecs = specs.collect::<Result<_, _>>()?;
    let context = init::Context { fetch_refspecs, extra_refspecs: Vec::new() };
    let refs = handshake
        .prepare_lsrefs_or_extract_refmap(agent(), true, context)?
        .fetch_blocking(progress, transport, false)?;
    let mut fetched = listed(&refs.remote_refs);
    fetched.object_hash = Some(refs.object_hash);
    Ok(Listed { handshake, fetched })
}

/// Receives what the remote has and we have not as one pack, which is durable when the call
/// returns. No ref is moved.
pub(super) fn receive(
    repo: &gix::Repository,
    transport: &mut impl Transport,
    mut listed: Listed,
    asked: &Shallow,
    job: &mut Job,
) -> Result<Fetched, Failure> {
    let mut fetched = listed.fetched;
    let refs = wanted(repo, &fetched);
    if refs.mappings.is_empty() {
        return Ok(fetched);
    }
    let incoming = Incoming::begin(repo)?;
    // gix would move the cut before the pack is in its place: it gets a copy.
    let cut = incoming.path().join("shallow");
    let old_boundary = shallow::boundary(repo)?;
    shallow::copy(&old_boundary, &cut)?;
    let mut received = None;
    let mut graph_repo = repo.clone();
    // Most questions are about what is not here: do not look for new packs each time.
    graph_repo.objects.refresh = gix::odb::store::RefreshMode::Never;
    graph_repo.objects.unset_object_cache();
    let cache = graph_repo.commit_graph_if_enabled()?;
    let mut graph = graph_repo.revision_graph(cache.as_ref());
    let mut negotiation = Negotiation {
        repo: &graph_repo,
        graph: &mut graph,
        refs: &refs,
        shallow: asked,
        negotiator: Algorithm::Consecutive.into_negotiator(),
    };
    gix::protocol::fetch(
        &mut negotiation,
        |reader, progress, interrupt| {
            received = Some(pack::Bundle::write_to_directory(
                reader,
                Some(incoming.path()),
                progress,
                interrupt,
                Some(repo.objects.clone()),
                repo.object_hash(),
                pack::bundle::write::Options::default(),
            )?);
            Ok(true)
        },
        job.progress.add_child("negotiating"),
        job.stop.flag(),
        Context {
            handshake: &mut listed.handshake,
            transport,
            user_agent: agent(),
            trace_packetlines: false,
        },
        Options {
            shallow_file: cut.clone(),
            shallow: asked,
            tags: if job.tags { Tags::Included } else { Tags::None },
            reject_shallow_remote: matches!(asked, Shallow::NoChange),
        },
    )?;
    let new_boundary = shallow::read(&cut)?;
    if let Some(received) = received
        && received.index.num_objects > 0
        && let (Some(data), Some(index)) = (&received.data_path, &received.index_path)
    {
        connected::check(repo, data, &new_boundary, &job.stop)?;
        fetched.objects = u64::from(received.index.num_objects);
        fetched.bytes = incoming.publish(data, index)?;
    }
    if new_boundary != old_boundary {
        shallow::write(repo, &new_boundary)?;
    }
    Ok(fetched)
}

/// The branches, and those tags that lie on commits that are here already; the others come along
/// by themselves.
fn wanted(repo: &gix::Repository, fetched: &Fetched) -> RefMap {
    let mut mappings: Vec<_> = fetched.branches.values().copied().collect();
    for tag in fetched.tags.values() {
        if repo.has_object(tag.target) && !repo.has_object(tag.id) {
            mappings.push(tag.id);
        }
    }
    mappings.sort_unstable();
    mappings.dedup();
    let mapping = |id| Mapping {
        remote: Source::ObjectId(id),
        local: None,
        spec_index: SpecIndex::ExplicitInRemote(0),
    };
    RefMap {
        mappings: mappings.into_iter().map(mapping).collect(),
        object_hash: repo.object_hash(),
        ..RefMap::default()
    }
}

struct Negotiation<'a, 'find, 'cache> {
    repo: &'a gix::Repository,
    graph: &'a mut gix::negotiate::Graph<'find, 'cache>,
    refs: &'a RefMap,
    shallow: &'a Shallow,
    negotiator: Box<dyn gix::negotiate::Negotiator>,
}

impl Negotiate for Negotiation<'_, '_, '_> {
    fn mark_complete_and_common_ref(&mut self) -> gix::Result<negotiate::Action> {
        negotiate::mark_complete_and_common_ref(
            &self.repo.objects,
            &self.repo.refs,
            || Ok(std::iter::empty::<(gix::refs::file::Store, gix::OdbHandle)>()),
            &mut *self.negotiator,
            self.graph,
            self.refs,
            self.shallow,
            |_| false,
        )
    }

    fn add_wants(&mut self, arguments: &mut Arguments, known: &[bool]) -> bool {
        let objects = &self.repo.objects;
        negotiate::add_wants(objects, arguments, self.refs, known, self.shallow, |_| false)
    }

    fn one_round(
        &mut self,
        state: &mut negotiate::one_round::State,
        arguments: &mut Arguments,
        previous: Option<&Response>,
    ) -> gix::Result<(negotiate::Round, bool)> {
        negotiate::one_round(&mut *self.negotiator, self.graph, state, arguments, previous)
    }
}

fn listed(refs: &[Ref]) -> Fetched {
    let mut fetched = Fetched::default();
    for reference in refs {
        let (name, id, target) = match reference {
            Ref::Direct { full_ref_name, object } => (full_ref_name, *object, *object),
            Ref::Peeled { full_ref_name, tag, object } => (full_ref_name, *tag, *object),
            Ref::Symbolic { full_ref_name, target, object, tag } => {
                if full_ref_name == "HEAD" {
                    fetched.head =
                        std::str::from_utf8(target).ok().and_then(|name| name.parse().ok());
                }
                (full_ref_name, tag.unwrap_or(*object), *object)
            }
            Ref::Unborn { .. } => continue,
        };
        let Ok(text) = std::str::from_utf8(name) else { continue };
        if text.starts_with("refs/heads/") {
            if let Ok(branch) = text.parse::<BranchName>() {
                fetched.branches.insert(branch, target);
            }
        } else if text.starts_with("refs/tags/")
            && let Ok(name) = FullName::try_from(text)
        {
            fetched.tags.insert(name, Tag { id, target });
        }
    }
    fetched
}
