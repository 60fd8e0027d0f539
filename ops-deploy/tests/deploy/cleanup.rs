use std::time::{Duration, SystemTime};

use ops_deploy::Target;

use crate::stage::{Stage, v};

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_up_says_why_and_leaves_alone_what_is_of_use() {
    let stage = Stage::new().await;
    let (site, cx) = (stage.builder().keep(9).build().unwrap(), stage.cx());
    for version in ["v1", "v2", "v3", "v4"] {
        stage.release(version, "healthy");
        site.deploy(&cx, &v(version)).await.unwrap();
    }
    stage.release("young", "healthy");
    let old = stage.release("old", "healthy");
    let week = SystemTime::now() - Duration::from_hours(8 * 24);
    std::fs::File::open(&old).unwrap().set_modified(week).unwrap();
    // What a link leads to belongs to somebody else.
    std::fs::create_dir(stage.path().join("elsewhere")).unwrap();
    let link = stage.path().join("site/releases/linked");
    std::os::unix::fs::symlink(stage.path().join("elsewhere"), &link).unwrap();
    let open = stage.path().join("state/journals/open");
    let other = open.join(format!("{}.jsonl", ops_core::OperationId::generate()));

    let strict = stage.builder().keep(0).build().unwrap();
    std::fs::write(&other, r#"{"needs":"v1"}"#).unwrap();
    let facts = strict.plan_cleanup(&cx).await.unwrap().facts;
    std::fs::remove_file(other).unwrap();
    let facts: Vec<_> = facts.iter().map(|(key, why)| format!("{key}: {why}")).collect();
    assert_eq!(
        facts,
        [
            "keep v1: an unfinished operation names it",
            "keep v3: a rollback goes to it",
            "keep v4: it is in service",
            "keep young: it was never in service, and is younger than seven days",
            "remove old: it was never in service, and is older than seven days",
            "remove v2: enough later ones were in service",
        ]
    );

    // A plan that is older than a rollback would remove the way back: it is refused.
    let stale = strict.plan_cleanup(&cx).await.unwrap();
    site.rollback(&cx, None).await.unwrap();
    let refused = cx.execute(stale, &&strict).await.unwrap_err();
    assert!(refused.to_string().contains("v3 is in service"), "{refused}");

    let plan = strict.plan_cleanup(&cx).await.unwrap();
    cx.execute(plan, &&strict).await.unwrap();
    assert_eq!(strict.versions().await.unwrap(), [v("v2"), v("v3"), v("young")]);
    assert!(link.is_symlink() && stage.path().join("elsewhere").is_dir());
    assert!(strict.plan_cleanup(&cx).await.unwrap().is_empty());
    let error = site.deploy(&cx, &v("linked")).await.unwrap_err();
    assert!(format!("{:?}", error.report()).contains("it lacks its folder"), "{error:?}");
}
