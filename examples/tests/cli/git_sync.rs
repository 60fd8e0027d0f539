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
