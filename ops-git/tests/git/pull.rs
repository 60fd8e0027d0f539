//! Pulling into a bare mirror.

use ops_core::{Class, Classify as _, ManualClock, Outcome};
use ops_git::{ErrorKind, GitRepository, PullOptions};

use crate::fixture::{World, chain, git};
use crate::server::{Manner, Server};

#[tokio::test]
async fn the_first_pull_creates_the_branch_and_the_next_ones_follow() {
    let world = World::new();
    git(&world.work(), &["tag", "-a", "-m", "first", "v1"]);
    world.push();
    let mirror = world.mirror();
    let cx = world.cx();

    let first = world.head();
    let report = mirror.safe_pull(&cx).await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(world.mirrored("refs/heads/main"), first);
    assert_eq!(report.facts["sha_after"], first);
    assert!(!report.facts.contains_key("sha_before"));
    assert_eq!(report.version.as_ref().unwrap().as_str(), &first[..7]);
    assert_eq!(world.mirrored("v1^{commit}"), first);

    world.commit("b/c.txt", "two\n");
    let second = world.commit("a.txt", "three\n");
    world.push();
    let report = mirror.safe_pull(&cx).await.unwrap();
    assert_eq!(world.mirrored("refs/heads/main"), second);
    assert_eq!(report.facts["sha_before"], first);
    assert_eq!(report.facts["sha_after"], second);
    assert_eq!(report.facts["commits"], "2");
    assert_eq!(git(&world.mirror_path(), &["show", "main:b/c.txt"]), "two");
    let log = git(&world.mirror_path(), &["reflog", "main"]);
    assert!(log.contains(&report.id.to_string()), "{log}");
    world.mirror_is_sound();
}

#[tokio::test]
async fn the_first_pull_takes_the_remotes_own_default_branch() {
    let world = World::empty();
    git(&world.origin(), &["symbolic-ref", "HEAD", "refs/heads/trunk"]);
    git(&world.work(), &["checkout", "-q", "-b", "trunk"]);
    world.commit("a.txt", "one\n");
    world.push();
    git(&world.work(), &["push", "-q", "origin", "HEAD:refs/heads/another"]);
    let server = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    let over_http = world.dir.path().join("http.git");
    for mirror in
        [world.mirror(), GitRepository::mirror(&server.url("origin.git"), &over_http).unwrap()]
    {
        let cx = world.cx();
        // Failing at its end, it leaves HEAD where it was.
        let plan = mirror.plan_pull(&cx, PullOptions::default()).await.unwrap();
        let step = ops_git::GitStep::VerifyBranch {
            branch: "main".parse().unwrap(),
            commit: world.head().parse().unwrap(),
        };
        let failing = plan.change(&mirror, &step).unwrap();
        mirror.execute(failing, &cx).await.unwrap_err();
        let head = || git(mirror.git_dir(), &["symbolic-ref", "HEAD"]);
        assert_eq!(head(), "refs/heads/main");

        let report = mirror.safe_pull(&cx).await.unwrap();
        assert_eq!(report.facts["branch"], "trunk");
        assert_eq!(head(), "refs/heads/trunk");
        assert_eq!(mirror.resolve("HEAD").await.unwrap().as_str(), world.head());
        assert_eq!(mirror.versions(9).await.unwrap().len(), 1);
    }
    world.mirror_is_sound();
}

#[tokio::test]
async fn progress_counts_objects_and_bytes() {
    use ops_core::progress::{Progress, Unit, Update};
    #[derive(Debug, Clone, Default)]
    struct Seen(std::sync::Arc<std::sync::Mutex<Vec<Update>>>);
    impl Progress for Seen {
        fn update(&self, update: &Update) {
            self.0.lock().unwrap().push(update.clone());
        }
    }
    let world = World::new();
    world.commit("a.txt", "two\n");
    world.push();
    let server = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    let mirror = GitRepository::mirror(&server.url("origin.git"), world.mirror_path()).unwrap();
    let seen = Seen::default();
    let cx = ops_core::Context::builder(world.dir.path().join("state"))
        .environment(ops_core::Environment::Development)
        .progress(seen.clone())
        .build();
    mirror.safe_pull(&cx).await.unwrap();
    let pack = git(&world.mirror_path(), &["count-objects", "-v"]);
    assert!(pack.contains("in-pack: 6"), "{pack}");
    let seen = seen.0.lock().unwrap();
    assert!(seen.iter().any(|u| u.unit == Unit::Bytes && u.done > 0), "{seen:?}");
    assert!(seen.iter().any(|u| u.unit == Unit::Items && u.done == 6), "{seen:?}");
}

