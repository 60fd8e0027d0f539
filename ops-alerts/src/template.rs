//! From a report to an alert: pure.

use std::fmt::Write as _;

use ops_core::{AbortReason, Environment, Outcome, Report, StepStatus};

use crate::alert::{Alert, Severity};
use crate::alert_id::AlertId;

/// Which reports become alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum When {
    /// What went wrong: everything but success and a plain refusal.
    #[default]
    Trouble,
    /// What went wrong, and every rollback: that one was needed is news too.
    TroubleAndRollbacks,
    /// Every report.
    Always,
}

impl When {
    /// Whether this report becomes an alert.
    pub fn wants(self, report: &Report) -> bool {
        let trouble =
            !report.outcome.is_success() && !matches!(report.outcome, Outcome::Refused { .. });
        match self {
            Self::Trouble => trouble,
            Self::TroubleAndRollbacks => trouble || is_rollback(report),
            Self::Always => true,
        }
    }
}

/// How grave a report is. Production counts more; a rollback that failed counts more than the
/// failure of what it should have taken back.
pub fn severity_of(report: &Report) -> Severity {
    let production = report.environment == Environment::Production;
    let by_place = |there, elsewhere| if production { there } else { elsewhere };
    match &report.outcome {
        Outcome::Completed if is_emergency(report) => by_place(Severity::High, Severity::Warning),
        Outcome::Completed => Severity::Info,
        Outcome::FinishersPending { .. } | Outcome::Refused { .. } => {
            by_place(Severity::Warning, Severity::Info)
        }
        Outcome::RolledBack { .. } if is_cancelled(report) => {
            by_place(Severity::Warning, Severity::Info)
        }
        Outcome::RolledBack { .. } if is_rollback(report) => {
            by_place(Severity::Critical, Severity::High)
        }
        Outcome::RolledBack { .. } => by_place(Severity::High, Severity::Warning),
        // Also what a later version may add: a state that is not understood is looked at.
        _ => by_place(Severity::Critical, Severity::High),
    }
}

/// The alert that tells of a report. Its id derives from the operation and the outcome, so that the
/// same report makes the same alert again.
pub fn alert_of(report: &Report) -> Alert {
    let id: AlertId = format!("{}-{}", report.id, report.outcome.name())
        .parse()
        .unwrap_or_else(|_| AlertId::generate());
    let mut alert = Alert::new(severity_of(report), title(report), report.environment)
        .id(id)
        .at(report.timestamp)
        .operation(report.id)
        .body(body(report))
        .field("event", &report.event)
        .field("operation", &report.operation)
        .field("outcome", report.outcome.name())
        .field("host", &report.hostname)
        .field("user", &report.user)
        .field("program", &report.program)
        .field("duration_ms", report.duration_ms);
    if let Some(version) = &report.version {
        alert = alert.field("version", version);
    }
    if let Some(by) = &report.approved_by {
        alert = alert.field("approved_by", by);
    }
    alert
}

fn is_rollback(report: &Report) -> bool {
    report.operation.split(['-', '_', ' ', '.']).any(|word| word == "rollback")
}

/// An operation that skipped its gate says so among its facts: `emergency=true`.
fn is_emergency(report: &Report) -> bool {
    report.facts.get("emergency").is_some_and(|value| value == "true")
}

fn is_cancelled(report: &Report) -> bool {
    matches!(report.outcome, Outcome::RolledBack { why: AbortReason::Cancelled, .. })
}

