//! The journal of a whole deployment stays readable: one with every kind of stage, as it was first
//! written. `WRITE_GOLDEN=1` writes the file if it is not there yet; it is never changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_core::Plan;
use ops_core::host::Requirements;
use ops_deploy::release::ReleaseStep;
use ops_deploy::{Bake, Hook, Migration, Preflight, Target, When};
use serde_json::Value;

use crate::stage::{Stage, v};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/journal-1-release.jsonl")
}

/// Does nothing, and does it well.
fn hook(name: &str) -> Hook {
    Hook::new(name, ["true"])
}

/// The journal of a deployment with everything around it.
async fn journal() -> String {
    let stage = Stage::new().await;
    let releases = stage.path().join("site/releases");
    stage.release("v1", "healthy");
    stage.site().deploy(&stage.cx(), &v("v1")).await.unwrap();
    let make = format!("mkdir -p {}/v2", releases.display());
    let migration = Migration::new(hook("schema"))
        .rehearsal(Hook::new("rehearse", ["echo", "CREATE TABLE orders (id int);"]))
        .rehearsal_prints_sql();
    let bake = Bake::lasting(Duration::from_millis(100))
        .interval(Duration::from_millis(20))
        .latency(Duration::from_secs(10));
    let site = stage
        .builder()
        .preflight(Preflight::new().machine(Requirements::new()))
        .build_release(Hook::new("make", ["sh", "-c", &make]))
        .hook(When::BeforeStart, hook("prepare").undo(["true"]))
        .migration(migration)
        .hook(When::BeforeSwitch, hook("warm"))
        .hook(When::AfterSwitch, hook("purge"))
        .bake(bake)
        .hook(When::AfterCommit, hook("tell"))
        .build()
        .unwrap();
    let report = site.deploy(&stage.cx(), &v("v2")).await.unwrap();
    let closed = stage.path().join(format!("state/journals/closed/{}.jsonl", report.id));
    let text = std::fs::read_to_string(closed).unwrap();
    let folder = stage.path().to_str().unwrap();
    text.trim_end_matches('\0').replace(folder, "/srv/shop")
}

/// The lines as values, without what differs between two runs: of notes, which say what was found,
/// the names and kinds are left.
fn lines(text: &str) -> Vec<Value> {
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let text = text.replace(first["record"]["id"].as_str().unwrap(), "the id");
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &mut lines {
        for varies in ["/at", "/crc", "/record/pid", "/record/approval"] {
            if let Some(value) = line.pointer_mut(varies) {
                *value = Value::from(varies);
            }
        }
        if let Some(value) = line.pointer_mut("/record/value") {
            *value = shape(value);
        }
    }
    lines
}

/// The names and kinds of everything in a value.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect()
        }
        Value::Array(values) => values.iter().take(1).map(shape).collect(),
        Value::String(_) => "a text".into(),
        Value::Number(_) => "a number".into(),
        Value::Bool(_) => "yes or no".into(),
        Value::Null => Value::Null,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_of_a_deployment_is_written_as_it_was() {
    let text = journal().await;
    let path = golden();
    if std::env::var_os("WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let first = std::fs::read_to_string(&path).unwrap();
    let (now, first) = (lines(&text), lines(&first));
    for (now, first) in now.iter().zip(&first) {
        assert_eq!(now, first, "the format has changed: old journals must stay readable");
    }
    assert_eq!(now.len(), first.len());
}

#[test]
fn an_old_journal_of_a_deployment_is_read() {
    let text = std::fs::read_to_string(golden()).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let plan: Plan = serde_json::from_value(first["record"]["plan"].clone()).unwrap();
    let plan = serde_json::to_value(&plan).unwrap();
    let mut steps = 0;
    for planned in ["changes", "finishers"].iter().flat_map(|part| plan[*part].as_array().unwrap())
    {
        let step: ReleaseStep = serde_json::from_value(planned["step"].clone()).unwrap();
        assert_eq!(serde_json::to_value(&step).unwrap(), planned["step"]);
        steps += 1;
    }
    assert!(steps > 15, "{steps} steps");
}
