//! Whether it lives, whether it is of use, and its figures.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use serde::Serialize;

use super::Surroundings;
use super::call::{granted, refuse};
use crate::access::Scope;
use crate::metrics;

pub(super) fn router() -> Router<Surroundings> {
    Router::new().route("/healthz", get(|| async { "alive\n" })).route("/readyz", get(ready))
}

pub(super) fn figures() -> Router<Surroundings> {
    Router::new().route("/metrics", get(for_prometheus)).route("/v1/stats", get(stats))
}

/// 200 while calls can be answered, even if something else is amiss: that is said, and no reason to send traffic elsewhere.
async fn ready(State(calls): State<Surroundings>) -> Response {
    if calls.0.service.is_stopping() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    if let Err(error) = calls.0.service.ready().await {
        return refuse("ready", &error);
    }
    match calls.0.service.amiss() {
        None => "ready\n".into_response(),
        Some(what) => format!("degraded: {what}\n").into_response(),
    }
}

async fn for_prometheus(State(calls): State<Surroundings>, request: Request) -> Response {
    let shared = &*calls.0;
    match granted(&request, &[Scope::Read]) {
        Ok(_) => {
            let text = shared.metrics.text(shared.service.figures(), !shared.service.is_failing());
            ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
        }
        Err(error) => refuse("metrics", &error),
    }
}

/// The most asked-for figures, for people and scripts.
#[derive(Serialize)]
struct Stats {
    version: &'static str,
    uptime_s: u64,
    store: StoreStats,
    lookups: Lookups,
    stored: u64,
    purges: u64,
}

#[derive(Serialize)]
struct StoreStats {
    answers: bool,
    breaker_open: bool,
    round_trips: u64,
    timeouts: u64,
    errors: u64,
    reconnects: u64,
    held_bytes: u64,
}

#[derive(Serialize)]
struct Lookups {
    hit: u64,
    miss: u64,
    behind: u64,
}

async fn stats(State(calls): State<Surroundings>, request: Request) -> Response {
    let shared = &*calls.0;
    if let Err(error) = granted(&request, &[Scope::Read]) {
        return refuse("stats", &error);
    }
    let figures = shared.service.figures();
    let count = |call, outcome| shared.metrics.count(call, outcome);
    let lookup = |outcome| count("lookup", outcome);
    let stats = Stats {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: shared.service.uptime().as_secs(),
        store: StoreStats {
            answers: !shared.service.is_failing(),
            breaker_open: figures.breaker_open,
            round_trips: figures.round_trips,
            timeouts: figures.timeouts,
            errors: figures.errors,
            reconnects: figures.reconnects,
            held_bytes: figures.bytes,
        },
        lookups: Lookups { hit: lookup("hit"), miss: lookup("miss"), behind: lookup("behind") },
        stored: count("store", "stored"),
        purges: count("purge", "purged"),
    };
    super::call::say_json(&stats)
}
