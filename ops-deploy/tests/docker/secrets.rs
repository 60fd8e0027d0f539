//! Where secrets are, and where they are not: everything that an engine, a Swarm and the disk tell of
//! an application is looked through for the secret's bytes.

use std::collections::HashMap;
use std::path::Path;

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListServicesOptionsBuilder, ListTasksOptionsBuilder,
};
use futures::StreamExt as _;
use ops_core::reporter::JsonLinesReporter;
use ops_core::{Context, Environment, Secret};
use ops_deploy::{Hook, Migration, Target, When};

use crate::images::docker;
use crate::stage::{Dock, get, http, until, v};

const VALUE: &str = "correct horse battery staple 4711";

/// All that was told, by where it stands.
#[derive(Default)]
struct Told(Vec<(String, Vec<u8>)>);

impl Told {
    fn json(&mut self, place: impl Into<String>, value: &impl serde::Serialize) {
        self.0.push((place.into(), serde_json::to_vec(value).unwrap()));
    }

    /// Every file below a folder but the secret's own.
    fn files(&mut self, folder: &Path, but: &Path) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                self.files(&path, but);
            } else if kind.is_file() && path != but {
                self.0.push((path.display().to_string(), std::fs::read(&path).unwrap()));
            }
        }
    }

    /// Containers with their labels, arguments and environments, images with their layers.
    async fn engine(&mut self, application: &str, image: &str) {
        let docker = docker().await;
        let options = ListContainersOptionsBuilder::default().all(true).build();
        for found in docker.list_containers(Some(options)).await.unwrap() {
            let ours = found.names.iter().flatten().any(|name| name.contains(application));
            if let (true, Some(id)) = (ours, &found.id) {
                let all = docker.inspect_container(id, None).await.unwrap();
                self.json(format!("container {id}"), &all);
            }
        }
        self.json("image", &docker.inspect_image(image).await.unwrap());
        self.json("image history", &docker.image_history(image).await.unwrap());
        let (mut layers, mut bytes) = (docker.export_image(image), Vec::new());
        while let Some(piece) = layers.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        assert!(bytes.len() > 100_000, "the layers are there");
        self.0.push(("image layers".into(), bytes));
    }

    #[track_caller]
    fn is_silent(&self) {
        assert!(self.0.len() > 8, "there is something to look through");
        for (place, bytes) in &self.0 {
            let found = bytes.windows(VALUE.len()).any(|part| part == VALUE.as_bytes());
            assert!(!found, "{place} tells the secret");
        }
    }
}

/// A context whose reports are on the disk, too.
fn cx(dir: &Path) -> Context {
    Context::builder(dir.join("state"))
        .environment(Environment::Development)
        .reporter(JsonLinesReporter::new(dir.join("reports")))
        .build()
}

/// A command that has the secret, says it aloud, writes down its own arguments, and ends so.
fn loud(dir: &Path, name: &str, code: u8) -> Hook {
    let argv = dir.join(format!("argv-{name}"));
    let line = format!(
        "tr '\\0' ' ' </proc/$$/cmdline >{}; echo \"$KEY\"; echo \"bad $KEY\" >&2; exit {code}",
        argv.display()
    );
    Hook::new(name, ["sh", "-c", &line]).secret_env("KEY", Secret::new(VALUE))
}

#[tokio::test]
async fn a_containers_secret_is_nowhere_but_in_its_file() {
    let dock = Dock::new().await;
    for version in ["a000001", "a000002"] {
        dock.image(version, "healthy").await;
    }
    let (dir, file) = (dock.path(), dock.path().join("key"));
    std::fs::write(&file, VALUE).unwrap();
    let web = crate::dock::web(dir).secret("key", &file);
    let host = |name: &str, code| {
        let migration = Migration::new(loud(dir, "schema", 0)).rehearsal(loud(dir, "rehearse", 0));
        let builder = dock.builder().service(web.clone()).migration(migration);
        builder.hook(When::AfterSwitch, loud(dir, name, code)).build().unwrap()
    };
    let cx = cx(dir);
    let plan = host("warm", 0).plan_deploy(&v("a000001")).await.unwrap();
    host("warm", 0).deploy(&cx, &v("a000001")).await.unwrap();
    let (_, _, body) = get(&http(), &dock.url("/secret")).await.unwrap();
    assert_eq!(body, VALUE, "the service has it");
    let error = host("fail", 9).deploy(&cx, &v("a000002")).await.unwrap_err();
    let told = format!("{error:?}");
    assert!(told.contains("ended with code 9: bad "), "{told}");

    let mut all = Told::default();
    all.0.push(("the error".into(), told.into_bytes()));
    all.0.push(("the plan".into(), plan.to_string().into_bytes()));
    all.json("the plan", &plan);
    all.files(dir, &file);
    let application = dock.application();
    all.engine(&application, &format!("{application}/web:a000001")).await;
    assert!(all.0.iter().any(|(place, _)| place.contains("argv-warm")));
    assert!(all.0.iter().any(|(place, _)| place.contains("/reports/")));
    all.is_silent();
}