fn title(report: &Report) -> String {
    let mut what = String::new();
    if is_emergency(report) {
        what.push_str("EMERGENCY ");
    }
    what.push_str(&report.operation);
    if let Some(version) = &report.version {
        let _ = write!(what, " to {version}");
    }
    let end = match &report.outcome {
        Outcome::Completed => "succeeded",
        Outcome::FinishersPending { .. } => "succeeded, with work left to finish",
        Outcome::RolledBack { .. } if is_cancelled(report) => "was cancelled",
        Outcome::RolledBack { .. } => "FAILED",
        Outcome::Refused { .. } => "was refused",
        Outcome::NeedsPerson { .. } => "NEEDS A PERSON",
        Outcome::CommitUnknown => "MAY OR MAY NOT BE COMMITTED",
        _ => "ended in a way that this version does not know",
    };
    format!("{what} {end} in {}", report.environment)
}

fn body(report: &Report) -> String {
    let mut body = String::new();
    match &report.outcome {
        Outcome::Completed => body.push_str("The new state is in place.\n"),
        Outcome::FinishersPending { pending } => {
            let pending = pending.join(", ");
            let _ =
                writeln!(body, "The new state is in place. Recovery still has to do: {pending}");
        }
        Outcome::RolledBack { cause, .. } => {
            let _ = writeln!(body, "The old state is back in place.\nCause: {cause}");
        }
        Outcome::Refused { reasons } => {
            body.push_str("Nothing was begun.\n");
            for reason in reasons {
                let _ = writeln!(body, "- {reason}");
            }
        }
        Outcome::NeedsPerson { what_to_do } => {
            let _ =
                writeln!(body, "The state is between the old and the new one.\nDo: {what_to_do}");
        }
        Outcome::CommitUnknown => body.push_str(
            "The new state is in place, but its commit record may be missing.\n\
             Do: run recovery; it finishes or goes back.\n",
        ),
        other => {
            let _ = writeln!(body, "Outcome: {}", other.name());
        }
    }
    if !report.error.is_empty() {
        let _ = writeln!(body, "Error: {}", report.error.join(": "));
    }
    for step in &report.steps {
        let became = match step.status {
            StepStatus::UndoFailed => "could not be undone",
            StepStatus::InDoubt => "is in doubt",
            StepStatus::Failed => "is not finished",
            _ => continue,
        };
        let _ = writeln!(body, "Step `{}` on {} {became}: {}", step.name, step.resource, step.what);
    }
    for warning in &report.warnings {
        let _ = writeln!(body, "Warning: {warning}");
    }
    let recovered = if report.recovered { ", ended by recovery" } else { "" };
    let _ = write!(
        body,
        "Operation {} by {} on {}, {} ms{recovered}",
        report.id, report.user, report.hostname, report.duration_ms
    );
    body
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(operation: &str, environment: &str, outcome: &Value, more: &Value) -> Report {
        let mut report = json!({
            "schema": 1, "timestamp": "2026-11-21T05:47:24Z", "event": "x",
            "id": "01JD2Q5W3V8Y7K6M4N9P0R1S2T", "operation": operation, "version": "9f8e7d6",
            "environment": environment, "recovered": false, "duration_ms": 1234,
            "hostname": "web-1", "user": "ada", "program": "ops", "steps": [],
        });
        for part in [outcome, more] {
            for (key, value) in part.as_object().unwrap() {
                report[key] = value.clone();
            }
        }
        serde_json::from_value(report).unwrap()
    }

    #[track_caller]
    fn check(report: &Report, severity: Severity, title: &str, body: &str) {
        let alert = alert_of(report);
        assert_eq!((alert.severity, &*alert.title, &*alert.body), (severity, title, body));
        assert_eq!(alert.id.as_str(), format!("{}-{}", report.id, report.outcome.name()));
        assert_eq!(alert, alert_of(report), "the same report, the same alert");
        assert_eq!(alert.at, report.timestamp);
        assert_eq!(alert.fields["version"], "9f8e7d6");
    }

    const BY: &str = "Operation 01JD2Q5W3V8Y7K6M4N9P0R1S2T by ada on web-1, 1234 ms";

    #[test]
    fn the_templates_are_golden() {
        let completed = json!({"outcome": "completed"});
        let rolled_back =
            |cause: &str| json!({"outcome": "rolled_back", "why": "step_failed", "cause": cause});
        let cancelled = json!({"outcome": "rolled_back", "why": "cancelled", "cause": "the operation was cancelled"});
        let none = json!({});
        check(
            &report("rollback", "production", &completed, &none),
            Severity::Info,
            "rollback to 9f8e7d6 succeeded in production",
            &format!("The new state is in place.\n{BY}"),
        );
        check(
            &report(
                "rollback",
                "production",
                &rolled_back("gate: bot is unhealthy"),
                &json!({"error": ["step gate failed", "bot is unhealthy"], "warnings": ["slow disk"]}),
            ),
            Severity::Critical,
            "rollback to 9f8e7d6 FAILED in production",
            &format!(
                "The old state is back in place.\nCause: gate: bot is unhealthy\n\
                 Error: step gate failed: bot is unhealthy\nWarning: slow disk\n{BY}"
            ),
        );
        check(
            &report("rollback", "production", &cancelled, &none),
            Severity::Warning,
            "rollback to 9f8e7d6 was cancelled in production",
            &format!("The old state is back in place.\nCause: the operation was cancelled\n{BY}"),
        );
        check(
            &report("rollback", "production", &completed, &json!({"facts": {"emergency": "true"}})),
            Severity::High,
            "EMERGENCY rollback to 9f8e7d6 succeeded in production",
            &format!("The new state is in place.\n{BY}"),
        );
        check(
            &report(
                "deploy",
                "production",
                &json!({"outcome": "needs_person", "what_to_do": "start bot by hand"}),
                &json!({"recovered": true, "steps": [
                    {"name": "stop", "resource": "site:web", "what": "stop the old bot",
                     "status": "undo_failed", "duration_ms": 5},
                    {"name": "start", "resource": "site:web", "what": "start the new bot",
                     "status": "undone", "duration_ms": 5},
                ]}),
            ),
            Severity::Critical,
            "deploy to 9f8e7d6 NEEDS A PERSON in production",
            &format!(
                "The state is between the old and the new one.\nDo: start bot by hand\n\
                 Step `stop` on site:web could not be undone: stop the old bot\n\
                 {BY}, ended by recovery"
            ),
        );
        check(
            &report("deploy", "staging", &json!({"outcome": "commit_unknown"}), &none),
            Severity::High,
            "deploy to 9f8e7d6 MAY OR MAY NOT BE COMMITTED in staging",
            &format!(
                "The new state is in place, but its commit record may be missing.\n\
                 Do: run recovery; it finishes or goes back.\n{BY}"
            ),
        );
    }

    #[test]
    fn which_reports_become_alerts_and_how_grave_they_are() {
        use Severity::*;
        let refused = json!({"outcome": "refused", "reasons": []});
        let failed = json!({"outcome": "rolled_back", "why": "step_failed", "cause": "x"});
        let completed = json!({"outcome": "completed"});
        let pending = json!({"outcome": "finishers_pending", "pending": ["tidy"]});
        for (operation, environment, outcome, severity, trouble, rollbacks) in [
            ("deploy", "production", &completed, Info, false, false),
            ("deploy", "production", &pending, Warning, false, false),
            ("deploy", "production", &refused, Warning, false, false),
            ("deploy", "production", &failed, High, true, true),
            ("deploy", "staging", &failed, Warning, true, true),
            ("rollback", "staging", &failed, High, true, true),
            ("site-rollback", "development", &completed, Info, false, true),
            ("rollbacks", "development", &completed, Info, false, false),
        ] {
            let report = report(operation, environment, outcome, &json!({}));
            let got = (
                severity_of(&report),
                When::Trouble.wants(&report),
                When::TroubleAndRollbacks.wants(&report),
            );
            assert_eq!(got, (severity, trouble, rollbacks), "{operation} {environment} {outcome}");
            assert!(When::Always.wants(&report));
        }
    }
}
