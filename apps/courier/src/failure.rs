//! Why courier could not run, in one line. What `main` returns is shown by `Debug`, which for other errors is not for readers.

use std::fmt;

pub struct Failure(String);

/// With all its causes. `Failure` itself is not `Display`, so this can't meet itself.
impl<E: fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(format!("{error:#}"))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
