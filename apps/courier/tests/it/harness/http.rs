//! A plain HTTP client: one connection a request, so that tests do not depend on one another's connections.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::within;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// One request; an error when the connection gave none or half of an answer.
pub async fn request(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: Body,
) -> Result<Answer, hyper_util::client::legacy::Error> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http::<Body>();
    let (head, body) = client.request(request.body(body).expect("a request")).await?.into_parts();
    let body = body.collect().await.map(|whole| whole.to_bytes()).unwrap_or_default();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

pub async fn get(url: &str) -> Answer {
    within(url, request(Method::GET, url, &[], Body::empty())).await.expect("an answer")
}

pub async fn post(url: &str, headers: &[(&str, &str)], body: String) -> Answer {
    within(url, request(Method::POST, url, headers, body.into())).await.expect("an answer")
}
