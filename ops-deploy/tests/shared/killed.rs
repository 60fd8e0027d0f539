//! Operations that are killed at their places, while the public asks.

use std::cell::RefCell;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ops_core::crash::{CrashTest, State, Summary};
use ops_core::{Context, Version};
use ops_deploy::Target;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::asking::{get, http, v};
use crate::public::Public;

/// What is deployed to in a directory, and what must hold there.
pub trait Scene: 'static {
    /// The program that deploys: `PROGRAM VERB DIR [VERSION]`.
    const PROGRAM: &str;
    /// Whether the public asks all the time through the proxy, and must lose no request.
    const UNDER_LOAD: bool = true;

    /// Makes what can be deployed.
    fn prepare(dir: &Path) -> impl Future<Output = ()>;
    fn target(dir: &Path) -> Box<dyn Target>;
    fn context(dir: &Path) -> Context;
    /// The version that everything agrees upon; what does not agree.
    fn agreement(dir: &Path) -> impl Future<Output = Result<Option<Version>, String>>;
    fn clear(dir: &Path, runtime: &Runtime);
}

pub fn program<S: Scene>(
    verb: &'static str,
    version: Option<&'static str>,
) -> impl Fn(&Path) -> Command + 'static {
    move |dir| {
        let mut command = Command::new(S::PROGRAM);
        command.arg(verb).arg(dir).args(version);
        command
    }
}

/// Kills the operation at its places, with the proxy of each round in this process. Also answers
/// how many requests were asked by then.
pub fn crash_test<S: Scene>(
    before: &'static [&'static str],
    operation: impl Fn(&Path) -> Command + 'static,
    to: &'static str,
) -> (CrashTest, Arc<AtomicU64>) {
    let runtime = Rc::new(Runtime::new().unwrap());
    let proxy: Rc<RefCell<Option<Public>>> = Rc::default();
    let failures: Arc<Mutex<Vec<String>>> = Arc::default();
    let asked: Arc<AtomicU64> = Arc::default();
    let (load_failures, load_asked) = (Arc::clone(&failures), Arc::clone(&asked));
    let (setup_runtime, setup_proxy) = (Rc::clone(&runtime), Rc::clone(&proxy));
    let end_runtime = Rc::clone(&runtime);
    let test = CrashTest::new()
        .setup(move |dir| {
            setup_runtime.block_on(async {
                S::prepare(dir).await;
                let public = Public::before(dir).await;
                let (url, end) = (format!("http://{}/", public.address), public.end.child_token());
                *setup_proxy.borrow_mut() = Some(public);
                let mut load =
                    Some(load(url, end, Arc::clone(&load_failures), Arc::clone(&load_asked)));
                for version in before {
                    let (target, cx) = (S::target(dir), S::context(dir));
                    target.deploy(&cx, &v(version)).await.map_err(|e| format!("{e:?}"))?;
                    load.take().filter(|_| S::UNDER_LOAD).map(tokio::spawn);
                }
                Ok(())
            })
        })
        .operation(operation)
        .recovery(program::<S>("recover", None))
        .check(move |dir| {
            let failed = std::mem::take(&mut *failures.lock().unwrap());
            if !failed.is_empty() {
                return Err(format!("the public lost {} requests: {failed:?}", failed.len()));
            }
            match runtime.block_on(S::agreement(dir))? {
                Some(version) if version == v(to) => Ok(State::New),
                current if current.as_ref().map(Version::as_str) == before.last().copied() => {
                    Ok(State::Old)
                }
                other => Err(format!("{other:?} is in service")),
            }
        })
        .teardown(move |dir| {
            drop(proxy.borrow_mut().take());
            S::clear(dir, &end_runtime);
        });
    (test, asked)
}

/// Goes through every n-th place with so many threads, which share these places. Also answers how many
/// requests were asked by then.
pub fn in_shards(
    shards: u64,
    every: u64,
    test: impl Fn() -> (CrashTest, Arc<AtomicU64>) + Sync,
) -> (Summary, u64) {
    let run = |shard: u64| {
        let (test, asked) = test();
        let test = test.first(1 + shard * every).every(shards * every);
        let summary = test.run().unwrap();
        (summary, asked.load(Ordering::Relaxed))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..shards)
            .map(|shard| {
                scope.spawn({
                    let run = &run;
                    move || run(shard)
                })
            })
            .collect();
        let (mut all, mut asked) = (Summary::default(), 0);
        for thread in threads {
            let (one, by) = thread.join().unwrap();
            all.kills += one.kills;
            all.recovery_kills += one.recovery_kills;
            all.old += one.old;
            all.new += one.new;
            for (place, hits) in one.places {
                *all.places.entry(place).or_default() += hits;
            }
            asked += by;
        }
        (all, asked)
    })
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
