//! The README's picture of a terminal. The check of what a terminal shows draws it, from what it sees; here is only where to.

use std::path::Path;

use anyhow::Context;

use crate::cargo::cargo;

const FILE: &str = "docs/terminal.svg";
const CHECK: &str = "terminal::tty_1_the_picture_in_the_readme_is_what_a_terminal_shows";

/// True when it is drawn.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    let test = ["test", "--package", "glidepath", "--test", "spec", "--examples", "--", "--exact", CHECK];
    let status = cargo().args(test).env("GLIDEPATH_PICTURE", root.join(FILE)).current_dir(root).status();
    Ok(status.context("running the check")?.success())
}
