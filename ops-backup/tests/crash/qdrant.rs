//! Backups and restores of Qdrant collections, killed.

use super::*;
use crate::qdrant_server::Server;

/// The name of a round's alias.
fn base(dir: &Path) -> String {
    dir.file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_lowercase()
}

/// A collection of 20 points behind an alias.
fn fill(server: &Server, dir: &Path) {
    let (alias, collection) = (base(dir), format!("{}_1", base(dir)));
    server.fill(&collection, 20);
    server.alias(&alias, &collection);
    fs::write(dir.join("url"), server.url(&alias)).unwrap();
}

fn on_a_runtime(test: impl FnOnce(Server) + Send + 'static) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::start(None));
    test(server);
}

#[test]
fn a_backup_of_qdrant_killed_at_every_place_leaves_no_snapshot() {
    on_a_runtime(|server| {
        let [one, two, three] = [(); 3].map(|()| server.clone());
        let summary = CrashTest::new()
            .setup(move |dir| {
                fill(&one, dir);
                Ok(())
            })
            .operation(|dir| program(dir, "qdrant-back-up"))
            .recovery(|dir| program(dir, "qdrant-recover"))
            .check(move |dir| {
                if !two.snapshots().is_empty() {
                    return Err(format!("left on the server: {:?}", two.snapshots()));
                }
                match listed(dir, "docs")? {
                    0 => Ok(State::Old),
                    1 => Ok(State::New),
                    other => Err(format!("{other} backups are listed")),
                }
            })
            .teardown(move |dir| three.forget(&base(dir)))
            .recovery_every(29)
            .run()
            .unwrap_or_else(|e| panic!("{e}"));
        assert!(summary.old > 0 && summary.new > 0, "{summary}");
        for place in ["made a snapshot", "deleted the snapshot"] {
            assert!(summary.places.contains_key(place), "{place}: {summary:?}");
        }
    });
}

#[test]
fn a_restore_of_qdrant_killed_at_every_place_is_old_or_new() {
    on_a_runtime(|server| {
        let [one, two, three] = [(); 3].map(|()| server.clone());
        let first = tempfile::tempdir().unwrap();
        fill(&server, first.path());
        assert!(program(first.path(), "qdrant-back-up").status().unwrap().success());
        let store = first.path().join("store");
        let summary = CrashTest::new()
            .setup(move |dir| {
                fill(&one, dir);
                one.fill(&format!("{}_1", base(dir)), 3);
                let copied = Command::new("cp").arg("-r").arg(&store).arg(dir).status();
                assert!(copied.unwrap().success());
                Ok(())
            })
            .operation(|dir| program(dir, "qdrant-restore"))
            .recovery(|dir| program(dir, "qdrant-recover"))
            .check(move |dir| {
                let base = base(dir);
                let mut there = two.collections();
                there.retain(|name| name.starts_with(&base));
                let points = |name: &str| {
                    let content = two.content(name).unwrap_or_default();
                    content["points"].as_object().map_or(0, serde_json::Map::len)
                };
                if points(&format!("{base}_1")) != 3 || !two.snapshots().is_empty() {
                    return Err("the old collection or a snapshot is not as it was".to_owned());
                }
                match (there.len(), points(&base)) {
                    (1, 3) => Ok(State::Old),
                    (2, 20) => Ok(State::New),
                    _ => Err(format!("between: {there:?}, {} points", points(&base))),
                }
            })
            .teardown(move |dir| three.forget(&base(dir)))
            .recovery_every(19)
            .run()
            .unwrap_or_else(|e| panic!("{e}"));
        assert!(summary.old > 0 && summary.new > 0, "{summary}");
        for place in ["uploaded the snapshot", "moved the alias"] {
            assert!(summary.places.contains_key(place), "{place}: {summary:?}");
        }
    });
}
