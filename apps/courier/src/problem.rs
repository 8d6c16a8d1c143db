//! Errors as answers: RFC 9457 problem documents that name the field and say what would be right.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::draft::Invalid;
use crate::store::StoreError;

/// One problem document. `type` is left out: it means "about:blank", the status says it all.
#[derive(Debug, Serialize)]
pub struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { title, status: status.as_u16(), detail: detail.into(), field: None }
    }

    pub fn with_field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Invalid> for Problem {
    /// 400 for what is not JSON at all, 422 for JSON that says something wrong.
    fn from(invalid: Invalid) -> Self {
        let status =
            if invalid.field == Invalid::BODY { StatusCode::BAD_REQUEST } else { StatusCode::UNPROCESSABLE_ENTITY };
        Self::new(status, invalid.to_string()).with_field(invalid.field)
    }
}

impl From<StoreError> for Problem {
    /// The cause goes to the log, not to the client: it may tell of the inside.
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the database failed");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the message store does not answer; nothing was promised, try again")
    }
}
