//! Over http: settings, redirections and refusals.

use std::sync::{Arc, Mutex};

use ops_core::Secret;
use ops_git::{Credentials, ErrorKind, GitRepository};

use super::left::sound;
use crate::fixture::{World, chain, git};
use crate::server::{Manner, Server};

#[tokio::test]
async fn configured_headers_are_sent_and_not_shown() {
    let world = World::new();
    let manner = Manner::Asks("Secret correct-horse".into());
    let server = Server::start(world.dir.path().to_owned(), manner).await;
    let mirror = GitRepository::mirror(&server.url("origin.git"), world.mirror_path()).unwrap();
    let set = |key: &str, value: &str| git(&world.mirror_path(), &["config", key, value]);
    let base = format!("http.{}.extraHeader", server.url(""));
    set(&base, "Authorization: Secret wrong-horse");
    let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{}", chain(&error));
    assert!(!format!("{error:?}").contains("wrong-horse"), "{error:?}");
    set(&base, "Authorization: Secret correct-horse");
    mirror.safe_pull(&world.cx()).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(world.mirrored("refs/heads/main"), world.head());
}

#[tokio::test]
async fn a_proxy_is_used() {
    let world = World::new();
    let server = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    let url = "http://nowhere.invalid/origin.git";
    let mirror = GitRepository::mirror(url, world.mirror_path()).unwrap();
    let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Remote, "{}", chain(&error));
    let proxy = server.address.to_string();
    git(&world.mirror_path(), &["config", "http.proxy", &proxy]);
    mirror.safe_pull(&world.cx()).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(world.mirrored("refs/heads/main"), world.head());
}

#[tokio::test]
async fn a_repository_that_moved_is_followed_without_the_secret() {
    let world = World::new();
    let there = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    let to = there.url("").trim_end_matches('/').to_owned();
    let here = Server::start(world.dir.path().to_owned(), Manner::Redirects(to)).await;
    let mirror = GitRepository::mirror(&here.url("origin.git"), world.mirror_path()).unwrap();
    mirror.safe_pull(&world.cx()).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(world.mirrored("refs/heads/main"), world.head());
    git(&world.mirror_path(), &["config", "http.followRedirects", "false"]);
    let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
    assert!(error.to_string().contains("is not followed"), "{error}");

    // Another host asks for what was meant for the first one.
    let manner = Manner::Asks("Basic bWU6Y29ycmVjdC1ob3JzZQ==".into());
    let thief = Server::start(world.dir.path().to_owned(), manner).await;
    let to = thief.url("").trim_end_matches('/').to_owned();
    let here = Server::start(world.dir.path().to_owned(), Manner::Redirects(to)).await;
    let other = world.dir.path().join("other.git");
    let mirror = GitRepository::mirror(&here.url("origin.git"), &other)
        .unwrap()
        .with_credentials(Credentials::login("me", Secret::new("correct-horse")));
    let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{}", chain(&error));
    sound(&other, "");
}

#[tokio::test]
async fn another_host_hears_no_configured_header() {
    let world = World::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let there = Manner::Listens(Arc::clone(&heard));
    let there = Server::start(world.dir.path().to_owned(), there).await;
    let to = there.url("").trim_end_matches('/').to_owned();
    let here = Server::start(world.dir.path().to_owned(), Manner::Redirects(to)).await;
    for (url, hears) in [(there.url("origin.git"), true), (here.url("origin.git"), false)] {
        let path = world.dir.path().join(format!("{hears}.git"));
        let mirror = GitRepository::mirror(&url, &path).unwrap();
        for header in ["PRIVATE-TOKEN: correct-horse", "X-Other: battery-staple"] {
            git(&path, &["config", "--add", "http.extraHeader", header]);
        }
        mirror.safe_pull(&world.cx()).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let said = std::mem::take(&mut *heard.lock().unwrap()).join("\n");
        assert!(!said.is_empty());
        for secret in ["correct-horse", "battery-staple"] {
            assert_eq!(said.contains(secret), hears, "{said}");
        }
    }
}

#[tokio::test]
async fn what_a_server_answers_is_told() {
    let world = World::new();
    for (status, kind, retry) in [
        (404, ErrorKind::Remote, false),
        (500, ErrorKind::Remote, true),
        (503, ErrorKind::Remote, true),
        (429, ErrorKind::Remote, true),
    ] {
        let server = Server::start(world.dir.path().to_owned(), Manner::Status(status)).await;
        let path = world.dir.path().join(format!("{status}.git"));
        let mirror = GitRepository::mirror(&server.url("origin.git"), &path).unwrap();
        let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", chain(&error));
        assert_eq!(error.is_retryable(), retry, "{status}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_is_trusted_only_if_it_is_configured() {
    let world = World::new();
    let (certificate, key) = (world.dir.path().join("cert.pem"), world.dir.path().join("key.pem"));
    let config = world.dir.path().join("openssl.conf");
    let text = "[req]\ndistinguished_name=name\nx509_extensions=more\nprompt=no\n[name]\nCN=here\n\
                [more]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n";
    std::fs::write(&config, text).unwrap();
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "9", "-config"])
        .arg(&config)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let root = world.dir.path().to_owned();
    let server = Server::start_with_tls(root, &certificate, &key).await;
    let url = server.url("origin.git").replace("http://", "https://");
    let mirror = GitRepository::mirror(&url, world.mirror_path()).unwrap();
    let set = |key: &str, value: &str| git(&world.mirror_path(), &["config", key, value]);

    let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Remote, "{}", chain(&error));
    assert!(chain(&error).contains("certificate"), "{}", chain(&error));
    sound(&world.mirror_path(), "");

    set("http.sslCAInfo", certificate.to_str().unwrap());
    mirror.safe_pull(&world.cx()).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(world.mirrored("refs/heads/main"), world.head());

    git(&world.mirror_path(), &["config", "--unset", "http.sslCAInfo"]);
    assert!(mirror.safe_pull(&world.cx()).await.is_err());
    set(&format!("http.{url}.sslVerify"), "false");
    mirror.safe_pull(&world.cx()).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
}

#[tokio::test]
async fn a_password_in_a_url_is_used_as_by_git_and_shown_nowhere() {
    let world = World::new();
    for (wanted, good) in
        [("Basic bWU6Y29ycmVjdC1ob3JzZQ==", true), ("Basic bWU6b3RoZXItaG9yc2U=", false)]
    {
        let manner = Manner::Asks(wanted.into());
        let server = Server::start(world.dir.path().to_owned(), manner).await;
        let mirror = world.mirror();
        let url = server.url("origin.git").replace("://", "://me:correct-horse@");
        git(&world.mirror_path(), &["config", "remote.origin.url", &url]);
        let pulled = mirror.safe_pull(&world.cx()).await;
        assert_eq!(pulled.is_ok(), good);
        if let Err(error) = pulled {
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{}", chain(&error));
            assert!(!format!("{error:?}").contains("correct-horse"), "{error:?}");
        }
        drop(server);
        let error = mirror.safe_pull(&world.cx()).await.unwrap_err();
        assert!(!format!("{error:?}").contains("correct-horse"), "{error:?}");
        std::fs::remove_dir_all(world.mirror_path()).unwrap();
    }
}
