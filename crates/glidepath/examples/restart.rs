//! A service that replaces itself without a refused client, and what it does when the next process is no good.
//!
//! It answers with its process id. Write `restart` on its standard input, or send SIGHUP. What stands behind `restart` are the
//! next process's arguments, which it says. `NEXT` says what becomes of the next process: `slow` warms up for two seconds, `panics`, `hangs`, `exits` before it serves, or is `moved` to another port.
//!
//! ```text
//! NEXT=slow cargo run -p glidepath --example restart
//! ```

use std::io::{self, BufRead, Write};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use glidepath::{Lifecycle, Listener, Report};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> glidepath::Result<Report> {
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).log_internal_errors(false).init();
    let lifecycle = Lifecycle::new()?;
    lifecycle.restart_in_place();
    lifecycle.on_report(|report| say(&report.to_json()));

    let args: Vec<_> = std::env::args().skip(1).collect();
    if !args.is_empty() {
        say(&format!("called with {}", args.join(" ")));
    }
    let next = std::env::var("NEXT").unwrap_or_default();
    // No use to wait for long for what never comes.
    let ready_within = Duration::from_secs(if next == "hangs" { 2 } else { 30 });
    let is_next = std::env::var_os("GLIDEPATH_RESTART").is_some();
    match Some(next.as_str()).filter(|_| is_next) {
        Some("panics") => panic!("the next process is no good"),
        Some("hangs") => std::future::pending().await,
        Some("exits") => return Err(io::Error::other("the next process has no wish to serve").into()),
        Some("slow") => {
            let warm = lifecycle.readiness().latch("cache");
            let _detached = lifecycle.tasks().spawn("warm the cache", async move {
                sleep(Duration::from_secs(2)).await;
                say("warm");
                warm.release();
            });
        }
        _ => {}
    }

    let first = Listener::bind("first", "127.0.0.1:0").await?;
    say(&format!("first on {}", first.local_addr()?));
    let who = std::process::id().to_string();
    let app = Router::new().route("/", get(|| async { who })).route("/sleep", get(sleep_a_while));
    let mut server = lifecycle.serve(first, app.clone()).ready_within(ready_within);
    // One that the next process does not have, and one that it has anew.
    let second = if is_next && next == "moved" { "moved" } else { "second" };
    let listener = Listener::bind(second, "127.0.0.1:0").await?;
    say(&format!("{second} on {}", listener.local_addr()?));
    server = server.and_serve(listener, app);

    let handle = lifecycle.handle();
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let mut words = line.split_whitespace().map(str::to_owned).peekable();
            if words.next().as_deref() != Some("restart") {
                continue;
            }
            if words.peek().is_some() {
                handle.restart_args(words);
            }
            match runtime.block_on(handle.restart()) {
                Ok(pid) => say(&format!("replaced by {pid}")),
                Err(error) => say(&error.to_string()),
            }
        }
    });
    server.await
}

async fn sleep_a_while() -> &'static str {
    sleep(Duration::from_secs(4)).await;
    "slept"
}

/// `println!` would panic if nobody reads it, and that must not end a service.
fn say(line: &str) {
    let _gone = writeln!(io::stdout(), "{line}");
}
