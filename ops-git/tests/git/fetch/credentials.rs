//! Remotes that ask who this is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ops_core::{ManualClock, Secret};
use ops_git::{Credentials, ErrorKind, GitRepository, Login, PullOptions};

use super::left::{no_process, no_thread, sound};
use crate::fixture::{World, chain, git, made};
use crate::server::{Manner, Server};

/// `me:correct-horse`
const BASIC: &str = "Basic bWU6Y29ycmVjdC1ob3JzZQ==";

async fn asking(world: &World, wanted: &str) -> (Server, GitRepository) {
    let server = Server::start(world.dir.path().to_owned(), Manner::Asks(wanted.into())).await;
    let mirror = GitRepository::mirror(&server.url("origin.git"), world.mirror_path()).unwrap();
    (server, mirror)
}

#[tokio::test]
async fn a_login_a_token_and_a_function_are_accepted() {
    let secret = || Secret::new("correct-horse");
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    for (wanted, credentials) in [
        (BASIC, Credentials::login("me", secret())),
        ("Bearer correct-horse", Credentials::bearer(secret())),
        ("Basic eC1hY2Nlc3MtdG9rZW46Y29ycmVjdC1ob3JzZQ==", Credentials::token(secret())),
        (
            BASIC,
            Credentials::ask(move |url| {
                assert!(url.ends_with("/origin.git"), "{url}");
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(Some(Login::new("me", Secret::new("correct-horse"))))
            }),
        ),
    ] {
        let world = World::new();
        let (_server, mirror) = asking(&world, wanted).await;
        let mirror = mirror.with_credentials(credentials);
        let report = mirror
            .safe_pull(&world.cx())
            .await
            .unwrap_or_else(|error| panic!("{wanted}: {}", chain(&error)));
        assert_eq!(world.mirrored("refs/heads/main"), world.head());
        assert!(!format!("{report:?}").contains("correct-horse"));
        let found = std::process::Command::new("grep")
            .args(["-r", "correct-horse"])
            .arg(world.dir.path())
            .output()
            .unwrap();
        assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn wrong_or_no_credentials_are_told_apart_and_shown_nowhere() {
    let world = World::new();
    let (_server, mirror) = asking(&world, BASIC).await;
    let wrong = Credentials::login("me", Secret::new("battery-staple"));
    let unknown = Credentials::ask(|_| Ok(None));
    for (mirror, says) in [
        (mirror.clone(), "asks who this is"),
        (mirror.clone().with_credentials(wrong), "does not accept the credentials"),
        (mirror.clone().with_credentials(unknown), "asks who this is"),
    ] {
        let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{}", chain(&error));
        assert!(!error.is_retryable());
        let text = format!("{error:?} {}", chain(&error));
        assert!(text.contains(says) && !text.contains("battery-staple"), "{text}");
        assert!(!text.contains("YmF0dGVyeS1zdGFwbGU"), "{text}");
        sound(&world.mirror_path(), "");
    }
    let forbidden = Server::start(world.dir.path().to_owned(), Manner::Status(403)).await;
    let other = world.dir.path().join("other.git");
    let mirror = GitRepository::mirror(&forbidden.url("origin.git"), &other).unwrap();
    let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{}", chain(&error));
}

#[tokio::test]
async fn gits_own_helpers_are_asked_and_told_what_became_of_it() {
    let world = World::new();
    let (_server, mirror) = asking(&world, BASIC).await;
    let log = world.dir.path().join("helper.log");
    let helper = |password: &str| {
        format!(
            "!f() {{ echo \"$1\" >>'{log}'; cat >>'{log}'; echo username=me; \
             echo password={password}; }}; f",
            log = log.display()
        )
    };
    let set = |value: &str| {
        git(&world.mirror_path(), &["config", "--replace-all", "credential.helper", value]);
    };
    let cx = world.cx();
    set(&helper("correct-horse"));
    mirror.safe_pull(&cx).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.starts_with("get\n") && said.contains("protocol=http\n"), "{said}");
    assert!(said.contains("host=127.0.0.1:") && said.contains("\nstore\n"), "{said}");

    std::fs::remove_file(&log).unwrap();
    set(&helper("battery-staple"));
    let error = mirror.safe_pull(&cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{}", chain(&error));
    assert!(std::fs::read_to_string(&log).unwrap().contains("\nerase\n"));
    assert!(!format!("{error:?}").contains("battery-staple"), "{error:?}");

    // git's own store, which the git program runs.
    let file = world.dir.path().join("store");
    let line = mirror_url(&world).replace("://", "://me:correct-horse@");
    std::fs::write(&file, format!("{}\n", line.replace("/origin.git", ""))).unwrap();
    set(&format!("store --file='{}'", file.display()));
    mirror.safe_pull(&cx).await.unwrap_or_else(|error| panic!("{}", chain(&error)));

    // One that fails, and one that hangs.
    set("!exit 1");
    assert_eq!(mirror.safe_pull(&cx).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    let began = world.dir.path().join("began");
    set(&format!("!echo >'{}'; sleep 8181; :", began.display()));
    let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
    let (cx, options) = (world.cx_at(&clock), PullOptions::default());
    let deadline = options.deadline;
    let (pulled, ()) = tokio::join!(mirror.plan_pull(&cx, options), async {
        made(&began).await;
        clock.advance(deadline);
    });
    let error = pulled.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{}", chain(&error));
    no_thread();
    no_process("sleep 8181");
}

fn mirror_url(world: &World) -> String {
    git(&world.mirror_path(), &["config", "remote.origin.url"])
}
