//! Which refs follow: branches that came and went, and tags.

use std::sync::Arc;

use ops_core::progress::{LatestProgress, Progress, Unit, Update};
use ops_core::{Context, Environment, ManualClock};
use ops_git::{BehindUpstream, GitRepository, PullOptions, Pulled};

use super::left::{refs_of, sound};
use crate::fixture::{World, chain, git};
use crate::server::{Manner, Server};

async fn each(world: &World) -> (Server, Vec<String>) {
    let server = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    let urls = vec![server.url("origin.git"), world.origin().display().to_string()];
    (server, urls)
}

#[tokio::test]
async fn a_branch_becomes_a_folder_of_branches_and_back() {
    let world = World::new();
    let (_server, urls) = each(&world).await;
    let cx = world.cx();
    for url in &urls {
        let mirror = GitRepository::mirror(url, world.mirror_path()).unwrap();
        for packed in [false, true] {
            for (gone, new) in
                [("", "x"), ("x", "x/y"), ("x/y", "x/y/z"), ("x/y/z", "x"), ("x", "")]
            {
                for (name, what) in [(gone, "--delete"), (new, "--force")] {
                    if !name.is_empty() {
                        let spec = match what {
                            "--delete" => name.to_owned(),
                            _ => format!("HEAD:refs/heads/{name}"),
                        };
                        git(&world.work(), &["push", "-q", what, "origin", &spec]);
                    }
                }
                mirror
                    .safe_pull(&cx)
                    .await
                    .unwrap_or_else(|error| panic!("{gone} -> {new}: {}", chain(&error)));
                if packed {
                    git(&world.mirror_path(), &["pack-refs", "--all"]);
                }
                let follow = git(
                    &world.mirror_path(),
                    &["for-each-ref", "--format=%(refname:lstrip=3)", "refs/remotes/origin"],
                );
                let expected: Vec<_> =
                    ["main", new].into_iter().filter(|n| !n.is_empty()).collect();
                assert_eq!(follow.lines().collect::<Vec<_>>(), expected, "{gone} -> {new}");
                world.mirror_is_sound();
            }
        }
        std::fs::remove_dir_all(world.mirror_path()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_come_along_as_with_git_and_never_move() {
    let world = World::new();
    let first = world.head();
    git(&world.work(), &["tag", "-a", "-m", "inner", "inner"]);
    git(&world.work(), &["tag", "-a", "-m", "outer", "outer", "inner"]);
    git(&world.work(), &["tag", "light"]);
    world.push();
    // A tag on what no branch has.
    git(&world.work(), &["checkout", "-q", "-b", "aside"]);
    world.commit("aside.txt", "aside\n");
    git(&world.work(), &["tag", "-a", "-m", "aside", "aside-tag"]);
    git(&world.work(), &["push", "-q", "origin", "aside-tag"]);
    git(&world.work(), &["checkout", "-q", "main"]);
    let (_server, urls) = each(&world).await;
    let cx = world.cx();
    for url in &urls {
        let mirror = GitRepository::mirror(url, world.mirror_path()).unwrap();
        mirror.safe_pull(&cx).await.unwrap();
        let tags = || git(&world.mirror_path(), &["tag", "--list"]);
        assert_eq!(tags(), "inner\nlight\nouter", "{url}");
        let by_git = world.dir.path().join("by-git");
        git(world.dir.path(), &["init", "-q", "--bare", "by-git"]);
        git(&by_git, &["remote", "add", "origin", url]);
        git(&by_git, &["fetch", "-q", "origin"]);
        assert_eq!(git(&by_git, &["tag", "--list"]), tags());

        // One more on what is here already, and one that moves.
        git(&world.work(), &["tag", "-a", "-m", "late", "late"]);
        let second = world.commit("a.txt", &format!("{url}\n"));
        git(&world.work(), &["tag", "-f", "light"]);
        git(&world.work(), &["push", "-q", "--force", "origin", "late", "light", "main"]);
        let plan = mirror.plan_pull(&cx, PullOptions::default()).await.unwrap();
        assert_eq!(Pulled::in_plan(&plan).unwrap().moved_tags, ["light"]);
        assert_eq!(plan.facts["tags_moved_upstream"], "light");
        mirror.execute(plan, &cx).await.unwrap();
        assert_eq!(tags(), "inner\nlate\nlight\nouter");
        assert_eq!(world.mirrored("late^{commit}"), first);
        assert_eq!(world.mirrored("light"), first);
        assert_eq!(world.mirrored("refs/heads/main"), second);

        // Or none at all.
        let without = world.dir.path().join("without.git");
        let mirror = GitRepository::mirror(url, &without).unwrap();
        git(&without, &["config", "remote.origin.tagOpt", "--no-tags"]);
        mirror.safe_pull(&cx).await.unwrap();
        assert_eq!(git(&without, &["tag", "--list"]), "");

        for path in [&without, &by_git, &world.mirror_path()] {
            std::fs::remove_dir_all(path).unwrap();
        }
        git(&world.work(), &["push", "-q", "origin", "--delete", "late"]);
        git(&world.work(), &["tag", "-d", "late"]);
        git(&world.work(), &["reset", "-q", "--hard", &first]);
        git(&world.work(), &["tag", "-f", "light"]);
        git(&world.work(), &["push", "-q", "--force", "origin", "light", "main"]);
    }
}

#[tokio::test]
async fn a_lock_of_somebody_else_stays_and_nothing_moves() {
    let world = World::new();
    let mirror = world.mirror();
    let cx = world.cx();
    mirror.safe_pull(&cx).await.unwrap();
    world.commit("a.txt", "two\n");
    git(&world.work(), &["push", "-q", "origin", "HEAD:refs/heads/other"]);
    world.push();
    let before = refs_of(&world.mirror_path());
    // It comes when the fetch has begun: what is there before is refused by name at once.
    let lock = world.mirror_path().join("refs/remotes/origin/main.lock");
    let server = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    git(&world.mirror_path(), &["config", "remote.origin.url", &server.url("origin.git")]);
    let requests = Arc::clone(&server.requests);
    let (pulled, ()) = tokio::join!(mirror.safe_pull(&cx), async {
        while requests.load(std::sync::atomic::Ordering::Relaxed) < 1 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        std::fs::write(&lock, "").unwrap();
    });
    let error = pulled.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("main.lock"), "{}", chain(&error));
    assert!(lock.exists());
    std::fs::remove_file(&lock).unwrap();
    sound(&world.mirror_path(), &before);
    mirror.safe_pull(&cx).await.unwrap();
    assert_eq!(world.mirrored("refs/heads/main"), world.head());
}

#[derive(Debug, Default, Clone)]
struct Seen(Arc<LatestProgress>);

impl Progress for Seen {
    fn update(&self, update: &Update) {
        self.0.update(update);
    }
}

#[tokio::test]
async fn progress_names_phases_objects_and_bytes() {
    let world = World::new();
    for number in 0..60 {
        world.commit(&format!("{number}"), &super::ssh::noise(number));
    }
    world.push();
    let (_server, urls) = each(&world).await;
    for url in &urls {
        let mirror = GitRepository::mirror(url, world.mirror_path()).unwrap();
        let seen = Seen::default();
        let cx = Context::builder(world.dir.path().join("state"))
            .environment(Environment::Development)
            .progress(seen.clone())
            .build();
        mirror.safe_pull(&cx).await.unwrap();
        let seen = seen.0.snapshot();
        let last = |phase: &str| {
            seen.iter().find(|u| u.phase == phase).unwrap_or_else(|| panic!("{phase}: {seen:?}"))
        };
        let objects = git(&world.mirror_path(), &["count-objects", "-v"]);
        let count: u64 = objects
            .lines()
            .find_map(|line| line.strip_prefix("in-pack: "))
            .unwrap()
            .parse()
            .unwrap();
        let fetched = last("objects fetched");
        assert_eq!((fetched.unit, fetched.done, fetched.total), (Unit::Items, count, Some(count)));
        let bytes = last("bytes fetched");
        assert!(bytes.unit == Unit::Bytes && bytes.done > 60 * 2000, "{bytes:?}");
        std::fs::remove_dir_all(world.mirror_path()).unwrap();
    }
}

#[tokio::test]
async fn a_probe_asks_how_far_behind_a_branch_is() {
    use ops_core::probe::{Health, Probe as _};
    let world = World::new();
    let mirror = world.mirror();
    let cx = world.cx();
    let branch = || "main".parse().unwrap();
    let probe = BehindUpstream::new(mirror.clone(), &cx).branch(branch());
    let unhealthy = |health| match health {
        Health::Unhealthy { reason } => reason,
        other => panic!("{other:?}"),
    };
    assert!(unhealthy(probe.check().await).contains("never pulled"));
    mirror.safe_pull(&cx).await.unwrap();
    assert_eq!(probe.check().await, Health::Healthy);

    world.commit("a.txt", "two\n");
    world.commit("a.txt", "three\n");
    world.push();
    let before = refs_of(&world.mirror_path());
    assert!(unhealthy(probe.check().await).contains("was not fetched yet"));
    assert_eq!(refs_of(&world.mirror_path()), before, "a probe changes nothing");
    drop(mirror.plan_pull(&cx, PullOptions::default()).await.unwrap());
    assert!(unhealthy(probe.check().await).contains("2 commits behind"));
    let lenient = BehindUpstream::new(mirror.clone(), &cx).branch(branch()).at_most(2);
    assert_eq!(lenient.check().await, Health::Healthy);
    let other = BehindUpstream::new(mirror.clone(), &cx).branch("other".parse().unwrap());
    assert!(unhealthy(other.check().await).contains("no branch"));

    std::fs::rename(world.origin(), world.dir.path().join("gone")).unwrap();
    assert!(matches!(probe.check().await, Health::Unknown { .. }));
    let server = Server::start(world.dir.path().to_owned(), Manner::Hangs).await;
    let hung = GitRepository::mirror(&server.url("x.git"), world.dir.path().join("h.git")).unwrap();
    let deadline = std::time::Duration::from_secs(20);
    let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
    let probe = BehindUpstream::new(hung, &world.cx_at(&clock)).branch(branch()).deadline(deadline);
    let (health, ()) = tokio::join!(probe.check(), async {
        server.hangs(1).await;
        clock.advance(deadline);
    });
    let Health::Unknown { reason } = health else { panic!("{health:?}") };
    assert!(reason.contains("was not done within 20s"), "{reason}");
}
