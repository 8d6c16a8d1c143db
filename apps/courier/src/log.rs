//! What others see of it: logs on standard error, with colours only where a person looks at them, and metrics.

use std::io::{self, IsTerminal};

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::PrometheusBuilder;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

pub fn start(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| {
        anyhow!("log: \"{}\" is not a filter: {error}; write for example warn,courier=debug", config.log)
    })?;
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(glidepath::stderr).with_ansi(colours);
    match config.log_format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// What renders the metrics as Prometheus reads them.
pub fn metrics() -> anyhow::Result<impl Fn() -> String + Send + Sync + 'static> {
    let recorder = PrometheusBuilder::new().install_recorder().context("no metrics")?;
    Ok(move || recorder.render())
}
