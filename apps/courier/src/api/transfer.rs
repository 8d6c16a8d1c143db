//! All messages out and in, as NDJSON, streamed: neither way holds more than a few lines in memory.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::App;
use super::body;
use crate::draft::{Invalid, Record};
use crate::lines::{Line, Lines};
use crate::problem::Problem;
use crate::store::{Accepted, Store, StoreError, answer};

const NDJSON: &str = "application/x-ndjson";
/// Messages that are read together. Small, for each may be as large as the body limit.
const PAGE: i64 = 32;
/// Messages of an import that wait for a commit together.
const UNDER_WAY: usize = 64;
/// Errors that an import tells one by one; the rest is only counted.
const TOLD: usize = 100;

/// Everything that was accepted before the export began, oldest first.
pub async fn export(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(rows(app.store))).into_response()
}

/// An error breaks the response off, so that the client can see that it is not whole.
fn rows(store: Store) -> impl Stream<Item = Result<Bytes, StoreError>> {
    async_stream::try_stream! {
        let end = Uuid::now_v7().to_string();
        let mut last = String::new();
        loop {
            let page = store.page_after(&last, PAGE).await?;
            let Some(newest) = page.last() else { break };
            last = newest.id.clone();
            let mut chunk = Vec::new();
            for message in page.iter().take_while(|message| message.id <= end) {
                serde_json::to_writer(&mut chunk, &message.view()).map_err(|error| sqlx::Error::Encode(error.into()))?;
                chunk.push(b'\n');
            }
            if chunk.is_empty() {
                break;
            }
            yield Bytes::from(chunk);
        }
    }
}

/// What an import did. Everything it counts as accepted is committed.
#[derive(Default, Serialize)]
struct Summary {
    lines: u64,
    accepted: u64,
    /// Lines whose id was here before; they changed nothing.
    known: u64,
    failed: u64,
    errors: Vec<LineError>,
}

#[derive(Serialize)]
struct LineError {
    line: u64,
    field: String,
    detail: String,
}

/// Takes drafts as `POST /v1/messages` does, and lines as the export writes them. A line that is wrong does not stop the rest.
pub async fn import(State(app): State<App>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    body::expect_type(&headers, &[NDJSON, "application/ndjson", "application/jsonl"])?;
    let mut body = body.into_data_stream();
    let mut lines = Lines::new(app.body_limit);
    let mut import = Import { app: &app, summary: Summary::default(), under_way: Vec::new() };
    while let Some(chunk) = body.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return Err(import.broken_off(&error).await),
        };
        lines.push(&chunk);
        while let Some(line) = lines.next() {
            import.take(line).await?;
        }
    }
    if let Some(line) = lines.finish() {
        import.take(line).await?;
    }
    import.settle().await?;
    let Summary { lines, accepted, known, failed, .. } = import.summary;
    tracing::info!(lines, accepted, known, failed, "import done");
    Ok((StatusCode::OK, Json(import.summary)).into_response())
}

struct Import<'a> {
    app: &'a App,
    summary: Summary,
    under_way: Vec<oneshot::Receiver<Accepted>>,
}

impl Import<'_> {
    async fn take(&mut self, line: Line) -> Result<(), Problem> {
        self.summary.lines += 1;
        let record = match line.text {
            Ok(text) => body::parse::<Record>(&text).and_then(|record| record.check(self.app.targets)),
            Err(too_long) => Err(Invalid::new("line", too_long.to_string())),
        };
        match record {
            Ok(message) => self.under_way.push(self.app.store.submit(message, None).await?),
            Err(invalid) => self.fail(line.number, invalid),
        }
        if self.under_way.len() >= UNDER_WAY { self.settle().await } else { Ok(()) }
    }

    fn fail(&mut self, line: u64, Invalid { field, detail }: Invalid) {
        self.summary.failed += 1;
        if self.summary.errors.len() < TOLD {
            self.summary.errors.push(LineError { line, field, detail });
        }
    }

    /// Waits for the commits that are under way.
    async fn settle(&mut self) -> Result<(), Problem> {
        for reply in self.under_way.drain(..) {
            match answer(reply).await? {
                Accepted::New(_) => self.summary.accepted += 1,
                Accepted::Known { .. } | Accepted::KeyTaken { .. } => self.summary.known += 1,
            }
        }
        Ok(())
    }

    async fn broken_off(&mut self, error: &axum::Error) -> Problem {
        let settled = self.settle().await;
        let Summary { lines, accepted, .. } = self.summary;
        let detail = format!(
            "the import broke off after {lines} lines, {accepted} of them accepted: {error}; lines with an id can be sent again"
        );
        settled.err().unwrap_or_else(|| Problem::new(StatusCode::BAD_REQUEST, detail))
    }
}
