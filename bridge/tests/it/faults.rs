//! A Redis that is gone, silent or slow: the bridge says so in time, and recovers by itself.

use std::time::{Duration, Instant};

use crate::process::ask;
use crate::support::{BridgeProcess, RedisServer, Way, within};

/// The command timeout of these bridges, and what an answer may take on a machine that does other things too.
const TIMEOUT: [&str; 2] = ["--store-timeout-ms", "250"];
const IN_TIME: Duration = Duration::from_millis(1_000);

const CALLS: [(&str, &str); 4] = [
    ("/v1/lookup", r#"{"namespace":"n","key":"k","tags":["a"]}"#),
    ("/v1/store", r#"{"namespace":"n","key":"k","tags":["a"],"ticket":{"at":"1-1-1","era":"1"},"keep_ms":9}"#),
    ("/v1/purge", r#"{"namespace":"n","tags":["a"]}"#),
    ("/v1/feed", r#"{"namespace":"n","hold_ms":5000}"#),
];

fn start(url: &str) -> BridgeProcess {
    BridgeProcess::start(&[&["--store", url], &TIMEOUT[..]].concat())
}

fn refuses_everything_in_time(bridge: &BridgeProcess) {
    for (path, body) in CALLS {
        let began = Instant::now();
        let answer = ask(bridge.address, "POST", path, body);
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("store-unavailable"), "{path}: {answer}");
        assert!(answer.contains("routecache-bridge: 1"), "{answer}");
        assert!(began.elapsed() < IN_TIME, "{path} took {:?}", began.elapsed());
    }
    assert!(ask(bridge.address, "GET", "/readyz", "").starts_with("HTTP/1.1 503"));
    assert!(ask(bridge.address, "GET", "/healthz", "").starts_with("HTTP/1.1 200"), "it is alive");
}

fn is_ready(bridge: &BridgeProcess) -> bool {
    ask(bridge.address, "GET", "/readyz", "").starts_with("HTTP/1.1 200")
}

#[test]
fn it_starts_without_redis_and_finds_it_when_it_comes() {
    let mut server = RedisServer::start();
    server.kill();
    let bridge = start(&server.url());
    refuses_everything_in_time(&bridge);
    server.revive();
    within(Duration::from_secs(3), || is_ready(&bridge));
    assert!(ask(bridge.address, "POST", CALLS[2].0, CALLS[2].1).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_redis_that_refuses_connections_costs_next_to_nothing() {
    let mut server = RedisServer::start();
    server.kill();
    let bridge = start(&server.url());
    let began = Instant::now();
    for _ in 0..10 {
        assert!(!is_ready(&bridge));
    }
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}, with ten timeouts 2.5 s", began.elapsed());
    within(Duration::from_secs(5), || bridge.log().contains("refused"));
}

#[test]
fn it_gets_in_when_redis_knows_it_at_last() {
    let server = RedisServer::start();
    let bridge = start(&format!("redis://user:hush@127.0.0.1:{}", server.port));
    refuses_everything_in_time(&bridge);
    let allow = ["SETUSER", "user", "on", ">hush", "~routecache:*", "+@all"];
    redis::cmd("ACL").arg(&allow).exec(&mut server.connect()).unwrap();
    within(Duration::from_secs(3), || is_ready(&bridge));
}

#[test]
fn it_outlives_a_restart_of_redis_which_flushes_the_gateways() {
    let mut server = RedisServer::start();
    let bridge = start(&server.url());
    let purged = ask(bridge.address, "POST", CALLS[2].0, CALLS[2].1);
    let position = purged.split("\"position\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    server.kill();
    refuses_everything_in_time(&bridge);
    server.revive();
    within(Duration::from_secs(3), || is_ready(&bridge));
    let body = format!(r#"{{"namespace":"n","hold_ms":0,"cursor":"{position}","known":"{position}"}}"#);
    let answer = ask(bridge.address, "POST", "/v1/feed", &body);
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("joined"), "{answer}");
}

#[test]
fn a_redis_that_hangs_is_not_waited_for() {
    let server = RedisServer::start();
    let bridge = start(&server.url());
    assert!(is_ready(&bridge));
    server.signal("-STOP");
    for _ in 0..3 {
        refuses_everything_in_time(&bridge);
    }
    server.signal("-CONT");
    within(Duration::from_secs(3), || is_ready(&bridge));
}

/// The operating system would notice after many minutes.
#[test]
fn a_connection_that_stays_silent_is_replaced() {
    let server = RedisServer::start();
    let way = Way::to(server.port);
    let bridge = start(&format!("redis://127.0.0.1:{}", way.port));
    assert!(is_ready(&bridge));
    way.silence();
    assert!(!is_ready(&bridge));
    within(Duration::from_secs(4), || is_ready(&bridge));
    assert!(ask(bridge.address, "POST", CALLS[2].0, CALLS[2].1).starts_with("HTTP/1.1 200"));
}
