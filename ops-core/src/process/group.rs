//! A child's process group.

use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// Signals the group that this child leads. Only while the child is not reaped: until then nobody
/// else can have its id.
pub(super) fn signal(leader: Pid, signal: Signal) {
    // The group may have ended meanwhile: that is what was wanted.
    let _ = kill_process_group(leader, signal);
}

/// Waits until this child has ended, and leaves it to be reaped.
pub(super) async fn ended(leader: Pid) {
    #[cfg(target_os = "linux")]
    if ended_by_descriptor(leader).await {
        return;
    }
    // A kernel before 5.3, a sandbox, no file descriptor left.
    let mut pause = Duration::from_millis(1);
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while let Ok(None) | Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(leader), options) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Whether it could be waited for without asking again and again.
#[cfg(target_os = "linux")]
async fn ended_by_descriptor(leader: Pid) -> bool {
    use rustix::process::{PidfdFlags, pidfd_open};
    use tokio::io::{Interest, unix::AsyncFd};

    let Ok(pidfd) = pidfd_open(leader, PidfdFlags::NONBLOCK) else { return false };
    #[expect(
        deprecated,
        reason = "unsound for types that do not own what they hand out; an `OwnedFd` does"
    )]
    let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE);
    match pidfd {
        Ok(pidfd) => pidfd.readable().await.is_ok(),
        Err(_) => false,
    }
}
