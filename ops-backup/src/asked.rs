//! What is asked before an operation, on a thread of its own: a file system may let its callers wait.

use ops_core::{Refusal, StepContext, StepError};
use tokio::runtime::Handle;

use crate::error::Error;

/// The reasons against a step. Nobody waits for them once the check is given up, and they end then.
pub(crate) async fn asked(
    cx: &StepContext,
    reasons: impl Future<Output = Result<Vec<Refusal>, StepError>> + Send + 'static,
) -> Result<Vec<Refusal>, StepError> {
    let runtime = Handle::current();
    cx.blocking(move |cancel| {
        let reasons = runtime.block_on(cancel.run_until_cancelled(reasons));
        reasons.unwrap_or_else(|| Err(Error::cancelled().into()))
    })
    .await
}
