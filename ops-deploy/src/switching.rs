//! Moves the traffic as a step: forward, back, and until the old has answered what it has begun.

use std::time::Duration;

use ops_core::{StepContext, StepError};

use crate::error::{Error, ErrorKind};
use crate::traffic::{Pointer, TrafficSwitch, Upstream};

const DRAIN_POLL: Duration = Duration::from_millis(20);
/// How often the traffic may move under our hands.
const TRIES: u32 = 5;

/// Sends new requests to `to`; where they went before is noted under the key.
pub(crate) async fn switch_to(
    traffic: &dyn TrafficSwitch,
    key: &str,
    to: &Upstream,
    cx: &StepContext,
) -> Result<(), StepError> {
    let look = async { traffic.current().await.map_err(StepError::from) };
    let before: Pointer = cx.observe(key, look).await?;
    if traffic.current().await?.upstream.as_ref() == Some(to) {
        return Ok(());
    }
    cx.fault_point("release: traffic about to switch");
    let switched = traffic.switch(before.epoch, Some(to)).await;
    cx.fault_point("release: traffic switched");
    if let Err(error) = switched {
        // Its answer may have been lost, and not the switch.
        let now = traffic.current().await?;
        if now.upstream.as_ref() != Some(to) {
            return Err(error.into());
        }
    }
    crate::speed::moved(key, cx).await
}

/// Sends new requests where they went before, unless somebody else has moved them since.
pub(crate) async fn switch_back(
    traffic: &dyn TrafficSwitch,
    key: &str,
    ours: Option<Upstream>,
    cx: &StepContext,
) -> Result<(), StepError> {
    let Some(before) = cx.noted::<Pointer>(key)? else { return Ok(()) };
    for _ in 0..TRIES {
        let now = traffic.current().await?;
        ours_or_before(&now, &before, ours.as_ref())?;
        // Also where it goes back already, or still: a new epoch makes sure that a switch of ours
        // whose answer was lost does not arrive after all.
        if now.upstream == before.upstream && now.epoch != before.epoch {
            return Ok(());
        }
        match traffic.switch(now.epoch, before.upstream.as_ref()).await {
            // Such a switch has arrived in this moment.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                tracing::debug!(target: "ops", %error, "the traffic is looked at again");
            }
            other => return Ok(other.map(drop)?),
        }
    }
    Err(StepError::temporary("the traffic is switched all the time")
        .remedy("see who deploys there"))
}

fn ours_or_before(now: &Pointer, before: &Pointer, ours: Option<&Upstream>) -> Result<(), Error> {
    if now.upstream != before.upstream && now.upstream.as_ref() != ours {
        let at = now.upstream.as_ref().map_or("nothing", |upstream| &upstream.instance);
        let error = Error::new(ErrorKind::Conflict, "the traffic goes to somebody else's instance")
            .with("instance", at)
            .with("epoch", now.epoch)
            .remedy("see who switched it, point it where it belongs, then recover");
        return Err(error);
    }
    Ok(())
}

/// Waits until an instance has answered what it has begun, or the time for it is over.
pub(crate) async fn drain(
    traffic: &dyn TrafficSwitch,
    upstream: &Upstream,
    most: Duration,
    cx: &StepContext,
) -> Result<(), StepError> {
    let until = tokio::time::Instant::now() + most;
    loop {
        let requests = traffic.in_flight(upstream).await?;
        if requests == 0 {
            return Ok(());
        }
        if tokio::time::Instant::now() >= until {
            tracing::warn!(target: "ops", requests, instance = upstream.instance, "requests are cut off");
            return Ok(());
        }
        cx.until_cancelled(tokio::time::sleep(DRAIN_POLL)).await?;
    }
}
