//! Releases: which versions have an image for every service.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ops_core::version::VersionPolicy;
use ops_core::{CommitId, Version};

use super::containers::Container;
use super::engine::Engine;
use super::host::DockerHost;
use crate::error::{Error, ErrorKind};
use crate::history::History;
use crate::planning::names;
use crate::target::Known;

/// Where images tell the whole id of their commit.
const REVISION: &str = "org.opencontainers.image.revision";

/// One version, as its images tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Release {
    /// The version.
    pub version: Version,
    /// The whole commit id, where an image tells it (`org.opencontainers.image.revision`).
    pub revision: Option<CommitId>,
    /// The image's id of each service.
    pub images: BTreeMap<String, String>,
    /// What it lacks to be complete; empty if it is.
    pub lacking: Vec<String>,
    /// When its newest image was made.
    pub created: Timestamp,
    lacks_only_images: bool,
}

impl Release {
    /// Whether every service has its image, and no tag has moved.
    pub fn is_complete(&self) -> bool {
        self.lacking.is_empty()
    }

    pub(super) fn known(&self, runs: bool, current: Option<&Version>) -> Known {
        Known {
            version: self.version.clone(),
            lacking: self.lacking.clone(),
            made: Some(self.created),
            runs,
            in_service: current == Some(&self.version),
        }
    }
}

/// The release of a version that can be deployed as it is.
pub(super) fn complete<'a>(
    version: &Version,
    releases: &'a [Release],
) -> Result<&'a Release, Error> {
    let found = releases.iter().find(|release| release.version == *version);
    found.filter(|release| release.is_complete()).ok_or_else(|| incomplete(version, releases))
}

/// The images to deploy; none if they are to be built first, where that is part of the deployment.
///
/// What lacks images can be built; what has moved or is of two commits cannot.
pub(super) fn images_or_build(
    version: &Version,
    releases: &[Release],
    builds: bool,
) -> Result<BTreeMap<String, String>, Error> {
    let known = releases.iter().find(|release| release.version == *version);
    let buildable = known.is_none_or(|release| !release.is_complete() && release.lacks_only_images);
    if builds && buildable {
        return Ok(BTreeMap::new());
    }
    complete(version, releases).map(|release| release.images.clone())
}

/// The images with which versions were in service before, by version and service.
#[derive(Debug, Default)]
pub(super) struct Pins(BTreeMap<(Version, String), String>);

impl Pins {
    pub(super) fn of(history: &History, containers: &[Container]) -> Self {
        let mut pins = BTreeMap::new();
        for container in containers {
            let key = (container.version.clone(), container.service.clone());
            pins.entry(key).or_insert_with(|| container.image.clone());
        }
        for entry in history.entries() {
            for (service, image) in &entry.images {
                pins.insert((entry.version.clone(), service.clone()), image.clone());
            }
        }
        Self(pins)
    }

    fn get(&self, version: &Version, service: &str) -> Option<&String> {
        self.0.get(&(version.clone(), service.to_owned()))
    }
}

struct Image {
    id: String,
    created: i64,
    revision: Option<String>,
}

impl DockerHost {
    /// All versions of which there is any image, the oldest first.
    pub(super) async fn releases(&self, pins: &Pins) -> Result<Vec<Release>, Error> {
        let services = self.0.services.iter();
        let repositories: Vec<_> =
            services.map(|it| (it.name.as_str(), it.repository.as_str())).collect();
        releases(&self.0.engine, &repositories, self.0.policy, pins).await
    }
}

/// All versions of which any of these services has an image in its repository, the oldest first.
pub(super) async fn releases(
    engine: &Engine,
    services: &[(&str, &str)],
    policy: VersionPolicy,
    pins: &Pins,
) -> Result<Vec<Release>, Error> {
    let mut found: BTreeMap<&str, BTreeMap<Version, Image>> = BTreeMap::new();
    for &(service, repository) in services {
        let of_service = found.entry(service).or_default();
        for image in engine.images(repository).await? {
            for tag in &image.repo_tags {
                let Some((name, tag)) = tag.rsplit_once(':') else { continue };
                let version = policy.parse(tag).ok().filter(|_| tag != "latest");
                let Some(version) = version.filter(|_| name == repository) else { continue };
                let revision = image.labels.get(REVISION).cloned();
                let image = Image { id: image.id.clone(), created: image.created, revision };
                of_service.insert(version, image);
            }
        }
    }
    let versions: BTreeSet<Version> =
        found.values().flat_map(|images| images.keys().cloned()).collect();
    let mut releases: Vec<_> =
        versions.into_iter().map(|version| judge(version, services, &found, pins)).collect();
    releases.sort_by(|a, b| (a.created, &a.version).cmp(&(b.created, &b.version)));
    Ok(releases)
}

fn judge(
    version: Version,
    services: &[(&str, &str)],
    found: &BTreeMap<&str, BTreeMap<Version, Image>>,
    pins: &Pins,
) -> Release {
    let (mut images, mut lacking) = (BTreeMap::new(), Vec::new());
    let (mut revisions, mut created) = (BTreeSet::new(), 0);
    for &(name, repository) in services {
        let tag = format!("{repository}:{version}");
        let Some(image) = found.get(name).and_then(|images| images.get(&version)) else {
            lacking.push(format!("service `{name}` has no image `{tag}`"));
            continue;
        };
        if let Some(pinned) = pins.get(&version, name).filter(|pinned| **pinned != image.id) {
            lacking.push(format!(
                "the tag `{tag}` has moved from {}, which was deployed, to {}",
                short(pinned),
                short(&image.id)
            ));
        }
        revisions.extend(image.revision.clone());
        created = created.max(image.created);
        images.insert(name.to_owned(), image.id.clone());
    }
    let missing = services.len() - images.len();
    let strange = |revision: &&String| {
        version.is_sha() && revision.parse::<CommitId>().is_ok_and(|id| id.version() != version)
    };
    if let Some(other) = revisions.iter().find(strange) {
        lacking.push(format!("an image of it was made from commit `{other}`"));
    } else if revisions.len() > 1 {
        let all: Vec<_> = revisions.iter().map(|id| format!("`{id}`")).collect();
        lacking.push(format!("its images were made from the commits {}", all.join(" and ")));
    }
    Release {
        revision: revisions.into_iter().find_map(|text| text.parse().ok()),
        created: Timestamp::from_second(created).unwrap_or_default(),
        lacks_only_images: lacking.len() == missing,
        version,
        images,
        lacking,
    }
}

/// The error for a version that cannot be deployed; it names those that can.
fn incomplete(version: &Version, releases: &[Release]) -> Error {
    let lacking = match releases.iter().find(|release| release.version == *version) {
        Some(release) => release.lacking.join(", "),
        None => "there is no image of it".to_owned(),
    };
    let complete: Vec<_> =
        releases.iter().filter(|r| r.is_complete()).map(|r| r.version.clone()).collect();
    let error = Error::new(
        ErrorKind::IncompleteVersion,
        format!("version `{version}` does not exist or is incomplete: {lacking}"),
    );
    if complete.is_empty() {
        return error.remedy("no version is complete");
    }
    error.remedy(format!("complete versions: {}", names(&complete)))
}

/// As much of an image's id as a person compares.
pub(super) fn short(id: &str) -> &str {
    id.get(..19).unwrap_or(id)
}
