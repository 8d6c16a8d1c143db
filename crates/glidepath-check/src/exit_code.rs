//! What the exit codes mean. They are part of the interface: scripts may rely on them.

/// Every MUST case that was judged passed, and none was invalid. With `--baseline`: nothing got worse.
pub const OK: u8 = 0;
/// A MUST case failed; with `--strict`, a SHOULD case did.
pub const FAILED: u8 = 1;
/// The command line or the file of settings is wrong.
pub const USAGE: u8 = 2;
/// Nothing failed, but a case was invalid: its control went wrong without the signal.
pub const INVALID: u8 = 3;
/// `--baseline` or `compare`: something got worse.
pub const WORSE: u8 = 4;
/// A file could not be read or written.
pub const FILE: u8 = 5;
/// There is no such command.
pub const NO_COMMAND: u8 = 10;
/// The command may not be started.
pub const NOT_ALLOWED: u8 = 11;
/// It could not be started for another reason.
pub const CANNOT_START: u8 = 12;
/// It ended before it answered.
pub const DIED: u8 = 13;
/// Nothing listens on its port.
pub const NEVER_LISTENED: u8 = 14;
/// It accepts connections and does not answer.
pub const NEVER_ANSWERED: u8 = 15;
/// It answers something else than the quick path promises.
pub const WRONG_ANSWER: u8 = 16;
/// Something else listens on its port.
pub const PORT_TAKEN: u8 = 17;
/// It does not offer what `--must-offer` asks for.
pub const NOT_OFFERED: u8 = 18;
/// Ctrl-C, or another signal.
pub const INTERRUPTED: u8 = 130;

/// All of them, for `--help`.
pub const ALL: [(u8, &str); 16] = [
    (OK, "all MUST cases passed; with --baseline: nothing got worse"),
    (FAILED, "a MUST case failed (with --strict: or a SHOULD case)"),
    (USAGE, "wrong flags or settings"),
    (INVALID, "nothing failed, but a case's control went wrong"),
    (WORSE, "--baseline or compare: something got worse"),
    (FILE, "a file could not be read or written"),
    (NO_COMMAND, "no such command"),
    (NOT_ALLOWED, "the command may not be started"),
    (CANNOT_START, "the command can't be started for another reason"),
    (DIED, "the server ended before it answered"),
    (NEVER_LISTENED, "nothing listens on the server's port"),
    (NEVER_ANSWERED, "the server accepts connections and does not answer"),
    (WRONG_ANSWER, "the server answers something else than 2xx on its quick path"),
    (PORT_TAKEN, "something else listens on the server's port"),
    (NOT_OFFERED, "the server lacks what --must-offer asks for"),
    (INTERRUPTED, "interrupted; nothing is left running"),
];
