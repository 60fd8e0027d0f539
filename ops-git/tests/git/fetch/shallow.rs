//! Histories that are cut off.

use std::num::NonZeroU32;

use ops_git::{ErrorKind, GitRepository, History, PullOptions, Pulled};

use super::left::sound;
use crate::fixture::{World, chain, git};
use crate::server::{Manner, Server};

fn commits(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

fn length(world: &World) -> String {
    git(&world.mirror_path(), &["rev-list", "--count", "refs/heads/main"])
}

async fn pull(mirror: &GitRepository, world: &World, history: History) -> Pulled {
    let options = PullOptions::default().history(history);
    let plan = mirror
        .plan_pull(&world.cx(), options)
        .await
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    let pulled = Pulled::in_plan(&plan).unwrap();
    mirror.execute(plan, &world.cx()).await.unwrap();
    git(&world.mirror_path(), &["fsck", "--strict", "--no-dangling"]);
    pulled
}

/// A mirror over http, and one from a path.
async fn each(world: &World) -> (Server, Vec<String>) {
    let server = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    let urls = vec![server.url("origin.git"), world.origin().display().to_string()];
    (server, urls)
}

#[tokio::test]
async fn a_part_is_fetched_grows_is_deepened_and_completed() {
    let world = World::new();
    for number in 2..=10 {
        world.commit("a.txt", &format!("{number}\n"));
    }
    world.push();
    let (_server, urls) = each(&world).await;
    for (round, url) in urls.iter().enumerate() {
        let mirror = GitRepository::mirror(url, world.mirror_path()).unwrap();
        let first = pull(&mirror, &world, History::AtMost(commits(2))).await;
        assert!(first.is_cut_off && first.is_new(), "{first:?}");
        assert_eq!(length(&world), "2", "{url}");

        // What comes lies on top; nothing is cut off by asking for little again.
        let before = world.head();
        world.commit("b.txt", &format!("{round} one\n"));
        world.commit("b.txt", &format!("{round} two\n"));
        world.push();
        let second = pull(&mirror, &world, History::AtMost(commits(1))).await;
        assert_eq!(second.commits, 2);
        assert_eq!(second.before.unwrap().as_str(), before);
        assert_eq!(length(&world), "4", "{url}");

        let third = pull(&mirror, &world, History::Deepen(commits(3))).await;
        assert!(third.is_cut_off && !third.is_new());
        assert_eq!(length(&world), "7", "{url}");

        let last = pull(&mirror, &world, History::Complete).await;
        assert!(!last.is_cut_off);
        assert_eq!(length(&world), git(&world.work(), &["rev-list", "--count", "HEAD"]));
        assert!(!world.mirror_path().join("shallow").exists());
        std::fs::remove_dir_all(world.mirror_path()).unwrap();
    }
}

#[tokio::test]
async fn where_the_cut_hides_the_answer_it_is_refused_with_the_way_out() {
    let world = World::new();
    let base = world.head();
    let old = world.commit("a.txt", "ours\n");
    world.push();
    let (_server, urls) = each(&world).await;
    for url in &urls {
        let mirror = GitRepository::mirror(url, world.mirror_path()).unwrap();
        pull(&mirror, &world, History::AtMost(commits(1))).await;
        // Upstream begins anew from what lies below the cut.
        git(&world.work(), &["reset", "-q", "--hard", &base]);
        let new = world.commit("a.txt", "theirs\n");
        world.push();
        let error = mirror.plan_pull(&world.cx(), PullOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HistoryUnavailable, "{}", chain(&error));
        let text = error.to_string();
        assert!(text.contains(&old) && text.contains(&new), "{text}");
        assert!(text.contains("History::Complete"), "{text}");
        assert_eq!(world.mirrored("refs/heads/main"), old);

        let options = PullOptions::default().history(History::Complete);
        let error = mirror.plan_pull(&world.cx(), options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Diverged, "{}", chain(&error));
        std::fs::remove_dir_all(world.mirror_path()).unwrap();
        git(&world.work(), &["reset", "-q", "--hard", &old]);
        world.push();
    }
}

#[tokio::test]
async fn a_remote_whose_own_history_is_cut_off_is_no_source() {
    let world = World::new();
    world.commit("a.txt", "two\n");
    world.push();
    let cut = world.dir.path().join("cut.git");
    let from = format!("file://{}", world.origin().display());
    let to = cut.to_str().unwrap();
    git(world.dir.path(), &["clone", "-q", "--bare", "--depth", "1", &from, to]);
    let server = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    for url in [server.url("cut.git"), to.to_owned()] {
        let mirror = GitRepository::mirror(&url, world.mirror_path()).unwrap();
        let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HistoryUnavailable, "{}", chain(&error));
        sound(&world.mirror_path(), "");
        std::fs::remove_dir_all(world.mirror_path()).unwrap();
    }
}
