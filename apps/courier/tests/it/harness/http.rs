//! A plain HTTP client.

use std::error::Error;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
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

/// A client that keeps its connections, for load.
#[derive(Clone)]
pub struct Session(Client<HttpConnector, Body>);

impl Session {
    pub fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    /// One request; an error when the connection gave none or half of an answer.
    pub async fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, body) = self.0.request(request.body(body)?).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }
}

/// One request on a connection of its own, so that tests do not depend on one another's connections.
pub async fn request(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: Body,
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    Session::new().request(method, url, headers, body).await
}

pub async fn get(url: &str) -> Answer {
    within(url, request(Method::GET, url, &[], Body::empty())).await.expect("an answer")
}

pub async fn post(url: &str, headers: &[(&str, &str)], body: String) -> Answer {
    within(url, request(Method::POST, url, headers, body.into())).await.expect("an answer")
}
