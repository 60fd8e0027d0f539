//! The test that every [`Channel`] passes.

use ops_core::Environment;

use crate::alert::{Alert, Severity};
use crate::alert_id::AlertId;
use crate::channel::Channel;

/// Tests a channel whose receiver works. `arrived` looks at the receiver: whether an alert of this
/// id is there.
///
/// ```
/// use ops_alerts::{MemoryChannel, contract};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// # runtime.block_on(async {
/// let channel = MemoryChannel::new("mine");
/// let checked =
///     contract::check(&channel, &|id| channel.alerts().iter().any(|alert| alert.id == *id)).await;
/// assert_eq!(checked, Ok(()));
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What the channel does not keep to.
pub async fn check(
    channel: &dyn Channel,
    arrived: &(dyn Fn(&AlertId) -> bool + Sync),
) -> Result<(), String> {
    let name = channel.name().to_owned();
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(format!("the name {name:?} cannot stand in a log"));
    }
    let max_bytes = channel.limits().max_bytes;
    if max_bytes < 1024 {
        return Err(format!("{max_bytes} bytes are too few for an alert: 1024 at least"));
    }
    let plain = Alert::new(Severity::Info, "contract: plain", Environment::Development);
    let hostile = Alert::new(
        Severity::Critical,
        "contract: \u{1b}[2J\r\n\0 \u{202e}\"quoted\" {\"json\":1} é 🚨",
        Environment::Development,
    )
    .body("one\n\ntwo\u{2028}three")
    .field("key with\nbreak", "value\twith\u{7}bell");
    let large = Alert::new(Severity::High, "contract: large", Environment::Development)
        .body("é\n".repeat(max_bytes));

    for (what, alert) in [("plain", &plain), ("hostile", &hostile), ("large", &large)] {
        if arrived(&alert.id) {
            return Err(format!("the {what} alert is there before it was sent"));
        }
        let receipt = channel.send(alert).await;
        let receipt = receipt.map_err(|e| format!("the {what} alert was not taken: {e}"))?;
        if receipt.channel != name {
            return Err(format!("the receipt names `{}` in place of `{name}`", receipt.channel));
        }
        if !arrived(&alert.id) {
            return Err(format!("there is a receipt for the {what} alert, but it is not there"));
        }
    }
    channel.send(&plain).await.map_err(|e| format!("an alert is not taken twice: {e}"))?;

    // A future that is dropped must leave a channel that works, wherever it was dropped.
    for polls in 0..3 {
        let dropped = plain.clone().id(AlertId::generate());
        let mut sending = channel.send(&dropped);
        for _ in 0..polls {
            if futures::poll!(&mut sending).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let many: Vec<_> = (0..8).map(|_| plain.clone().id(AlertId::generate())).collect();
    let sent = futures::future::join_all(many.iter().map(|alert| channel.send(alert))).await;
    for (alert, sent) in many.iter().zip(sent) {
        sent.map_err(|e| format!("an alert was not taken while others were sent: {e}"))?;
        if !arrived(&alert.id) {
            return Err("one of many alerts at once has a receipt, but is not there".to_owned());
        }
    }
    Ok(())
}
