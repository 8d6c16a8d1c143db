//! What clients send, and how it is checked before it becomes a message.

use std::collections::BTreeMap;

use axum::http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::message::{Message, State};
use crate::target::Targets;

/// What is wrong with a field, and what would be right.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct Invalid {
    pub field: String,
    pub detail: String,
}

impl Invalid {
    /// The field that stands for the whole.
    pub const BODY: &str = "body";

    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// A message as a client sends it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    pub url: String,
    pub payload: Box<RawValue>,
    #[serde(default)]
    pub event: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

const MAX_EVENT: usize = 128;
const MAX_HEADERS: usize = 32;
const MAX_HEADER_VALUE: usize = 4096;

/// Headers that courier or HTTP itself must set.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Draft {
    /// Checks every field and makes the row that will be stored.
    pub fn check(self, targets: Targets) -> Result<Message, Invalid> {
        let url = targets.check(&self.url).map_err(|refusal| Invalid::new("url", refusal.to_string()))?;
        if let Some(event) = &self.event {
            check_event(event)?;
        }
        check_headers(&self.headers)?;
        let now = Timestamp::now().as_millisecond();
        Ok(Message {
            id: Uuid::now_v7().to_string(),
            url: url.into(),
            payload: Box::<str>::from(self.payload).into(),
            event: self.event,
            headers: serde_json::to_string(&self.headers).unwrap_or_default(),
            state: State::Queued,
            attempts: 0,
            created_at: now,
            due_at: now,
            changed: 0,
            last_status: None,
            last_error: None,
        })
    }
}

fn check_event(event: &str) -> Result<(), Invalid> {
    let right = !event.is_empty() && event.len() <= MAX_EVENT && event.bytes().all(|b| b.is_ascii_graphic());
    if right {
        return Ok(());
    }
    Err(Invalid::new(
        "event",
        format!("must be 1 to {MAX_EVENT} visible ASCII characters without spaces, as in \"order.paid\""),
    ))
}

fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if headers.len() > MAX_HEADERS {
        return Err(Invalid::new(
            "headers",
            format!("{} headers are too many; {MAX_HEADERS} are allowed", headers.len()),
        ));
    }
    for (name, value) in headers {
        let field = || format!("headers.{name}");
        let Ok(parsed) = HeaderName::try_from(name.as_str()) else {
            return Err(Invalid::new(field(), "is not a header name; use letters, digits and '-'"));
        };
        let name = parsed.as_str();
        if RESERVED.contains(&name) || name.starts_with("proxy-") || name.starts_with("webhook-") {
            return Err(Invalid::new(field(), "is set by courier itself; leave it out"));
        }
        if value.len() > MAX_HEADER_VALUE || HeaderValue::try_from(value.as_str()).is_err() || !value.is_ascii() {
            return Err(Invalid::new(field(), format!("must be at most {MAX_HEADER_VALUE} visible ASCII characters")));
        }
    }
    Ok(())
}

/// A line of an import: a draft, or a whole message as the export wrote it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    url: String,
    payload: Box<RawValue>,
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    id: Option<Uuid>,
    state: Option<State>,
    attempts: Option<u32>,
    created_at: Option<Timestamp>,
    next_attempt_at: Option<Timestamp>,
    last_status: Option<u16>,
    last_error: Option<String>,
}

impl Record {
    /// A message that was under way where it came from is queued here: nobody else will bring it.
    pub fn check(self, targets: Targets) -> Result<Message, Invalid> {
        let draft = Draft { url: self.url, payload: self.payload, event: self.event, headers: self.headers };
        let mut message = draft.check(targets)?;
        if let Some(id) = self.id {
            message.id = id.to_string();
        }
        if let Some(end @ (State::Delivered | State::Dead)) = self.state {
            message.state = end;
        }
        if let Some(at) = self.created_at {
            message.created_at = at.as_millisecond();
        }
        if let Some(at) = self.next_attempt_at {
            message.due_at = at.as_millisecond();
        }
        message.attempts = self.attempts.map_or(0, i64::from);
        message.last_status = self.last_status.map(i64::from);
        message.last_error = self.last_error.map(|text| text.replace('\0', ""));
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(json: &str) -> Result<Message, Invalid> {
        serde_json::from_str::<Draft>(json).expect("a draft").check(Targets::Public)
    }

    #[test]
    fn a_payload_is_kept_byte_for_byte() {
        let message =
            draft(r#"{"url":"https://example.com/","payload":{"b": 1.0, "a":12345678901234567890123}}"#).unwrap();
        assert_eq!(message.payload, r#"{"b": 1.0, "a":12345678901234567890123}"#);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, field) in [
            (r#"{"url":"ftp://example.com/","payload":1}"#, "url"),
            (r#"{"url":"http://127.0.0.1/","payload":1}"#, "url"),
            (r#"{"url":"https://example.com/","payload":1,"event":"two words"}"#, "event"),
            (r#"{"url":"https://example.com/","payload":1,"event":""}"#, "event"),
            (r#"{"url":"https://example.com/","payload":1,"headers":{"Host":"x"}}"#, "headers.Host"),
            (r#"{"url":"https://example.com/","payload":1,"headers":{"Webhook-Id":"x"}}"#, "headers.Webhook-Id"),
            (r#"{"url":"https://example.com/","payload":1,"headers":{"a b":"x"}}"#, "headers.a b"),
            (r#"{"url":"https://example.com/","payload":1,"headers":{"x":"a\nb"}}"#, "headers.x"),
        ] {
            assert_eq!(draft(json).expect_err(json).field, field, "{json}");
        }
    }

    #[test]
    fn a_view_reads_back_as_a_record() {
        let mut message =
            draft(r#"{"url":"https://example.com/","payload":[1],"headers":{"x-a":"b"},"event":"e"}"#).unwrap();
        message.state = State::Dead;
        message.attempts = 3;
        message.last_status = Some(500);
        let line = serde_json::to_string(&message.view()).unwrap();
        let back = serde_json::from_str::<Record>(&line).unwrap().check(Targets::Public).unwrap();
        assert_eq!(serde_json::to_string(&back.view()).unwrap(), line);
    }
}
