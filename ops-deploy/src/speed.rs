//! How fast the traffic moved, and what to think of it when it went back.

use ops_core::{StepContext, StepError};
use serde::{Deserialize, Serialize};

/// What a version that is gone back to still had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum From {
    /// It ran.
    Warm,
    /// It had but to be started.
    Stopped,
    /// Its containers had to be made.
    Cold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rating {
    /// Nobody had time to notice.
    Fast,
    /// Up to five times as long.
    Fair,
    Slow,
}

/// What a report tells of a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Speed {
    from: From,
    /// From the begin of the operation until all traffic had moved.
    ms: u64,
    rating: Rating,
}

impl Speed {
    fn new(from: From, ms: u64) -> Self {
        let fast = match from {
            From::Warm => 100,
            From::Stopped => 1_000,
            From::Cold => 5_000,
        };
        let rating = match ms {
            ms if ms <= fast => Rating::Fast,
            ms if ms <= 5 * fast => Rating::Fair,
            _ => Rating::Slow,
        };
        Self { from, ms, rating }
    }
}

/// How long the operation has been going on.
fn elapsed(cx: &StepContext) -> u64 {
    let since = cx.context().clock().now().duration_since(cx.operation().created());
    u64::try_from(since.as_millis()).unwrap_or_default()
}

fn key(traffic: &str) -> String {
    format!("{traffic}: moved after ms")
}

/// Notes that this traffic has moved.
pub(crate) async fn moved(traffic: &str, cx: &StepContext) -> Result<(), StepError> {
    cx.observe(&key(traffic), async { Ok::<_, StepError>(elapsed(cx)) }).await.map(drop)
}

/// Notes how fast the way back was, by what was slowest of it: what each instance had, and which
/// traffic moved.
pub(crate) async fn rate(
    from: impl IntoIterator<Item = From>,
    traffic: impl IntoIterator<Item = String>,
    cx: &StepContext,
) -> Result<(), StepError> {
    let from = from.into_iter().max().unwrap_or(From::Stopped);
    let mut ms = None;
    for traffic in traffic {
        ms = ms.max(cx.noted::<u64>(&key(&traffic))?);
    }
    let speed = Speed::new(from, ms.unwrap_or_else(|| elapsed(cx)));
    cx.observe("rollback speed", async { Ok::<_, StepError>(speed) }).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_back_has_its_bar() {
        for (from, ms, rating) in [
            (From::Warm, 100, Rating::Fast),
            (From::Warm, 101, Rating::Fair),
            (From::Warm, 501, Rating::Slow),
            (From::Stopped, 1_000, Rating::Fast),
            (From::Stopped, 5_001, Rating::Slow),
            (From::Cold, 5_000, Rating::Fast),
        ] {
            assert_eq!(Speed::new(from, ms).rating, rating, "{from:?} {ms}");
        }
        let json = serde_json::to_string(&Speed::new(From::Warm, 42)).unwrap();
        assert_eq!(json, r#"{"from":"warm","ms":42,"rating":"fast"}"#);
    }
}
