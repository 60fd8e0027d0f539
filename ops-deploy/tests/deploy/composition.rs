use std::path::PathBuf;

use ops_core::{Effect, Outcome, Resource, ResourceId, Step, StepContext, StepError, World};
use ops_deploy::Target;
use serde::{Deserialize, Serialize};

use crate::stage::{Stage, get, http, v};

/// Stands for whatever fills releases: it makes them whole, beside, and renames them into place.
struct Workshop(PathBuf);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Make {
    version: String,
    mode: String,
}

impl Resource for Workshop {
    type Step = Make;

    fn id(&self) -> ResourceId {
        ResourceId::new("workshop", self.0.display())
    }
}

impl Step for Make {
    const FAMILY: &'static str = "workshop";
    type Env = Workshop;

    fn name(&self) -> &'static str {
        "make"
    }

    fn effect(&self) -> Effect {
        Effect::changes(format!("make release {}", self.version))
    }

    async fn run(&self, shop: &Workshop, cx: &StepContext) -> Result<(), StepError> {
        let (to, mode) = (shop.0.join(&self.version), self.mode.clone());
        let beside = shop.0.join(format!(".making-{}", cx.operation()));
        cx.blocking(move |_| {
            ops_core::fs::create_dir_durable(&beside)?;
            ops_core::fs::atomic_write(&beside.join("mode"), mode.as_bytes())?;
            ops_core::fs::rename_durable(&beside, &to)
        })
        .await
    }

    async fn undo(&self, shop: &Workshop, cx: &StepContext) -> Result<(), StepError> {
        let to = shop.0.join(&self.version);
        cx.blocking(move |_| ops_core::fs::remove_dir_durable(&to)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_made_and_deployed_in_one_operation() {
    let stage = Stage::new().await;
    let site = stage.builder().required_files(["mode"]).build().unwrap();
    let target: &dyn Target = &site;
    let workshop = Workshop(stage.path().join("site/releases"));
    let update = async |version: &str, mode: &str| {
        let make = Make { version: version.into(), mode: mode.into() };
        let plan = ops_core::Plan::new("make").change(&workshop, &make).unwrap();
        let plan = plan.then(target.plan_deploy(&v(version)).await.unwrap()).named("update");
        let world = target.world();
        let world: &dyn World = &*world;
        stage.cx().execute(plan, &(&workshop, world)).await
    };
    let report = update("v1", "healthy").await.unwrap();
    assert_eq!((report.event.as_str(), report.outcome), ("update_success", Outcome::Completed));
    assert_eq!(get(&http(), &stage.url("/")).await.unwrap().1, "v1");

    update("v2", "crash").await.unwrap_err();
    assert_eq!(get(&http(), &stage.url("/")).await.unwrap().1, "v1");
    assert_eq!(target.versions().await.unwrap(), [v("v1")], "the release went, too");
}
