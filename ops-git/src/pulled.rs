//! What a pull means, read from the facts of its plan or report.

use std::collections::BTreeMap;

use ops_core::{CommitId, Plan, Report};

use crate::id::BranchName;

/// What a pull does, or did.
///
/// ```
/// use ops_core::{Context, Environment};
/// use ops_git::{MemoryRepository, PullOptions, Pulled, VersionControl};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let dir = tempfile::tempdir()?;
/// # let cx = Context::builder(dir.path()).environment(Environment::Development).build();
/// let app = MemoryRepository::new("app");
/// let commit = app.commit("Greet", [("hello.txt", "hello")]);
/// let plan = app.plan_pull(&cx, PullOptions::default()).await?;
/// let pull = Pulled::in_plan(&plan).expect("it is the plan of a pull");
/// assert_eq!((pull.before, pull.after, pull.commits), (None, commit, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulled {
    /// The branch.
    pub branch: BranchName,
    /// The branch of the remote, such as `origin/main`.
    pub upstream: String,
    /// Where the branch was; `None` if it is new.
    pub before: Option<CommitId>,
    /// Where it is afterwards.
    pub after: CommitId,
    /// How many commits came; at least so many, if the history is cut off.
    pub commits: u64,
    /// Whether the remote's history was rewritten, and that was followed.
    pub rewritten: bool,
    /// Tags that the remote has elsewhere; they stay where they are here. At most 20 are named.
    pub moved_tags: Vec<String>,
    /// Whether the repository is shallow.
    pub is_cut_off: bool,
}

impl Pulled {
    /// The pull in a plan, or in a composition that has one; `None` if there is none.
    pub fn in_plan(plan: &Plan) -> Option<Self> {
        Self::read(&plan.facts)
    }

    /// The pull in a report; `None` if there was none.
    pub fn in_report(report: &Report) -> Option<Self> {
        Self::read(&report.facts)
    }

    /// Whether the branch moves.
    pub fn is_new(&self) -> bool {
        self.before.as_ref() != Some(&self.after)
    }

    fn read(facts: &BTreeMap<String, String>) -> Option<Self> {
        let before = facts.get("sha_before").map(|id| id.parse()).transpose().ok()?;
        let tags = facts.get("tags_moved_upstream").map(String::as_str).unwrap_or_default();
        Some(Self {
            branch: facts.get("branch")?.parse().ok()?,
            upstream: facts.get("upstream")?.clone(),
            before,
            after: facts.get("sha_after")?.parse().ok()?,
            commits: facts.get("commits")?.parse().ok()?,
            rewritten: facts.contains_key("rewritten"),
            moved_tags: tags.split(", ").filter(|t| !t.is_empty()).map(str::to_owned).collect(),
            is_cut_off: facts.contains_key("history"),
        })
    }
}
