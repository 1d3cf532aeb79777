//! Purges that applications ask for in Redis: on a channel and in a stream.

use std::time::Duration;

use redis::{Commands, cmd};

use crate::process::ask;
use crate::support::{BridgeProcess, RedisServer, within};

fn metric(bridge: &BridgeProcess, name: &str) -> u64 {
    let text = ask(bridge.address, "GET", "/metrics", "");
    text.lines().find_map(|line| line.strip_prefix(name)).and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

pub fn events(bridge: &BridgeProcess, source: &str, outcome: &str) -> u64 {
    metric(bridge, &format!(r#"routecache_bridge_events_total{{source="{source}",outcome="{outcome}"}}"#))
}

pub const ORDER: &str = r#"{"namespace":"n","tags":["a"],"patterns":[{"key":"x*"}]}"#;

#[test]
fn a_message_on_the_channel_purges_and_what_makes_no_sense_is_counted() {
    let mut server = RedisServer::start();
    let bridge = BridgeProcess::start(&["--store", &server.url(), "--events-channel", "purges"]);
    let publish =
        |server: &RedisServer, text: &str| server.connect().publish::<_, _, u64>("purges", text).unwrap_or(0) == 1;
    within(Duration::from_secs(5), || publish(&server, ORDER));
    within(Duration::from_secs(5), || events(&bridge, "channel", "purged") == 1);
    assert!(server.connect().exists::<_, bool>("routecache:{n}:epoch:a").unwrap());
    for odd in ["", "{", "[]", r#"{"namespace":"n","tag":"a"}"#, "\u{0}"] {
        assert!(publish(&server, odd));
    }
    within(Duration::from_secs(5), || events(&bridge, "channel", "malformed") == 5);
    assert!(publish(&server, r#"{"namespace":"{n}","tags":["a"]}"#));
    within(Duration::from_secs(5), || events(&bridge, "channel", "refused") == 1);
    assert!(bridge.log().contains("an event is no purge order"));
    // Redis goes and comes back.
    server.kill();
    server.revive();
    within(Duration::from_secs(20), || publish(&server, ORDER));
    within(Duration::from_secs(5), || events(&bridge, "channel", "purged") == 2);
    within(Duration::from_secs(5), || ask(bridge.address, "GET", "/readyz", "").ends_with("ready\n"));
}

#[test]
fn an_item_of_the_stream_is_kept_until_a_bridge_has_purged_it() {
    let server = RedisServer::start();
    let add = |order: &str| {
        server.connect().xadd::<_, _, _, _, String>("purges", "*", &[("order", order)]).unwrap();
    };
    add(ORDER); // nobody listens yet
    let start = || BridgeProcess::start(&["--store", &server.url(), "--events-stream", "purges"]);
    let bridge = start();
    within(Duration::from_secs(5), || events(&bridge, "stream", "purged") == 1);
    add("nonsense");
    within(Duration::from_secs(5), || events(&bridge, "stream", "malformed") == 1);
    drop(bridge);
    add(ORDER);
    add(ORDER);
    let bridge = start();
    within(Duration::from_secs(5), || events(&bridge, "stream", "purged") == 2);
    let pending = || {
        cmd("XPENDING")
            .arg("purges")
            .arg("routecache")
            .query::<(u64, redis::Value, redis::Value, redis::Value)>(&mut server.connect())
            .unwrap()
            .0
    };
    within(Duration::from_secs(5), || pending() == 0);
}
