//! A Redis that is full, by each of `maxmemory`'s policies: whatever it throws out or refuses, what is served is right (C6),
//! and every purge that was acknowledged holds (C5).

use redis::cmd;

use crate::process::ask;
use crate::support::{BridgeProcess, RedisServer};

fn store(bridge: &BridgeProcess, lookup: &str, key: usize, text: &str) -> String {
    let ticket = lookup.split_once(r#""ticket":"#).unwrap().1.split_inclusive('}').next().unwrap();
    let head = format!(r#"{{"namespace":"n","key":"k{key}","tags":["a{key}"],"ticket":{ticket},"keep_ms":60000}}"#);
    ask(bridge.address, "POST", "/v1/store", &format!("{head}\n{text} {}", "x".repeat(100_000)))
}

fn lookup(bridge: &BridgeProcess, key: usize) -> String {
    ask(bridge.address, "POST", "/v1/lookup", &format!(r#"{{"namespace":"n","key":"k{key}","tags":["a{key}"]}}"#))
}

fn purge(bridge: &BridgeProcess, key: usize) -> String {
    ask(bridge.address, "POST", "/v1/purge", &format!(r#"{{"namespace":"n","tags":["a{key}"]}}"#))
}

fn under_pressure(policy: &str) {
    let server = RedisServer::start_with(&["--maxmemory", "5mb", "--maxmemory-policy", policy]);
    let bridge = BridgeProcess::start(&["--store", &server.url(), "--store-compression", "off"]);
    let (mut hits, mut purged) = (0, [None; 60]);
    for round in 0..300 {
        // Every key comes again soon after, while it is still there, and once more when it may have been evicted.
        let key = (round / 2 + if round % 2 == 0 { 0 } else { 55 }) % 60;
        let answer = lookup(&bridge, key);
        if let Some((_, version)) = answer.split_once("version ") {
            let stored: usize = version.split(' ').next().unwrap().parse().unwrap();
            assert!(Some(stored) > purged[key], "round {round} served what round {stored} stored");
            hits += 1;
        }
        let stored = store(&bridge, &answer, key, &format!("version {round}"));
        assert!(stored.starts_with("HTTP/1.1 200"), "{stored}");
        if round % 3 == 0 {
            assert!(purge(&bridge, key).starts_with("HTTP/1.1 200"));
            purged[key] = Some(round);
        }
    }
    assert!(hits > 0);
    let evicted: String = cmd("INFO").arg("stats").query(&mut server.connect()).unwrap();
    let evicted = evicted.lines().find_map(|line| line.strip_prefix("evicted_keys:")).unwrap();
    assert!(evicted.trim().parse::<u64>().unwrap() > 0, "the pressure was real");
}

#[test]
fn under_allkeys_lru_nothing_purged_is_served() {
    under_pressure("allkeys-lru");
}

#[test]
fn under_allkeys_lfu_nothing_purged_is_served() {
    under_pressure("allkeys-lfu");
}

/// Logs and epochs go as soon as entries do.
#[test]
fn under_allkeys_random_nothing_purged_is_served() {
    under_pressure("allkeys-random");
}

#[test]
fn under_volatile_ttl_nothing_purged_is_served() {
    under_pressure("volatile-ttl");
}

#[test]
fn under_noeviction_purges_go_on_and_nothing_new_is_stored() {
    let server = RedisServer::start_with(&["--maxmemory", "5mb", "--maxmemory-policy", "noeviction"]);
    let bridge = BridgeProcess::start(&["--store", &server.url(), "--store-compression", "off"]);
    let first = ask(bridge.address, "POST", "/v1/feed", r#"{"namespace":"n","hold_ms":0}"#);
    let cursor = first.split(r#""cursor":""#).nth(1).unwrap().split('"').next().unwrap();
    let room =
        (0..100).take_while(|key| store(&bridge, &lookup(&bridge, *key), *key, "version 1").contains("stored")).count();
    assert!((2..100).contains(&room), "{room}");
    let set = |room: &str| cmd("CONFIG").arg("SET").arg("maxmemory").arg(room).exec(&mut server.connect()).unwrap();
    set("1mb"); // what isn't an entry needs next to no room, and would find some
    let answer = store(&bridge, &lookup(&bridge, room), room, "version 1");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("full"), "a miss, not an error: {answer}");
    let keys = |method, path| ask(bridge.address, method, path, "x");
    assert!(keys("PUT", "/v1/keys/n/mine").starts_with("HTTP/1.1 507"));

    let purged = purge(&bridge, 0);
    assert!(purged.starts_with("HTTP/1.1 200"), "{purged}");
    assert!(!lookup(&bridge, 0).contains("version"));
    assert!(lookup(&bridge, 1).contains("version 1"), "what is there is served on");
    let poll = format!(r#"{{"namespace":"n","hold_ms":0,"cursor":"{cursor}"}}"#);
    let heard = ask(bridge.address, "POST", "/v1/feed", &poll);
    assert!(heard.contains("joined") && heard.contains(r#""tags":["a0"]"#), "{heard}");
    assert!(ask(bridge.address, "GET", "/readyz", "").starts_with("HTTP/1.1 200"));

    set("10mb");
    assert!(store(&bridge, &lookup(&bridge, 0), 0, "version 2").contains("stored"));
    assert!(lookup(&bridge, 0).contains("version 2"));
}
