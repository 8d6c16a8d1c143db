//! `/metrics`: what the program's recorder renders, told how it stands right before, so that a scrape is never late.

use std::sync::{Arc, OnceLock};

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};

use super::{not_allowed, plain};
use crate::driver::Shared;

/// Gives the metrics in Prometheus' text format.
pub(super) type Render = Arc<OnceLock<Box<dyn Fn() -> String + Send + Sync>>>;

/// What answers on one port. Nothing, unless a renderer is set.
#[derive(Clone)]
pub(super) struct Metrics {
    pub(super) render: Render,
    pub(super) shared: Arc<Shared>,
}

impl Metrics {
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
