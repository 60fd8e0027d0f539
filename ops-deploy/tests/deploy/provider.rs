//! A provider's tool: a script that deploys to a small server, well or badly.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ops_core::{Secret, probe};
use ops_deploy::provider::ProviderBuilder;
use ops_deploy::{ErrorKind, Gate, Provider, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::stage::v;

/// What the tool does, besides writing down how it was called. `live` is what the server says.
const TOOL: &str = r#"#!/bin/sh
# publish VERSION | promote VERSION | list
cd "$(dirname "$0")" || exit 9
echo "$*" >> calls
[ "$3" = --dry-run ] && { grep -q "^$2\$" refused 2>/dev/null && { echo "no such build" >&2; exit 7; }; exit 0; }
case "$1" in
list) cat versions; exit ;;
esac
case "$(cat mode 2>/dev/null)" in
liar) exit 0 ;;
fails) echo "quota of $TOKEN is used up" >&2; exit 4 ;;
slow) sleep 60 & echo "$2" > live; wait ;;
hangs) sleep 60 ;;
holds) sleep 60 & echo "$2" > live ;;
late) (sleep 0.5; echo "$2" > live) >/dev/null 2>&1 & ;;
half) [ "$1" = publish ] && { echo "$2" > live; exit 5; } ; echo "$2" > live ;;
*) echo "$2" > live ;;
esac
"#;

pub struct Cloud {
    dir: tempfile::TempDir,
    url: String,
}

impl Cloud {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tool = dir.path().join("tool");
        std::fs::write(&tool, TOOL).unwrap();
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let live = dir.path().join("live");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let live = live.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 2048];
                    while let Ok(1..) = stream.read(&mut buffer).await {
                        let version = std::fs::read_to_string(&live).unwrap_or_default();
                        let version = version.trim();
                        if live.with_file_name("deaf").exists() {
                            std::future::pending::<()>().await;
                        }
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\nx-version: {version}\r\ncontent-length: 0\r\n\r\n"
                        );
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { dir, url }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn mode(&self, mode: &str) {
        std::fs::write(self.path("mode"), mode).unwrap();
    }

    pub fn builder(&self) -> ProviderBuilder {
        let tool = self.path("tool").to_str().unwrap().to_owned();
        let gate = Gate::default()
            .consecutive(3)
            .interval(Duration::from_millis(20))
            .deadline(Duration::from_secs(4));
        Provider::builder("shop", self.dir.path(), self.url.parse().unwrap())
            .deploy([tool.as_str(), "publish", "{version}"])
            .rollback([tool.as_str(), "promote", "{version}"])
            .gate(gate)
    }

    pub fn provider(&self) -> Provider {
        self.builder().build().unwrap()
    }

    pub fn cx(&self) -> ops_core::Context {
        ops_core::Context::builder(self.path("state"))
            .environment(ops_core::Environment::Development)
            .undo_budget(Duration::from_secs(12))
            .build()
    }

    pub fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    pub fn live(&self) -> String {
        std::fs::read_to_string(self.path("live")).unwrap_or_default().trim().to_owned()
    }
}

#[tokio::test]
async fn versions_come_and_go_by_the_tool_and_the_public_says_so() {
    let cloud = Cloud::new().await;
    let (site, cx) = (cloud.provider(), cloud.cx());
    assert_eq!(site.observe().await.unwrap().current, None);
    site.deploy(&cx, &v("v1")).await.unwrap();
    site.deploy(&cx, &v("v2")).await.unwrap();
    assert_eq!(site.observe().await.unwrap().current, Some(v("v2")));
    assert!(site.plan_deploy(&v("v2")).await.unwrap().is_empty());
    let report = site.rollback(&cx, None).await.unwrap();
    assert_eq!(report.facts["to"], "v1");
    assert_eq!(cloud.live(), "v1");
    assert_eq!(cloud.calls(), ["publish v1", "publish v2", "promote v1"]);
    assert_eq!(site.versions().await.unwrap(), [v("v2"), v("v1")]);
    assert_eq!(site.rollback(&cx, None).await.unwrap_err().kind(), ErrorKind::NoPrevious);
}

