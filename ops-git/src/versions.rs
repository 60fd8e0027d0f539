//! Versions: the commits of a branch, by their first seven digits.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use ops_core::{CommitId, Version};

use crate::ahead_behind::ahead_behind;
use crate::error::{Error, ErrorKind, GitResult as _};
use crate::id::{BranchName, commit_id, object_id};
use crate::refs;
use crate::repository::GitRepository;

/// One version of what a repository holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionInfo {
    /// The first 7 digits of the commit.
    pub version: Version,
    /// The commit.
    pub commit: CommitId,
    /// The tags that point to it, sorted.
    pub tags: Vec<String>,
    /// The first line of its message.
    pub subject: String,
    /// Who wrote it, as `Name <address>`.
    pub author: String,
    /// When it was committed.
    pub date: Timestamp,
    /// Other commits of the repository that begin with the same 7 digits. While there are any,
    /// this version is refused wherever it is to be used.
    pub shared_with: Vec<CommitId>,
}

/// The shortest beginning of a commit id that is looked up; git's own limit.
const SHORTEST: usize = 4;

impl GitRepository {
    /// The newest versions of the branch that `HEAD` is on, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`ErrorKind::HistoryUnavailable`] if a commit is missing or cannot be read. A repository without commits has no versions.
    pub async fn versions(&self, limit: usize) -> Result<Vec<VersionInfo>, Error> {
        self.blocking(move |repo| versions(repo, limit)).await
    }

    /// The commit that a name means: a branch (`main`, `origin/main`), a tag, `HEAD`, a full commit
    /// id, or the beginning of one that only one commit has. A name goes before an id.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Ambiguous`] with every commit or ref
    /// that fits.
    pub async fn resolve(&self, name: &str) -> Result<CommitId, Error> {
        let name = name.to_owned();
        self.blocking(move |repo| resolve(repo, &name).map(commit_id)).await
    }

    /// A commit and those before it, newest first, at most `limit`: what a branch or a tag holds.
    ///
    /// # Errors
    /// Those of [`resolve`](Self::resolve), and [`ErrorKind::HistoryUnavailable`] if a commit is
    /// missing or cannot be read.
    pub async fn ancestors(&self, name: &str, limit: usize) -> Result<Vec<VersionInfo>, Error> {
        let name = name.to_owned();
        self.blocking(move |repo| from(repo, resolve(repo, &name)?, limit)).await
    }

    /// Whether one commit is part of what another holds; every commit is part of itself.
    ///
    /// # Errors
    /// Those of [`ancestors`](Self::ancestors).
    pub async fn is_ancestor(&self, ancestor: &str, of: &str) -> Result<bool, Error> {
        let (ancestor, of) = (ancestor.to_owned(), of.to_owned());
        self.blocking(move |repo| {
            let (ancestor, of) = (resolve(repo, &ancestor)?, resolve(repo, &of)?);
            Ok(ahead_behind(repo, ancestor, of)?.ahead == 0)
        })
        .await
    }

    /// The version before this one: its first parent. `None` if it is the first.
    ///
    /// # Errors
    /// Those of [`resolve`](Self::resolve).
    pub async fn previous(&self, version: &Version) -> Result<Option<Version>, Error> {
        let name = version.as_str().to_owned();
        self.blocking(move |repo| {
            let id = resolve(repo, &name)?;
            let commit = repo.find_commit(id).history(id)?;
            let parent = commit.parent_ids().next().map(gix::Id::detach);
            parent.map(|parent| version_of(repo, parent)).transpose()
        })
        .await
    }
}

/// The version that a commit is, if no other commit begins with the same digits.
pub(crate) fn version_of(repo: &gix::Repository, id: gix::ObjectId) -> Result<Version, Error> {
    let version = commit_id(id).version();
    let all = commits_with(repo, version.as_str())?;
    if all.len() > 1 {
        return Err(ambiguous(version.as_str(), &all)
            .remedy("release another commit: a new one, even an empty one, has other digits"));
    }
    Ok(version)
}

fn versions(repo: &gix::Repository, limit: usize) -> Result<Vec<VersionInfo>, Error> {
    let doing = || "the history cannot be read".to_owned();
    let mut head = repo.head().doing(doing)?;
    if head.is_unborn() {
        return Ok(Vec::new());
    }
    let tip = head.peel_to_commit().map_err(|source| Error::history(doing(), source))?.id;
    from(repo, tip, limit)
}

fn from(
    repo: &gix::Repository,
    tip: gix::ObjectId,
    limit: usize,
) -> Result<Vec<VersionInfo>, Error> {
    let tags = tags(repo)?;
    let order = gix::traverse::commit::simple::CommitTimeOrder::NewestFirst;
    let walk = repo
        .rev_walk([tip])
        .sorting(gix::revision::walk::Sorting::ByCommitTime(order))
        .all()
        .history(tip)?;
    let mut found = Vec::new();
    for info in walk.take(limit) {
        let id = info.history(tip)?.id;
        found.push(describe(repo, id, &tags)?);
    }
    Ok(found)
}

fn describe(
    repo: &gix::Repository,
    id: gix::ObjectId,
    tags: &BTreeMap<gix::ObjectId, Vec<String>>,
) -> Result<VersionInfo, Error> {
    let doing = || format!("commit {id} cannot be read");
    let commit = repo.find_commit(id).history(id)?;
    let message = commit.message().doing(doing)?;
    let author = commit.author().doing(doing)?;
    let seconds = commit.time().doing(doing)?.seconds;
    let date = Timestamp::from_second(seconds)
        .map_err(|source| Error::new(ErrorKind::Git, doing()).caused_by(source))?;
    let this = commit_id(id);
    let version = this.version();
    let shared = commits_with(repo, version.as_str())?;
    Ok(VersionInfo {
        subject: message.summary().to_string(),
        author: format!("{} <{}>", author.name, author.email),
        date,
        tags: tags.get(&id).cloned().unwrap_or_default(),
        shared_with: shared.into_iter().filter(|other| *other != id).map(commit_id).collect(),
        version,
        commit: this,
    })
}

