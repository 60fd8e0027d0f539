//! Images out of nothing: an archive with one static program, imported. Nothing is pulled.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::StreamExt as _;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/contained.rs");

/// The static program, compiled once for all tests.
fn program() -> PathBuf {
    let folder = match option_env!("CARGO_TARGET_TMPDIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe().unwrap().with_file_name(""),
    };
    let built = folder.join("ops-deploy-contained");
    let modified = |path: &PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified());
    let source = modified(&PathBuf::from(SOURCE)).unwrap();
    if modified(&built).is_ok_and(|built| built > source) {
        return built;
    }
    // Tests are processes of their own, several at a time: each builds its own, one name stays.
    let own = folder.join(format!("ops-deploy-contained-{}", std::process::id()));
    std::fs::create_dir_all(&own).unwrap();
    let out = own.join("serve");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compiled = Command::new(rustc)
        .args([
            "--edition=2024",
            "-Ctarget-feature=+crt-static",
            "-Cstrip=symbols",
            "-Copt-level=1",
        ])
        .arg("-o")
        .arg(&out)
        .arg(SOURCE)
        .output()
        .expect("rustc compiles the program of the images");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    std::fs::rename(out, &built).unwrap();
    std::fs::remove_dir_all(own).unwrap();
    built
}

pub async fn docker() -> Docker {
    docker_at(&crate::dock::engine()).await
}

pub async fn docker_at(host: &str) -> Docker {
    let docker = if host.starts_with("unix://") {
        Docker::connect_with_unix(host, 120, API_DEFAULT_VERSION).unwrap()
    } else {
        Docker::connect_with_http(host, 120, API_DEFAULT_VERSION).unwrap()
    };
    docker.negotiate_version().await.unwrap()
}

/// Makes an image with this tag whose service behaves in this way; answers its id.
pub async fn import(tag: &str, mode: &str, more: &[&str]) -> String {
    import_at(&crate::dock::engine(), tag, mode, more).await
}

/// The same on an engine elsewhere.
pub async fn import_at(host: &str, tag: &str, mode: &str, more: &[&str]) -> String {
    let docker = docker_at(host).await;
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_path_with_name(program(), "serve").unwrap();
    let archive = archive.into_inner().unwrap();
    let (repository, version) = tag.rsplit_once(':').unwrap();
    let changes: Vec<String> = [
        "CMD [\"/serve\"]".to_owned(),
        format!("ENV BUILD_VERSION={version}"),
        format!("ENV MODE={mode}"),
    ]
    .into_iter()
    .chain(more.iter().map(|&more| more.to_owned()))
    .collect();
    let options = CreateImageOptionsBuilder::default()
        .from_src("-")
        .repo(repository)
        .tag(version)
        .changes(changes)
        .build();
    let mut answers =
        docker.create_image(Some(options), Some(bollard::body_full(archive.into())), None);
    while let Some(answer) = answers.next().await {
        answer.unwrap();
    }
    docker.inspect_image(tag).await.unwrap().id.unwrap()
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

/// A name that no other test has.
pub fn new_application(dir: &Path) {
    std::fs::create_dir_all(dir.join("host")).unwrap();
    let id = ops_core::OperationId::generate().to_string().to_lowercase();
    std::fs::write(dir.join("app"), format!("t{id}")).unwrap();
}
