//! What a bridge answers while its Redis is in each of the states that a Redis gets into: `tests/redis_states.txt`, which the scenarios
//! with the filter take for their bridge's answers. So what docs/degradation.md says of a Redis is shown from the server to the client.
//!
//! `UPDATE_GOLDEN=1 cargo test -p routecache-bridge --test it states` writes what is found; read the difference before keeping it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use redis::cmd;

use crate::between::{Between, Fault};
use crate::process::ask;
use crate::support::{BridgeProcess, RedisServer, within};

/// How long a call to Redis may take here.
const TIMEOUT: Duration = Duration::from_millis(250);

const HEAD: &str = "\
# What a bridge answers while its Redis is in each of these states (tests/it/states.rs writes it).\n";

/// How a server of its own gets into a state.
type Begin = fn(&mut RedisServer, &Between);

const STATES: [(&str, Begin); 6] = [
    ("down", |server, _| server.kill()),
    ("silent", |server, _| server.signal("-STOP")),
    ("read-only", |server, _| cmd("REPLICAOF").arg(&["127.0.0.1", "1"]).exec(&mut server.connect()).unwrap()),
    ("full", |server, _| cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).exec(&mut server.connect()).unwrap()),
    ("LOADING", |_, between| say(between, "LOADING Redis is loading the dataset in memory")),
    ("CLUSTERDOWN", |_, between| say(between, "CLUSTERDOWN The cluster is down")),
];

fn say(between: &Between, refusal: &str) {
    between.set(Fault::Say(format!("-{refusal}\r\n").into()));
}

/// What an answer comes to: its status, and the error or the outcome that it names.
fn told(answer: &str) -> String {
    let status = answer.split(' ').nth(1).unwrap_or("nothing");
    let named = |field: &str| answer.split(&format!("\"{field}\":\"")).nth(1).and_then(|rest| rest.split('"').next());
    match (status, named("error"), named("outcome")) {
        ("200", None, Some("miss")) if !answer.contains("\"granted\"") => "200 miss without a lease".to_owned(),
        ("200", None, None | Some("miss" | "hit" | "stored" | "newer" | "released")) => "works".to_owned(),
        (status, Some(word), _) | (status, None, Some(word)) => format!("{status} {word}"),
        (status, None, None) => status.to_owned(),
    }
}

/// The calls of a gateway by name, each as it is answered. The key `held` was stored, under this ticket; a lookup of it fares as one that
/// finds nothing.
fn answers(bridge: &BridgeProcess, ticket: &str) -> [(&'static str, String); 5] {
    let store = format!(r#"{{"namespace":"n","key":"k","tags":["a"],"ticket":{ticket},"keep_ms":60000}}"#);
    let lease = r#""lease":{"holder":"1","ttl_ms":60000}"#;
    let lookup = |key: &str| format!(r#"{{"namespace":"n","key":"{key}","tags":["a"],{lease}}}"#);
    let hit = told(&ask(bridge.address, "POST", "/v1/lookup", &lookup("held")));
    let answers = [
        ("lookup", "/v1/lookup", lookup("no")),
        ("store", "/v1/store", format!("{store}\nbody")),
        ("release", "/v1/release", r#"{"namespace":"n","key":"no","holder":"1"}"#.to_owned()),
        ("purge", "/v1/purge", r#"{"namespace":"n","tags":["b"]}"#.to_owned()),
        ("feed", "/v1/feed", r#"{"namespace":"n","hold_ms":0}"#.to_owned()),
    ]
    .map(|(name, path, body)| (name, told(&ask(bridge.address, "POST", path, &body))));
    assert_eq!(answers[0].1, hit);
    answers
}

fn named(answers: &[(&str, String)]) -> String {
    answers.iter().map(|(name, answer)| format!("{name} {answer}")).collect::<Vec<_>>().join(", ")
}

#[test]
fn what_a_bridge_answers_in_each_state_of_its_redis_is_what_the_scenarios_take_it_to_be() {
    let mut lines = HEAD.to_owned();
    for (name, begin) in STATES {
        let mut server = RedisServer::start();
        let between = Between::to(server.port);
        let url = format!("redis://127.0.0.1:{}", between.port);
        let bridge = BridgeProcess::start(&["--store", &url, "--store-timeout-ms", &TIMEOUT.as_millis().to_string()]);
        let mut found = String::new();
        within(Duration::from_secs(10), || {
            found = ask(bridge.address, "POST", "/v1/lookup", r#"{"namespace":"n","key":"held","tags":["a"]}"#);
            found.contains("\"ticket\"")
        });
        let ticket = found.split_once(r#""ticket":"#).unwrap().1.split_inclusive('}').next().unwrap();
        let store = format!(r#"{{"namespace":"n","key":"held","tags":["a"],"ticket":{ticket},"keep_ms":60000}}"#);
        assert_eq!(told(&ask(bridge.address, "POST", "/v1/store", &format!("{store}\nbody"))), "works");
        let before = answers(&bridge, ticket);
        assert!(before.iter().all(|(_, answer)| answer == "works"), "{name}, before: {}", named(&before));
        begin(&mut server, &between);
        let began = Instant::now();
        let during = answers(&bridge, ticket);
        // It waits for who is silent, and for nobody else.
        assert!(name != "silent" || began.elapsed() >= TIMEOUT, "{:?}", began.elapsed());
        lines += &format!("{name}: {}\n", named(&during));
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/redis_states.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&page, &lines).unwrap();
    }
    assert_eq!(fs::read_to_string(&page).unwrap_or_default(), lines, "{}", page.display());
}
