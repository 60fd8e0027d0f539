//! Fetching over http and https, by gix.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gix::protocol::handshake::Ref;
use gix::protocol::transport::client::blocking_io::http;
use gix::remote::fetch::Status;

use super::{Fetched, Job, prune};
use crate::error::{Error, ErrorKind};
use crate::id::BranchName;
use crate::refs;

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(20);

pub(super) fn fetch(
    repo: &gix::Repository,
    remote: gix::Remote<'_>,
    url: &gix::Url,
    job: Job,
) -> Result<Fetched, Error> {
    let shown = url.to_bstring();
    let failed = |source: gix::Error| failed(&job.remote, &shown.to_string(), source);
    let mut remote = remote.with_fetch_tags(gix::remote::fetch::Tags::All);
    let specs = [format!("+refs/heads/*:refs/remotes/{}/*", job.remote)];
    remote
        .replace_refspecs(specs.iter().map(String::as_str), gix::remote::Direction::Fetch)
        .map_err(&failed)?;

    let mut connection = remote.connect(gix::remote::Direction::Fetch).map_err(&failed)?;
    connection.set_transport_options(options(repo, url, &job)?);
    // Without this gix would ask on the terminal.
    connection.set_credentials(|_| Ok(None));
    let mut progress = job.progress;
    let prepared = connection
        .prepare_fetch(
            gix::NestedProgress::add_child(&mut progress, "listing refs"),
            gix::remote::ref_map::Options {
                // The remote's HEAD says which branch is the default.
                prefix_from_spec_as_filter_on_remote: false,
                ..Default::default()
            },
        )
        .map_err(&failed)?;
    let mut fetched = listed(&prepared.ref_map().remote_refs);
    prune(repo, &job.remote, &fetched.branches)?;
    if prepared.ref_map().mappings.is_empty() {
        // gix takes it for a mistake that nothing matches; a remote may have nothing yet.
        return Ok(fetched);
    }
    let outcome = prepared.receive(progress, &job.interrupt).map_err(&failed)?;
    let updates = match outcome.status {
        Status::NoPackReceived { update_refs, .. } => update_refs,
        Status::Change { write_pack_bundle, update_refs, .. } => {
            fetched.objects = u64::from(write_pack_bundle.index.num_objects);
            let size = |path: &std::path::PathBuf| path.metadata().map(|meta| meta.len()).ok();
            fetched.bytes = write_pack_bundle.data_path.as_ref().and_then(size).unwrap_or(0);
            let files = [&write_pack_bundle.data_path, &write_pack_bundle.index_path];
            for path in files.into_iter().flatten() {
                refs::sync_if_there(path)?;
            }
            refs::sync_if_there(&repo.objects.store_ref().path().join("pack"))?;
            update_refs
        }
    };
    refs::make_durable(repo, updates.edits.iter().map(|edit| &edit.name))?;
    Ok(fetched)
}

/// The repository's own http settings, with timeouts that end a hung request by itself.
fn options(
    repo: &gix::Repository,
    url: &gix::Url,
    job: &Job,
) -> Result<Box<dyn std::any::Any>, Error> {
    let mut options = repo
        .transport_options(
            gix::bstr::BStr::new(&url.to_bstring()),
            Some(job.remote.as_str().into()),
        )
        .map_err(|source| Error::git("the http settings cannot be read", source))?
        .and_then(|options| options.downcast::<http::Options>().ok())
        .map(|options| *options)
        .unwrap_or_default();
    let deadline = job.deadline;
    options.backend = Some(Arc::new(Mutex::new(http::reqwest::Options {
        configure_client: Some(Box::new(move |client| {
            Ok(client.timeout(deadline).connect_timeout(CONNECT.min(deadline)))
        })),
        configure_request: None,
    })));
    Ok(Box::new(options))
}

fn listed(refs: &[Ref]) -> Fetched {
    let mut branches = BTreeMap::new();
    let mut head = None;
    for reference in refs {
        let (name, id) = match reference {
            Ref::Direct { full_ref_name, object } | Ref::Peeled { full_ref_name, object, .. } => {
                (full_ref_name, *object)
            }
            Ref::Symbolic { full_ref_name, target, object, .. } => {
                if full_ref_name == "HEAD" {
                    head = std::str::from_utf8(target).ok().and_then(|name| name.parse().ok());
                }
                (full_ref_name, *object)
            }
            Ref::Unborn { .. } => continue,
        };
        let name = std::str::from_utf8(name).ok().filter(|name| name.starts_with("refs/heads/"));
        if let Some(name) = name.and_then(|name| name.parse::<BranchName>().ok()) {
            branches.insert(name, id);
        }
    }
    Fetched { branches, head, objects: 0, bytes: 0 }
}

fn failed(remote: &str, url: &str, source: gix::Error) -> Error {
    let what = format!("fetch from `{remote}` ({url}) failed");
    if source.classify().is_unauthenticated() || source.classify().is_permission_denied() {
        return Error::new(ErrorKind::Unauthenticated, what)
            .remedy("set `http.extraHeader` in the repository's configuration to what it asks for")
            .caused_by(source);
    }
    if source.classify().is_cancelled() {
        return Error::new(ErrorKind::Cancelled, what).caused_by(source);
    }
    Error::new(ErrorKind::Remote, what)
        .remedy("check that the remote is up and serves this repository")
        .caused_by(source)
}
