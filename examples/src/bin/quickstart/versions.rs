//! The versions that the team pushes.

use ops_core::CommitId;
use ops_examples::Failure;
use ops_examples::upstream::Upstream;

/// The commits, oldest first; nothing is published yet.
pub struct Versions {
    pub first: CommitId,
    pub second: CommitId,
    /// It starts, but does not work.
    pub broken: CommitId,
    pub mended: CommitId,
}

impl Versions {
    pub fn commit(upstream: &Upstream) -> Result<Self, Failure> {
        let first = version(upstream, None, "Open the guestbook", "Guestbook", false)?;
        let second = version(upstream, Some(&first), "Say welcome", "Welcome!", false)?;
        let broken = version(upstream, Some(&second), "Rewrite it all", "Guestbook 2.0", true)?;
        let mended = version(upstream, Some(&broken), "Mend it", "Guestbook 2.1", false)?;
        Ok(Self { first, second, broken, mended })
    }
}

fn version(
    upstream: &Upstream,
    parent: Option<&CommitId>,
    message: &str,
    title: &str,
    broken: bool,
) -> Result<CommitId, Failure> {
    let settings = format!("title = \"{title}\"\nbroken = {broken}\n");
    let page = "<!doctype html>\n<title>{title}</title>\n<h1>{title}</h1>\n\
                <p>version {version}</p>\n<ul>\n{rows}</ul>\n";
    upstream.commit(parent, message, &[("app.toml", &settings), ("page.html", page)])
}
