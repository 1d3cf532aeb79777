//! A replica that lacks what its master acknowledged becomes the master: the group begins anew, and nothing comes back.

use std::time::Duration;

use redis::cmd;

use crate::process::ask;
use crate::support::{BridgeProcess, RedisServer, Way, within};

pub const LOOKUP: (&str, &str) = ("/v1/lookup", r#"{"namespace":"n","key":"k","tags":["a"]}"#);
pub const PURGE: (&str, &str) = ("/v1/purge", r#"{"namespace":"n","tags":["a"]}"#);

/// A gateway's poll; with no cursor, its first.
pub fn poll(bridge: &BridgeProcess, cursor: Option<&str>) -> String {
    let cursor = cursor.map_or_else(String::new, |cursor| format!(r#","cursor":"{cursor}""#));
    ask(bridge.address, "POST", "/v1/feed", &format!(r#"{{"namespace":"n","hold_ms":0{cursor}}}"#))
}

pub fn cursor(answer: &str) -> String {
    answer.split(r#""cursor":""#).nth(1).unwrap().split('"').next().unwrap().to_owned()
}

pub fn fill(bridge: &BridgeProcess) {
    let miss = ask(bridge.address, "POST", LOOKUP.0, LOOKUP.1);
    let ticket = miss.split(r#""ticket":"#).nth(1).unwrap().split_inclusive('}').next().unwrap().to_owned();
    let head = format!(r#"{{"namespace":"n","key":"k","tags":["a"],"ticket":{ticket},"keep_ms":60000}}"#);
    assert!(ask(bridge.address, "POST", "/v1/store", &format!("{head}\nold")).contains("stored"));
    assert!(is_held(bridge));
}

pub fn is_held(bridge: &BridgeProcess) -> bool {
    let answer = ask(bridge.address, "POST", LOOKUP.0, LOOKUP.1);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.contains(r#""hit""#)
}

/// Nobody is left who knows of the purge: a program asked for it, and the gateways hadn't polled yet.
#[test]
fn a_purge_that_only_the_dead_master_had_is_not_forgotten() {
    let mut master = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let way = Way::to(master.port);
    let bridge = BridgeProcess::start(&["--store", &format!("redis://127.0.0.1:{}", way.port)]);
    let heard = cursor(&poll(&bridge, None));
    fill(&bridge);
    let in_step = || {
        let info: String = cmd("INFO").arg("replication").query(&mut replica.connect()).unwrap();
        let entries: usize = cmd("DBSIZE").query(&mut replica.connect()).unwrap();
        info.contains("master_link_status:up")
            && entries == cmd("DBSIZE").query::<usize>(&mut master.connect()).unwrap()
    };
    within(Duration::from_secs(20), in_step);
    cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut replica.connect()).unwrap(); // from here on it hears no more
    let purged = ask(bridge.address, "POST", PURGE.0, PURGE.1);
    assert!(purged.starts_with("HTTP/1.1 200"), "{purged}");
    assert!(!is_held(&bridge));

    way.lead_to(replica.port);
    master.kill();
    let mut told = String::new();
    within(Duration::from_secs(10), || {
        told = poll(&bridge, Some(&heard));
        told.starts_with("HTTP/1.1 200")
    });
    assert!(told.contains(r#""continuity":"lost""#), "the gateway drops what it holds: {told}");
    assert!(!is_held(&bridge), "and the group's entries are void");
    fill(&bridge);
    assert!(poll(&bridge, Some(&cursor(&told))).contains("joined"), "once");
}
