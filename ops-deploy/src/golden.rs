//! The steps stand in journals: what was written once stays readable, and a change of it is seen
//! here. `WRITE_GOLDEN=1` writes a file that is not there yet; one that is there is never changed.

use std::fmt::Debug;
use std::path::Path;

use ops_core::{Step, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::history::Verb;
use crate::provider::ProviderStep;
use crate::release::ReleaseStep;
use crate::stages::{StageStep, When};

fn v(text: &str) -> Version {
    text.parse().unwrap()
}

/// Each step as a line, and the line as the step.
#[track_caller]
fn assert_written_as<S: Step + Serialize + DeserializeOwned + PartialEq + Debug>(steps: &[S]) {
    let name = format!("tests/golden/steps-1-{}.jsonl", S::FAMILY);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&name);
    let lines: Vec<Value> = steps.iter().map(|step| serde_json::to_value(step).unwrap()).collect();
    if std::env::var_os("WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut text: Vec<_> = lines.iter().map(Value::to_string).collect();
        text.push(String::new());
        std::fs::write(&path, text.join("\n")).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    let golden: Vec<Value> =
        golden.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, golden, "{name}: journals of before cannot be read, or not be gone on with");
    for (step, line) in steps.iter().zip(golden) {
        assert_eq!(*step, serde_json::from_value(line).unwrap());
    }
}

/// Those that every target has, each in all its forms.
fn stages() -> Vec<StageStep> {
    let version = || v("v2");
    let hook = |when, undoable| StageStep::Hook {
        name: "purge".to_owned(),
        when,
        version: version(),
        undoable,
    };
    let all = vec![
        StageStep::Preflight { version: version() },
        StageStep::Build { version: version() },
        hook(When::BeforeStart, true),
        hook(When::BeforeSwitch, false),
        hook(When::AfterSwitch, true),
        hook(When::AfterCommit, false),
        StageStep::RehearseMigration { version: version(), allow_incompatible: false },
        StageStep::Migrate { version: version(), allow_incompatible: true },
        StageStep::Bake { version: version() },
    ];
    for step in &all {
        // One that is new does not compile here, and belongs above.
        match step {
            StageStep::Preflight { .. }
            | StageStep::Build { .. }
            | StageStep::Hook { .. }
            | StageStep::RehearseMigration { .. }
            | StageStep::Migrate { .. }
            | StageStep::Bake { .. } => {}
        }
    }
    all
}

#[test]
fn steps_on_release_directories_are_written_as_they_were() {
    use ReleaseStep as S;
    let version = || v("v2");
    let mut all = vec![
        S::ExpectCurrent { current: None },
        S::ExpectCurrent { current: Some(v("v1")) },
        S::RequireRelease { version: version() },
        S::StartService { version: version() },
        S::PassGate { version: version(), guards: vec!["orders".to_owned()] },
        S::PassGate { version: version(), guards: Vec::new() },
        S::AwaitListener { version: version() },
        S::SwitchTraffic { version: version() },
        S::MoveCurrent { version: version() },
        S::VerifyPublic { version: version() },
        S::RecordHistory { version: version(), verb: Verb::Deploy },
        S::StopOthers { version: version(), warm: Some(v("v1")) },
        S::StopOthers { version: version(), warm: None },
        S::RemoveReleases { old: vec![v("v0")] },
    ];
    all.extend(stages().into_iter().map(S::Stage));
    for step in &all {
        match step {
            S::ExpectCurrent { .. }
            | S::RequireRelease { .. }
            | S::StartService { .. }
            | S::PassGate { .. }
            | S::AwaitListener { .. }
            | S::SwitchTraffic { .. }
            | S::MoveCurrent { .. }
            | S::VerifyPublic { .. }
            | S::RecordHistory { .. }
            | S::StopOthers { .. }
            | S::RemoveReleases { .. }
            | S::Stage(_) => {}
        }
    }
    assert_written_as(&all);
}

