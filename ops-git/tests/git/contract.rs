//! One suite against every implementation of `VersionControl`.

use std::fs;

use ops_core::{CommitId, Context, Environment};
use ops_git::contract::{self, Upstream};
use ops_git::{GitRepository, MemoryRepository};

use crate::fixture::{World, git};
use crate::server::{Manner, Server};

impl Upstream for World {
    fn commit(&self, subject: &str, files: &[(&str, &str)]) -> CommitId {
        git(&self.work(), &["rm", "-q", "-r", "--ignore-unmatch", "."]);
        for (path, content) in files {
            let file = self.work().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        git(&self.work(), &["add", "-A"]);
        git(&self.work(), &["commit", "-q", "-m", subject]);
        self.push();
        self.head().parse().unwrap()
    }

    fn force(&self, to: &CommitId) {
        git(&self.work(), &["reset", "-q", "--hard", to.as_str()]);
        self.push();
    }
}

struct InMemory(MemoryRepository);

impl Upstream for InMemory {
    fn commit(&self, subject: &str, files: &[(&str, &str)]) -> CommitId {
        self.0.commit(subject, files.iter().map(|(path, content)| (*path, *content)))
    }

    fn force(&self, to: &CommitId) {
        self.0.force_upstream(to).unwrap();
    }
}

#[tokio::test]
async fn a_mirror_of_a_path_keeps_the_contract() {
    let world = World::empty();
    let scratch = tempfile::tempdir().unwrap();
    contract::run(&world.mirror(), &world, &world.cx(), scratch.path()).await;
    world.mirror_is_sound();
}

#[tokio::test]
async fn a_mirror_of_a_web_server_keeps_the_contract() {
    let world = World::empty();
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start(world.dir.path().to_owned(), Manner::Git).await;
    let mirror = GitRepository::mirror(&server.url("origin.git"), world.mirror_path()).unwrap();
    contract::run(&mirror, &world, &world.cx(), scratch.path()).await;
    world.mirror_is_sound();
}

#[tokio::test]
async fn the_repository_in_memory_keeps_the_contract() {
    let scratch = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let repository = MemoryRepository::new("contract");
    let cx = Context::builder(state.path()).environment(Environment::Development).build();
    contract::run(&repository, &InMemory(repository.clone()), &cx, scratch.path()).await;
}