#[tokio::test]
async fn nothing_new_is_an_empty_plan() {
    let world = World::new();
    let mirror = world.mirror();
    let cx = world.cx();
    mirror.safe_pull(&cx).await.unwrap();
    let plan = mirror.plan_pull(&cx, PullOptions::default()).await.unwrap();
    assert!(plan.is_empty());
    assert_eq!(plan.facts["result"], "already up to date");
    let report = mirror.safe_pull(&cx).await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(report.facts["result"], "already up to date");
    assert_eq!(report.facts["sha_after"], world.head());
}

#[tokio::test]
async fn packed_refs_move_too() {
    let world = World::new();
    let mirror = world.mirror();
    let cx = world.cx();
    mirror.safe_pull(&cx).await.unwrap();
    git(&world.mirror_path(), &["pack-refs", "--all"]);
    git(&world.mirror_path(), &["gc", "-q", "--prune=now"]);
    let second = world.commit("a.txt", "two\n");
    world.push();
    mirror.safe_pull(&cx).await.unwrap();
    assert_eq!(world.mirrored("refs/heads/main"), second);
    world.mirror_is_sound();
}

#[tokio::test]
async fn a_rewritten_upstream_is_refused_with_both_commits() {
    let world = World::new();
    world.commit("a.txt", "two\n");
    world.push();
    let mirror = world.mirror();
    let cx = world.cx();
    mirror.safe_pull(&cx).await.unwrap();
    let ours = world.head();

    git(&world.work(), &["reset", "-q", "--hard", "HEAD~1"]);
    let back = world.head();
    world.push();
    for _ in 0..2 {
        let error = mirror.safe_pull(&cx).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Diverged);
        let text = error.to_string();
        assert!(text.contains("was rewritten upstream"), "{text}");
        assert!(text.contains(&ours) && text.contains(&back), "{text}");
    }

    let theirs = world.commit("a.txt", "another two\n");
    world.push();
    let error = mirror.safe_pull(&cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged);
    let text = error.to_string();
    assert!(text.contains(&ours) && text.contains(&theirs), "{text}");
    assert_eq!(world.mirrored("refs/heads/main"), ours, "nothing moved");
}

#[tokio::test]
async fn histories_that_went_apart_are_refused() {
    let world = World::new();
    let mirror = world.mirror();
    let cx = world.cx();
    mirror.safe_pull(&cx).await.unwrap();
    // Somebody commits into the mirror.
    let tree = git(&world.mirror_path(), &["rev-parse", "main^{tree}"]);
    let own = git(&world.mirror_path(), &["commit-tree", "-p", "main", "-m", "own", &tree]);
    git(&world.mirror_path(), &["update-ref", "refs/heads/main", &own]);
    let theirs = world.commit("a.txt", "two\n");
    world.push();
    let error = mirror.safe_pull(&cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged);
    let text = error.to_string();
    assert!(
        text.contains("has diverged") && text.contains(&own) && text.contains(&theirs),
        "{text}"
    );
    assert_eq!(world.mirrored("refs/heads/main"), own);
}

#[tokio::test]
async fn a_branch_that_the_remote_has_not_is_named_with_those_it_has() {
    let world = World::new();
    let mirror = world.mirror();
    let options = PullOptions::default().branch("mian".parse().unwrap());
    let error = mirror.plan_pull(&world.cx(), options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        "remote `origin` has no branch `mian`; it has `main`; name one of them, or push first"
    );
}

