//! Places where a test may kill the process.

/// A place where the crash harness may kill the process. Does nothing without `test-util`.
#[inline]
pub fn point(name: &str) {
    let _ = name;
}
