//! The account as metrics. `docs/observing.md` has the table of them, and `see_2_…` holds the two together.
//!
//! Nothing is counted a second time for this: what stands in the registry, the tasks and the hooks is told to the program's
//! recorder right before a scrape, at each phase, at the end, and every ten seconds. A request does not come here.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::Shared;
use crate::phase::Phase;
use crate::sync::lock;

const PHASES: [Phase; Phase::COUNT] =
    [Phase::Armed, Phase::Serving, Phase::LameDuck, Phase::Draining, Phase::Closing, Phase::Ended];
/// Those that take part of the end.
const STAGES: [Phase; 3] = [Phase::LameDuck, Phase::Draining, Phase::Closing];

impl Shared {
    /// Tells the recorder how it stands.
    pub(crate) fn publish(&self) {
        // One at a time: an older picture must not replace a newer one.
        let _turn = lock(&self.publishes);
        describe();
        self.publish_lifecycle();
        self.publish_connections();
        self.publish_background();
    }

    fn publish_lifecycle(&self) {
        let inner = lock(&self.inner);
        let (now, phase, grace, began) = (self.now(), inner.core.phase(), inner.core.plan().grace, inner.began);
        drop(inner);
        gauge!("glidepath_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
        for of in PHASES {
            gauge!("glidepath_phase", "phase" => label(&of.to_string())).set(i32::from(of == phase));
        }
        gauge!("glidepath_ready").set(i32::from(phase == Phase::Serving && self.readiness.is_ready()));
        gauge!("glidepath_grace_period_seconds").set(grace);
        for stage in STAGES {
            let ended = began[stage as usize + 1..].iter().flatten().min();
            let lasted = began[stage as usize].map_or(Duration::ZERO, |began| *ended.unwrap_or(&now) - began);
            gauge!("glidepath_end_seconds", "stage" => label(&stage.to_string())).set(lasted);
        }
        let restarts = self.restart.counts();
        for (outcome, count) in
            [("succeeded", restarts.succeeded), ("failed", restarts.failed), ("refused", restarts.refused)]
        {
            counter!("glidepath_restarts_total", "outcome" => outcome).absolute(count);
        }
    }

    fn publish_connections(&self) {
        let tally = self.registry.tally();
        for (state, count) in tally.by_state {
            gauge!("glidepath_connections", "state" => label(state)).set(count as f64);
        }
        let c = tally.connections;
        counter!("glidepath_connections_accepted_total").absolute(c.accepted);
        for (outcome, count) in [
            ("finished", c.finished),
            ("at_rest", c.at_rest),
            ("upgraded", c.upgraded),
            ("failed", c.failed),
            ("cut", c.cut),
        ] {
            counter!("glidepath_connections_ended_total", "outcome" => outcome).absolute(count);
        }
        counter!("glidepath_connections_raced_total").absolute(c.raced);
        counter!("glidepath_connections_pipelined_total").absolute(c.pipelined);
        let r = tally.requests;
        gauge!("glidepath_requests_in_flight").set(tally.in_flight as f64);
        counter!("glidepath_requests_started_total").absolute(r.started);
        for (outcome, count) in [("answered", r.answered), ("abandoned", r.abandoned), ("cut", r.cut)] {
            counter!("glidepath_requests_ended_total", "outcome" => outcome).absolute(count);
        }
        counter!("glidepath_requests_panicked_total").absolute(r.panicked);
    }

    fn publish_background(&self) {
        let (tasks, running) = (self.tasks.counts(), self.tasks.running());
        gauge!("glidepath_tasks_running").set(running as f64);
        counter!("glidepath_tasks_started_total").absolute(tasks.started);
        for (outcome, count) in [("finished", tasks.finished), ("panicked", tasks.panicked), ("aborted", tasks.aborted)]
        {
            counter!("glidepath_tasks_ended_total", "outcome" => outcome).absolute(count);
        }
        let (hooks, left) = (self.hooks.counts(), self.hooks.left());
        gauge!("glidepath_hooks_left").set(left as f64);
        for (outcome, count) in [("finished", hooks.finished), ("panicked", hooks.panicked), ("aborted", hooks.aborted)]
        {
            counter!("glidepath_hooks_ended_total", "outcome" => outcome).absolute(count);
        }
    }
}

/// A name of ours as a label's value: `lame duck` is `lame_duck`, and `http/2` is `http2`.
fn label(name: &str) -> String {
    name.replace(' ', "_").replace('/', "")
}

/// Each time, because the recorder may have been installed a moment ago. It costs as much as setting the values does.
fn describe() {
    describe_gauge!("glidepath_build_info", "1, with the version of glidepath");
    describe_gauge!("glidepath_phase", "1 for the phase that the service is in, 0 for the others");
    describe_gauge!("glidepath_ready", "Whether readiness is on");
    describe_gauge!("glidepath_grace_period_seconds", Unit::Seconds, "The most that drain and hooks may take");
    describe_gauge!("glidepath_end_seconds", Unit::Seconds, "How long each stage of the end has lasted");
    describe_gauge!("glidepath_connections", Unit::Count, "Open connections by state");
    describe_gauge!("glidepath_requests_in_flight", Unit::Count, "Requests with the app or on their way out");
    describe_gauge!("glidepath_tasks_running", Unit::Count, "Tracked tasks that run");
    describe_gauge!("glidepath_hooks_left", Unit::Count, "Closing hooks that have not ended");
    describe_counter!("glidepath_restarts_total", Unit::Count, "Restarts in place that were asked for, by outcome");
    describe_counter!("glidepath_connections_accepted_total", Unit::Count, "Connections taken from the listeners");
    describe_counter!("glidepath_connections_ended_total", Unit::Count, "Connections that have ended, by outcome");
    describe_counter!(
        "glidepath_connections_raced_total",
        Unit::Count,
        "Connections closed at rest while bytes of the client were on their way"
    );
    describe_counter!(
        "glidepath_connections_pipelined_total",
        Unit::Count,
        "Connections with more requests behind the answer that said close"
    );
    describe_counter!("glidepath_requests_started_total", Unit::Count, "Requests handed to the app");
    describe_counter!("glidepath_requests_ended_total", Unit::Count, "Requests that have ended, by outcome");
    describe_counter!("glidepath_requests_panicked_total", Unit::Count, "Handlers that panicked");
    describe_counter!("glidepath_tasks_started_total", Unit::Count, "Tracked tasks that were spawned");
    describe_counter!("glidepath_tasks_ended_total", Unit::Count, "Tracked tasks that have ended, by outcome");
    describe_counter!("glidepath_hooks_ended_total", Unit::Count, "Closing hooks that have ended, by outcome");
}
