//! What the public was answered while a new version is watched, as a rule without a clock.

use std::time::Duration;

use super::bake::{Bake, Quiet, Verdict};
use crate::proxy::Tally;

/// The windows of one service.
#[derive(Debug)]
pub(crate) struct Windows<'a> {
    bake: &'a Bake,
    /// What had been answered when the watch began, and when the window did.
    first: Tally,
    begun: Tally,
    /// How many of the answers, since the watch and since the window began, were to the watch itself.
    own: u64,
    own_in_window: u64,
    bad_in_a_row: u32,
}

impl<'a> Windows<'a> {
    pub(crate) fn new(bake: &'a Bake, before: Tally) -> Self {
        let (first, begun) = (before.clone(), before);
        Self { bake, first, begun, own: 0, own_in_window: 0, bad_in_a_row: 0 }
    }

    /// Takes in what was answered until now, with how many questions of the watch itself since the
    /// last time. The error says why it is enough.
    pub(crate) fn take(&mut self, now: &Tally, own: u64) -> Result<(), String> {
        self.own += own;
        self.own_in_window += own;
        let window = now.since(&self.begun);
        if window.requests.saturating_sub(self.own_in_window) < self.bake.requests.max(1) {
            return Ok(());
        }
        (self.begun, self.own_in_window) = (now.clone(), 0);
        let Some(bad) = self.bad(&window) else {
            self.bad_in_a_row = 0;
            return Ok(());
        };
        self.bad_in_a_row += 1;
        if self.bad_in_a_row >= self.bake.raise.max(1) {
            return Err(format!("{} bad windows in a row: {bad}", self.bad_in_a_row));
        }
        Ok(())
    }

    /// What to say at the end of the rounds, after this time.
    pub(crate) fn end(&self, now: &Tally, elapsed: Duration) -> Verdict {
        let all = now.since(&self.first);
        if let Some(bad) = self.bad(&all) {
            return Verdict::Failed(format!("over the whole watch {bad}"));
        }
        if self.bad_in_a_row > 0 && elapsed < self.bake.lasts.saturating_mul(2) {
            return Verdict::GoOn;
        }
        if self.bad_in_a_row > 0 {
            return Verdict::Failed("its last window was bad, and no good one followed".into());
        }
        Verdict::Passed
    }

    /// How few requests there were, if they were too few to say anything.
    pub(crate) fn too_few(&self, now: &Tally) -> Option<u64> {
        let requests = now.since(&self.first).requests.saturating_sub(self.own);
        (requests < self.bake.requests.max(1)).then_some(requests)
    }

    #[expect(clippy::cast_precision_loss, reason = "a share of counts needs no more than 52 bits")]
    fn bad(&self, window: &Tally) -> Option<String> {
        let all = window.requests;
        let too_many = |some: u64, share: f64| some > 1 && some as f64 > share * all as f64;
        let failed = window.server_errors + window.unanswered;
        let slow = window.slower_than(self.bake.latency);
        if too_many(failed, self.bake.error_rate) {
            Some(format!("{failed} of {all} requests failed"))
        } else if too_many(slow, self.bake.slow) {
            Some(format!("{slow} of {all} requests took longer than {:?}", self.bake.latency))
        } else {
            None
        }
    }
}

impl Quiet {
    /// What a watch means with so few requests.
    pub(crate) fn verdict(self, requests: u64, needed: u64) -> Verdict {
        match self {
            Self::Pass => Verdict::Passed,
            Self::GoBack => Verdict::Failed(format!(
                "inconclusive: {requests} requests came, {needed} are a window"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn count(tally: &mut Tally, requests: u64, failed: u64, slow: u64) {
        for n in 0..requests {
            let status = if n < failed { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
            let took = if n < slow { 900 } else { 4 };
            tally.count(Some(status), Duration::from_millis(took));
        }
    }

    /// Windows of `requests/failed/slow`; answers after how many of them, and what.
    #[track_caller]
    fn check(windows: &str, expected: &str) {
        let bake = Bake::lasting(Duration::from_secs(10)).error_rate(0.1).requests(20);
        let mut now = Tally::default();
        count(&mut now, 50, 50, 50);
        let mut rule = Windows::new(&bake, now.clone());
        let mut said = None;
        let mut seen = 0;
        for window in windows.split_whitespace() {
            let n: Vec<u64> = window.split('/').map(|n| n.parse().unwrap()).collect();
            count(&mut now, n[0], n[1], n[2]);
            seen += 1;
            if let Err(why) = rule.take(&now, 1) {
                said = Some(why);
                break;
            }
        }
        let said = said.unwrap_or_else(|| match rule.end(&now, bake.lasts) {
            Verdict::Failed(why) => why,
            Verdict::GoOn => "goes on".into(),
            Verdict::Passed => match rule.too_few(&now) {
                Some(few) => format!("{few} are too few"),
                None => "passed".into(),
            },
        });
        assert_eq!(format!("{seen}: {said}"), expected, "{windows}");
    }

    #[test]
    fn windows_are_judged_when_they_are_full_and_bad_ones_in_a_row_are_too_many() {
        check("21/0/0 21/2/0", "2: passed");
        check("21/3/0 21/3/0 21/3/0", "3: 3 bad windows in a row: 3 of 21 requests failed");
        check("21/0/0 21/3/0", "2: goes on");
        check("21/3/0 21/3/0 21/0/0 21/0/0", "4: passed");
        check("21/3/0 21/3/0 21/0/0 21/3/0 21/3/0 21/0/0 21/3/0 21/3/0 21/0/0", "9: passed");
        check("21/6/0 21/6/0 21/0/0 21/0/0", "4: over the whole watch 12 of 84 requests failed");
        check(
            "21/0/2 21/0/2 21/0/2",
            "3: 3 bad windows in a row: 2 of 21 requests took longer than 500ms",
        );
        // The watch itself asks once a round: that is no traffic. One failure proves nothing.
        check("1/0/0 1/0/0 1/0/0", "3: 0 are too few");
        check("19/1/1 1/0/0", "2: 18 are too few");
    }

    /// A version as good as the limit allows is hardly ever taken back, a bad one nearly always.
    #[test]
    fn false_alarms_are_bounded() {
        let bake = Bake::default();
        let mut seed = 7_u64;
        let mut chance = || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as f64 / f64::from(1_u32 << 31)
        };
        let mut goes_back = |rate: f64| {
            let alarms = (0..400).filter(|_| {
                let mut now = Tally::default();
                let mut rule = Windows::new(&bake, now.clone());
                let early = (0..60).any(|_| {
                    for _ in 0..20 {
                        let status = if chance() < rate { 500 } else { 200 };
                        let status = StatusCode::from_u16(status).unwrap();
                        now.count(Some(status), Duration::from_millis(3));
                    }
                    rule.take(&now, 0).is_err()
                });
                early || matches!(rule.end(&now, bake.lasts), Verdict::Failed(_))
            });
            alarms.count()
        };
        let (good, fair, bad) = (goes_back(0.001), goes_back(0.004), goes_back(0.05));
        assert!(good == 0 && fair <= 8 && bad >= 396, "{good}, {fair}, {bad} of 400");
    }
}
