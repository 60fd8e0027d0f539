//! The deployer is killed at each place, and so is its recovery.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ops_core::Version;
use ops_core::crash::{CrashTest, State};
use ops_deploy::release::{Instance, Status};
use ops_deploy::{ProxyConfig, ReverseProxy, Target};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::stage::{PROGRAM, SERVICE, end_all, get, http, release, v};

fn program(verb: &'static str, version: Option<&'static str>) -> impl Fn(&Path) -> Command {
    move |dir| {
        let mut command = Command::new(PROGRAM);
        command.arg(verb).arg(dir).args(version);
        command
    }
}

/// What must be one: the public answer, `current`, the history, the traffic, and the processes.
async fn agreement(dir: &Path) -> Result<Option<Version>, String> {
    let say = |error: ops_deploy::Error| error.to_string();
    let site = crate::site::builder(dir, Path::new(SERVICE)).build().map_err(say)?;
    let status: Status = site.look().await.map_err(say)?;
    let current = status.current().map_err(say)?.cloned();
    let latest = status.history.as_ref().and_then(|history| history.latest().cloned());
    if latest != current {
        return Err(format!("{current:?} in service, {latest:?} in the history"));
    }
    let running: Vec<_> = status.instances.iter().filter(|instance| instance.runs()).collect();
    let serving = status.in_service();
    if running.iter().copied().ne(serving) {
        return Err(format!("{running:?} run, {serving:?} serves"));
    }
    if serving.map(|instance: &Instance| &instance.version) != current.as_ref() {
        return Err(format!("{serving:?} serves, {current:?} is current"));
    }
    let strays = strays(dir, &running);
    if !strays.is_empty() {
        return Err(format!("stray processes {strays:?} besides {running:?}"));
    }
    let public = std::fs::read_to_string(dir.join("public")).map_err(|e| e.to_string())?;
    let (code, says, _) = get(&http(), &format!("http://{public}/health")).await?;
    let expected = current.as_ref().map_or((503, ""), |version| (200, version.as_str()));
    if (code, says.as_str()) != expected {
        return Err(format!("the public hears {code} {says}, {current:?} is current"));
    }
    if let Some(version) = &current
        && std::fs::read_link(dir.join("site/current")).ok()
            != Some(Path::new("releases").join(version.as_str()))
    {
        return Err("`current` points elsewhere".into());
    }
    let leaving = std::fs::read_dir(dir.join("site/releases")).map_err(|e| e.to_string())?;
    let leaving =
        leaving.flatten().any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"."));
    let old_is_there = dir.join("site/releases/v0/mode").is_file();
    let old_should_go = status.history.is_some_and(|history| {
        let versions: Vec<_> = history.entries().iter().map(|e| e.version.as_str()).collect();
        versions == ["v0", "v1", "v2"]
    });
    if leaving || old_is_there == old_should_go {
        return Err(format!("the old release is there: {old_is_there}, or half of it: {leaving}"));
    }
    Ok(current)
}

/// The processes that run in a release of this site, but for those that should: found without any
/// of the records that the deployer keeps.
fn strays(dir: &Path, running: &[&Instance]) -> Vec<u32> {
    let known: BTreeSet<u32> = running
        .iter()
        .filter_map(|instance| match instance.liveness {
            ops_deploy::service::Liveness::Running(Some(process)) => Some(process.pid),
            _ => None,
        })
        .collect();
    let releases = dir.join("site/releases").canonicalize().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
            cwd.is_ok_and(|cwd| cwd.starts_with(&releases)) && !known.contains(pid)
        })
        .collect()
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
    let load_failures = Arc::clone(&failures);
    let asked: Arc<AtomicU64> = Arc::default();
    let load_asked = Arc::clone(&asked);
    let (setup_runtime, setup_proxy) = (Rc::clone(&runtime), Rc::clone(&proxy));
    let test = CrashTest::new()
        .setup(move |dir| {
            for (version, mode) in
                [("v0", "healthy"), ("v1", "healthy"), ("v2", "healthy"), ("v3", "crash")]
            {
                release(dir, version, mode);
            }
            let token = CancellationToken::new();
            *setup_proxy.borrow_mut() = Some(token.clone());
            setup_runtime.block_on(async {
                let config = ProxyConfig::new(([127, 0, 0, 1], 0).into(), dir.join("proxy"));
                let proxy = ReverseProxy::bind(config).await.map_err(|e| e.to_string())?;
                let address = proxy.address();
                std::fs::write(dir.join("public"), address.to_string())
                    .map_err(|e| e.to_string())?;
                let load_token = token.child_token();
                tokio::spawn(proxy.serve(token));
                for (n, version) in before.iter().enumerate() {
                    let site = crate::site::builder(dir, Path::new(SERVICE)).build().unwrap();
                    let cx = crate::site::context(dir);
                    site.deploy(&cx, &v(version)).await.map_err(|e| e.to_string())?;
                    let url = format!("http://{address}/");
                    if n > 0 {
                        continue;
                    }
                    tokio::spawn(load(
                        url,
                        load_token.clone(),
                        Arc::clone(&load_failures),
                        Arc::clone(&load_asked),
                    ));
                }
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
            end_all(dir);
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

#[test]
fn a_deployer_killed_at_any_place_leaves_the_old_or_the_new() {
    let (test, asked) = crash_test(&["v0", "v1"], program("deploy", Some("v2")), "v2");
    let summary = test.recovery_every(13).run().unwrap();
    assert!(summary.old > 10 && summary.new > 5, "{summary}");
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked > 10 * summary.kills, "{asked} requests: {summary}");
    for place in
        ["service: locked", "service: spawned", "service: recorded", "release: traffic switched"]
    {
        let hit = summary.places.keys().any(|name| name.contains(place));
        assert!(hit, "never killed at `{place}`: {:?}", summary.places);
    }
}

#[test]
fn a_first_deployment_killed_at_any_place_leaves_nothing_or_all_of_it() {
    let (test, _) = crash_test(&[], program("deploy", Some("v2")), "v2");
    let summary = test.every(3).recovery_every(13).run().unwrap();
    assert!(summary.old > 3 && summary.new > 1, "{summary}");
}

#[test]
fn a_failing_deployment_killed_at_any_place_leaves_the_old() {
    let (test, _) = crash_test(&["v1"], program("deploy", Some("v3")), "v3");
    let summary = test.operation_may_fail().every(2).recovery_every(9).run().unwrap();
    assert!(summary.old > 10 && summary.new == 0, "{summary}");
}

#[test]
fn a_rollback_killed_at_any_place_leaves_the_new_or_the_old() {
    let (test, _) = crash_test(&["v1", "v2"], program("rollback", None), "v1");
    let summary = test.every(2).recovery_every(17).run().unwrap();
    assert!(summary.old > 5 && summary.new > 3, "{summary}");
}
