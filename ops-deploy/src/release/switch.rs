//! Moves what the world sees: the traffic, and the `current` symlink.

use std::path::{Path, PathBuf};

use ops_core::{StepContext, StepError, Version};

use super::directory::ReleaseDirectory;
use super::start::Placement;
use crate::error::{Error, ErrorKind};
use crate::switching::{switch_back, switch_to};

pub(super) fn pointer_key(version: &Version) -> String {
    format!("traffic before {version}")
}

fn link_key(version: &Version) -> String {
    format!("current before {version}")
}

impl ReleaseDirectory {
    pub(super) async fn switch_traffic(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let Some(traffic) = &self.0.traffic else { return Ok(()) };
        let to = Placement::known(version, cx)?.upstream();
        switch_to(&**traffic, &pointer_key(version), &to, cx).await
    }

    pub(super) async fn switch_traffic_back(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let Some(traffic) = &self.0.traffic else { return Ok(()) };
        let ours = Placement::noted(version, cx)?.map(|placement| placement.upstream());
        switch_back(&**traffic, &pointer_key(version), ours, cx).await
    }

    pub(super) async fn move_current(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let site = self.clone();
        let look = cx.blocking(move |_| {
            let link = site.link()?;
            link.map(|target| {
                target.into_os_string().into_string().map_err(|target| {
                    Error::new(
                        ErrorKind::UnknownCurrent,
                        "`current` points to a name that is not UTF-8",
                    )
                    .with("target", Path::new(&target).display())
                })
            })
            .transpose()
        });
        let before: Option<String> =
            cx.observe(&link_key(version), async { look.await.map(Seen) }).await?.0;
        let (site, version) = (self.clone(), version.clone());
        cx.blocking(move |_| {
            let target = Path::new("releases").join(version.as_str());
            if before.as_deref().map(Path::new) == Some(&target) {
                return Ok(());
            }
            ops_core::fs::symlink_swap(&site.current_path(), &target)
        })
        .await
    }

    /// The version that `current` named before this operation moved it.
    pub(super) fn linked_before(
        version: &Version,
        cx: &StepContext,
    ) -> Result<Option<Version>, StepError> {
        let Some(Seen(Some(target))) = cx.noted(&link_key(version))? else { return Ok(None) };
        let name = Path::new(&target).file_name().and_then(|name| name.to_str());
        Ok(name.and_then(|name| name.parse().ok()))
    }

    pub(super) async fn move_current_back(
        &self,
        version: &Version,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let Some(Seen(before)) = cx.noted(&link_key(version))? else { return Ok(()) };
        let site = self.clone();
        cx.blocking(move |_| {
            let before = before.map(PathBuf::from);
            if site.link()? == before {
                // Whoever put it back may have been killed before that was on the disk.
                return Ok(ops_core::fs::sync_dir(site.root())?);
            }
            match before {
                Some(target) => ops_core::fs::symlink_swap(&site.current_path(), &target)?,
                None => ops_core::fs::remove_file_durable(&site.current_path())?,
            }
            Ok::<_, Error>(())
        })
        .await
    }
}

/// A fact that may be "nothing": a bare `None` would look like a note that was never made.
#[derive(serde::Serialize, serde::Deserialize)]
struct Seen(Option<String>);
