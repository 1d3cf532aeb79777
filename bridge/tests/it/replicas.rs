//! Replicas for reads: entries' bytes come from there, and everything that decides whether they hold from the master.

use std::time::Duration;

use redis::cmd;

use crate::process::ask;
use crate::support::{BridgeProcess, RedisServer, within};

const LOOKUP: (&str, &str) = ("/v1/lookup", r#"{"namespace":"n","key":"k","tags":["a"]}"#);
const LEASED: (&str, &str) =
    ("/v1/lookup", r#"{"namespace":"n","key":"k","tags":["a"],"lease":{"holder":"1","ttl_ms":1000}}"#);

struct Stage {
    master: RedisServer,
    replica: RedisServer,
    bridge: BridgeProcess,
}

impl Stage {
    fn set() -> Self {
        let master = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
        let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
        let read = ["--store", &master.url(), "--store-replicas", &replica.url(), "--store-timeout-ms", "1000"];
        let bridge = BridgeProcess::start(&read);
        let stage = Self { master, replica, bridge };
        within(Duration::from_secs(20), || stage.is_in_step());
        stage
    }

    fn ask(&self, (path, body): (&str, &str)) -> String {
        ask(self.bridge.address, "POST", path, body)
    }

    fn fill(&self, text: &str) {
        let miss = self.ask(LOOKUP);
        let ticket = miss.split(r#""ticket":"#).nth(1).unwrap().split_inclusive('}').next().unwrap().to_owned();
        let head = format!(r#"{{"namespace":"n","key":"k","tags":["a"],"ticket":{ticket},"keep_ms":60000}}"#);
        assert!(self.ask(("/v1/store", &format!("{head}\n{text}"))).contains("stored"));
    }

    fn purge(&self) {
        assert!(self.ask(("/v1/purge", r#"{"namespace":"n","tags":["a"]}"#)).starts_with("HTTP/1.1 200"));
    }

    fn is_in_step(&self) -> bool {
        let info: String = cmd("INFO").arg("replication").query(&mut self.replica.connect()).unwrap();
        let acknowledged: u32 = cmd("WAIT").arg(1).arg(100).query(&mut self.master.connect()).unwrap();
        info.contains("master_link_status:up") && acknowledged == 1
    }
}

/// How often each command reached a server from outside or in a script.
pub fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats: String = cmd("INFO").arg("commandstats").query(&mut server.connect()).unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn bytes_come_from_the_replica_and_what_decides_from_the_master() {
    let stage = Stage::set();
    stage.fill("one");
    within(Duration::from_secs(20), || stage.is_in_step());
    let on = |server: &RedisServer| ["get", "evalsha", "mget"].map(|command| calls(server, command));
    // Until its connection to the replica stands, and the entry is there, the bridge does without.
    within(Duration::from_secs(20), || {
        let (master, replica) = (calls(&stage.master, "get"), calls(&stage.replica, "get"));
        stage.ask(LOOKUP);
        calls(&stage.master, "get") == master && calls(&stage.replica, "get") > replica
    });
    let (master, replica) = (on(&stage.master), on(&stage.replica));
    for call in [LOOKUP, LEASED, LOOKUP] {
        assert!(stage.ask(call).ends_with("one"));
    }
    let (master_now, replica_now) = (on(&stage.master), on(&stage.replica));
    assert_eq!(master_now[0] - master[0], 0, "the master sends no bytes");
    assert_eq!(master_now[1] - master[1], 6, "but the log and the entry's mark");
    assert_eq!(master_now[2] - master[2], 3, "and the epochs");
    assert_eq!(replica_now[0] - replica[0], 3, "the replica sends the bytes");
    assert_eq!((replica_now[1] - replica[1], replica_now[2] - replica[2]), (0, 0), "and is asked nothing else");
}

/// It still has what was purged, and none of what was stored since.
#[test]
fn a_replica_that_lags_brings_nothing_back() {
    let stage = Stage::set();
    stage.fill("one");
    within(Duration::from_secs(20), || stage.is_in_step());
    cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec(&mut stage.replica.connect()).unwrap();
    assert!(stage.ask(LOOKUP).ends_with("one"));
    stage.purge();
    assert!(stage.ask(LOOKUP).contains(r#""miss""#));
    stage.fill("two");
    assert!(stage.ask(LOOKUP).ends_with("two"), "the master's, since the replica's is another");
    assert!(stage.ask(LEASED).ends_with("two"));
}

#[test]
fn a_replica_that_hangs_or_dies_is_done_without() {
    let mut stage = Stage::set();
    stage.fill("one");
    stage.replica.signal("-STOP");
    assert!(stage.ask(LOOKUP).ends_with("one"));
    stage.replica.signal("-CONT");
    stage.replica.kill();
    for _ in 0..3 {
        assert!(stage.ask(LOOKUP).ends_with("one"));
    }
    stage.purge();
    assert!(stage.ask(LOOKUP).contains(r#""miss""#));
    assert!(ask(stage.bridge.address, "GET", "/readyz", "").starts_with("HTTP/1.1 200"));
}
