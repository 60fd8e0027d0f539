//! Places where a test may kill the process.
//!
//! With the feature `test-util`, and with `OPS_CRASH_AT=k` in the environment, the process kills
//! itself with SIGKILL when it reaches the k-th place; the crash harness (`crash`) runs a program
//! through all of them. Without the feature nothing of this exists at run time.

/// A place where the crash harness may kill the process. Does nothing without `test-util`.
#[inline]
pub fn point(name: &str) {
    #[cfg(feature = "test-util")]
    armed::point(name);
    #[cfg(not(feature = "test-util"))]
    let _ = name;
}

/// Whether a crash is planned for this process.
#[inline]
pub(crate) fn is_armed() -> bool {
    #[cfg(feature = "test-util")]
    return armed::is_armed();
    #[cfg(not(feature = "test-util"))]
    return false;
}

#[cfg(feature = "test-util")]
mod armed {
    use std::io::Write as _;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static CRASH_AT: OnceLock<Option<u64>> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);

    fn crash_at() -> Option<u64> {
        let read = || std::env::var(crate::crash::CRASH_AT).ok()?.parse().ok();
        *CRASH_AT.get_or_init(read)
    }

    pub(super) fn is_armed() -> bool {
        crash_at().is_some()
    }

    pub(super) fn point(name: &str) {
        let Some(at) = crash_at() else { return };
        if REACHED.fetch_add(1, Ordering::SeqCst) + 1 != at {
            return;
        }
        if let Some(path) = std::env::var_os(crate::crash::CRASH_NAME) {
            // Best effort: the name is for the harness's messages.
            let _ = std::fs::File::create(path).and_then(|mut f| f.write_all(name.as_bytes()));
        }
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}
