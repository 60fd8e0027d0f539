use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ops_deploy::{ProxyClient, TrafficSwitch as _, Upstream};

use crate::answer::run;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ops-proxy");

/// Processes that end with their test, whoever started them.
struct Processes(Vec<u32>);

impl Drop for Processes {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ =
                Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }
}

async fn until<F: AsyncFnMut() -> Result<(), String>>(mut so: F) {
    let begun = Instant::now();
    while let Err(last) = so().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "still: {last}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A new program where the old one lies, as a package manager puts it there.
fn install(program: &Path) {
    let beside = program.with_extension("new");
    std::fs::copy(PROGRAM, &beside).unwrap();
    std::fs::rename(beside, program).unwrap();
}

fn guestbook(dir: &Path) -> (Child, Upstream) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::write(dir.join("app.toml"), "title = \"Shop\"\nbroken = false\n").unwrap();
    std::fs::write(dir.join("page.html"), "{title} {version}").unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_guestbook"))
        .args(["--port", &port.to_string(), "--version", "v1", "--release"])
        .arg(dir)
        .arg("--database")
        .arg(dir.join("app.db"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (child, Upstream { address: ([127, 0, 0, 1], port).into(), instance: "v1-1".into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_brings_a_new_program_and_configuration_into_service() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let (service, upstream) = guestbook(dir.path());
    let mut processes = Processes(vec![service.id()]);
    let (program, config, said) = (at("ops-proxy"), at("proxy.toml"), at("said"));
    install(&program);
    let configure = |more: &str| {
        let state = at("proxy");
        let text = format!("listen = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n{more}", state.display());
        std::fs::write(&config, text).unwrap();
    };
    configure("");
    let manager = UnixDatagram::bind(at("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let heard = || {
        let mut bytes = [0; 256];
        let read = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    };
    let first = Command::new(&program)
        .arg("--config")
        .arg(&config)
        .env("NOTIFY_SOCKET", at("notify"))
        .stderr(std::fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    processes.0.push(first.id());
    let mut first = first;
    assert_eq!(heard(), format!("READY=1\nMAINPID={}", first.id()));
    let client = ProxyClient::new(at("proxy"));
    until(async || client.status().await.map(drop).map_err(|error| error.to_string())).await;
    let address = client.status().await.unwrap().address;
    client.switch(0, Some(&upstream)).await.unwrap();
    let url = format!("http://{address}/health");
    until(async || {
        let answer = reqwest::get(&url).await.map_err(|error| error.to_string())?;
        answer.error_for_status().map(drop).map_err(|error| error.to_string())
    })
    .await;

    // The public asks all the time, on connections that are kept and on new ones.
    let (end, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let public: Vec<_> = [0, 1, 8]
        .map(|kept| {
            let (url, end, asked) = (url.clone(), Arc::clone(&end), Arc::clone(&asked));
            tokio::spawn(async move {
                let builder = reqwest::Client::builder().no_proxy();
                let client = builder.pool_max_idle_per_host(kept).build().unwrap();
                while !end.load(Ordering::Relaxed) {
                    let answer = client.get(&url).send().await.map_err(|e| format!("{e:?}"))?;
                    let status = answer.status();
                    answer.bytes().await.map_err(|error| format!("{error:?}"))?;
                    if !status.is_success() {
                        return Err(format!("{status}"));
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                Ok(())
            })
        })
        .into();
    let hup = |pid: u32| {
        let sent = Command::new("kill").args(["-HUP", &pid.to_string()]).status().unwrap();
        assert!(sent.success());
    };

    // One that makes no sense changes nothing, and is named.
    configure("max_connection = 7\n");
    hup(first.id());
    until(async || {
        let said = std::fs::read_to_string(&said).unwrap();
        let known = said.contains("max_connection") && said.contains("the successor has ended");
        known.then_some(()).ok_or(said)
    })
    .await;
    assert_eq!(client.status().await.unwrap().pid, first.id());

    configure("max_connections = 700\nhandover_grace = 20\n");
    install(&program);
    hup(first.id());
    let second = heard();
    let second: u32 = second.strip_prefix("READY=1\nMAINPID=").unwrap().parse().unwrap();
    processes.0.push(second);
    assert_ne!(second, first.id());
    until(async || match client.status().await.map_err(|error| error.to_string())? {
        status if status.pid == second => Ok(()),
        status => Err(format!("{status:?}")),
    })
    .await;
    let status = client.status().await.unwrap();
    assert_eq!((status.address, status.pointer.upstream), (address, Some(upstream)));
    until(async || first.try_wait().unwrap().map(drop).ok_or("the old one runs".to_owned())).await;
    assert!(first.wait().unwrap().success());

    // And once more: the second one was no child of anybody's.
    install(&program);
    hup(second);
    let third: u32 = heard().strip_prefix("READY=1\nMAINPID=").unwrap().parse().unwrap();
    processes.0.push(third);
    until(async || match client.status().await.map_err(|error| error.to_string())? {
        status if status.pid == third => Ok(()),
        status => Err(format!("{status:?}")),
    })
    .await;
    end.store(true, Ordering::Relaxed);
    for client in public {
        client.await.unwrap().unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 100);
}

#[test]
fn a_folder_that_is_in_use_is_named_with_what_helps() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("proxy");
    let mut first = Command::new(PROGRAM)
        .args(["--listen", "127.0.0.1:0", "--state-dir"])
        .arg(&state)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !state.join("admin.sock").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
    let answer = run(PROGRAM, "--listen 127.0.0.1:0 --state-dir", &[&state]);
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(answer.code, 3, "{}", answer.err);
    assert!(answer.err.contains("another proxy runs on"), "{}", answer.err);
    assert!(answer.err.contains("let it take the other's place"), "{}", answer.err);
    let answer = run::<&str>(PROGRAM, "--listen 127.0.0.1:0", &[]);
    assert_eq!(answer.code, 2, "{}", answer.err);
    assert!(answer.err.contains("give --state-dir"), "{}", answer.err);
}
