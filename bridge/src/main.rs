//! `routecache-bridge`: the service as a process.

use std::fs;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use routecache_bridge::{Limits, StoreUrl};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Keeps cached responses and the log of purges for a group of gateways.
///
/// Whoever can reach it can read, store and purge everything: it has no authentication yet.
#[derive(Parser)]
#[command(name = "routecache-bridge", version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8390", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// Listen elsewhere than on loopback although the bridge has no authentication yet
    #[arg(long)]
    allow_remote: bool,

    /// Where the data is: `mem://`, `mem://?bytes=256MiB` or `redis://[user:password@]host[:port][/database]`
    ///
    /// By default CACHE_URL, else REDIS_URL, else mem://. A password is better kept there: arguments are seen by
    /// everybody on the machine.
    #[arg(long, value_name = "URL")]
    store: Option<String>,

    /// How long the store may take for one call, in milliseconds
    #[arg(long, default_value_t = 250, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    store_timeout_ms: u64,

    /// Connections at once
    #[arg(long, default_value_t = Limits::default().connections, value_parser = amount, value_name = "COUNT")]
    max_connections: usize,

    /// Calls at once, held polls among them
    #[arg(long, default_value_t = Limits::default().requests, value_parser = amount, value_name = "COUNT")]
    max_requests: usize,

    /// Bytes of a request's body, hence of an entry
    #[arg(long, default_value_t = Limits::default().body_bytes, value_parser = amount, value_name = "BYTES")]
    max_body_bytes: usize,

    /// How the log on standard error is written; RUST_LOG says how much
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    /// Write the port here once the bridge listens
    #[arg(long, value_name = "PATH")]
    port_file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(arguments.log_format);
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            tracing::error!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

async fn run(arguments: &Arguments) -> Result<(), String> {
    if !arguments.listen.ip().is_loopback() && !arguments.allow_remote {
        return Err(format!(
            "won't listen on {}: the bridge has no authentication yet, so whoever reaches it can read and purge \
             everything; listen on 127.0.0.1, or say `--allow-remote` where the network keeps others out",
            arguments.listen
        ));
    }
    let url = StoreUrl::parse(&store_url(arguments)).map_err(|error| told("the store", &error))?;
    let bridge =
        url.open(Duration::from_millis(arguments.store_timeout_ms)).map_err(|error| told("the store", &error))?;
    let bridge = bridge.with_limits(Limits {
        connections: arguments.max_connections,
        requests: arguments.max_requests,
        body_bytes: arguments.max_body_bytes,
        ..Limits::default()
    });

    // Before the port is told: whoever reads it may send a signal at once.
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| told("SIGTERM", &error))?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|error| told("SIGINT", &error))?;
    let stop = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        tracing::info!("stopping");
    };

    let listener =
        TcpListener::bind(arguments.listen).await.map_err(|error| told(&arguments.listen.to_string(), &error))?;
    let address = listener.local_addr().map_err(|error| told("the listener", &error))?;
    if let Some(path) = &arguments.port_file {
        fs::write(path, format!("{}\n", address.port())).map_err(|error| told(&path.display().to_string(), &error))?;
    }
    tracing::info!(store = %url, "listening on {address}");
    if !bridge.serve(listener, stop).await {
        tracing::warn!("some calls were still under way and have been cut off");
    }
    Ok(())
}

/// The flag, else the environment, else memory. An empty variable counts as none.
fn store_url(arguments: &Arguments) -> String {
    let variable = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
    let url = arguments.store.clone().or_else(|| variable("CACHE_URL")).or_else(|| variable("REDIS_URL"));
    url.unwrap_or_else(|| "mem://".to_owned())
}

/// A number of things, at least one.
fn amount(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=1 << 30).contains(number));
    number.ok_or_else(|| "write a whole number of at least 1".to_owned())
}

fn told(what: &str, error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{what}: {error} ({cause})"),
        None => format!("{what}: {error}"),
    }
}
