//! A Redis that is gone, silent or slow: the bridge says so in time, and recovers by itself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::process::ask;
use crate::support::{BridgeProcess, RedisServer, within};

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

/// A way to Redis on which connections can go silent without ending, as behind a firewall that forgot them.
struct Way {
    port: u16,
    /// Connections numbered below this pass nothing on.
    silent: Arc<AtomicUsize>,
    taken: Arc<AtomicUsize>,
}

impl Way {
    fn to(redis: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let way = Self { port: listener.local_addr().unwrap().port(), silent: Arc::default(), taken: Arc::default() };
        let (silent, taken) = (Arc::clone(&way.silent), Arc::clone(&way.taken));
        std::thread::spawn(move || {
            for here in listener.incoming().flatten() {
                let number = taken.fetch_add(1, Ordering::SeqCst);
                let Ok(there) = TcpStream::connect(("127.0.0.1", redis)) else { continue };
                for (mut from, mut to) in [(here.try_clone().unwrap(), there.try_clone().unwrap()), (there, here)] {
                    let silent = Arc::clone(&silent);
                    std::thread::spawn(move || {
                        let mut bytes = [0; 4096];
                        while let Ok(count @ 1..) = from.read(&mut bytes) {
                            if number >= silent.load(Ordering::SeqCst) && to.write_all(&bytes[..count]).is_err() {
                                break;
                            }
                        }
                    });
                }
            }
        });
        way
    }

    fn silence(&self) {
        self.silent.store(self.taken.load(Ordering::SeqCst), Ordering::SeqCst);
    }
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
