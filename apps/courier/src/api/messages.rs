//! Messages one by one: accept, show, list.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::App;
use super::body::{self, Params};
use crate::draft::Draft;
use crate::message::{self, View};
use crate::problem::Problem;
use crate::store::{Accepted, Key};

const MAX_KEY: usize = 255;
const MAX_PAGE: u16 = 500;

/// 202 once the message is committed. The same request with the same key again: 200 and the first one's id.
pub async fn accept(State(app): State<App>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    body::expect_type(&headers, &["application/json"])?;
    let bytes = body::read(body, app.body_limit).await?;
    let key = idempotency_key(&headers, &bytes)?;
    let message = body::parse::<Draft>(&bytes)?.check(app.targets)?;
    match app.store.accept(message, key).await? {
        Accepted::New(message) => Ok(stored(StatusCode::ACCEPTED, &message.id)),
        Accepted::Known { id } => Ok(stored(StatusCode::OK, &id)),
        Accepted::KeyTaken { id } => {
            let detail = format!(
                "this key came before with another body and belongs to message {id}; use a new key for a new message"
            );
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with_field("idempotency-key"))
        }
    }
}

fn stored(status: StatusCode, id: &str) -> Response {
    let place = format!("/v1/messages/{id}");
    (status, [(header::LOCATION, place.clone())], Json(json!({ "id": id, "href": place }))).into_response()
}

fn idempotency_key(headers: &HeaderMap, body: &[u8]) -> Result<Option<Key>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= MAX_KEY);
    let Some(key) = key else {
        let detail = format!("must be 1 to {MAX_KEY} visible ASCII characters, a UUID for example");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail).with_field("idempotency-key"));
    };
    let digest = ring::digest::digest(&ring::digest::SHA256, body);
    Ok(Some(Key { key: key.to_owned(), fingerprint: URL_SAFE_NO_PAD.encode(digest) }))
}

pub async fn show(State(app): State<App>, path: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let id = path.map(|Path(id)| id).unwrap_or_default();
    // Parsed and written again: ids are stored in one form, and upper case finds them too.
    let found = match id.parse::<Uuid>() {
        Ok(id) => app.store.get(&id.to_string()).await?,
        Err(_) => None,
    };
    let message = found
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no message \"{id}\"")).with_field("id"))?;
    Ok(Json(message.view()).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    state: Option<message::State>,
    before: Option<Uuid>,
    limit: Option<u16>,
}

#[derive(Serialize)]
struct Listing<'a> {
    messages: Vec<View<'a>>,
    /// Where the next page is; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Newest first. The cursor is an id, so that pages do not shift while messages come in.
pub async fn list(State(app): State<App>, Params(page): Params<Page>) -> Result<Response, Problem> {
    let limit = page.limit.unwrap_or(100);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::new(StatusCode::BAD_REQUEST, format!("limit: {limit} is not from 1 to {MAX_PAGE}"))
            .with_field("limit"));
    }
    let before = page.before.map(|id| id.to_string());
    // One more than asked for tells whether there is a next page.
    let mut found = app.store.page(page.state, before.as_deref(), i64::from(limit) + 1).await?;
    let more = found.len() > usize::from(limit);
    found.truncate(limit.into());
    let next = found.last().filter(|_| more).map(|last| {
        let state = page.state.map(|state| format!("&state={}", state.as_str())).unwrap_or_default();
        format!("/v1/messages?limit={limit}{state}&before={}", last.id)
    });
    Ok(Json(Listing { messages: found.iter().map(message::Message::summary).collect(), next }).into_response())
}