#[test]
fn steps_of_providers_are_written_as_they_were() {
    use ProviderStep as S;
    let (version, before) = (|| v("v2"), || Some(v("v1")));
    let mut all = vec![
        S::ExpectCurrent { current: before() },
        S::Rehearse { version: version(), verb: Verb::Deploy },
        S::Bring { version: version(), verb: Verb::Deploy, before: before(), heard: true },
        S::Bring { version: version(), verb: Verb::Rollback, before: None, heard: false },
        S::Confirm { version: version(), guards: vec!["orders".to_owned()] },
        S::RecordHistory { version: version(), verb: Verb::Observed, before: before() },
    ];
    all.extend(stages().into_iter().map(S::Stage));
    for step in &all {
        match step {
            S::ExpectCurrent { .. }
            | S::Rehearse { .. }
            | S::Bring { .. }
            | S::Confirm { .. }
            | S::RecordHistory { .. }
            | S::Stage(_) => {}
        }
    }
    assert_written_as(&all);
}

#[cfg(feature = "docker")]
mod docker {
    use std::collections::BTreeMap;

    use super::*;
    use crate::docker::{DockerStep, SwarmStep};

    fn images() -> BTreeMap<String, String> {
        BTreeMap::from([("web".to_owned(), "sha256:0d0d".to_owned())])
    }

    #[test]
    fn steps_on_engines_are_written_as_they_were() {
        use DockerStep as S;
        let (version, service) = (|| v("1a2b3c4"), || "web".to_owned());
        let mut all = vec![
            S::TakeLock { image: "sha256:0d0d".to_owned() },
            S::ExpectCurrent { current: Some(v("0a0b0c0")) },
            S::Require { version: version(), images: images() },
            S::StartContainer { service: service(), version: version(), verb: Verb::Rollback },
            S::PassGate { version: version(), guards: vec!["orders".to_owned()] },
            S::AwaitListeners { version: version() },
            S::SwitchTraffic { service: service(), version: version() },
            S::VerifyPublic { version: version() },
            S::RecordHistory { version: version(), verb: Verb::Deploy, before: None },
            S::StopOthers { version: version(), warm: Some(v("0a0b0c0")) },
            S::RemoveOld { old: vec![v("0a0b0c0")] },
            S::ReleaseLock,
        ];
        all.extend(stages().into_iter().map(S::Stage));
        for step in &all {
            match step {
                S::TakeLock { .. }
                | S::ExpectCurrent { .. }
                | S::Require { .. }
                | S::StartContainer { .. }
                | S::PassGate { .. }
                | S::AwaitListeners { .. }
                | S::SwitchTraffic { .. }
                | S::VerifyPublic { .. }
                | S::RecordHistory { .. }
                | S::StopOthers { .. }
                | S::RemoveOld { .. }
                | S::ReleaseLock
                | S::Stage(_) => {}
            }
        }
        assert_written_as(&all);
    }

    #[test]
    fn steps_on_swarms_are_written_as_they_were() {
        use SwarmStep as S;
        let version = || v("1a2b3c4");
        let update = |verb, stop_first| S::Update {
            service: "shop_web".to_owned(),
            version: version(),
            image: "sha256:0d0d".to_owned(),
            verb,
            stop_first,
        };
        let before = || Some(v("0a0b0c0"));
        let mut all = vec![
            S::TakeLock,
            S::ExpectCurrent { current: before() },
            S::Require { version: version(), images: images() },
            update(Verb::Deploy, false),
            update(Verb::Rollback, true),
            S::PassGate { version: version(), guards: Vec::new() },
            S::RecordHistory {
                version: version(),
                verb: Verb::Deploy,
                images: images(),
                before: before(),
            },
            S::ReleaseLock,
        ];
        all.extend(stages().into_iter().map(S::Stage));
        for step in &all {
            match step {
                S::TakeLock
                | S::ExpectCurrent { .. }
                | S::Require { .. }
                | S::Update { .. }
                | S::PassGate { .. }
                | S::RecordHistory { .. }
                | S::ReleaseLock
                | S::Stage(_) => {}
            }
        }
        assert_written_as(&all);
    }
}
