//! Purges that are told to others, in a real Redis.

use std::time::{Duration, Instant};

use redis::{Commands, ControlFlow, PubSubCommands};
use serde_json::Value;

use crate::process::ask;
use crate::stores::minimal_acl;
use crate::support::{BridgeProcess, RedisServer, owned, signal, within};

const PURGE: &str = r#"{"namespace":"n","tags":["a","b"],"patterns":[{"key":"x*"}]}"#;

fn metric(bridge: &BridgeProcess, name: &str) -> u64 {
    let text = ask(bridge.address, "GET", "/metrics", "");
    let name = format!("routecache_bridge_{name} ");
    text.lines().find_map(|line| line.strip_prefix(&*name)).map_or(0, |count| count.parse().unwrap())
}

fn purge(bridge: &BridgeProcess) -> Value {
    let answer = ask(bridge.address, "POST", "/v1/purge", PURGE);
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap_or_else(|_| panic!("{answer}"))
}

/// What an application hears on a channel: the first message.
fn hear(server: &RedisServer, channel: &'static str) -> std::thread::JoinHandle<String> {
    let mut connection = server.connect();
    let heard = std::thread::spawn(move || {
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        connection.subscribe(channel, |message| ControlFlow::Break(message.get_payload::<String>().unwrap())).unwrap()
    });
    let listening = || {
        let counts: (String, u64) =
            redis::cmd("PUBSUB").arg("NUMSUB").arg(channel).query(&mut server.connect()).unwrap();
        counts.1 >= 1
    };
    within(Duration::from_secs(10), listening);
    heard
}

fn items(server: &RedisServer, key: &str) -> Vec<Value> {
    let read: redis::streams::StreamRangeReply = server.connect().xrange_all(key).unwrap();
    read.ids.iter().map(|item| serde_json::from_str(&item.get::<String>("purged").unwrap()).unwrap()).collect()
}

#[test]
fn a_purge_is_told_on_the_channel_and_in_the_stream_once_it_is_in_the_log() {
    let server = RedisServer::start();
    let bridge = BridgeProcess::start(&[
        "--store",
        &server.url(),
        "--publish-channel",
        "purged",
        "--publish-stream",
        "purged-items",
    ]);
    let heard = hear(&server, "purged");
    let reply = purge(&bridge);
    let told: Value = serde_json::from_str(&heard.join().unwrap()).unwrap();
    let told_of = &told["purged"];
    assert_eq!((&told_of["position"], &told_of["era"]), (&reply["position"], &reply["era"]));
    assert_eq!(told_of["namespace"], "n");
    assert_eq!(told_of["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(told_of["patterns"], serde_json::json!([{ "key": "x*" }]));
    within(Duration::from_secs(10), || items(&server, "purged-items") == [told.clone()]);
    within(Duration::from_secs(10), || metric(&bridge, r#"published_total{to="publish-stream",outcome="told"}"#) == 1);
    // A dry run isn't told.
    ask(bridge.address, "POST", "/v1/purge", r#"{"namespace":"n","tags":["a"],"dry_run":true}"#);
    assert_eq!(metric(&bridge, r#"published_total{to="publish-channel",outcome="told"}"#), 1);
}

/// Two bridges listen where they tell.
#[test]
fn what_bridges_tell_is_no_order_for_them() {
    let server = RedisServer::start();
    let url = server.url();
    let place = ["--publish-channel", "p", "--publish-stream", "q", "--events-channel", "p", "--events-stream", "q"];
    let start = || BridgeProcess::start(&[&["--store", &url][..], &place].concat());
    let bridges = [start(), start()];
    let order = r#"{"namespace":"n","tags":["a"]}"#;
    let heard = || server.connect().publish::<_, _, u64>("p", r#"{"purged":0}"#).unwrap() == 2;
    within(Duration::from_secs(10), heard);
    let _: String = server.connect().xadd("q", "*", &[("order", order)]).unwrap();
    let of = |name: &str| bridges.iter().map(|bridge| metric(bridge, name)).sum::<u64>();
    within(Duration::from_secs(10), || of(r#"events_total{source="stream",outcome="purged"}"#) >= 1);
    within(Duration::from_secs(10), || of(r#"events_total{source="stream",outcome="report"}"#) >= 1);
    within(Duration::from_secs(10), || of(r#"events_total{source="channel",outcome="report"}"#) >= 4);
    // Both may have taken the item, one of them after the other had not yet said that it is done; but told it is once each.
    let (purged, told) = (
        r#"events_total{source="stream",outcome="purged"}"#,
        r#"published_total{to="publish-channel",outcome="told"}"#,
    );
    within(Duration::from_secs(10), || of(told) == of(purged));
    assert!(of(purged) <= 2, "it doesn't go round");
    for source in ["channel", "stream"] {
        assert_eq!(of(&format!(r#"events_total{{source="{source}",outcome="malformed"}}"#)), 0);
    }
}

#[test]
fn the_stream_keeps_as_many_as_it_may() {
    let server = RedisServer::start();
    let arguments = ["--store", &server.url(), "--publish-stream", "q", "--publish-stream-max", "10"];
    let bridge = BridgeProcess::start(&arguments);
    for _ in 0..250 {
        purge(&bridge);
    }
    within(Duration::from_secs(20), || {
        metric(&bridge, r#"published_total{to="publish-stream",outcome="told"}"#) == 250
    });
    assert!(items(&server, "q").len() <= 150, "about ten: Redis drops nodes of a hundred");
}

/// The user may purge, and write neither channel nor stream.
#[test]
fn what_can_not_be_told_is_counted_and_delays_no_purge() {
    let server = RedisServer::start();
    let acl = |words: &[String]| redis::cmd("ACL").arg(words).exec(&mut server.connect()).unwrap();
    acl(&minimal_acl());
    let url = format!("redis://routecache:secret@127.0.0.1:{}", server.port);
    let mut bridge = BridgeProcess::start(&[
        "--store",
        &url,
        "--publish-channel",
        "p",
        "--publish-stream",
        "q",
        "--drain-ms",
        "10000",
    ]);
    purge(&bridge);
    for to in ["publish-channel", "publish-stream"] {
        let failed = format!(r#"published_total{{to="{to}",outcome="failed"}}"#);
        within(Duration::from_secs(20), || metric(&bridge, &failed) == 1);
    }
    assert!(ask(bridge.address, "GET", "/readyz", "").contains("degraded: publish-channel: purges can't be told"));
    let began = Instant::now();
    (0..20).for_each(|_| drop(purge(&bridge)));
    assert!(began.elapsed() < Duration::from_secs(5), "each failure takes 400 ms: {:?}", began.elapsed());
    let log = bridge.log();
    assert_eq!(log.matches("purges can't be told").count(), 2, "of changes, not of each: {log}");
    // It may now: with what the guide says that it takes.
    acl(&owned(&["SETUSER", "routecache", "&p", "+publish", "~q", "+xadd"]));
    within(Duration::from_secs(20), || ask(bridge.address, "GET", "/readyz", "").ends_with("\r\nready\n"));
    let of = |outcome: &str| metric(&bridge, &format!(r#"published_total{{to="publish-stream",outcome="{outcome}"}}"#));
    within(Duration::from_secs(20), || of("told") + of("failed") == 21);
    // What was purged before the signal to stop is told before the end.
    let before = items(&server, "q").len();
    purge(&bridge);
    signal(&bridge.child, "-TERM");
    assert!(bridge.child.wait().unwrap().success());
    assert_eq!(items(&server, "q").len(), before + 1, "{}", bridge.log());
}