#[tokio::test]
async fn a_swarms_secret_is_nowhere_but_in_its_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    crate::swarm::prepare(dir).await;
    let application = crate::dock::application(dir);
    let _cleared = Cleared(application.clone());
    let image = |version: &'static str, mode: &'static str| {
        let tag = format!("{application}/web:{version}");
        async move { crate::images::import(&tag, mode, &[]).await }
    };
    let first = image("a000001", "patient").await;
    image("a000002", "patient").await;
    image("b000001", "crash").await;
    crate::swarm::create(dir, "web", &first).await;
    let file = dir.join("key");
    std::fs::write(&file, VALUE).unwrap();
    let swarm = |name: &str| {
        let web = crate::swarmed::web(dir).secret("key", &file);
        let builder = crate::swarmed::builder(dir, crate::dock::engine(), "host").service(web);
        builder.hook(When::AfterSwitch, loud(dir, name, 0)).build().unwrap()
    };
    let cx = cx(dir);
    let port = std::fs::read_to_string(dir.join("port")).unwrap();
    // The old task has the port yet when the new one runs.
    let served = async || {
        until(async || {
            let heard = get(&http(), &format!("http://127.0.0.1:{port}/secret")).await?.2;
            if heard == VALUE { Ok(()) } else { Err(format!("the tasks have `{heard}`")) }
        })
        .await;
    };
    swarm("one").deploy(&cx, &v("a000001")).await.unwrap();
    served().await;
    swarm("two").deploy(&cx, &v("a000002")).await.unwrap();
    served().await;
    // What goes back has what it had; what it brought is removed.
    swarm("three").deploy(&cx, &v("b000001")).await.unwrap_err();
    let label = format!("ops-deploy.application={application}");
    let filters = HashMap::from([("label", vec![label.as_str()])]);
    let options =
        bollard::query_parameters::ListSecretsOptionsBuilder::default().filters(&filters).build();
    let secrets = docker().await.list_secrets(Some(options)).await.unwrap();
    assert_eq!(secrets.len(), 1, "{secrets:?}");

    let mut all = Told::default();
    all.json("secrets", &secrets);
    let docker = docker().await;
    let name = format!("{application}_web");
    let filters = HashMap::from([("name", vec![name.as_str()])]);
    let options = ListServicesOptionsBuilder::default().filters(&filters).build();
    all.json("services", &docker.list_services(Some(options)).await.unwrap());
    let filters = HashMap::from([("service", vec![name.as_str()])]);
    let options = ListTasksOptionsBuilder::default().filters(&filters).build();
    all.json("tasks", &docker.list_tasks(Some(options)).await.unwrap());
    all.files(dir, &file);
    all.engine(&application, &format!("{application}/web:a000001")).await;
    all.is_silent();

    // A file that is not there is found before anything is changed.
    std::fs::remove_file(&file).unwrap();
    let error = swarm("four").rollback(&cx, None).await.unwrap_err();
    assert_eq!(error.report().unwrap().outcome.name(), "refused");
    assert!(error.to_string().contains("the secret `key` of"), "{error}");
}

struct Cleared(String);

impl Drop for Cleared {
    fn drop(&mut self) {
        let clear = || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                crate::swarm::clear(&self.0).await;
                let label = format!("ops-deploy.application={}", self.0);
                let filters = HashMap::from([("label", vec![label.as_str()])]);
                let options = bollard::query_parameters::ListSecretsOptionsBuilder::default()
                    .filters(&filters)
                    .build();
                for secret in docker().await.list_secrets(Some(options)).await.unwrap() {
                    let _ = docker().await.delete_secret(&secret.id.unwrap()).await;
                }
            });
        };
        std::thread::scope(|scope| drop(scope.spawn(clear).join()));
    }
}
