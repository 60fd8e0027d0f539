//! Probes over real repositories.

use std::fs;

use ops_core::probe::{Health, Probe as _};
use ops_git::{GitRepository, InspectOptions, RepositoryClean};

use crate::fixture::{World, git};

#[tokio::test]
async fn a_repository_is_clean_or_not_or_nobody_knows() {
    let world = World::new();
    let dir = world.work();
    let options = InspectOptions::default().allow_no_upstream();
    let probe = RepositoryClean::new(GitRepository::open(&dir).unwrap(), options);
    assert!(probe.name().contains("work"), "{}", probe.name());
    assert_eq!(probe.check().await, Health::Healthy);

    fs::write(dir.join("new"), "").unwrap();
    fs::write(dir.join("a.txt"), "changed\n").unwrap();
    let Health::Unhealthy { reason } = probe.check().await else { panic!("it is not clean") };
    assert!(reason.contains("`a.txt`") && reason.contains("`new`"), "{reason}");

    git(&dir, &["reset", "-q", "--hard"]);
    fs::remove_file(dir.join("new")).unwrap();
    fs::write(dir.join(".git/index"), "rubbish").unwrap();
    assert!(matches!(probe.check().await, Health::Unknown { .. }));
    fs::remove_dir_all(dir.join(".git")).unwrap();
    assert!(matches!(probe.check().await, Health::Unknown { .. }));
}
