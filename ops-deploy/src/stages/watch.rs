//! Watches a new version while it has the traffic.

use std::time::Duration;

use futures::future::BoxFuture;
use ops_core::probe::{AllOf, Health};
use ops_core::{StepContext, StepError, Version};

use super::bake::{Bake, Verdict, Watch};
use super::windows::Windows;
use crate::error::{Error, ErrorKind};
use crate::gate::plain;
use crate::traffic::{TrafficSwitch, Upstream};

/// What counts the answers of one service.
pub(crate) struct Counted<'a> {
    pub service: String,
    pub traffic: &'a dyn TrafficSwitch,
    pub upstream: Upstream,
    /// Whether the watch asks this service through what counts.
    pub asked: bool,
}

/// What else is bad with a target now.
pub(crate) type Look<'a> = dyn FnMut() -> BoxFuture<'a, Result<Vec<String>, StepError>> + Send + 'a;

/// What a target has its new version watched by.
pub(crate) struct Watched<'a> {
    /// Must answer in time.
    pub timed: AllOf,
    /// Must be well.
    pub guards: AllOf,
    pub counted: Vec<Counted<'a>>,
    pub look: Box<Look<'a>>,
}

fn note(version: &Version) -> String {
    format!("watch of {version}")
}

impl Bake {
    pub(crate) async fn watch(
        &self,
        version: &Version,
        mut watched: Watched<'_>,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let sick = |why: String| {
            let error = format!("{version} did not do well under traffic: {why}");
            Err(Error::new(ErrorKind::Gate, error).into())
        };
        let mut windows = Vec::new();
        for it in &watched.counted {
            // A switch that counts nothing says so once and for all.
            if let Some(before) = it.traffic.answered(&it.upstream).await? {
                windows.push((it, Windows::new(self, before)));
            }
        }
        let begun = tokio::time::Instant::now();
        let mut watch = Watch::new(self);
        loop {
            let round = self.round(&watched.timed, &watched.guards);
            let mut bad = cx.until_cancelled(round).await?;
            match cx.until_cancelled((watched.look)()).await? {
                Ok(found) => bad.extend(found),
                // One answer of an engine that is late is one bad round.
                Err(error) => bad.push(plain(&error.to_string())),
            }
            let mut answers = Vec::new();
            for (it, windows) in &mut windows {
                match cx.until_cancelled(it.traffic.answered(&it.upstream)).await? {
                    Ok(Some(now)) => {
                        if let Err(why) = windows.take(&now, u64::from(it.asked)) {
                            return sick(format!("`{}`: {why}", it.service));
                        }
                        answers.push(now);
                    }
                    // No data is no good data.
                    Ok(None) => bad.push(format!("nobody counts for `{}` any more", it.service)),
                    Err(error) => bad.push(plain(&ops_core::error::chain(&error).join(": "))),
                }
            }
            let elapsed = begun.elapsed();
            let verdict = watch.take((!bad.is_empty()).then(|| bad.join("; ")), elapsed);
            let ends = verdict == Verdict::Passed && answers.len() == windows.len();
            match verdict {
                Verdict::Failed(why) => return sick(why),
                Verdict::Passed if ends => {
                    let mut goes_on = false;
                    for ((it, windows), now) in windows.iter().zip(&answers) {
                        match windows.end(now, elapsed) {
                            Verdict::Failed(why) => {
                                return sick(format!("`{}`: {why}", it.service));
                            }
                            Verdict::GoOn => goes_on = true,
                            Verdict::Passed => {}
                        }
                    }
                    if !goes_on {
                        break self.conclude(version, &windows, &answers, cx).await?;
                    }
                }
                _ => {}
            }
            cx.until_cancelled(tokio::time::sleep(self.interval)).await?;
        }
        .or_else(sick)
    }

    /// What was well all the time; the inner error says why that is not enough.
    async fn conclude(
        &self,
        version: &Version,
        windows: &[(&Counted<'_>, Windows<'_>)],
        answers: &[crate::proxy::Tally],
        cx: &StepContext,
    ) -> Result<Result<(), String>, StepError> {
        let quiet: Vec<_> = windows
            .iter()
            .zip(answers)
            .filter_map(|((it, windows), now)| Some((&it.service, windows.too_few(now)?)))
            .collect();
        let Some((service, requests)) = quiet.first() else {
            if !windows.is_empty() {
                let note_it = async { Ok("it did well under traffic".to_owned()) };
                let _: String = cx.observe(&note(version), note_it).await?;
            }
            return Ok(Ok(()));
        };
        if let Verdict::Failed(why) = self.quiet.verdict(*requests, self.requests) {
            return Ok(Err(format!("`{service}`: {why}")));
        }
        tracing::warn!(target: "ops", %version, service, requests, "the watch is inconclusive: there was too little traffic");
        let said = format!("inconclusive: `{service}` had {requests} requests");
        let _: String = cx.observe(&note(version), async { Ok(said) }).await?;
        Ok(Ok(()))
    }

    /// What is bad now of what can be asked.
    async fn round(&self, timed: &AllOf, guards: &AllOf) -> Vec<String> {
        let mut bad = Vec::new();
        for seen in timed.observe_each().await {
            if !seen.health.is_healthy() {
                bad.push(plain(&format!("{} is {}", seen.probe, seen.health)));
            } else if seen.latency > self.latency {
                let (took, most) = (rounded(seen.latency), self.latency);
                bad.push(format!("{} took {took:?} to answer, {most:?} at most", seen.probe));
            }
        }
        for seen in guards.observe_each().await {
            if seen.health != Health::Healthy {
                bad.push(plain(&format!("{} is {}", seen.probe, seen.health)));
            }
        }
        bad
    }
}

fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
