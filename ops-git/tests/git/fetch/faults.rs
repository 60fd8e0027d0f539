//! What goes wrong while a pack comes over.

use std::process::Command;

use ops_core::{ManualClock, Outcome};
use ops_git::{ErrorKind, GitRepository, PullOptions};

use super::left::{no_thread, nothing_temporary, refs_of, sound};
use super::ssh::noise;
use crate::fixture::{World, chain, git};
use crate::meddler::circle;
use crate::server::{Manner, Server};

/// A mirror that was pulled once, and an upstream with some 100 KiB more.
async fn behind() -> (World, GitRepository, String) {
    let world = World::new();
    let mirror = world.mirror();
    mirror.safe_pull(&world.cx()).await.unwrap();
    for number in 0..40 {
        world.commit(&format!("{number}"), &noise(number));
    }
    git(&world.work(), &["tag", "-a", "-m", "new", "new"]);
    world.push();
    let refs = refs_of(&world.mirror_path());
    (world, mirror, refs)
}

#[tokio::test]
async fn a_pack_that_is_cut_truncated_or_stalls_leaves_nothing_and_the_next_pull_succeeds() {
    let (world, mirror, refs) = behind().await;
    let cx = world.cx();
    let point = |server: &Server, path: &str| {
        git(&world.mirror_path(), &["config", "remote.origin.url", &server.url(path)]);
    };
    for (manner, kind) in [
        (Manner::Cuts(10), ErrorKind::Remote),
        (Manner::Cuts(30_000), ErrorKind::Remote),
        (Manner::Truncates(30_000), ErrorKind::Remote),
        (Manner::LeavesOut, ErrorKind::Remote),
        (Manner::Stalls(30_000), ErrorKind::TimedOut),
        (Manner::HangsOnPost, ErrorKind::TimedOut),
        (Manner::Hangs, ErrorKind::TimedOut),
    ] {
        let server = Server::start(world.dir.path().to_owned(), manner.clone()).await;
        point(&server, "origin.git");
        // Its deadline comes when the server hangs, and not before.
        let hangs = kind == ErrorKind::TimedOut;
        let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let timed = world.cx_at(&clock);
        let (pulled, ()) = tokio::join!(mirror.plan_pull(&timed, PullOptions::default()), async {
            if hangs {
                server.hangs(1).await;
                clock.advance(PullOptions::default().deadline);
            }
        });
        let error = pulled.unwrap_err();
        assert_eq!(error.kind(), kind, "{manner:?}: {}", chain(&error));
        let remedy = ops_core::Classify::remedy(&error).unwrap();
        assert!(!remedy.contains("waits for the disk"), "{manner:?}: {error}");
        if matches!(manner, Manner::LeavesOut) {
            assert!(error.to_string().contains("the remote left out object"), "{}", chain(&error));
        }
        no_thread();
        sound(&world.mirror_path(), &refs);

        let cancelled = cx.child();
        let token = cancelled.cancellation().clone();
        if hangs {
            let (pulled, ()) = tokio::join!(mirror.safe_pull(&cancelled), async {
                server.hangs(2).await;
                token.cancel();
            });
            let error = pulled.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{}", chain(&error));
            let remedy = ops_core::Classify::remedy(&error).unwrap();
            assert!(!remedy.contains("waits for the disk"), "{manner:?}: {error}");
            no_thread();
            sound(&world.mirror_path(), &refs);
        }
    }
    let server = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    point(&server, "origin.git");
    mirror.safe_pull(&cx).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(world.mirrored("refs/heads/main"), world.head());
    world.mirror_is_sound();
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing() {
    let (world, _mirror, refs) = behind().await;
    let server = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    let origin = world.origin().display().to_string();
    for url in [server.url("origin.git"), origin] {
        git(&world.mirror_path(), &["config", "remote.origin.url", &url]);
        let disk = world.dir.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let script = format!(
            "mount -t tmpfs -o size=600k none {disk} && cp -a {mirror} {disk}/mirror.git && \
             cd {disk} && head -c 10000000 /dev/zero >fill 2>/dev/null; truncate -s -60K fill; \
             {program} {disk} pull-state:{disk}/..; echo $? >{disk}/../code; rm fill; \
             cp -a {disk}/mirror.git {disk}/../after.git",
            disk = disk.display(),
            mirror = world.mirror_path().display(),
            program = env!("CARGO_BIN_EXE_git-crash-program"),
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["-m", "sh", "-c", &script]);
        let output = tokio::task::spawn_blocking(move || unshare.output().unwrap()).await.unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        let code = std::fs::read_to_string(world.dir.path().join("code"));
        let code = code.unwrap_or_else(|e| panic!("{e}: {err}"));
        assert_ne!(code.trim(), "0", "the disk was not full: {err}");
        assert!(err.contains("there is no room for the pack"), "{url}: {err}");
        let after = world.dir.path().join("after.git");
        sound(&after, &refs);
        std::fs::remove_dir_all(after).unwrap();
        std::fs::remove_dir(disk).unwrap();
    }
}

#[tokio::test]
async fn two_pulls_at_once_both_end_well() {
    let (world, mirror, _) = behind().await;
    let server = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    git(&world.mirror_path(), &["config", "remote.origin.url", &server.url("origin.git")]);
    let cx = world.cx();
    let plan = || mirror.plan_pull(&cx, PullOptions::default());
    let (one, other, third) = tokio::join!(plan(), plan(), plan());
    for plan in [one, other, third] {
        let plan = plan.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(plan.facts["sha_after"], world.head());
    }
    let report = mirror.safe_pull(&cx).await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(world.mirrored("refs/heads/main"), world.head());
    world.mirror_is_sound();
    nothing_temporary(&world.mirror_path());
}

#[tokio::test]
async fn what_a_killed_fetch_left_is_taken_away_and_what_others_left_is_not() {
    let (world, mirror, refs) = behind().await;
    let tip = world.head();
    let old = world.mirrored("refs/heads/main");
    let incoming = world.mirror_path().join("objects/ops-git-incoming-x");
    std::fs::create_dir(&incoming).unwrap();
    std::fs::write(incoming.join("pack-x.idx"), "index").unwrap();
    let half = world.mirror_path().join("objects/pack/pack-x.pack");
    std::fs::write(&half, "pack").unwrap();
    // This one has an index, whatever is to be thought of it.
    std::fs::write(incoming.join("pack-y.idx"), "index").unwrap();
    let whole = world.mirror_path().join("objects/pack/pack-y.pack");
    std::fs::write(&whole, "pack").unwrap();
    circle(&whole.with_extension("idx"));
    let young = world.mirror_path().join("objects/ops-git-incoming-y");
    std::fs::create_dir(&young).unwrap();
    let hour = filetime::FileTime::from_unix_time(1_700_000_000, 0);
    filetime::set_file_mtime(&incoming, hour).unwrap();
    // It died with the lock of a ref that it noted.
    let lock = world.mirror_path().join("refs/remotes/origin/main.lock");
    std::fs::write(&lock, format!("{tip}\n")).unwrap();
    let note = world.mirror_path().join("ops-git-fetching");
    std::fs::write(&note, format!("refs/remotes/origin/main {old} {tip}\n")).unwrap();
    let foreign = world.mirror_path().join("refs/heads/main.lock");
    std::fs::write(&foreign, format!("{tip}\n")).unwrap();

    let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.reasons().len(), 1, "{error}");
    assert!(error.to_string().contains("refs/heads/main.lock"), "{error}");
    assert!(foreign.exists() && !lock.exists() && !incoming.exists() && young.exists());
    assert!(!half.exists() && whole.exists());
    std::fs::remove_file(&whole).unwrap();
    std::fs::remove_file(whole.with_extension("idx")).unwrap();
    std::fs::remove_file(&foreign).unwrap();
    std::fs::remove_dir(&young).unwrap();
    sound(&world.mirror_path(), &refs);
    mirror.safe_pull(&world.cx()).await.unwrap();
    assert_eq!(world.mirrored("refs/heads/main"), tip);
}
