//! A server as a command: its options, its output, and its end.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::access::timestamp;
use super::server::{Limits, ServeError, Server, ServerBuilder};
use super::{NotAnUpstream, UpstreamUrl};
use crate::abi::LogLevel;
use crate::dialect::FailurePolicy;

/// The options that every command has that serves.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where clients connect; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10000")]
    pub listen: SocketAddr,
    /// Where requests go that the filter lets pass: http://host:port, or h2c://host:port for HTTP/2; without it they get 503
    #[arg(long, value_name = "URL")]
    pub upstream: Option<UpstreamUrl>,
    /// A cluster for the filter's callouts, such as auth=http://127.0.0.1:9000; can be repeated
    #[arg(long = "cluster", value_name = "NAME=URL", value_parser = cluster)]
    pub clusters: Vec<(String, UpstreamUrl)>,
    /// Threads that serve requests, each with a VM of its own [default: one for each processor]
    #[arg(long, value_name = "COUNT")]
    pub workers: Option<NonZeroUsize>,
    /// A variable that the filter will find, such as CACHE_PREFIX=shop; can be repeated
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = variable)]
    pub variables: Vec<(String, String)>,
    /// What becomes of requests when a VM has failed: 503 until it is replaced after a second, 503 for good, or on without it
    #[arg(long, value_enum, default_value_t = OnFailure::Reload)]
    pub failure_policy: OnFailure,
    /// Seconds for the upstream to begin its answer; 0 is for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    pub timeout: u32,
    /// Seconds in which nothing moves before a request ends
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub idle_timeout: u32,
    /// Seconds for requests under way to end after Ctrl-C or SIGTERM; a second signal ends them at once
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub drain: u32,
    /// Connections at once; more wait
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections)]
    pub max_connections: usize,
    /// How much of the filter's log goes to standard error
    #[arg(long, value_enum, default_value_t = Level::Info)]
    pub log_level: Level,
    /// Leave out the line of JSON on standard output for each request
    #[arg(long)]
    pub no_access_log: bool,
}

/// [`FailurePolicy`], as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "each is the policy of its name")]
pub enum OnFailure {
    Reload,
    Closed,
    Open,
}

/// [`LogLevel`], as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "each is the level of its name")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

fn pair(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').filter(|(name, _)| !name.is_empty())
}

fn cluster(text: &str) -> Result<(String, UpstreamUrl), String> {
    let (name, url) = pair(text).ok_or("write NAME=URL, such as auth=http://127.0.0.1:9000")?;
    Ok((name.to_owned(), url.parse().map_err(|error: NotAnUpstream| error.to_string())?))
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = pair(text).ok_or("write KEY=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Options {
    /// A server with these options, which logs to standard error and writes its access log to standard output. The filter and its
    /// configuration are still to be said.
    pub fn builder(&self) -> ServerBuilder {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let limits = Limits {
            connections: self.max_connections.max(1),
            upstream: Some(seconds(self.timeout)).filter(|timeout| !timeout.is_zero()),
            silence: seconds(self.idle_timeout),
            drain: seconds(self.drain),
        };
        let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let mut builder = Server::builder()
            .listen(self.listen)
            .workers(self.workers.map_or_else(processors, NonZeroUsize::get))
            .limits(limits)
            .failure_policy(match self.failure_policy {
                OnFailure::Reload => FailurePolicy::Reload,
                OnFailure::Closed => FailurePolicy::Closed,
                OnFailure::Open => FailurePolicy::Open,
            })
            .log_level(match self.log_level {
                Level::Trace => LogLevel::Trace,
                Level::Debug => LogLevel::Debug,
                Level::Info => LogLevel::Info,
                Level::Warn => LogLevel::Warn,
                Level::Error => LogLevel::Error,
                Level::Critical => LogLevel::Critical,
            })
            .on_log(|log| {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                // Text of a filter may hold what steers a terminal.
                let text: String =
                    log.message.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
                // Nobody reads it: nothing to be done about it here.
                let _ = writeln!(io::stderr(), "{} {:?} {}: {text}", timestamp(now), log.level, log.thread);
            });
        if !self.no_access_log {
            builder = builder.on_access(|access| _ = writeln!(io::stdout(), "{access}"));
        }
        if let Some(upstream) = &self.upstream {
            builder = builder.upstream(upstream.clone());
        }
        builder = self.clusters.iter().fold(builder, |builder, (name, url)| builder.cluster(name, url.clone()));
        self.variables.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
    }
}

/// Starts a server, says where it listens, and drains it at Ctrl-C or SIGTERM.
///
/// # Errors
///
/// [`ServeError`] if it doesn't start.
pub fn run(builder: ServerBuilder) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
    runtime.block_on(async {
        // Before the address is told: whoever reads it may send a signal at once.
        let mut terminated = signal(SignalKind::terminate()).map_err(ServeError::Thread)?;
        let mut interrupted = signal(SignalKind::interrupt()).map_err(ServeError::Thread)?;
        let mut ended = async || {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => {}
            }
        };
        let server = builder.start()?;
        say(&format!("listening on http://{}", server.address()));
        ended().await;
        say("stopping: requests under way may end");
        let stopping = tokio::task::spawn_blocking(|| server.stop());
        tokio::select! {
            clean = stopping => {
                let clean = clean.unwrap_or(false);
                say(if clean { "stopped" } else { "stopped; some requests were cut off" });
            }
            () = ended() => std::process::exit(130),
        }
        Ok(())
    })
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
