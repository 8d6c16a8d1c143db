//! Cargo, started by a program that cargo has started.

use std::env;
use std::ffi::OsString;
use std::process::Command;

/// The one that has started this.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    forget_this_package(&mut command);
    command
}

/// Cargo sets these for xtask itself; passed on, they make build scripts run again that look at them.
pub(crate) fn forget_this_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
}
