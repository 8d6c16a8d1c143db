//! The load of others: wrk for HTTP/1.1, h2load for HTTP/2.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

/// Keep-alive connections of wrk.
const HTTP1: &[&str] = &["-t1", "-c64"];
/// Connections, and streams at a time on each, of h2load.
const HTTP2: &[&str] = &["-t1", "-c10", "-m100"];

/// 64 keep-alive connections; says how many requests were answered.
pub(crate) fn http1(to: SocketAddr, seconds: u32) -> anyhow::Result<u64> {
    let said = run("wrk", "wrk", Command::new("wrk").args(HTTP1).arg(format!("-d{seconds}s")).arg(url(to)))?;
    of_wrk(&said)
}

/// 10 connections with 100 streams each; says how many requests were answered.
pub(crate) fn http2(to: SocketAddr, seconds: u32) -> anyhow::Result<u64> {
    let mut command = Command::new("h2load");
    let said = run("h2load", "nghttp2-client", command.args(HTTP2).arg(format!("-D{seconds}")).arg(url(to)))?;
    of_h2load(&said)
}

fn url(to: SocketAddr) -> String {
    format!("http://{to}/")
}

fn run(name: &str, package: &str, command: &mut Command) -> anyhow::Result<String> {
    let told = command.stdin(Stdio::null()).output();
    let told = told.with_context(|| format!("{name} can't be started; install it: it is in the package {package}"))?;
    ensure!(told.status.success(), "{name} ended with {}: {}", told.status, String::from_utf8_lossy(&told.stderr));
    Ok(String::from_utf8_lossy(&told.stdout).into_owned())
}

fn of_wrk(said: &str) -> anyhow::Result<u64> {
    let mut lines = said.lines().map(str::trim);
    if let Some(wrong) = lines.clone().find(|line| line.starts_with("Socket errors:") || line.starts_with("Non-2xx")) {
        bail!("wrk says: {wrong}");
    }
    let count = lines.find_map(|line| Some(line.split_once(" requests in ")?.0));
    count.with_context(|| format!("wrk says nothing of requests: {said}"))?.parse().context("wrk's number of requests")
}

fn of_h2load(said: &str) -> anyhow::Result<u64> {
    let line = said.lines().find_map(|line| line.strip_prefix("requests: ")).context("h2load names no requests")?;
    let count = |what: &str| {
        let mut parts = line.split(", ").filter_map(|part| part.strip_suffix(what));
        parts.next().and_then(|count| count.trim().parse::<u64>().ok()).with_context(|| format!("h2load says {line:?}"))
    };
    let (succeeded, failed) = (count(" succeeded")?, count(" failed")?);
    ensure!(failed == 0 && succeeded > 0, "h2load says: {line}");
    Ok(succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  \
                       Latency     1.1ms\n  163542 requests in 1.10s, 18.87MB read\nRequests/sec: 148676.1\n";

    #[test]
    fn requests_are_counted_by_wrk_unless_some_went_wrong() {
        assert_eq!(of_wrk(WRK).expect("all went well"), 163_542);
        let wrong = of_wrk(&format!("{WRK}  Socket errors: connect 0, read 3, write 0, timeout 0\n"));
        assert!(wrong.is_err_and(|error| error.to_string().contains("read 3")));
        assert!(of_wrk(&format!("{WRK}  Non-2xx or 3xx responses: 9\n")).is_err());
        assert!(of_wrk("unable to connect").is_err());
    }

    #[test]
    fn requests_are_counted_by_h2load_unless_some_went_wrong() {
        let said = |rest: &str| format!("finished in 3.00s\nrequests: 500 total, 700 started, 500 done, {rest}\n");
        let well = said("500 succeeded, 0 failed, 0 errored, 0 timeout");
        assert_eq!(of_h2load(&well).expect("all went well"), 500);
        assert!(of_h2load(&said("499 succeeded, 1 failed, 1 errored, 0 timeout")).is_err());
        assert!(of_h2load(&said("0 succeeded, 0 failed, 0 errored, 0 timeout")).is_err());
        assert!(of_h2load("nothing").is_err());
    }
}
