//! What happens, live: server-sent events and a WebSocket over the same feed. Both end by themselves when the drain begins.

use std::convert::Infallible;
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message as Frame, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use glidepath::UntilDraining;
use serde::{Deserialize, Serialize};

use super::App;
use super::body::Params;
use crate::feed::follow;
use crate::message::{Message, View};
use crate::problem::Problem;

/// How soon a browser should come back: by then a successor listens.
const COME_BACK: Duration = Duration::from_secs(1);
/// How long a client may take to answer the goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
const PING_EVERY: Duration = Duration::from_secs(20);

/// A change as it is sent: its number, with which a client can go on later, and the message after it.
#[derive(Serialize)]
struct Change<'a> {
    change: i64,
    #[serde(flatten)]
    message: View<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct From {
    after: Option<i64>,
}

/// The feed as text. It ends at the drain, or when the database fails; either way the client comes back and goes on.
fn changes(app: &App, after: Option<i64>) -> impl Stream<Item = (i64, String)> + Send + use<> {
    let text = |message: Arc<Message>| {
        let change = Change { change: message.changed, message: message.summary() };
        serde_json::to_string(&change).ok().map(|text| (message.changed, text))
    };
    follow(app.store.clone(), after).filter_map(move |message| ready(text(message))).until_draining(&app.drain)
}

/// Events have no name, so that `EventSource.onmessage` gets them. Their ids let a browser go on where it was.
pub async fn events(
    State(app): State<App>,
    Params(from): Params<From>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = last_event_id(&headers)?.or(from.after);
    // Said first, so that the head goes out at once and a client knows that it listens.
    let hello = Event::default().retry(COME_BACK).comment("changes follow");
    let events = changes(&app, after).map(|(id, text)| Event::default().id(id.to_string()).data(text));
    let events = stream::once(ready(hello)).chain(events).map(Ok::<_, Infallible>);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get("last-event-id").filter(|value| !value.is_empty()) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    id.map(Some).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "must be the id of an event as it was sent, a number")
            .with_field("last-event-id")
    })
}

pub async fn feed(
    State(app): State<App>,
    Params(from): Params<From>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|_not_asked_for| {
        Problem::new(StatusCode::UPGRADE_REQUIRED, "open this with a WebSocket, or use GET /v1/events")
    })?;
    same_origin(&headers)?;
    Ok(upgrade.on_upgrade(move |socket| talk(socket, app, from.after)))
}

/// A browser lets any page open a WebSocket anywhere, and tells only the origin. Pages of others are not to read along.
fn same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin: Option<Uri> = origin.to_str().ok().and_then(|origin| origin.parse().ok());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match (origin.as_ref().and_then(Uri::authority), host) {
        (Some(origin), Some(host)) if origin.as_str().eq_ignore_ascii_case(host) => Ok(()),
        _ => {
            Err(Problem::new(StatusCode::FORBIDDEN, "pages of another origin may not read the feed")
                .with_field("origin"))
        }
    }
}

/// One socket until the client leaves or the drain begins; then goodbye, with the code that says "going away".
async fn talk(mut socket: WebSocket, app: App, after: Option<i64>) {
    let mut changes = pin!(changes(&app, after));
    let mut ping = tokio::time::interval(PING_EVERY);
    loop {
        let sent = tokio::select! {
            change = changes.next() => match change {
                Some((_, text)) => socket.send(Frame::text(text)).await,
                None => break,
            },
            frame = socket.recv() => match frame {
                Some(Ok(_)) => Ok(()), // pings are answered by the library; nothing else is expected
                Some(Err(_)) | None => return,
            },
            _ = ping.tick() => socket.send(Frame::Ping("".into())).await,
        };
        if sent.is_err() {
            return; // the client is gone
        }
    }
    let goodbye = CloseFrame { code: close_code::AWAY, reason: Utf8Bytes::from_static("courier is ending") };
    if socket.send(Frame::Close(Some(goodbye))).await.is_ok() {
        let answered = async { while let Some(Ok(_)) = socket.recv().await {} };
        let _ = tokio::time::timeout(GOODBYE, answered).await; // a client that says nothing is left
    }
}
