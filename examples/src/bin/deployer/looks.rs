//! What the verbs answer that only look.

use jiff::Timestamp;
use ops_core::operations::{Which, list as operations};
use ops_core::{Context, Version};
use ops_deploy::Target;
use ops_examples::Failure;
use ops_examples::program::Answer;
use serde_json::json;

pub async fn status(site: &dyn Target) -> Result<Answer, Failure> {
    let seen = site.status().await?;
    let current = seen.current.as_ref().map_or("nothing", |version| version.as_str());
    let mut lines = vec![format!("in service: {current}")];
    lines.extend(seen.contradictions.iter().map(|reason| format!("cannot be told: {reason}")));
    let mut running = Vec::new();
    for it in &seen.running {
        let mark = if it.in_traffic { ", takes the traffic" } else { "" };
        lines.push(format!("runs: {} at {}{mark}", it.version, it.address));
        running.push(json!({
            "name": it.name,
            "version": it.version,
            "address": it.address,
            "in_traffic": it.in_traffic,
        }));
    }
    let json = json!({
        "current": seen.current,
        "contradictions": seen.contradictions,
        "running": running,
        "versions": seen.versions,
    });
    let needs_person = !seen.contradictions.is_empty();
    Ok(Answer { needs_person, ..Answer::new(lines.join("\n"), json) })
}

/// How long ago something was, as a person says it.
fn ago(then: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

pub async fn list(site: &dyn Target) -> Result<Answer, Failure> {
    let known = site.known().await?;
    let mut lines = Vec::new();
    let mut all = Vec::new();
    for it in &known {
        let mut what = Vec::new();
        what.extend(it.made.map(|made| format!("{} old", ago(made))));
        what.extend(it.in_service.then(|| "in service".to_owned()));
        what.extend((it.runs && !it.in_service).then(|| "runs".to_owned()));
        if !it.lacking.is_empty() {
            what.push(format!("incomplete: {}", it.lacking.join("; ")));
        }
        lines.push(format!("{}  {}", it.version, what.join(", ")).trim_end().to_owned());
        all.push(json!({
            "version": it.version,
            "complete": it.lacking.is_empty(),
            "lacking": it.lacking,
            "made": it.made,
            "runs": it.runs,
            "in_service": it.in_service,
        }));
    }
    if lines.is_empty() {
        lines.push("no version is known".to_owned());
    }
    let complete: Vec<&Version> =
        known.iter().filter(|it| it.lacking.is_empty()).map(|it| &it.version).collect();
    Ok(Answer::new(lines.join("\n"), json!({"known": all, "versions": complete})))
}

pub async fn history(site: &dyn Target) -> Result<Answer, Failure> {
    let history = site.history().await?;
    let lines = history.entries().iter().map(|entry| {
        let by = entry.operation.as_deref().map(|id| format!("  {id}")).unwrap_or_default();
        let closes = entry.closes_way_back.as_deref();
        let closes = closes.map(|it| format!("  (no way back: `{it}`)")).unwrap_or_default();
        format!("{:.0}  {:<8} {}{by}{closes}", entry.at, entry.verb.as_str(), entry.version)
    });
    let lines: Vec<_> = lines.collect();
    let text = if lines.is_empty() { "nothing was in service".into() } else { lines.join("\n") };
    let json = json!({"history": history.entries(), "way_back": history.way_back()});
    Ok(Answer::new(text, json))
}

pub async fn lock(site: &dyn Target, cx: &Context) -> Result<Answer, Failure> {
    let holder = site.lock_holder().await?;
    let (open, unreadable) = operations(cx, Which::Open)?;
    let mut lines = Vec::new();
    lines.push(match &holder {
        Some(it) => format!(
            "operation {} of {} holds the lock since {:.0} (free from {:.0} on)",
            it.operation, it.who, it.since, it.until
        ),
        None => "nobody holds a lock on an engine".to_owned(),
    });
    for it in &open {
        lines.push(format!("open here: {} {}", it.id, it.plan.operation));
    }
    for it in &unreadable {
        lines.push(format!("open here, and its journal cannot be read: {}", it.id));
    }
    let open = open.iter().map(|it| json!({"id": it.id, "operation": it.plan.operation}));
    let json = json!({
        "holder": holder.as_ref().map(|it| json!({
            "operation": it.operation,
            "who": it.who,
            "since": it.since,
            "until": it.until,
        })),
        "open": open.collect::<Vec<_>>(),
        "unreadable": unreadable.iter().map(|it| it.id.to_string()).collect::<Vec<_>>(),
    });
    Ok(Answer::new(lines.join("\n"), json))
}
