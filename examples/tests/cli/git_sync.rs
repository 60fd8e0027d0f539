use std::path::{Path, PathBuf};

use ops_core::CommitId;
use ops_examples::upstream::Upstream;

use crate::answer::{Answer, run};

struct Repositories {
    dir: tempfile::TempDir,
    upstream: Upstream,
}

impl Repositories {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let upstream = Upstream::create(dir.path().join("upstream.git")).unwrap();
        Self { dir, upstream }
    }

    fn push(&self, parent: Option<&CommitId>, message: &str) -> CommitId {
        let commit = self.upstream.commit(parent, message, &[("file.txt", message)]).unwrap();
        self.upstream.publish(&commit).unwrap();
        commit
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn git_sync(&self, words: &str, more: &[&Path]) -> Answer {
        let options = [
            "--repo".into(),
            self.path("mirror.git"),
            "--from".into(),
            self.upstream.path().to_owned(),
            "--state-dir".into(),
            self.path("state"),
        ];
        let all: Vec<_> = more.iter().map(|path| path.to_path_buf()).chain(options).collect();
        run(env!("CARGO_BIN_EXE_git-sync"), &format!("{words} --json"), &all)
    }
}

#[test]
fn a_mirror_is_pulled_by_the_digest_that_was_read() {
    let these = Repositories::new();
    let first = these.push(None, "first");

    let planned = these.git_sync("pull --dry-run", &[]).expect(0);
    let digest = planned.json["digest"].as_str().unwrap().to_owned();
    assert!(these.git_sync("status", &[]).expect(0).json["commit"].is_null(), "a dry run pulled");

    // Production asks for an approval, and nobody is at a terminal.
    let refused = these.git_sync("pull", &[]).expect(3);
    assert!(refused.err.contains("--approve"), "{}", refused.err);

    let pulled = these.git_sync(&format!("pull --approve {digest}"), &[]).expect(0);
    assert_eq!(pulled.json["report"]["outcome"], "completed");
    assert_eq!(these.git_sync("status", &[]).expect(0).json["commit"], first.as_str());
    assert_eq!(these.git_sync("pull --yes", &[]).expect(0).json["changed"], false);

    // An approval is good for what was read, and for nothing else.
    let second = these.push(Some(&first), "second");
    these.git_sync(&format!("pull --approve {digest}"), &[]).expect(3);
    these.git_sync("pull --environment development", &[]).expect(0);

    let versions = these.git_sync("versions", &[]).expect(0).json;
    let subjects: Vec<_> =
        versions["versions"].as_array().unwrap().iter().map(|v| &v["subject"]).collect();
    assert_eq!(subjects, ["second", "first"]);
    assert_eq!(versions["versions"][0]["version"], second.version().as_str());

    let (folder, version) = (these.path("release"), PathBuf::from(first.version().as_str()));
    these.git_sync("export --yes", &[&version, Path::new("--to"), &folder]).expect(0);
    assert_eq!(std::fs::read_to_string(folder.join("file.txt")).unwrap(), "first");
    assert_eq!(these.git_sync("recover", &[]).expect(0).json["recovered"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_pulled_is_refused_and_what_makes_no_sense_is_usage() {
    let these = Repositories::new();
    let first = these.push(None, "first");
    these.git_sync("pull --yes", &[]).expect(0);

    // The team rewrote its history.
    these.push(None, "another beginning");
    let refused = these.git_sync("pull --yes", &[]).expect(3);
    assert!(!refused.json["reasons"].as_array().unwrap().is_empty(), "{}", refused.out);
    assert_eq!(these.git_sync("status", &[]).expect(0).json["commit"], first.as_str());

    these.git_sync("merge", &[]).expect(2);
    these.git_sync("tag a..b", &[]).expect(2);
    these.git_sync("pull --branch a..b", &[]).expect(2);
    these.git_sync("pull --approve 12", &[]).expect(2);
    let nowhere = these.path("nowhere");
    let state = these.path("state");
    let words = "status --json --repo";
    let program = env!("CARGO_BIN_EXE_git-sync");
    run(program, words, &[nowhere.as_os_str(), "--state-dir".as_ref(), state.as_os_str()])
        .expect(3);
}

#[test]
fn a_version_is_tagged_rolled_back_and_merged_again() {
    let these = Repositories::new();
    let (upstream, yes) = (&these.upstream, "--yes --name Ops --email ops@example.org");
    let first = upstream.commit(None, "first", &[("a", "1\n")]).unwrap();
    upstream.publish(&first).unwrap();
    these.git_sync("pull --yes", &[]).expect(0);
    let topic = upstream.commit(Some(&first), "topic", &[("a", "1\n"), ("b", "2\n")]).unwrap();
    upstream.publish(&topic).unwrap();
    these.git_sync("pull --yes", &[]).expect(0);
    these.git_sync(&format!("tag v1 --message One {yes}"), &[]).expect(0);
    these.git_sync("tag v1 --yes", &[]).expect(3);

    let back = these.git_sync(&format!("rollback {first} --yes"), &[]).expect(0);
    let recovery = back.json["report"]["facts"]["recovery_tag"].as_str().unwrap().to_owned();
    assert_eq!(these.git_sync("status", &[]).expect(0).json["commit"], first.as_str());
    let other = upstream.commit(Some(&first), "other", &[("a", "1\n"), ("c", "3\n")]).unwrap();
    upstream.publish(&other).unwrap();
    these.git_sync("pull --yes", &[]).expect(0);

    // Nobody is named who commits.
    these.git_sync(&format!("merge {recovery} --yes"), &[]).expect(3);
    let only = these.git_sync(&format!("merge {recovery} --fast-forward only {yes}"), &[]);
    only.expect(3);
    let planned = these.git_sync(&format!("merge {recovery} --dry-run {yes}"), &[]).expect(0);
    assert_eq!(planned.json["plan"]["facts"]["merge"], "commit");
    let merged = these.git_sync(&format!("merge {recovery} {yes}"), &[]).expect(0);
    let new = &merged.json["report"]["facts"]["sha_after"];
    assert_eq!(these.git_sync("status", &[]).expect(0).json["commit"], *new);
    let versions = these.git_sync("versions", &[]).expect(0).json;
    assert_eq!(versions["versions"][0]["subject"], format!("Merge tag '{recovery}'"));
    assert_eq!(versions["versions"].as_array().unwrap().len(), 4);
    let again = these.git_sync(&format!("merge v1 {yes}"), &[]).expect(0);
    assert_eq!(again.json["changed"], false);

    // What both sides changed is refused with every path.
    let theirs = upstream.commit(Some(&first), "theirs", &[("a", "x\n"), ("c", "y\n")]).unwrap();
    upstream.publish(&theirs).unwrap();
    these.git_sync("pull --yes", &[]).expect(3);
    let refused = these.git_sync(&format!("merge origin/main {yes}"), &[]).expect(3);
    let reasons = refused.json["reasons"].as_array().unwrap();
    assert_eq!(reasons.len(), 1, "{}", refused.out);
    assert!(reasons[0]["reason"].as_str().unwrap().contains("`c` is added"), "{}", refused.out);
    assert_eq!(these.git_sync("status", &[]).expect(0).json["commit"], *new);
}

#[test]
fn a_work_tree_is_checked_out_and_nothing_in_it_is_lost() {
    let these = Repositories::new();
    let first = these.push(None, "first");
    let second = these.push(Some(&first), "second");
    let (work, state) = (these.path("work"), these.path("state"));
    let cloned = std::process::Command::new("git")
        .args(["clone", "-q"])
        .args([these.upstream.path(), work.as_path()])
        .status();
    assert!(cloned.unwrap().success());
    let git_sync = |words: &str| {
        let places =
            ["--repo".as_ref(), work.as_os_str(), "--state-dir".as_ref(), state.as_os_str()];
        run(env!("CARGO_BIN_EXE_git-sync"), &format!("{words} --json"), &places)
    };
    let read = || std::fs::read_to_string(work.join("file.txt")).unwrap();

    let planned = git_sync(&format!("checkout {first} --dry-run")).expect(0);
    assert_eq!(planned.json["plan"]["facts"]["sha_before"], second.as_str(), "{}", planned.out);
    assert_eq!(planned.json["plan"]["facts"]["files_changed"], "1");
    assert_eq!(read(), "second", "a dry run wrote");
    git_sync(&format!("checkout {first}")).expect(3);

    let digest = planned.json["digest"].as_str().unwrap();
    let done = git_sync(&format!("checkout {first} --approve {digest}")).expect(0);
    assert_eq!(done.json["report"]["outcome"], "completed");
    assert_eq!(done.json["report"]["facts"]["sha_after"], first.as_str());
    assert_eq!(read(), "first");
    assert_eq!(git_sync("status").expect(0).json["branch"], serde_json::Value::Null);

    std::fs::write(work.join("file.txt"), "local").unwrap();
    let refused = git_sync("checkout main --yes").expect(3);
    assert!(refused.out.contains("local changes would be lost: `file.txt`"), "{}", refused.out);
    assert_eq!(read(), "local");
    std::fs::write(work.join("file.txt"), "first").unwrap();
    git_sync("checkout main --yes").expect(0);
    assert_eq!(read(), "second");
    assert_eq!(git_sync("status").expect(0).json["branch"], "main");
    assert_eq!(git_sync("checkout main --yes").expect(0).json["changed"], false);
    git_sync("checkout no-such-version --yes").expect(3);
}

/// A clone of the upstream that commits as somebody.
fn clone(these: &Repositories, to: &Path) {
    let done = std::process::Command::new("git")
        .args(["clone", "-q"])
        .args([these.upstream.path(), to])
        .status();
    assert!(done.unwrap().success());
    git(to, "config user.name Ops");
    git(to, "config user.email ops@example.org");
}

fn git(at: &Path, words: &str) -> String {
    let output = std::process::Command::new("git")
        .arg("-C")
        .arg(at)
        .args(words.split_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_work_tree_is_pulled_merged_and_rolled_back_along_with_its_branch() {
    let these = Repositories::new();
    let commit = |parent: Option<&CommitId>, files: &[(&str, &str)]| {
        let commit = these.upstream.commit(parent, "next", files).unwrap();
        these.upstream.publish(&commit).unwrap();
        commit
    };
    let first = commit(None, &[("a", "1\n"), ("b", "1\n")]);
    let (work, state) = (these.path("work"), these.path("state"));
    clone(&these, &work);
    let git_sync = |words: &str| {
        let places =
            ["--repo".as_ref(), work.as_os_str(), "--state-dir".as_ref(), state.as_os_str()];
        run(env!("CARGO_BIN_EXE_git-sync"), &format!("{words} --json"), &places)
    };
    let read = |name: &str| std::fs::read_to_string(work.join(name)).unwrap();

    let second = commit(Some(&first), &[("a", "2\n"), ("b", "1\n")]);
    std::fs::write(work.join("mine"), "mine").unwrap();
    let pulled = git_sync("pull --yes").expect(0);
    assert_eq!(pulled.json["report"]["facts"]["sha_after"], second.as_str());
    assert_eq!(pulled.json["report"]["facts"]["files_changed"], "1");
    assert_eq!((read("a").as_str(), read("mine").as_str()), ("2\n", "mine"));
    assert_eq!(git(&work, "status --porcelain"), "?? mine");

    // Both sides go on: refused unless a merge is asked for.
    std::fs::write(work.join("b"), "ours\n").unwrap();
    git(&work, "commit -qam ours");
    let third = commit(Some(&second), &[("a", "3\n"), ("b", "1\n")]);
    let refused = git_sync("pull --yes").expect(3);
    assert!(refused.out.contains("has diverged"), "{}", refused.out);
    git_sync("pull --message without-merge").expect(2);
    let planned = git_sync("pull --merge --dry-run").expect(0);
    assert_eq!(planned.json["plan"]["facts"]["merge"], "commit");
    assert_eq!(read("a"), "2\n", "a dry run wrote");
    let merged = git_sync("pull --merge --message Both --yes").expect(0);
    let facts = &merged.json["report"]["facts"];
    assert_eq!(facts["merge"], "commit");
    assert_eq!((read("a").as_str(), read("b").as_str()), ("3\n", "ours\n"));
    assert_eq!(git(&work, "log -1 --format=%s"), "Both");
    assert_eq!(git(&work, "rev-parse HEAD^2"), third.as_str());

    // What is changed here and there is refused, and so is what would be lost.
    commit(Some(&third), &[("a", "3\n"), ("b", "theirs\n")]);
    let conflict = git_sync("pull --merge --yes").expect(3);
    assert!(conflict.out.contains("`b` is changed on both sides"), "{}", conflict.out);
    git(&work, "checkout -q -b topic");
    git(&work, "rm -q a");
    git(&work, "commit -qm gone");
    git(&work, "checkout -q main");
    std::fs::write(work.join("a"), "local").unwrap();
    let refused = git_sync("merge topic --yes").expect(3);
    assert!(refused.out.contains("local changes would be lost: `a`"), "{}", refused.out);
    git(&work, "checkout -q a");
    git_sync("merge topic --yes").expect(0);
    assert!(!work.join("a").exists());

    let back = git_sync(&format!("rollback {} --yes", facts["sha_after"].as_str().unwrap()));
    let tag = back.expect(0).json["report"]["facts"]["recovery_tag"].as_str().unwrap().to_owned();
    assert_eq!((read("a").as_str(), read("mine").as_str()), ("3\n", "mine"));
    assert_eq!(git(&work, &format!("rev-parse {tag}")), git(&work, "rev-parse topic"));
    assert_eq!(git(&work, "status --porcelain"), "?? mine");
}

#[test]
fn linked_work_trees_are_listed_added_and_removed() {
    let these = Repositories::new();
    let first = these.push(None, "first");
    let (work, state, linked) = (these.path("work"), these.path("state"), these.path("linked"));
    clone(&these, &work);
    let git_sync = |words: &str, more: &[&Path]| {
        let options = ["--repo".into(), work.clone(), "--state-dir".into(), state.clone()];
        let all: Vec<_> = more.iter().map(|path| path.to_path_buf()).chain(options).collect();
        run(env!("CARGO_BIN_EXE_git-sync"), &format!("{words} --json"), &all)
    };
    let version = PathBuf::from(first.as_str());
    let refused = git_sync("worktree add", &[&linked, Path::new("main")]).expect(3);
    assert!(refused.out.contains("branch `main` is checked out"), "{}", refused.out);
    let added = git_sync("worktree add --yes", &[&linked, &version]).expect(0);
    assert_eq!(added.json["report"]["facts"]["sha_after"], first.as_str());
    assert_eq!(std::fs::read_to_string(linked.join("file.txt")).unwrap(), "first");
    let list = git_sync("worktree list", &[]).expect(0).json;
    assert_eq!(list["worktrees"][0]["name"], "linked");
    assert_eq!(list["worktrees"][0]["head"]["on"], "commit");
    assert_eq!(list["worktrees"][0]["commit"], first.as_str());

    std::fs::write(linked.join("file.txt"), "local").unwrap();
    let refused = git_sync("worktree remove --yes", &[&linked]).expect(3);
    assert!(refused.out.contains("local changes would be lost: `file.txt`"), "{}", refused.out);
    git_sync("worktree remove --keep-changes --yes", &[&linked]).expect(0);
    assert!(!linked.exists());
    let lost = work.join(".git/ops-git/lost").read_dir().unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_to_string(lost.join("linked/file.txt")).unwrap(), "local");
    assert_eq!(git_sync("worktree list", &[]).expect(0).json["worktrees"], serde_json::json!([]));
    git_sync("worktree remove --yes", &[&linked]).expect(3);
}

#[test]
fn a_rewritten_history_is_followed_when_told_so_and_the_old_one_is_kept() {
    let these = Repositories::new();
    let first = these.push(None, "first");
    let old = these.push(Some(&first), "second");
    these.git_sync("pull --yes", &[]).expect(0);
    let new = these.push(Some(&first), "another second");
    these.git_sync("pull --yes", &[]).expect(3);
    let planned = these.git_sync("pull --follow-rewritten --dry-run", &[]).expect(0);
    assert_eq!(planned.json["pull"]["rewritten"], true, "{}", planned.out);
    let done = these.git_sync("pull --follow-rewritten --yes", &[]).expect(0);
    assert_eq!(done.json["pull"]["before"], old.as_str(), "{}", done.out);
    assert_eq!(done.json["pull"]["after"], new.as_str());
    assert_eq!(done.json["pull"]["branch"], "main");
    assert_eq!(these.git_sync("status", &[]).expect(0).json["commit"], new.as_str());
    let id = done.json["report"]["id"].as_str().unwrap().to_owned();
    let kept = these.path("mirror.git").join("refs/ops-git/recovery/main").join(id);
    assert_eq!(std::fs::read_to_string(kept).unwrap().trim(), old.as_str());
}

#[test]
fn a_part_of_the_history_is_pulled_and_completed() {
    let these = Repositories::new();
    let mut tip = these.push(None, "1");
    for message in ["2", "3", "4", "5"] {
        tip = these.push(Some(&tip), message);
    }
    let count = || {
        let versions = these.git_sync("versions", &[]).expect(0).json;
        versions["versions"].as_array().unwrap().len()
    };
    let pulled = these.git_sync("pull --depth 2 --yes", &[]).expect(0);
    assert_eq!(pulled.json["pull"]["is_cut_off"], true, "{}", pulled.out);
    assert_eq!(pulled.json["pull"]["before"], serde_json::Value::Null);
    assert_eq!(count(), 2);
    these.git_sync("pull --deepen 1 --yes", &[]).expect(0);
    assert_eq!(count(), 3);
    let whole = these.git_sync("pull --unshallow --yes", &[]).expect(0);
    assert_eq!(whole.json["changed"], false);
    assert_eq!(whole.json["pull"]["is_cut_off"], false);
    assert_eq!(count(), 5);
    these.git_sync("pull --depth 0", &[]).expect(2);
    these.git_sync("pull --depth 1 --unshallow", &[]).expect(2);
}

#[test]
fn a_remote_that_hangs_is_given_up_at_the_deadline() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a.git", listener.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (repo, state) = (dir.path().join("mirror.git"), dir.path().join("state"));
    let (token, url) = (dir.path().join("token"), PathBuf::from(url));
    std::fs::write(&token, "hunter2-and-more\n").unwrap();
    let program = env!("CARGO_BIN_EXE_git-sync");
    let begun = std::time::Instant::now();
    let options: [&Path; 8] = [
        "--repo".as_ref(),
        &repo,
        "--from".as_ref(),
        &url,
        "--state-dir".as_ref(),
        &state,
        "--token-file".as_ref(),
        &token,
    ];
    let answer = run(program, "pull --deadline 1 --json", &options);
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_ne!(answer.json["changed"], true);
    assert!(
        answer.err.contains("not done within 1s") || answer.out.contains("not done within 1s"),
        "{}",
        answer.err
    );
    assert!(!format!("{}{}", answer.out, answer.err).contains("hunter2"));
}
