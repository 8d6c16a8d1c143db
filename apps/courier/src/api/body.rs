//! Reading what clients send, with errors that name the field.

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::FromRequestParts;
use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::draft::Invalid;
use crate::problem::Problem;

/// Holds the client to a content type. Besides saying what is expected, this keeps foreign web pages out:
/// a browser sends these types across origins only after asking, and is not answered.
pub fn expect_type(headers: &HeaderMap, allowed: &[&str]) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if allowed.contains(&essence.as_str()) {
        return Ok(());
    }
    let given = if given.is_empty() { "of no type" } else { given };
    let detail = format!("the body is said to be {given}; send it with \"content-type: {}\"", allowed[0]);
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).with_field("content-type"))
}

/// Reads a whole body that may have at most `limit` bytes. One that says that it is longer is not even begun.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let too_long = || {
        let detail = format!("the body has more than {limit} bytes; that is the most a message may have");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    if usize::try_from(body.size_hint().lower()).is_ok_and(|least| least > limit) {
        return Err(too_long());
    }
    match Limited::new(body, limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_long()),
        Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))),
    }
}

/// Parses JSON. An error says where it is: the path of the field, or the line and column.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Invalid> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let field = match field_in(&inner.to_string()) {
            _ if !inner.is_data() => Invalid::BODY.into(), // no JSON
            Some(named) if path == "." => named,
            _ if path == "." => Invalid::BODY.into(),
            _ => path,
        };
        Invalid::new(field, inner.to_string())
    })?;
    json.end().map_err(|error| Invalid::new(Invalid::BODY, error.to_string()))?;
    Ok(parsed)
}

/// A missing field has no path: its name stands only in the text, as in "missing field `url`".
fn field_in(text: &str) -> Option<String> {
    let rest = text.strip_prefix("missing field `").or_else(|| text.strip_prefix("unknown field `"))?;
    rest.split('`').next().map(str::to_owned)
}

/// A query string whose errors are problem documents.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => {
                let text = rejection.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                let field = field_in(text).or_else(|| text.split_once(": ").map(|(field, _)| field.to_owned()));
                Err(Problem::new(StatusCode::BAD_REQUEST, text).with_field(field.unwrap_or_else(|| "query".into())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Draft;

    #[test]
    fn errors_name_the_field() {
        for (json, field) in [
            (r#"{"payload":1}"#, "url"),
            (r#"{"url":"https://example.com/"}"#, "payload"),
            (r#"{"url":7,"payload":1}"#, "url"),
            (r#"{"url":"x","payload":1,"evnt":"y"}"#, "evnt"),
            (r#"{"url":"x","payload":1,"headers":{"a":1}}"#, "headers.a"),
            (r#"{"url":"x","payload":1} x"#, "body"),
            ("[]", "body"),
            ("", "body"),
        ] {
            assert_eq!(parse::<Draft>(json.as_bytes()).expect_err(json).field, field, "{json}");
        }
    }
}