#[tokio::test]
async fn a_branch_that_is_gone_from_the_remote_is_not_found_although_it_was_fetched_once() {
    let world = World::new();
    git(&world.work(), &["push", "-q", "origin", "HEAD:refs/heads/feature"]);
    let mirror = world.mirror();
    let cx = world.cx();
    let options = || PullOptions::default().branch("feature".parse().unwrap());
    let plan = mirror.plan_pull(&cx, options()).await.unwrap();
    mirror.execute(plan, &cx).await.unwrap();
    git(&world.work(), &["push", "-q", "origin", "--delete", "feature"]);
    // A new branch below the old one's name: a conflict of refs for whoever does not prune.
    git(&world.work(), &["push", "-q", "origin", "HEAD:refs/heads/feature/login"]);
    let error = mirror.plan_pull(&cx, options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("`feature/login`, `main`"), "{error}");
    assert_eq!(world.mirrored("refs/remotes/origin/feature/login"), world.head());
}

#[tokio::test]
async fn an_empty_remote_has_nothing_to_pull() {
    let world = World::empty();
    let mirror = world.mirror();
    let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("it has no branch at all"), "{error}");

    let server = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    let over_http =
        GitRepository::mirror(&server.url("origin.git"), world.dir.path().join("http.git"))
            .unwrap();
    let error = over_http.safe_pull(&world.cx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", chain(&error));
}

