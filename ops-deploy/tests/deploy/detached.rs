use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ops_deploy::service::{Launch, Liveness};
use ops_deploy::{Detached, ErrorKind, ServiceManager as _};
use tokio_util::sync::CancellationToken;

use crate::stage::until;

/// A shell as the service; it is given as arguments, not as a line that somebody put together.
fn launch(folder: &Path, script: &str) -> Launch {
    let log = folder.join("log");
    let arguments = vec!["-c".to_owned(), script.to_owned()];
    let path = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
    Launch::new(folder, "sh", arguments, path, folder, log)
}

fn stop(folder: &Path) {
    Detached::new().stop(folder, Duration::from_millis(200), &CancellationToken::new()).unwrap();
}

/// Ends the service with its test.
struct Ends<'a>(&'a Path);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        stop(self.0);
    }
}

fn alive_in(folder: &Path) -> Vec<u32> {
    let folder = folder.canonicalize().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder))
        .collect()
}

#[test]
fn many_starts_are_one_service() {
    let dir = tempfile::tempdir().unwrap();
    let _ends = Ends(dir.path());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                Detached::new().start(&launch(dir.path(), "echo started; exec sleep 100")).unwrap();
            });
        }
    });
    let Liveness::Running(Some(process)) = Detached::new().liveness(dir.path()).unwrap() else {
        panic!("it does not run");
    };
    assert_eq!(alive_in(dir.path()), [process.pid]);
    stop(dir.path());
    assert_eq!(Detached::new().liveness(dir.path()).unwrap(), Liveness::Stopped);
    assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap(), "started\n");
    assert!(!process.is_alive().unwrap());
}

#[tokio::test]
async fn a_service_is_found_without_its_record_and_without_its_lock() {
    for (script, forget) in [("exec sleep 100", true), ("exec sleep 100 <&-", false)] {
        let dir = tempfile::tempdir().unwrap();
        let _ends = Ends(dir.path());
        Detached::new().start(&launch(dir.path(), script)).unwrap();
        until(async || match alive_in(dir.path()).len() {
            1 => Ok(()),
            n => Err(format!("{n} run")),
        })
        .await;
        if forget {
            std::fs::remove_file(dir.path().join("process.json")).unwrap();
            assert_eq!(Detached::new().liveness(dir.path()).unwrap(), Liveness::Running(None));
        }
        // Started again, it is the same one, and is known again.
        Detached::new().start(&launch(dir.path(), script)).unwrap();
        let found = Detached::new().liveness(dir.path()).unwrap();
        assert!(matches!(found, Liveness::Running(Some(_))), "{found:?}");
        assert_eq!(alive_in(dir.path()).len(), 1);
        stop(dir.path());
        assert_eq!(alive_in(dir.path()), [0; 0]);
    }
}

#[tokio::test]
async fn what_a_service_started_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let _ends = Ends(dir.path());
    // A child that has another standard input and ignores the asking, and one that has the lock.
    let script = "trap '' TERM; exec 3<&0; sleep 100 </dev/null & sleep 101 <&3 & wait";
    Detached::new().start(&launch(dir.path(), script)).unwrap();
    until(async || match alive_in(dir.path()).len() {
        3 => Ok(()),
        n => Err(format!("{n} run")),
    })
    .await;
    stop(dir.path());
    until(async || match alive_in(dir.path()).len() {
        0 => Ok(()),
        n => Err(format!("{n} run on")),
    })
    .await;

    // The service is gone, but not its child, be it with the lock or without.
    for script in ["exec 3<&0; sleep 102 <&3 & exit 0", "setsid sleep 103 </dev/null & exit 0"] {
        Detached::new().start(&launch(dir.path(), script)).unwrap();
        until(async || match Detached::new().liveness(dir.path()).unwrap() {
            Liveness::Orphans => Ok(()),
            other => Err(format!("{script}: {other:?}")),
        })
        .await;
        stop(dir.path());
        assert_eq!(alive_in(dir.path()), [0; 0], "{script}");
        assert_eq!(Detached::new().liveness(dir.path()).unwrap(), Liveness::Stopped);
    }
}

#[test]
fn a_program_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut missing = launch(dir.path(), "");
    missing.program = dir.path().join("bin/serve");
    let error = Detached::new().start(&missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Service);
    assert!(error.to_string().starts_with("there is no program `/"), "{error}");
    assert_eq!(Detached::new().liveness(dir.path()).unwrap(), Liveness::Stopped);
    stop(&dir.path().join("never made"));
}
