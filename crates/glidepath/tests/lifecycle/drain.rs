//! What handlers and tasks see.

use futures_util::{StreamExt, stream};
use glidepath::UntilDraining;
use tokio::time::{Instant, timeout};

use super::*;

#[tokio::test(start_paused = true)]
async fn req_11_the_drain_can_be_asked_and_waited_for() {
    let (lifecycle, serving) = served().await;
    let drain = lifecycle.drain();
    assert!(!drain.is_stopping() && !drain.is_draining());
    assert!(timeout(secs(60), drain.draining()).await.is_err(), "not before it begins");
    let _detached = lifecycle.tasks().spawn("a second", takes(secs(1)));
    let began = Instant::now();
    let waiting = lifecycle.tasks().spawn("waits", {
        let drain = drain.clone();
        async move { drain.draining().await }
    });
    seconds_pass(1).await;
    lifecycle.handle().begin();
    assert!(drain.is_stopping() && drain.is_draining(), "as soon as `begin` has returned");
    waiting.await.expect("it was waiting");
    assert!(began.elapsed() <= secs(1) + AT_ONCE);
    serving.report().await;
    timeout(AT_ONCE, drain.draining()).await.expect("who asks late is told at once");
}

#[tokio::test(start_paused = true)]
async fn req_11_in_the_lame_duck_it_is_stopping_and_not_yet_draining() {
    let lifecycle = Lifecycle::without_signals();
    let serving = Serving::start(lifecycle.run().lame_duck(secs(5)));
    lifecycle.handle().wait_for(Phase::Serving).await;
    let drain = lifecycle.drain();
    lifecycle.handle().begin();
    assert_eq!(lifecycle.handle().phase(), Phase::LameDuck);
    assert!(drain.is_stopping() && !drain.is_draining());
    let began = Instant::now();
    drain.draining().await;
    assert!((secs(5)..=secs(5) + AT_ONCE).contains(&began.elapsed()));
    serving.report().await;
}

#[tokio::test(start_paused = true)]
async fn req_11_a_stream_ends_with_the_drain_and_not_before() {
    let (lifecycle, serving) = served().await;
    let ticks = stream::unfold(0, |n| async move {
        sleep(secs(1)).await;
        Some((n, n + 1))
    });
    let ticks = Box::pin(ticks.until_draining(&lifecycle.drain()));
    let collecting = lifecycle.tasks().spawn("stream", ticks.collect::<Vec<i32>>());
    sleep(ms(3_500)).await;
    let report = end(&lifecycle, serving).await;
    assert_eq!(collecting.await.unwrap(), [0, 1, 2]);
    assert_took(&report, secs(0), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn req_11_a_stream_that_is_made_in_the_drain_is_at_its_end() {
    let lifecycle = Lifecycle::without_signals();
    lifecycle.handle().begin();
    let mut items = stream::repeat(1).until_draining(&lifecycle.drain());
    assert_eq!(items.next().await, None);
    assert_eq!(items.next().await, None, "and stays there");
}

#[tokio::test(start_paused = true)]
async fn req_11_nothing_is_cancelled_before_the_deadline() {
    let (lifecycle, serving) = served().await;
    let _detached = lifecycle.tasks().spawn("just in time", takes(secs(10) - ms(1)));
    let report = end(&lifecycle, serving).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.tasks.finished, 1);
}