#[tokio::test]
async fn a_remote_that_is_gone_is_named() {
    let world = World::new();
    let mirror = world.mirror();
    std::fs::rename(world.origin(), world.dir.path().join("elsewhere")).unwrap();
    let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Remote);
    assert!(error.to_string().contains("origin.git"), "{error}");

    // A port where nobody listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a.git", listener.local_addr().unwrap());
    drop(listener);
    let mirror = GitRepository::mirror(&url, world.dir.path().join("gone.git")).unwrap();
    let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Remote, "{}", chain(&error));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_lock_is_refused_by_name_together_with_whatever_else_is_wrong() {
    let world = World::new();
    let mirror = world.mirror();
    let cx = world.cx();
    mirror.safe_pull(&cx).await.unwrap();
    let lock = world.mirror_path().join("refs/heads/main.lock");
    std::fs::write(&lock, "").unwrap();
    std::fs::write(world.mirror_path().join("packed-refs.lock"), "").unwrap();
    let error = mirror.safe_pull(&cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.reasons().len(), 2, "{error}");
    let text = error.to_string();
    for part in ["main.lock", "packed-refs.lock"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn over_http_git_itself_answers() {
    let world = World::new();
    git(&world.work(), &["tag", "-a", "-m", "first", "v1"]);
    world.push();
    let server = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    let mirror = GitRepository::mirror(&server.url("origin.git"), world.mirror_path()).unwrap();
    let cx = world.cx();

    mirror.safe_pull(&cx).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let first = world.head();
    assert_eq!(world.mirrored("refs/heads/main"), first);
    assert_eq!(world.mirrored("v1^{commit}"), first);

    // A tag that comes later, on a commit that is here already.
    git(&world.work(), &["tag", "-a", "-m", "later", "v1.1"]);
    git(&world.work(), &["push", "-q", "origin", "HEAD:refs/heads/x"]);
    git(&world.work(), &["push", "-q", "origin", "--delete", "x"]);
    git(&world.work(), &["push", "-q", "origin", "HEAD:refs/heads/x/y"]);
    world.push();
    let report = mirror.safe_pull(&cx).await.unwrap();
    assert_eq!(report.facts["result"], "already up to date");
    assert_eq!(world.mirrored("v1.1^{commit}"), first);

    let second = world.commit("a.txt", "two\n");
    git(&world.work(), &["push", "-q", "origin", "--delete", "x/y"]);
    git(&world.work(), &["push", "-q", "origin", "HEAD:refs/heads/x"]);
    world.push();
    let report = mirror.safe_pull(&cx).await.unwrap();
    assert_eq!(report.facts["commits"], "1");
    assert_eq!(world.mirrored("refs/heads/main"), second);
    assert_eq!(world.mirrored("refs/remotes/origin/x"), second);
    assert!(server.requests.load(std::sync::atomic::Ordering::Relaxed) > 3);
    world.mirror_is_sound();
}

#[tokio::test]
async fn a_hung_server_ends_at_the_deadline_and_at_a_cancellation() {
    let world = World::new();
    let server = Server::start(world.dir.path().to_owned(), Manner::Hangs).await;
    let mirror = GitRepository::mirror(&server.url("origin.git"), world.mirror_path()).unwrap();
    let cx = world.cx();
    let deadline = PullOptions::default().deadline;
    let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
    let timed = world.cx_at(&clock);
    let (pulled, ()) = tokio::join!(mirror.plan_pull(&timed, PullOptions::default()), async {
        server.hangs(1).await;
        clock.advance(deadline);
    });
    let error = pulled.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{}", chain(&error));

    let late = Server::start(world.dir.path().to_owned(), Manner::HangsOnPost).await;
    let other = world.dir.path().join("late.git");
    let half_way = GitRepository::mirror(&late.url("origin.git"), &other).unwrap();
    let (pulled, ()) = tokio::join!(half_way.plan_pull(&timed, PullOptions::default()), async {
        late.hangs(1).await;
        clock.advance(deadline);
    });
    let error = pulled.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{}", chain(&error));
    assert_eq!(git(&other, &["for-each-ref"]), "");

    let cancelled = cx.child();
    let token = cancelled.cancellation().clone();
    let (pulled, ()) = tokio::join!(mirror.safe_pull(&cancelled), async {
        server.hangs(2).await;
        token.cancel();
    });
    let error = pulled.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{}", chain(&error));
    assert_eq!(error.class(), Class::OutcomeUnknown);
}

#[tokio::test]
async fn a_server_that_refuses_is_told_apart_from_one_that_is_broken() {
    let world = World::new();
    for (status, kind) in
        [(401, ErrorKind::Unauthenticated), (404, ErrorKind::Remote), (500, ErrorKind::Remote)]
    {
        let server = Server::start(world.dir.path().to_owned(), Manner::Status(status)).await;
        let path = world.dir.path().join(format!("{status}.git"));
        let mirror = GitRepository::mirror(&server.url("origin.git"), path).unwrap();
        let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {}", chain(&error));
    }
}

#[tokio::test]
async fn a_mirror_is_made_once_and_only_for_one_url() {
    let world = World::new();
    let one = world.mirror();
    let again = world.mirror();
    assert_eq!(one.git_dir(), again.git_dir());
    let error =
        GitRepository::mirror("https://example.org/b.git", world.mirror_path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign);
    std::fs::write(world.dir.path().join("file"), "").unwrap();
    assert!(
        GitRepository::mirror("https://example.org/b.git", world.dir.path().join("file")).is_err()
    );
    let left: Vec<_> = std::fs::read_dir(world.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("ops-git-new"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_is_secret_in_a_url_is_shown_nowhere() {
    let world = World::new();
    let mirror = world.mirror();
    for url in [
        "https://me:hunter2@example.org/a.git",
        "https://hunter2@example.org/a.git",
        "https://me:hunter2@example.org:port/a.git",
        "https://example.org/a.git?token=hunter2",
    ] {
        git(&world.mirror_path(), &["config", "remote.origin.url", url]);
        let origin = world.origin();
        let error = GitRepository::mirror(origin.to_str().unwrap(), world.mirror_path());
        let text = format!("{:?}", error.unwrap_err());
        assert!(!text.contains("hunter2"), "{text}");
        let error = GitRepository::mirror(url, world.mirror_path().join("other"));
        if let Err(error) = error {
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        let local = url.replace("example.org/", "127.0.0.1:1/");
        git(&world.mirror_path(), &["config", "remote.origin.url", &local]);
        let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let one =
        GitRepository::mirror("https://hunter2@example.org/b.git", world.dir.path().join("b"));
    drop(one.unwrap());
    let other =
        GitRepository::mirror("https://other@example.org/b.git", world.dir.path().join("b"));
    let text = format!("{:?}", other.unwrap_err());
    assert!(!text.contains("hunter2") && text.contains("https://example.org/b.git"), "{text}");
}
