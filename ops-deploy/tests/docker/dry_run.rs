//! Planning only reads: every request to the engine is heard by a socket in between.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ops_deploy::Target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::stage::{Dock, v};

/// Hands everything on to the engine, and remembers what it was asked.
fn recorded(dock: &Dock) -> (String, Arc<Mutex<Vec<u8>>>) {
    let path = dock.path().join("recorded.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
    let (record, engine) = (Arc::clone(&heard), crate::dock::engine());
    let engine = PathBuf::from(engine.strip_prefix("unix://").expect("a local engine"));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (record, server) =
                (Arc::clone(&record), UnixStream::connect(&engine).await.unwrap());
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let back = tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
                });
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                    record.lock().unwrap().extend_from_slice(&buffer[..read]);
                    if to_server.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                }
                back.abort();
            });
        }
    });
    (format!("unix://{}", path.display()), heard)
}

fn requests(heard: &Mutex<Vec<u8>>) -> Vec<String> {
    let bytes = std::mem::take(&mut *heard.lock().unwrap());
    String::from_utf8_lossy(&bytes)
        .lines()
        .filter(|line| line.ends_with(" HTTP/1.1"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn a_dry_run_issues_only_reads() {
    let dock = Dock::new().await;
    for version in ["a000001", "a000002", "a000003"] {
        dock.image(version, "healthy").await;
    }
    let (engine, heard) = recorded(&dock);
    let host = crate::dock::bare(dock.path(), engine)
        .service(crate::dock::web(dock.path()))
        .build()
        .unwrap();
    let reads = |what: &str| {
        let asked = requests(&heard);
        assert!(asked.len() >= 2, "{what}: {asked:?}");
        for line in &asked {
            assert!(line.starts_with("GET "), "{what} issued `{line}`");
        }
    };
    let first = host.plan_deploy(&v("a000001")).await.unwrap();
    assert!(!first.is_empty() && first.to_string().contains("image of web: sha256:"), "{first}");
    reads("the plan of a first deployment");
    host.deploy(&dock.cx(), &v("a000001")).await.unwrap();
    host.deploy(&dock.cx(), &v("a000002")).await.unwrap();
    let asked = requests(&heard);
    assert!(asked.iter().any(|line| line.starts_with("POST ")), "the socket hears: {asked:?}");

    let _ = host.plan_deploy(&v("a000003")).await.unwrap();
    reads("the plan of a deployment");
    let _ = host.plan_rollback(None).await.unwrap();
    reads("the plan of a rollback");
    let _ = host.plan_emergency_rollback(None).await.unwrap();
    reads("the plan of an emergency");
    let _ = host.plan_cleanup(&dock.cx()).await.unwrap();
    reads("the plan of a clean-up");
    let _ = host.observe().await.unwrap();
    reads("a look");
    assert_eq!(dock.public_version().await, "a000002");
}
