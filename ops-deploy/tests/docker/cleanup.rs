//! Old containers and images go, what is of use stays.

use ops_deploy::Target;

use crate::images::docker;
use crate::stage::{Dock, v};

async fn tags(dock: &Dock) -> Vec<String> {
    let mut tags = Vec::new();
    for version in ["a000001", "a000002", "a000003", "a000004"] {
        let tag = format!("{}/web:{version}", dock.application());
        if docker().await.inspect_image(&tag).await.is_ok() {
            tags.push(version.to_owned());
        }
    }
    tags
}

#[tokio::test]
async fn the_current_the_previous_and_what_a_journal_names_stay() {
    let dock = Dock::new().await;
    let (host, cx) = (dock.host(), dock.cx());
    let generous = dock.builder().keep(9).service(crate::dock::web(dock.path())).build().unwrap();
    for version in ["a000001", "a000002", "a000003", "a000004"] {
        dock.image(version, "healthy").await;
        generous.deploy(&cx, &v(version)).await.unwrap();
    }
    assert_eq!(tags(&dock).await.len(), 4);
    let open = dock.path().join("state/journals/open");
    std::fs::create_dir_all(&open).unwrap();
    let journal = open.join(format!("{}.jsonl", ops_core::OperationId::generate()));
    std::fs::write(&journal, "a000002").unwrap();

    let plan = host.plan_cleanup(&cx).await.unwrap();
    let facts = |key: &str| plan.facts.get(key).map(String::as_str);
    assert_eq!(facts("remove a000001"), Some("enough later ones were in service"), "{plan}");
    assert_eq!(facts("keep a000002"), Some("an unfinished operation names it"), "{plan}");
    assert_eq!(facts("keep a000003"), Some("a rollback goes to it"), "{plan}");
    assert_eq!(facts("keep a000004"), Some("it is in service"), "{plan}");
    assert_eq!(tags(&dock).await.len(), 4, "a plan removes nothing");

    // What was planned holds, and the rest is asked for again.
    std::fs::remove_file(&journal).unwrap();
    let report = cx.execute(plan, &*host.world()).await.unwrap();
    assert_eq!(report.outcome.name(), "completed", "{report:?}");
    assert_eq!(tags(&dock).await, ["a000002", "a000003", "a000004"]);
    let names = dock.names().await;
    assert!(!names.iter().any(|name| name.contains("a000001")), "{names:?}");
    assert_eq!(dock.public_version().await, "a000004");
    let plan = host.plan_cleanup(&cx).await.unwrap();
    cx.execute(plan, &*host.world()).await.unwrap();
    assert_eq!(tags(&dock).await, ["a000003", "a000004"]);
    assert!(host.plan_cleanup(&cx).await.unwrap().is_empty());
    host.rollback(&cx, None).await.unwrap();
    assert_eq!(dock.public_version().await, "a000003");
}
