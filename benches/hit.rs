//! What does a hit from the worker tier cost in Envoy, next to Envoy's own cache filter and to no work at all?
//!
//! Every variant is an Envoy of its own with one worker, asked for the same 1 KiB by `wrk` (one thread, 32 connections,
//! loopback). They take turns, so that whatever else the machine does meets all of them. CPU time per request is Envoy's
//! own, from `/proc`; it is steadier than requests per second. The last column is its ratio to Envoy's cache filter.

mod envoys;
mod wrk;

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use http::{Method, StatusCode};
use routecache_harness::{API_HOST, Answer, Envoy, EnvoyConfig, Origin, Request, filter};
use serde_json::{Value, json};

/// How long one variant is asked in one round, and how many rounds there are.
const ROUND: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;
const PATH: &str = "/users/1";

struct Variant {
    name: &'static str,
    envoy: Envoy,
    requests: u64,
    seconds: f64,
    cpu: Duration,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let origin = Origin::start().await?;
    let body = json!({ "text": "x".repeat(1024 - 11) });
    origin.script("GET", PATH, Answer::json(StatusCode::OK, &body).header("cache-control", "max-age=600"));
    let direct = json!({ "match": { "prefix": "/" }, "direct_response": { "status": 200, "body": { "inline_string": body.to_string() } } });
    let mut variants = Vec::new();
    for (name, route, filters) in [
        ("direct_response", direct, vec![]),
        ("Envoy's http.cache", envoys::forward(), vec![envoys::http_cache()]),
        ("routecache, worker tier", envoys::forward(), vec![routecache()?]),
    ] {
        let config = EnvoyConfig::new(|listen, admin| {
            envoys::bootstrap(listen, admin, origin.address(), &route, &filters).to_string()
        })?;
        let envoy = Envoy::start(EnvoyConfig { concurrency: 1, ..config }).await?;
        warm(name, &envoy).await?;
        variants.push(Variant { name, envoy, requests: 0, seconds: 0.0, cpu: Duration::ZERO });
    }
    let asked = origin.requests_in_all();
    for round in 1..=ROUNDS {
        for variant in &mut variants {
            eprintln!("round {round} of {ROUNDS}: {}", variant.name);
            let before = variant.envoy.cpu_time()?;
            let (requests, seconds) = wrk(&variant.envoy)?;
            variant.cpu += variant.envoy.cpu_time()? - before;
            variant.requests += requests;
            variant.seconds += seconds;
        }
    }
    if origin.requests_in_all() != asked {
        return Err("the origin was asked during the measurement: these weren't all hits".into());
    }
    report(&variants);
    Ok(())
}

fn report(variants: &[Variant]) {
    let per_request = |variant: &Variant| variant.cpu.as_secs_f64() * 1e6 / as_f64(variant.requests);
    let peer = variants.iter().find(|variant| variant.name == "Envoy's http.cache").map_or(1.0, per_request);
    println!("{:<26}{:>12}{:>16}{:>14}", "hit of 1 KiB served by", "requests/s", "µs CPU/request", "to http.cache");
    for variant in variants {
        let cost = per_request(variant);
        let rate = as_f64(variant.requests) / variant.seconds;
        println!("{:<26}{rate:>12.0}{cost:>16.1}{:>14.2}", variant.name, cost / peer);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Asks until the answer comes from where it should.
async fn warm(name: &str, envoy: &Envoy) -> Result<(), Box<dyn Error>> {
    for _ in 0..3 {
        let answer = envoy.send(Request::new(Method::GET, PATH)).await?;
        if answer.status != StatusCode::OK || answer.body.len() != 1024 {
            return Err(format!("{name} answers {} with {} bytes", answer.status, answer.body.len()).into());
        }
    }
    let answer = envoy.get(PATH).await?;
    if name.starts_with("routecache") && answer.cache_status().detail.as_deref() != Some("worker") {
        return Err(format!("{name} answers with {}", answer.header("cache-status")).into());
    }
    Ok(())
}

/// Requests answered, and the seconds that took.
fn wrk(envoy: &Envoy) -> Result<(u64, f64), Box<dyn Error>> {
    let seconds = ROUND.as_secs().to_string();
    let url = format!("http://{}{PATH}", envoy.address());
    let host = format!("Host: {API_HOST}");
    let output = Command::new("wrk").args(["-t1", "-c32", "-d", &seconds, "-H", &host, &url]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    wrk::counted(&text)
}

fn routecache() -> Result<Value, Box<dyn Error>> {
    let rules = json!({
        "routes": [{ "name": "user", "match": { "path": "/users/{id}" }, "cache": { "key": "user:{id}", "ttl": "10m" } }],
    });
    Ok(json!({
        "name": "routecache",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "root_id": "routecache",
                "vm_config": { "runtime": "envoy.wasm.runtime.v8", "code": { "local": { "filename": filter()? } } },
                "configuration": { "@type": "type.googleapis.com/google.protobuf.StringValue", "value": rules.to_string() },
            },
        },
    }))
}
