//! Questions that people ask, each with an example that is compiled.
//!
//! | question | page |
//! |---|---|
//! | Why does my server hang on Ctrl-C? | [`hanging`] |
//! | What happens to WebSockets, and who says goodbye? | [`websockets`] |
//! | How do event streams end? | [`event_streams`] |
//! | How do background jobs stop? | [`background_jobs`] |
//! | When is the database closed? | [`databases`] |
//! | What do I set for Kubernetes, systemd, Docker? | [`deploying`] |
//! | How do I see what it does: metrics, traces, logs? | [`observing`] |
//! | How do I test the end of my own service? | [`testing`] |
//! | What do I change, coming from another server? | [`coming_from`] |

#[doc = include_str!("../guide/hanging.md")]
pub mod hanging {}

#[doc = include_str!("../guide/websockets.md")]
pub mod websockets {}

#[doc = include_str!("../guide/event_streams.md")]
pub mod event_streams {}

#[doc = include_str!("../guide/background_jobs.md")]
pub mod background_jobs {}

#[doc = include_str!("../guide/databases.md")]
pub mod databases {}

#[doc = include_str!("../guide/deploying.md")]
pub mod deploying {}

#[doc = include_str!("../guide/observing.md")]
pub mod observing {}

#[doc = include_str!("../guide/testing.md")]
pub mod testing {}

#[doc = include_str!("../guide/coming_from.md")]
pub mod coming_from {}
