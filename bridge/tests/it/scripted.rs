//! A Redis whose answers are scripted: what it may say, and when it may fall silent. The bridge answers in time and recovers by
//! itself, nothing is done twice, and no answer is taken for one that it isn't.

use std::time::{Duration, Instant};

use redis::cmd;

use crate::between::{Between, Fault};
use crate::process::ask;
use crate::support::{BridgeProcess, RedisServer, within};

/// The command timeout of these bridges, and what an answer may take on a machine that does other things too.
const TIMEOUT: [&str; 2] = ["--store-timeout-ms", "150"];
const IN_TIME: Duration = Duration::from_millis(1_500);

const CALLS: [(&str, &str); 5] = [
    ("/v1/lookup", r#"{"namespace":"n","key":"k","tags":["a"]}"#),
    ("/v1/store", r#"{"namespace":"n","key":"k","tags":["a"],"ticket":{"at":"1-1-1","era":"1"},"keep_ms":9}"#),
    ("/v1/purge", r#"{"namespace":"n","tags":["a"],"patterns":[{"key":"x*"}]}"#),
    ("/v1/feed", r#"{"namespace":"n","hold_ms":0}"#),
    ("/v1/keys/n/counter/increment", ""),
];

/// What a server may answer in place of what a script says.
const REFUSALS: [&str; 16] = [
    "MOVED 3999 127.0.0.1:1",
    "ASK 3999 127.0.0.1:1",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN Hash slot not served",
    "CROSSSLOT Keys in request don't hash to the same slot",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "READONLY You can't write against a read only replica.",
    "NOSCRIPT No matching script.",
    "NOREPLICAS Not enough good replicas to write.",
    "MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.",
    "BUSY Redis is busy running a script.",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "NOAUTH Authentication required.",
    "NOPERM this user has no permissions to run the 'evalsha' command",
    "ERR",
];

/// Well-formed, and not what any script answers.
const OTHER_TYPES: [&str; 14] = [
    "+OK\r\n",
    ":1\r\n",
    "$-1\r\n",
    "$0\r\n\r\n",
    "*0\r\n",
    "*-1\r\n",
    "*1\r\n$-1\r\n",
    "*6\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n",
    "*5\r\n$3\r\n9-9\r\n$1\r\nz\r\n$1\r\nz\r\n*0\r\n$0\r\n\r\n",
    "*2\r\n$20\r\n18446744073709551616\r\n$1\r\n1\r\n",
    "_\r\n",
    "#t\r\n",
    "%1\r\n+a\r\n+b\r\n",
    ",nan\r\n",
];

/// What no server says.
const NONSENSE: [&str; 7] =
    ["HTTP/1.1 400 Bad Request\r\n\r\n", "$99999999999999\r\n", "$-9\r\nx", "*-9\r\n", "\0\0\0\0", ":x\r\n", "?\r\n"];

/// What every call is answered while a fault lasts. Nothing at all is what scripts say for the safe side: a lookup's log is
/// behind, an entry isn't kept.
fn fails_in_time(bridge: &BridgeProcess, fault: &Fault) {
    for (path, body) in CALLS {
        let began = Instant::now();
        let answer = ask(bridge.address, "POST", path, body);
        let failed = answer.starts_with("HTTP/1.1 503") && answer.contains("store-unavailable");
        let safe = answer.contains(r#""behind""#) || answer.contains(r#""void""#);
        assert!(failed || safe, "{path} {fault:?}: {answer}");
        assert!(began.elapsed() < IN_TIME, "{path} {fault:?} took {:?}", began.elapsed());
    }
    assert!(ask(bridge.address, "GET", "/healthz", "").starts_with("HTTP/1.1 200"), "{fault:?}");
}

fn recovers(bridge: &BridgeProcess, fault: &Fault) {
    for (path, body) in CALLS {
        within(Duration::from_secs(5), || {
            let answer = ask(bridge.address, "POST", path, body);
            assert!(!answer.contains("\"hit\""), "nothing was stored: {fault:?} {path}");
            answer.starts_with("HTTP/1.1 200")
        });
    }
}

fn stage() -> (RedisServer, Between, BridgeProcess) {
    let server = RedisServer::start();
    let between = Between::to(server.port);
    let url = format!("redis://127.0.0.1:{}", between.port);
    let bridge = BridgeProcess::start(&[&["--store", &url], &TIMEOUT[..]].concat());
    recovers(&bridge, &Fault::None);
    (server, between, bridge)
}

fn each_fails_and_passes(faults: impl IntoIterator<Item = Fault>) {
    let (_server, between, bridge) = stage();
    for fault in faults {
        between.set(fault.clone());
        fails_in_time(&bridge, &fault);
        between.set(Fault::None);
        recovers(&bridge, &fault);
    }
}

#[test]
fn whatever_redis_refuses_with_is_told_in_time_and_gets_over() {
    each_fails_and_passes(REFUSALS.map(|text| Fault::Say(format!("-{text}\r\n").into())));
}

#[test]
fn an_answer_of_another_type_is_none() {
    each_fails_and_passes(OTHER_TYPES.map(|text| Fault::Say(text.into())));
}

#[test]
fn what_is_no_answer_at_all_is_survived() {
    let nested = "*1\r\n".repeat(200_000).into_bytes();
    each_fails_and_passes(NONSENSE.map(|text| Fault::Say(text.into())).into_iter().chain([Fault::Say(nested)]));
}

#[test]
fn an_answer_that_breaks_off_or_stays_out_is_given_up() {
    each_fails_and_passes([
        Fault::Close,
        Fault::Cut(0),
        Fault::Cut(1),
        Fault::Cut(7),
        Fault::Hang,
        Fault::Stall(0),
        Fault::Stall(3),
    ]);
}

/// A server of RESP3 may say more than it was asked: it is passed over.
#[test]
fn pushes_are_passed_over() {
    let (_server, between, bridge) = stage();
    between.set(Fault::Push(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n".into()));
    recovers(&bridge, &Fault::None);
    assert!(between.meddled() > 0);
}

/// A store that is full says so of stores only: the rest finds room (see `memory`), or fails.
#[test]
fn a_refusal_for_want_of_room_is_no_error_of_a_store() {
    let (_server, between, bridge) = stage();
    between.set(Fault::Say("-OOM command not allowed when used memory > 'maxmemory'.\r\n".into()));
    let (path, body) = CALLS[1];
    let answer = ask(bridge.address, "POST", path, body);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("full"), "{answer}");
    assert!(ask(bridge.address, "POST", CALLS[2].0, CALLS[2].1).starts_with("HTTP/1.1 503"));
}

fn counter(server: &RedisServer) -> i64 {
    let mut connection = server.connect();
    let names: Vec<String> = cmd("KEYS").arg("routecache:n:key:*counter").query(&mut connection).unwrap();
    names.first().map_or(0, |name| cmd("GET").arg(name).query(&mut connection).unwrap())
}

fn records(server: &RedisServer) -> u64 {
    cmd("XLEN").arg("routecache:{n}:log").query(&mut server.connect()).unwrap()
}

/// The answer was lost: whether it was done the bridge can't know, so it says so and leaves the rest to who asked.
#[test]
fn what_was_done_though_its_answer_was_lost_is_not_done_again() {
    for fault in [Fault::Cut(0), Fault::Cut(2), Fault::Stall(1)] {
        let (server, between, bridge) = stage();
        let (before, records_before) = (counter(&server), records(&server));
        between.set(fault.clone());
        let (path, body) = CALLS[4];
        assert!(ask(bridge.address, "POST", path, body).starts_with("HTTP/1.1 503"), "{fault:?}");
        between.set(Fault::None);
        within(Duration::from_secs(5), || ask(bridge.address, "GET", "/readyz", "").starts_with("HTTP/1.1 200"));
        assert_eq!(counter(&server), before + 1, "{fault:?}");
        let asked = between.meddled();
        between.set(fault.clone());
        assert!(ask(bridge.address, "POST", CALLS[2].0, CALLS[2].1).starts_with("HTTP/1.1 503"), "{fault:?}");
        assert_eq!((between.meddled(), records(&server)), (asked + 1, records_before + 1), "{fault:?}");
    }
}

/// One node that has all slots and names the way in between as its own, so that whatever it refers to comes back there.
fn cluster_stage() -> (RedisServer, Between, BridgeProcess) {
    let between = Between::nowhere();
    let port = between.port.to_string();
    let announced = ["--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", &port];
    let server = RedisServer::start_in_cluster(&announced);
    cmd("CLUSTER").arg(&["ADDSLOTSRANGE", "0", "16383"]).exec(&mut server.connect()).unwrap();
    between.lead_to(server.port);
    let url = format!("redis+cluster://127.0.0.1:{port}");
    let bridge = BridgeProcess::start(&["--store", &url, "--store-timeout-ms", "2000"]);
    within(Duration::from_secs(10), || ask(bridge.address, "POST", CALLS[2].0, CALLS[2].1).starts_with("HTTP/1.1 200"));
    (server, between, bridge)
}

/// What a cluster says while it moves is followed or waited for, and the client notices nothing.
#[test]
fn a_cluster_that_refers_elsewhere_or_asks_for_patience_is_followed() {
    let (server, between, bridge) = cluster_stage();
    let own = format!("3999 127.0.0.1:{}", between.port);
    for refusal in [
        format!("MOVED {own}"),
        format!("ASK {own}"),
        "TRYAGAIN Multiple keys request during rehashing of slot".to_owned(),
        "CLUSTERDOWN The cluster is down".to_owned(),
        "LOADING Redis is loading the dataset in memory".to_owned(),
        "MASTERDOWN Link with MASTER is down".to_owned(),
        "READONLY You can't write against a read only replica.".to_owned(),
    ] {
        for (path, body) in CALLS {
            let before = (counter(&server), records(&server));
            between.set(Fault::Once(format!("-{refusal}\r\n").into()));
            let answer = ask(bridge.address, "POST", path, body);
            assert!(answer.starts_with("HTTP/1.1 200"), "{path} {refusal}: {answer}");
            let done = i64::from(path == CALLS[4].0);
            assert_eq!(counter(&server), before.0 + done, "{path} {refusal}");
            assert_eq!(records(&server), before.1 + u64::from(path == CALLS[2].0), "{path} {refusal}");
        }
    }
}

/// Here the client asks again by itself. A count notices that it is the same call; a purge may come twice, which purges once.
#[test]
fn a_cluster_that_breaks_off_counts_once() {
    let (server, between, bridge) = cluster_stage();
    for _ in 0..3 {
        let before = counter(&server);
        between.set(Fault::CutOnce);
        let answer = ask(bridge.address, "POST", CALLS[4].0, CALLS[4].1);
        between.set(Fault::None);
        assert_eq!(counter(&server), before + 1, "{answer}");
    }
}
