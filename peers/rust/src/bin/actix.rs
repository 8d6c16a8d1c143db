//! actix-web, which handles the signals and ends by itself.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::web::{Bytes, Payload, Query};
use actix_web::{App, Error, HttpRequest, HttpResponse, HttpServer, Responder, rt, web};
use actix_ws::Message;
use futures_util::{StreamExt, stream};
use peers::{Chunks, For, Settings};
use tokio::time::interval;

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::from_env()?;
    let server = HttpServer::new(|| {
        App::new()
            .route("/", web::get().to(async || "ok"))
            .route("/sleep", web::get().to(sleep))
            .route("/block", web::get().to(block))
            .route("/stream", web::get().to(stream_chunks))
            .route("/sse", web::get().to(events))
            .route("/echo", web::post().to(count_body))
            .route("/ws", web::get().to(echo))
            .route("/panic", web::get().to(panics))
    });
    let server = server.shutdown_timeout(settings.grace.as_secs());
    Ok(server.bind_auto_h2c(settings.address)?.run().await?)
}

async fn sleep(time: Query<For>) -> impl Responder {
    rt::time::sleep(time.duration()).await;
    "slept"
}

async fn block(time: Query<For>) -> impl Responder {
    std::thread::sleep(time.duration());
    "slept"
}

async fn stream_chunks(query: Query<Chunks>) -> impl Responder {
    HttpResponse::Ok().streaming(peers::chunks(query.into_inner()))
}

async fn events() -> impl Responder {
    let ticks = stream::unfold(interval(Duration::from_millis(100)), |mut ticks| async move {
        ticks.tick().await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"data: x\n\n")), ticks))
    });
    HttpResponse::Ok().content_type("text/event-stream").streaming(ticks)
}

async fn count_body(mut body: Payload) -> Result<String, Error> {
    let mut length = 0;
    while let Some(piece) = body.next().await {
        length += piece?.len();
    }
    Ok(length.to_string())
}

async fn echo(request: HttpRequest, body: Payload) -> Result<HttpResponse, Error> {
    let (response, mut session, mut messages) = actix_ws::handle(&request, body)?;
    rt::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            let sent = match message {
                Message::Text(text) => session.text(text).await,
                Message::Binary(bytes) => session.binary(bytes).await,
                Message::Ping(bytes) => session.pong(&bytes).await,
                Message::Close(reason) => {
                    let _gone = session.close(reason).await;
                    return;
                }
                _ => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    });
    Ok(response)
}

async fn panics() -> HttpResponse {
    panic!("as asked by GET /panic");
}
