//! Puts any HTTP server through its end, and says what became of its clients.
//!
//! The program is `glidepath-check`; this library is what it is made of, so that tests and the pages that show
//! a run can use the same data.

pub mod model;
pub mod page;