fn tags(repo: &gix::Repository) -> Result<BTreeMap<gix::ObjectId, Vec<String>>, Error> {
    let doing = || "the tags cannot be read".to_owned();
    let mut found: BTreeMap<gix::ObjectId, Vec<String>> = BTreeMap::new();
    for reference in repo.references().doing(doing)?.tags().doing(doing)? {
        let mut reference =
            reference.map_err(|source| Error::new(ErrorKind::Git, doing()).caused_by(source))?;
        let name = reference.name().shorten().to_string();
        let id = reference.peel_to_id().doing(doing)?.detach();
        found.entry(id).or_default().push(name);
    }
    for names in found.values_mut() {
        names.sort();
    }
    Ok(found)
}

/// A commit, and the ref that it was found by.
pub(crate) struct Named {
    pub id: gix::ObjectId,
    name: String,
    full: Option<String>,
}

impl Named {
    /// What git says when it merges this.
    pub fn merge_message(&self, into: &BranchName) -> String {
        let what = match self.full.as_deref() {
            Some(full) if full.starts_with("refs/heads/") => "branch",
            Some(full) if full.starts_with("refs/remotes/") => "remote-tracking branch",
            Some(full) if full.starts_with("refs/tags/") => "tag",
            _ => "commit",
        };
        let name = &self.name;
        match into.as_str() {
            "main" | "master" => format!("Merge {what} '{name}'"),
            _ => format!("Merge {what} '{name}' into {into}"),
        }
    }
}

pub(crate) fn resolve(repo: &gix::Repository, name: &str) -> Result<gix::ObjectId, Error> {
    Ok(named(repo, name)?.id)
}

pub(crate) fn named(repo: &gix::Repository, name: &str) -> Result<Named, Error> {
    let found = |id, full: Option<&String>| {
        let short = full.map_or(name, |full| {
            let short = full.strip_prefix("refs/").and_then(|rest| rest.split_once('/'));
            short.map_or(full.as_str(), |(_, short)| short)
        });
        Named { id, name: short.to_owned(), full: full.cloned() }
    };
    let unknown = || {
        Error::new(ErrorKind::NotFound, format!("`{}` names no commit here", name.escape_debug()))
            .remedy("give a branch, a tag, or a commit id of at least 4 digits; pull if it is new")
    };
    let is_hex = name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = repo.object_hash().len_in_hex();
    if is_hex && name.len() == digits {
        let id = object_id(&name.to_ascii_lowercase().parse()?)?;
        let commit = repo.find_commit(id).map_err(|e| unknown().caused_by(e))?;
        return Ok(found(commit.id, None));
    }

    let mut named = Vec::new();
    let full = match name {
        "HEAD" => vec!["HEAD".to_owned()],
        _ if name.starts_with("refs/") => vec![name.to_owned()],
        _ => ["tags", "heads", "remotes"].map(|kind| format!("refs/{kind}/{name}")).to_vec(),
    };
    for full in full {
        let Ok(checked) = gix::refs::FullName::try_from(full.as_str()) else { continue };
        if let Some(id) = refs::tip(repo, &checked)? {
            named.push((full, id));
        }
    }
    let distinct: HashSet<_> = named.iter().map(|(_, id)| *id).collect();
    if distinct.len() > 1 {
        let list: Vec<_> = named.iter().map(|(name, id)| format!("`{name}` ({id})")).collect();
        return Err(Error::new(
            ErrorKind::Ambiguous,
            format!("`{name}` is ambiguous: {}", list.join(", ")),
        )
        .remedy("give the full name of the one that is meant"));
    }
    if let Some((full, id)) = named.first() {
        let commit = repo.find_commit(*id).map_err(|source| {
            Error::new(ErrorKind::NotFound, format!("`{full}` leads to no commit but to {id}"))
                .caused_by(source)
        })?;
        return Ok(found(commit.id, Some(full)));
    }

    if !is_hex || name.len() < SHORTEST || name.len() > digits {
        return Err(unknown());
    }
    let all = commits_with(repo, name)?;
    match all.as_slice() {
        [] => Err(unknown()),
        [only] => Ok(found(*only, None)),
        _ => Err(ambiguous(name, &all).remedy("give more digits of the one that is meant")),
    }
}

fn ambiguous(prefix: &str, all: &[gix::ObjectId]) -> Error {
    let list: Vec<_> = all.iter().take(10).map(ToString::to_string).collect();
    Error::new(
        ErrorKind::Ambiguous,
        format!("`{prefix}` is ambiguous: commits {} begin with it", list.join(" and ")),
    )
}

/// Every commit of the repository that begins with these digits, sorted.
fn commits_with(repo: &gix::Repository, digits: &str) -> Result<Vec<gix::ObjectId>, Error> {
    let doing = || format!("the commits that begin with `{digits}` cannot be told");
    let prefix = gix::hash::Prefix::from_hex(digits).doing(doing)?;
    let mut candidates = HashSet::default();
    repo.objects.lookup_prefix(prefix, Some(&mut candidates)).doing(doing)?;
    let mut commits = Vec::new();
    for id in candidates {
        if repo.find_header(id).doing(doing)?.kind() == gix::objs::Kind::Commit {
            commits.push(id);
        }
    }
    commits.sort_unstable();
    Ok(commits)
}