#[tokio::test]
async fn a_tool_that_ends_well_without_having_deployed_is_caught() {
    let cloud = Cloud::new().await;
    let (site, cx) = (cloud.provider(), cloud.cx());
    site.deploy(&cx, &v("v1")).await.unwrap();
    cloud.mode("liar");
    let error = site.deploy(&cx, &v("v2")).await.unwrap_err();
    let report = error.report().unwrap();
    assert_eq!(report.outcome.name(), "rolled_back", "{error:?}");
    let told = format!("{error:?}");
    assert!(told.contains("the tool has ended, but v2 is not in service"), "{told}");
    assert_eq!(cloud.live(), "v1");
    assert_eq!(cloud.calls(), ["publish v1", "publish v2"], "v1 is heard: nothing to go back from");
    assert_eq!(site.observe().await.unwrap().current, Some(v("v1")));

    // What comes late is waited for.
    cloud.mode("late");
    site.deploy(&cx, &v("v2")).await.unwrap();
    assert_eq!(cloud.live(), "v2");
}

#[tokio::test]
async fn a_tool_that_does_not_end_is_in_doubt_until_the_public_says() {
    let cloud = Cloud::new().await;
    let site = cloud.builder().command_deadline(Duration::from_secs(5)).build().unwrap();
    let cx = cloud.cx();
    site.deploy(&cx, &v("v1")).await.unwrap();
    cloud.mode("slow");
    let begun = Instant::now();
    site.deploy(&cx, &v("v2")).await.unwrap();
    assert_eq!(cloud.live(), "v2", "it had deployed before it hung");
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());

    // It hangs for good: what it began may still arrive, so v2 is brought back by the tool.
    cloud.mode("hangs");
    let error = site.deploy(&cx, &v("v3")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "needs_person", "{error:?}");
    cloud.mode("");
    let world = site.world();
    let recovered = ops_core::recover(&*world, &cx).await.unwrap();
    assert_eq!(recovered.reports[0].outcome.name(), "rolled_back");
    assert_eq!(cloud.calls().last().unwrap(), "promote v2");
    assert_eq!(cloud.live(), "v2");
}

#[tokio::test]
async fn a_tool_whose_child_holds_its_output_is_not_waited_for() {
    let cloud = Cloud::new().await;
    let (site, cx) = (cloud.provider(), cloud.cx());
    cloud.mode("holds");
    let begun = Instant::now();
    site.deploy(&cx, &v("v1")).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    assert_eq!(cloud.live(), "v1");
}

