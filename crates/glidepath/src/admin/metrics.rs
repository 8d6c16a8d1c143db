//! `/metrics` on the admin port.

use std::sync::{Arc, OnceLock};

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};

use super::{not_allowed, plain};
use crate::driver::Shared;

/// Gives the metrics in Prometheus' text format. There is no such page unless it is set.
pub(super) type Render = Arc<OnceLock<Box<dyn Fn() -> String + Send + Sync>>>;

/// Answers who scrapes.
#[derive(Clone)]
pub(super) struct Scrapes {
    render: Render,
    shared: Arc<Shared>,
}

impl Scrapes {
    pub(super) fn new(render: Render, shared: Arc<Shared>) -> Self {
        Self { render, shared }
    }

    /// Told how it stands right before it is rendered, so that a scrape is never late.
    pub(super) fn answer(&self, method: &Method, path: &str) -> Option<Response<String>> {
        let render = self.render.get().filter(|_| path == "/metrics")?;
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Some(not_allowed("GET, HEAD", "GET or HEAD"));
        }
        self.shared.publish();
        let mut response = plain(StatusCode::OK, render());
        let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, format);
        Some(response)
    }
}
