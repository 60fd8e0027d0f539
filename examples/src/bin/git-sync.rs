//! Keeps a mirror of a repository: `git-sync --repo /srv/app.git --from https://example.org/app.git
//! pull`, then `git-sync --repo /srv/app.git versions`. Of a work tree it moves files, index and
//! branch together: `git-sync --repo /srv/app pull --merge`.
//!
//! With `--json` each verb answers with one object; docs/git-sync.md says what is in it.
//!
//! `pull --json` prints one object: `changed`; `pull`, with `branch`, `upstream`, `before` (null for a
//! new branch), `after`, `commits`, `rewritten`, `moved_tags` and `is_cut_off`; and `report`, if
//! something changed. With `--dry-run` it is `dry_run`, `pull`, `plan` and `digest`; if the pull is
//! refused, `reasons`, as with every verb.
//!
//! Exit codes: 0 done, 2 usage, 3 refused and nothing changed, 4 failed and put back, 5 a person
//! must look.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use ops_core::Secret;
use ops_examples::Failure;
use ops_examples::program::{Answer, CommonArgs, Program, run};
use ops_git::{
    BranchName, CheckoutOptions, Credentials, FastForward, GitRepository, HeadPosition, History,
    Identity, MergeOptions, PullOptions, PullPolicy, Pulled, RemoveWorktreeOptions, Rewritten,
    SubmodulePolicy, TagOptions,
};
use serde_json::json;

