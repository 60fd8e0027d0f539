//! What the operations reported, and where everything lies.

use ops_core::Report;

use crate::narrator::Narrator;
use crate::scene::Scene;

pub fn tell(scene: &Scene) -> Vec<Report> {
    let reports = scene.reports.reports();
    table(&scene.narrator, &reports);
    let say = |what: &str, where_: &str| {
        let path = scene.place.dir.join(where_);
        scene.narrator.say(format!("  {what:<20} {}", path.display()));
    };
    scene.narrator.say("");
    say("journals, reports", "state");
    say("backups", "backups");
    say("mirror", "mirror.git");
    say("releases, history", "site");
    say("database", "data/app.db");
    reports
}

fn table(narrator: &Narrator, reports: &[Report]) {
    narrator.say(format!(
        "  {:<10} {:<9} {:<12} {:>7}  {:<11} operation",
        "operation", "version", "outcome", "ms", "approved by"
    ));
    for report in reports {
        let version = report.version.as_ref().map_or("-", |version| version.as_str());
        narrator.say(format!(
            "  {:<10} {:<9} {:<12} {:>7}  {:<11} {}{}",
            report.operation,
            version,
            report.outcome.name(),
            report.duration_ms,
            report.approved_by.as_deref().unwrap_or("-"),
            report.id,
            if report.recovered { " (recovered)" } else { "" }
        ));
    }
}
