//! The deployer is killed at its places, and so is its recovery.

use std::cell::RefCell;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ops_core::Version;
use ops_core::crash::{CrashTest, State};
use ops_deploy::{ProxyConfig, ReverseProxy, Target};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::images::{docker, import};
use crate::stage::{get, http, new_application, remove_all, v};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ops-deploy-test-docker");

fn program(verb: &'static str, version: Option<&'static str>) -> impl Fn(&Path) -> Command {
    move |dir| {
        let mut command = Command::new(PROGRAM);
        command.arg(verb).arg(dir).args(version);
        command
    }
}

/// What must be one: the public answer, the traffic, the history, and what runs.
async fn agreement(dir: &Path) -> Result<Option<Version>, String> {
    let say = |error: ops_deploy::Error| format!("{error:?}");
    let host = crate::dock::bare(dir, crate::dock::engine())
        .service(crate::dock::web(dir))
        .build()
        .map_err(say)?;
    let status = host.look().await.map_err(say)?;
    let current = status.current().map_err(say)?.cloned();
    let latest = status.history.latest().cloned();
    if latest != current {
        return Err(format!("{current:?} in service, {latest:?} in the history"));
    }
    let running: Vec<_> = status.containers.iter().filter(|it| it.runs()).collect();
    let serving: Vec<_> = status.in_service.values().collect();
    if running != serving {
        return Err(format!("{running:?} run, {serving:?} serve"));
    }
    let lock = format!("{}.ops-lock", host.application());
    if docker().await.inspect_container(&lock, None).await.is_ok() {
        return Err("the lock is still there".into());
    }
    let public = std::fs::read_to_string(dir.join("public")).map_err(|e| e.to_string())?;
    let (code, says, _) = get(&http(), &format!("http://{public}/health")).await?;
    let expected = current.as_ref().map_or((503, ""), |version| (200, version.as_str()));
    if (code, says.as_str()) != expected {
        return Err(format!("the public hears {code} {says}, {current:?} is current"));
    }
    Ok(current)
}

/// Kills the operation at its places, with the proxy of each round in this process.
fn crash_test(
    before: &'static [&'static str],
    operation: impl Fn(&Path) -> Command + 'static,
    to: &'static str,
) -> (CrashTest, Arc<AtomicU64>) {
    let runtime = Rc::new(Runtime::new().unwrap());
    let proxy: Rc<RefCell<Option<CancellationToken>>> = Rc::default();
    let failures: Arc<Mutex<Vec<String>>> = Arc::default();
    let asked: Arc<AtomicU64> = Arc::default();
    let (load_failures, load_asked) = (Arc::clone(&failures), Arc::clone(&asked));
    let (setup_runtime, setup_proxy) = (Rc::clone(&runtime), Rc::clone(&proxy));
    let end_runtime = Rc::clone(&runtime);
    let test = CrashTest::new()
        .setup(move |dir| {
            new_application(dir);
            let token = CancellationToken::new();
            *setup_proxy.borrow_mut() = Some(token.clone());
            setup_runtime.block_on(async {
                let repository = format!("{}/web", crate::dock::application(dir));
                for version in ["a000001", "a000002"] {
                    import(&format!("{repository}:{version}"), "healthy", &[]).await;
                }
                let config = ProxyConfig::new(([127, 0, 0, 1], 0).into(), dir.join("proxy"));
                let proxy = ReverseProxy::bind(config).await.map_err(|e| e.to_string())?;
                let address = proxy.address();
                std::fs::write(dir.join("public"), address.to_string())
                    .map_err(|e| e.to_string())?;
                let load_token = token.child_token();
                tokio::spawn(proxy.serve(token));
                let host = crate::dock::bare(dir, crate::dock::engine())
                    .service(crate::dock::web(dir))
                    .build()
                    .unwrap();
                for version in before {
                    let cx = crate::dock::context(dir);
                    host.deploy(&cx, &v(version)).await.map_err(|e| format!("{e:?}"))?;
                }
                tokio::spawn(load(
                    format!("http://{address}/"),
                    load_token,
                    Arc::clone(&load_failures),
                    Arc::clone(&load_asked),
                ));
                Ok(())
            })
        })
        .operation(operation)
        .recovery(program("recover", None))
        .check(move |dir| {
            let failed = std::mem::take(&mut *failures.lock().unwrap());
            if !failed.is_empty() {
                return Err(format!("the public lost {} requests: {failed:?}", failed.len()));
            }
            match runtime.block_on(agreement(dir))? {
                Some(version) if version == v(to) => Ok(State::New),
                current if current.as_ref().map(Version::as_str) == before.last().copied() => {
                    Ok(State::Old)
                }
                other => Err(format!("{other:?} is in service")),
            }
        })
        .teardown(move |dir| {
            if let Some(token) = proxy.borrow_mut().take() {
                token.cancel();
            }
            if dir.join("app").exists() {
                end_runtime.block_on(remove_all(&crate::dock::application(dir)));
            }
        });
    (test, asked)
}

/// Asks until the proxy ends, and remembers what was not answered well.
async fn load(
    url: String,
    end: CancellationToken,
    failures: Arc<Mutex<Vec<String>>>,
    asked: Arc<AtomicU64>,
) {
    let client = http();
    while !end.is_cancelled() {
        let answer = get(&client, &url).await;
        if !matches!(answer, Ok((200, ..))) && !end.is_cancelled() {
            failures.lock().unwrap().push(format!("{answer:?}"));
        }
        asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Every n-th place; `OPS_CRASH_EVERY=1` goes through all of them.
fn every(n: u64) -> u64 {
    std::env::var("OPS_CRASH_EVERY").ok().and_then(|text| text.parse().ok()).unwrap_or(n)
}

#[test]
fn a_deployer_killed_at_any_place_leaves_the_old_or_the_new() {
    let (test, asked) = crash_test(&["a000001"], program("deploy", Some("a000002")), "a000002");
    let summary = test.every(every(7)).recovery_every(40).run().unwrap();
    assert!(summary.old > 2 && summary.new > 2, "{summary}");
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked > 10 * summary.kills, "{asked} requests: {summary}");
}

#[test]
fn a_rollback_killed_at_any_place_leaves_the_new_or_the_old() {
    let (test, _) = crash_test(&["a000001", "a000002"], program("rollback", None), "a000001");
    let summary = test.every(every(9)).recovery_every(40).run().unwrap();
    assert!(summary.old > 2 && summary.new > 2, "{summary}");
}