/// Pulls, checks out, merges and tags so that nothing is lost, and writes versions into folders.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The repository.
    #[arg(long, global = true, default_value = ".")]
    repo: PathBuf,
    /// Where it pulls from: a path, http, https or ssh. With it, a mirror is created where none is.
    #[arg(long, global = true, value_name = "URL")]
    from: Option<String>,
    /// A file with the token for an https remote [default: what `credential.helper` of the
    /// repository's configuration knows].
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What is there, and what stands in the way.
    Status,
    /// Fetch, then fast-forward the branch, with the work tree that is on it. --dry-run fetches, too:
    /// the plan needs it.
    Pull {
        /// Another branch than the one that HEAD is on.
        #[arg(long)]
        branch: Option<BranchName>,
        #[command(flatten)]
        merge: PullMergeArgs,
        #[command(flatten)]
        fetch: FetchArgs,
    },
    /// Write the files of a version into a new folder.
    Export {
        /// A branch, a tag, a commit or the beginning of one.
        version: String,
        /// The folder.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Merge a commit into the branch, with the work tree that is on it. A conflict is refused with
    /// every path; nothing moves.
    Merge {
        /// A branch, a tag, a commit or the beginning of one.
        revision: String,
        /// Another branch than the one that HEAD is on.
        #[arg(long)]
        into: Option<BranchName>,
        /// What the commit says [default: what git says].
        #[arg(long, short)]
        message: Option<String>,
        /// Whether the branch may move without a merge commit.
        #[arg(long, value_enum, default_value_t)]
        fast_forward: FastForwardArg,
        #[command(flatten)]
        identity: IdentityArgs,
        #[command(flatten)]
        tree: TreeArgs,
    },
    /// Name a version for good. A tag that exists is never moved.
    Tag {
        /// The tag.
        tag: String,
        /// A branch, a tag, a commit or the beginning of one.
        #[arg(default_value = "HEAD")]
        version: String,
        /// What the tag says [default: nothing, and it is a mere name].
        #[arg(long, short)]
        message: Option<String>,
        #[command(flatten)]
        identity: IdentityArgs,
    },
    /// Move the branch back to an older version, with the work tree that is on it; where it was is
    /// tagged `recovery/<time>-<version>`.
    Rollback {
        /// A tag, a commit or the beginning of one, of the branch.
        version: String,
        /// Another branch than the one that HEAD is on.
        #[arg(long)]
        branch: Option<BranchName>,
    },
    /// Make the work tree another version's, in place.
    Checkout {
        /// A branch, and HEAD is on it afterwards; a tag, a commit or the beginning of one, and
        /// HEAD is detached.
        version: String,
        /// Detach HEAD from a branch, too.
        #[arg(long)]
        detach: bool,
        #[command(flatten)]
        tree: TreeArgs,
    },
    /// Linked work trees.
    #[command(subcommand)]
    Worktree(WorktreeVerb),
    /// The newest versions, newest first.
    Versions {
        /// How many at most.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Bring what was interrupted to its end.
    Recover,
}

#[derive(Debug, Subcommand)]
enum WorktreeVerb {
    /// Those that there are.
    List,
    /// Make one, with the files of a version.
    Add {
        /// Its folder, which does not exist or is empty.
        path: PathBuf,
        /// A branch, and its HEAD is on it; a tag, a commit or the beginning of one, and its HEAD is
        /// detached.
        version: String,
        /// Detach HEAD from a branch, too.
        #[arg(long)]
        detach: bool,
    },
    /// Take one away. Changes, untracked and ignored files are refused by name.
    Remove {
        /// Its folder.
        path: PathBuf,
        /// Take it away all the same, and keep the folder below .git/ops-git/lost.
        #[arg(long)]
        keep_changes: bool,
        /// Let ignored files go for good.
        #[arg(long)]
        discard_ignored: bool,
    },
}

/// What may happen to the work tree.
#[derive(Debug, Clone, Copy, clap::Args)]
struct TreeArgs {
    /// Replace ignored files that are in the way; they are saved below .git/ops-git/lost.
    #[arg(long)]
    overwrite_ignored: bool,
    /// Switch submodules along that are there and have the commit; others are refused.
    #[arg(long)]
    update_submodules: bool,
}

impl TreeArgs {
    fn submodules(self) -> SubmodulePolicy {
        if self.update_submodules { SubmodulePolicy::Update } else { SubmodulePolicy::LeaveAlone }
    }
}

/// How a pull merges.
#[derive(Debug, clap::Args)]
struct PullMergeArgs {
    /// Merge if both sides have commits of their own. A conflict is refused with every path.
    #[arg(long)]
    merge: bool,
    /// What the merge commit says [default: what git says].
    #[arg(long, short, requires = "merge")]
    message: Option<String>,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    tree: TreeArgs,
}

impl PullMergeArgs {
    fn onto(self, mut options: PullOptions) -> Result<PullOptions, Failure> {
        options.policy = if self.merge { PullPolicy::Merge } else { PullPolicy::FastForwardOnly };
        options.merge.message = self.message;
        options.merge.committer = self.identity.identity()?;
        options.merge.overwrite_ignored = self.tree.overwrite_ignored;
        options.merge.submodules = self.tree.submodules();
        Ok(options)
    }
}

/// How a pull fetches.
#[derive(Debug, clap::Args)]
struct FetchArgs {
    /// At most so many commits of each branch, the first time. Later pulls bring all that is new.
    #[arg(long, value_name = "COMMITS", conflicts_with_all = ["deepen", "unshallow"])]
    depth: Option<NonZeroU32>,
    /// So many commits more, below where the history is cut off.
    #[arg(long, value_name = "COMMITS", conflicts_with = "unshallow")]
    deepen: Option<NonZeroU32>,
    /// The whole history.
    #[arg(long)]
    unshallow: bool,
    /// Move the branch to a history that was force-pushed; the old tip is kept below
    /// refs/ops-git/recovery.
    #[arg(long)]
    follow_rewritten: bool,
    /// How long the fetch may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    deadline: u64,
}

impl FetchArgs {
    fn options(&self) -> PullOptions {
        let history = match (self.depth, self.deepen, self.unshallow) {
            (Some(commits), ..) => History::AtMost(commits),
            (_, Some(commits), _) => History::Deepen(commits),
            (.., true) => History::Complete,
            _ => History::New,
        };
        let rewritten = if self.follow_rewritten { Rewritten::Follow } else { Rewritten::Refuse };
        PullOptions::default()
            .history(history)
            .rewritten(rewritten)
            .deadline(Duration::from_secs(self.deadline))
    }
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum FastForwardArg {
    #[default]
    Allowed,
    Only,
    Never,
}

/// Who commits or tags [default: what the repository's own configuration says].
#[derive(Debug, clap::Args)]
struct IdentityArgs {
    /// The name.
    #[arg(long, requires = "email")]
    name: Option<String>,
    /// The address.
    #[arg(long, requires = "name")]
    email: Option<String>,
}

impl IdentityArgs {
    fn identity(self) -> Result<Option<Identity>, Failure> {
        Ok(self.name.zip(self.email).map(|(name, email)| Identity::new(name, email)).transpose()?)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { repo, from, token_file, common, verb } = Args::parse();
    run("git-sync", common, async |program| {
        let mut repository = open(&repo, from.as_deref())?;
        if let Some(path) = token_file {
            repository = repository.with_credentials(Credentials::token(Secret::from_file(path)?));
        }
        match verb {
            Verb::Status => status(&repository).await,
            Verb::Pull { branch, merge, fetch } => {
                pull(program, &repository, branch, merge, &fetch).await
            }
            Verb::Export { version, to } => {
                let plan = repository.plan_export(&version, &to).await?;
                program.carry_out(plan, &&repository).await
            }
            Verb::Merge { revision, into, message, fast_forward, identity, tree } => {
                let mut options = MergeOptions::default().fast_forward(match fast_forward {
                    FastForwardArg::Allowed => FastForward::Allowed,
                    FastForwardArg::Only => FastForward::Only,
                    FastForwardArg::Never => FastForward::Never,
                });
                options.branch = into;
                options.message = message;
                options.committer = identity.identity()?;
                options.overwrite_ignored = tree.overwrite_ignored;
                options.submodules = tree.submodules();
                let plan = repository.plan_merge(&program.cx, &revision, options).await?;
                program.carry_out(plan, &&repository).await
            }
            Verb::Tag { tag, version, message, identity } => {
                let mut options = TagOptions::default();
                options.message = message;
                options.tagger = identity.identity()?;
                let plan = repository.plan_tag(&program.cx, &tag, &version, options).await?;
                program.carry_out(plan, &&repository).await
            }
            Verb::Rollback { version, branch } => {
                let plan = repository.plan_rollback(&program.cx, &version, branch).await?;
                program.carry_out(plan, &&repository).await
            }
            Verb::Checkout { version, detach, tree } => {
                let mut options = CheckoutOptions::default();
                options.detach = detach;
                options.overwrite_ignored = tree.overwrite_ignored;
                options.submodules = tree.submodules();
                let plan = repository.plan_checkout(&version, options).await?;
                program.carry_out(plan, &&repository).await
            }
            Verb::Worktree(verb) => worktree(program, &repository, verb).await,
            Verb::Versions { limit } => versions(&repository, limit).await,
            Verb::Recover => program.recover(&&repository).await,
        }
    })
    .await
}

fn open(repo: &Path, from: Option<&str>) -> Result<GitRepository, Failure> {
    Ok(match from {
        Some(url) => GitRepository::mirror(url, repo)?,
        None => GitRepository::open(repo)?,
    })
}

async fn status(repository: &GitRepository) -> Result<Answer, Failure> {
    let found = repository.inspect().await?;
    let name = |what: Option<String>| what.unwrap_or_else(|| "none".to_owned());
    let blockers = found.refusals();
    let first = format!(
        "branch {}, commit {}, upstream {}",
        name(found.branch.as_ref().map(ToString::to_string)),
        name(found.head.as_ref().map(ToString::to_string)),
        name(found.upstream.clone()),
    );
    let in_the_way = blockers.iter().map(|blocker| format!("in the way: {blocker}"));
    let text = std::iter::once(first).chain(in_the_way).collect::<Vec<_>>().join("\n");
    let json = json!({
        "branch": found.branch.map(|branch| branch.to_string()),
        "commit": found.head,
        "upstream": found.upstream,
        "bare": found.bare,
        "clear": blockers.is_empty(),
        "blockers": blockers,
    });
    Ok(Answer::new(text, json))
}

async fn pull(
    program: &Program,
    repository: &GitRepository,
    branch: Option<BranchName>,
    merge: PullMergeArgs,
    fetch: &FetchArgs,
) -> Result<Answer, Failure> {
    let options = branch.into_iter().fold(fetch.options(), PullOptions::branch);
    let options = merge.onto(options)?;
    let plan = repository.plan_pull(&program.cx, options).await?;
    let pulled = Pulled::in_plan(&plan);
    let mut answer = program.carry_out(plan, &repository).await?;
    if let Some(pulled) = pulled {
        answer.json["pull"] = json!({
            "branch": pulled.branch,
            "upstream": pulled.upstream,
            "before": pulled.before,
            "after": pulled.after,
            "commits": pulled.commits,
            "rewritten": pulled.rewritten,
            "moved_tags": pulled.moved_tags,
            "is_cut_off": pulled.is_cut_off,
        });
    }
    Ok(answer)
}

async fn worktree(
    program: &Program,
    repository: &GitRepository,
    verb: WorktreeVerb,
) -> Result<Answer, Failure> {
    let plan = match verb {
        WorktreeVerb::List => return worktrees(repository).await,
        WorktreeVerb::Add { path, version, detach } => {
            let mut options = CheckoutOptions::default();
            options.detach = detach;
            repository.plan_add_worktree(&path, &version, options).await?
        }
        WorktreeVerb::Remove { path, keep_changes, discard_ignored } => {
            let mut options = RemoveWorktreeOptions::default();
            options.keep_changes = keep_changes;
            options.discard_ignored = discard_ignored;
            repository.plan_remove_worktree(&path, options).await?
        }
    };
    program.carry_out(plan, &repository).await
}

async fn worktrees(repository: &GitRepository) -> Result<Answer, Failure> {
    let found = repository.worktrees().await?;
    let name = |what: &Option<HeadPosition>| {
        what.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string)
    };
    let lines = found.iter().map(|w| format!("{} {}", w.path.display(), name(&w.head)));
    let text = lines.collect::<Vec<_>>().join("\n");
    let list: Vec<_> = found
        .iter()
        .map(|w| {
            json!({
                "name": w.name,
                "path": w.path.display().to_string(),
                "head": w.head,
                "commit": w.commit,
                "locked": w.locked,
                "missing": w.missing,
            })
        })
        .collect();
    Ok(Answer::new(text, json!({"worktrees": list})))
}

async fn versions(repository: &GitRepository, limit: usize) -> Result<Answer, Failure> {
    let versions = repository.versions(limit).await?;
    let lines = versions.iter().map(|v| format!("{} {} {}", v.version, v.date, v.subject));
    let text = lines.collect::<Vec<_>>().join("\n");
    let list: Vec<_> = versions
        .iter()
        .map(|v| {
            json!({
                "version": v.version,
                "commit": v.commit,
                "tags": v.tags,
                "subject": v.subject,
                "author": v.author,
                "date": v.date,
                "usable": v.shared_with.is_empty(),
            })
        })
        .collect();
    Ok(Answer::new(text, json!({"versions": list})))
}