#[tokio::test]
async fn a_tool_that_is_missing_is_named_and_nothing_changes() {
    let cloud = Cloud::new().await;
    cloud.provider().deploy(&cloud.cx(), &v("v1")).await.unwrap();
    let site = cloud.builder().deploy(["no-such-tool", "{version}"]).build().unwrap();
    let error = site.deploy(&cloud.cx(), &v("v2")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back", "{error:?}");
    assert!(format!("{error:?}").contains("no-such-tool"), "{error:?}");
    assert_eq!(cloud.live(), "v1");
}

#[tokio::test]
async fn what_a_tool_deploys_before_it_fails_is_taken_back() {
    let cloud = Cloud::new().await;
    let site = cloud.builder().secret_env("TOKEN", Secret::new("s3cr3t-token")).build().unwrap();
    let cx = cloud.cx();
    site.deploy(&cx, &v("v1")).await.unwrap();
    cloud.mode("half");
    let error = site.deploy(&cx, &v("v2")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back", "{error:?}");
    assert_eq!((cloud.live().as_str(), cloud.calls().len()), ("v1", 3), "{:?}", cloud.calls());

    // The tool says what is wrong, without the secret; nothing was changed, nothing is put back.
    cloud.mode("fails");
    let error = site.deploy(&cx, &v("v2")).await.unwrap_err();
    let told = format!("{error:?}");
    assert!(told.contains("ended with code 4: quota of [redacted] is used up"), "{told}");
    assert_eq!(cloud.calls().len(), 4);
    assert_eq!(site.observe().await.unwrap().current, Some(v("v1")));
}

#[tokio::test]
async fn a_guard_that_falls_sick_after_the_switch_brings_the_old_back() {
    let cloud = Cloud::new().await;
    let asked = Arc::new(AtomicU32::new(0));
    let live = cloud.path("live");
    let count = Arc::clone(&asked);
    let guard = probe::FnProbe::new("orders", move || {
        count.fetch_add(1, Ordering::Relaxed);
        let live = std::fs::read_to_string(&live).unwrap_or_default();
        async move {
            if live.trim() == "v2" {
                return probe::Health::unhealthy("no orders");
            }
            probe::Health::Healthy
        }
    });
    let site = cloud.builder().guard(guard).build().unwrap();
    site.deploy(&cloud.cx(), &v("v1")).await.unwrap();
    let error = site.deploy(&cloud.cx(), &v("v2")).await.unwrap_err();
    assert!(format!("{error:?}").contains("no orders"), "{error:?}");
    assert_eq!(cloud.calls(), ["publish v1", "publish v2", "promote v1"]);
    assert_eq!(cloud.live(), "v1");
    assert!(asked.load(Ordering::Relaxed) > 3);
}

#[tokio::test]
async fn a_rehearsal_comes_first_and_changes_nothing() {
    let cloud = Cloud::new().await;
    let tool = cloud.path("tool").to_str().unwrap().to_owned();
    let site =
        cloud.builder().dry_run(["--dry-run"]).versions([tool.as_str(), "list"]).build().unwrap();
    std::fs::write(cloud.path("versions"), "v1\nv2\nnot a version\n").unwrap();
    std::fs::write(cloud.path("refused"), "v2\n").unwrap();
    let plan = site.plan_deploy(&v("v1")).await.unwrap();
    assert!(plan.to_string().contains("let the provider's tool rehearse v1"), "{plan}");
    assert!(cloud.calls().iter().all(|call| call == "list"), "a plan only reads");
    site.deploy(&cloud.cx(), &v("v1")).await.unwrap();
    let error = site.deploy(&cloud.cx(), &v("v2")).await.unwrap_err();
    assert!(format!("{error:?}").contains("no such build"), "{error:?}");
    let calls: Vec<_> = cloud.calls().into_iter().filter(|call| call != "list").collect();
    assert_eq!(calls, ["publish v1 --dry-run", "publish v1", "publish v2 --dry-run"]);
    let error = site.plan_deploy(&v("v3")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "version `v3` does not exist or is incomplete; complete versions: v1, v2"
    );
}

#[tokio::test]
async fn what_is_sick_can_be_rolled_back_from() {
    let cloud = Cloud::new().await;
    let (site, cx) = (cloud.provider(), cloud.cx());
    site.deploy(&cx, &v("v1")).await.unwrap();
    site.deploy(&cx, &v("v2")).await.unwrap();
    std::fs::write(cloud.path("live"), "error page").unwrap();
    let seen = site.observe().await.unwrap();
    assert_eq!((seen.current, seen.contradictions.len()), (None, 1));
    site.rollback(&cx, None).await.unwrap();
    assert_eq!(cloud.live(), "v1");
}

#[tokio::test]
async fn a_first_deployment_goes_back_by_the_command_for_it() {
    let cloud = Cloud::new().await;
    let live = cloud.path("live");
    let never = || probe::FnProbe::new("never", || async { probe::Health::unhealthy("not today") });
    let site = cloud.builder().guard(never()).build().unwrap();
    let error = site.deploy(&cloud.cx(), &v("v1")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "needs_person", "{error:?}");
    assert!(format!("{error:?}").contains("take it out of service at the provider"), "{error:?}");
    std::fs::write(cloud.path("live"), "").unwrap();
    let _ = ops_core::recover(&*site.world(), &cloud.cx()).await.unwrap();

    let shell = ["sh", "-c", "echo > \"$1\" # {version}", "sh", live.to_str().unwrap()];
    let site = cloud.builder().guard(never()).remove(shell).build().unwrap();
    let error = site.deploy(&cloud.cx(), &v("v1")).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "rolled_back", "{error:?}");
    assert_eq!(cloud.live(), "");
}

#[test]
fn what_is_set_up_badly_is_refused_all_at_once() {
    let error = Provider::builder("a/b", "/does/not/exist", "ftp://shop".parse().unwrap())
        .deploy(["tool", "publish"])
        .dry_run(["{no}"])
        .health_path("health")
        .build()
        .unwrap_err();
    assert_eq!(error.reasons().len(), 6, "{error:?}");
}
