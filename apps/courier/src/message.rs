//! What a message is: the row that is stored, and the view that is shown.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Where a message stands.
///
/// `queued -> delivering -> delivered | queued (retry) | dead`; an interrupted delivery goes back to `queued`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for its first or next attempt.
    Queued,
    /// Claimed by a courier; an attempt is under way.
    Delivering,
    /// A receiver answered 2xx. The end.
    Delivered,
    /// Given up: attempts used up, or the receiver or the address policy said never. The end.
    Dead,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivering => "delivering",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

impl TryFrom<String> for State {
    type Error = String;

    /// Reads what the database holds. Its own check keeps out what is no state.
    fn try_from(text: String) -> Result<Self, String> {
        let all = [Self::Queued, Self::Delivering, Self::Delivered, Self::Dead];
        all.into_iter().find(|state| state.as_str() == text).ok_or(text)
    }
}

/// A message as it is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Message {
    pub id: String,
    pub url: String,
    pub payload: String,
    pub event: Option<String>,
    pub headers: String,
    #[sqlx(try_from = "String")]
    pub state: State,
    pub attempts: i64,
    pub created_at: i64,
    pub due_at: i64,
    pub changed: i64,
    pub last_status: Option<i64>,
    pub last_error: Option<String>,
}

/// A message as it is shown. What is absent has no value.
#[derive(Serialize)]
pub struct View<'a> {
    id: &'a str,
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    state: State,
    attempts: i64,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_status: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<&'a str>,
}

impl Message {
    /// Without payload and headers, for lists and feeds.
    pub fn summary(&self) -> View<'_> {
        View {
            id: &self.id,
            url: &self.url,
            event: self.event.as_deref(),
            headers: None,
            payload: None,
            state: self.state,
            attempts: self.attempts,
            created_at: rfc3339(self.created_at),
            next_attempt_at: (self.state == State::Queued).then(|| rfc3339(self.due_at)),
            last_status: self.last_status,
            last_error: self.last_error.as_deref(),
        }
    }

    /// With everything, for one message and for the export.
    pub fn view(&self) -> View<'_> {
        let headers = (self.headers != "{}").then(|| serde_json::from_str(&self.headers).ok()).flatten();
        View { headers, payload: serde_json::from_str(&self.payload).ok(), ..self.summary() }
    }
}

fn rfc3339(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds).map(|at| at.to_string()).unwrap_or_default()
}
