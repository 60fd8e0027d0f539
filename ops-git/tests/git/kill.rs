//! A small run of the program that kills at random moments.

use std::process::Command;

use crate::checkout::arena::scratch;

#[test]
fn killed_at_random_moments_it_is_old_or_new() {
    let dir = scratch();
    let output = Command::new(env!("CARGO_BIN_EXE_git-kill"))
        .arg(dir.path().join("arena"))
        .args(["50", "100"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(said.starts_with("50 kills: ") && said.contains("  0 for a person"), "{said}");
}
