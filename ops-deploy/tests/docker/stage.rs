//! An application on the engine, with a proxy, and the end of all of it.

use std::collections::HashMap;
use std::path::Path;

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder,
};
use ops_core::{Context, OperationId};
use ops_deploy::docker::{Container, DockerHostBuilder};
use ops_deploy::{DockerHost, ProxyClient, TrafficSwitch as _};

pub use crate::asking::{get, http, until, v};
use crate::images::{docker, import};
use crate::public::Public;

/// A name that no other test has.
pub fn new_application(dir: &Path) {
    std::fs::create_dir_all(dir.join("host")).unwrap();
    let id = OperationId::generate().to_string().to_lowercase();
    std::fs::write(dir.join("app"), format!("t{id}")).unwrap();
}

/// Removes every container and image of an application.
pub async fn remove_all(application: &str) {
    let docker = docker().await;
    let label = format!("ops-deploy.application={application}");
    let filters = HashMap::from([("label", vec![label.as_str()])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    for container in docker.list_containers(Some(options)).await.unwrap() {
        let force = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let _ = docker.remove_container(&container.id.unwrap(), Some(force)).await;
    }
    let pattern = format!("{application}/*");
    let filters = HashMap::from([("reference", vec![pattern.as_str()])]);
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    for image in docker.list_images(Some(options)).await.unwrap() {
        for tag in image.repo_tags {
            let force = RemoveImageOptionsBuilder::default().force(true).build();
            let _ = docker.remove_image(&tag, Some(force), None).await;
        }
    }
}

pub struct Dock {
    dir: tempfile::TempDir,
    proxy: Option<Public>,
}

impl Drop for Dock {
    fn drop(&mut self) {
        let application = self.application();
        let clear = || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(remove_all(&application));
        };
        // A runtime is running here already, and its test may be panicking.
        std::thread::scope(|scope| drop(scope.spawn(clear).join()));
    }
}

impl Dock {
    pub async fn new() -> Self {
        let mut dock = Self::without_proxy();
        dock.proxy = Some(Public::before(dock.path()).await);
        dock
    }

    pub fn without_proxy() -> Self {
        let dir = tempfile::tempdir().unwrap();
        new_application(dir.path());
        Self { dir, proxy: None }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn application(&self) -> String {
        crate::dock::application(self.path())
    }

    pub fn builder(&self) -> DockerHostBuilder {
        crate::dock::bare(self.path(), crate::dock::engine())
    }

    pub fn host(&self) -> DockerHost {
        self.builder().service(crate::dock::web(self.path())).build().unwrap()
    }

    pub fn cx(&self) -> Context {
        crate::dock::context(self.path())
    }

    pub async fn client_points_nowhere(&self) -> bool {
        let proxy = ProxyClient::new(self.path().join("proxy"));
        proxy.current().await.unwrap().upstream.is_none()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.proxy.as_ref().unwrap().address)
    }

    pub async fn image(&self, version: &str, mode: &str) -> String {
        import(&format!("{}/web:{version}", self.application()), mode, &[]).await
    }

    /// What runs, as the engine tells.
    pub async fn running(&self) -> Vec<Container> {
        let status = self.host().look().await.unwrap();
        status.containers.into_iter().filter(Container::runs).collect()
    }

    /// The names of all containers of the application, the lock too.
    pub async fn names(&self) -> Vec<String> {
        let label = format!("ops-deploy.application={}", self.application());
        let filters = HashMap::from([("label", vec![label.as_str()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let all = docker().await.list_containers(Some(options)).await.unwrap();
        let mut names: Vec<_> =
            all.into_iter().flat_map(|it| it.names.unwrap_or_default()).collect();
        names.sort();
        names
    }

    pub async fn public_version(&self) -> String {
        get(&http(), &self.url("/")).await.map_or_else(|e| e, |(_, version, _)| version)
    }
}
