//! Who may do what, over HTTP: tokens, scopes, namespaces, limits.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::support::{BridgeProcess, signal, within};

const GATEWAYS: &str = "gggggggggggggggg";
const PEOPLE: &str = "pppppppppppppppp";
const TOKENS: &str = "gggggggggggggggg filter shop:v1; pppppppppppppppp read shop:*";

/// One answer, with these fields in the request.
fn ask(address: SocketAddr, request: &str, fields: &str, body: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let length = body.len();
    let head =
        format!("{request} HTTP/1.1\r\nhost: b\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n");
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn bearer(secret: &str) -> String {
    format!("authorization: Bearer {secret}\r\n")
}

fn lookup(namespace: &str) -> String {
    format!(r#"{{"namespace":"{namespace}","key":"k","tags":[]}}"#)
}

#[test]
fn a_token_does_what_its_scopes_say_where_its_namespaces_say() {
    let bridge = BridgeProcess::start_with(&[], &[("ROUTECACHE_TOKENS", TOKENS)]);
    let status = |request: &str, fields: &str, body: &str| {
        let answer = ask(bridge.address, request, fields, body);
        assert!(answer.contains("routecache-bridge: 1"), "{answer}");
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let (look, here, elsewhere) = ("POST /v1/lookup", lookup("shop:v1"), lookup("stock:v1"));
    assert_eq!(status(look, &bearer(GATEWAYS), &here), "200");
    assert_eq!(status(look, &bearer(GATEWAYS), &elsewhere), "403");
    assert_eq!(status(look, &bearer(PEOPLE), &here), "403");
    for nobody in ["", &bearer("gggggggggggggggh"), "authorization: Basic Z2c6Z2c=\r\n", &bearer(GATEWAYS).repeat(2)] {
        assert_eq!(status(look, nobody, &here), "401", "{nobody}");
    }
    assert!(ask(bridge.address, look, "", &here).contains("www-authenticate: Bearer"));
    assert_eq!(status("GET /metrics", &bearer(GATEWAYS), ""), "403");
    assert_eq!(status("GET /metrics", &bearer(PEOPLE), ""), "200");
    assert_eq!(status("GET /v1/stats", "", ""), "401");
    assert_eq!(status("GET /healthz", "", ""), "200");
    assert_eq!(status("GET /readyz", "", ""), "200");
    let log = bridge.log();
    assert!(log.contains("no token, or none of ours") && !log.contains(GATEWAYS), "{log}");
}

#[test]
fn tokens_are_read_again_on_sighup_and_a_mistake_leaves_them_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("gggggggggggggggg filter *");
    let bridge = BridgeProcess::start(&["--tokens-file", file.to_str().unwrap()]);
    let allows =
        |secret| ask(bridge.address, "POST /v1/lookup", &bearer(secret), &lookup("n")).starts_with("HTTP/1.1 200");
    let ready = || ask(bridge.address, "GET /readyz", "", "");
    assert!(allows(GATEWAYS) && !allows(PEOPLE));
    write("# rotated\npppppppppppppppp filter *");
    signal(&bridge.child, "-HUP");
    within(Duration::from_secs(5), || allows(PEOPLE));
    assert!(!allows(GATEWAYS));
    for mistake in ["", "pppppppppppppppp", "gggggggggggggggg all *"] {
        write(mistake);
        signal(&bridge.child, "-HUP");
        within(Duration::from_secs(5), || ready().contains("degraded: settings: "));
        assert!(ready().starts_with("HTTP/1.1 200") && allows(PEOPLE) && !allows(GATEWAYS), "{mistake}");
        write("pppppppppppppppp filter *");
        signal(&bridge.child, "-HUP");
        within(Duration::from_secs(5), || ready().ends_with("\r\n\r\nready\n"));
    }
    assert!(!bridge.log().contains(PEOPLE));
}

#[test]
fn an_admin_place_of_its_own_leaves_the_other_to_gateways() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let bridge = BridgeProcess::start(&["--admin-listen", &format!("unix:{}", socket.display())]);
    let here = |request: &str, body: &str| ask(bridge.address, request, "", body);
    let there = |request: &str, body: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let length = body.len();
        let head = format!("{request} HTTP/1.1\r\nhost: b\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(here("POST /v1/lookup", &lookup("n")).starts_with("HTTP/1.1 200"));
    assert!(here("GET /metrics", "").starts_with("HTTP/1.1 404"));
    assert!(there("GET /metrics", "").starts_with("HTTP/1.1 200"));
    assert!(there("POST /v1/lookup", &lookup("n")).starts_with("HTTP/1.1 404"));
    for health in ["GET /healthz", "GET /readyz"] {
        assert!(here(health, "").starts_with("HTTP/1.1 200") && there(health, "").starts_with("HTTP/1.1 200"));
    }
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_address_that_calls_too_often_is_told_to_wait() {
    let bridge = BridgeProcess::start(&["--max-rate", "20"]);
    let answers: Vec<_> = (0..60).map(|_| ask(bridge.address, "POST /v1/lookup", "", &lookup("n"))).collect();
    let refused = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 429")).count();
    assert!((1..=40).contains(&refused), "{refused}");
    assert!(answers.last().unwrap().contains("retry-after: 1") || refused < 40);
    assert!(ask(bridge.address, "GET /healthz", "", "").starts_with("HTTP/1.1 200"));
    std::thread::sleep(Duration::from_millis(200));
    assert!(ask(bridge.address, "POST /v1/lookup", "", &lookup("n")).starts_with("HTTP/1.1 200"));
}

#[test]
fn calls_keep_their_names_for_the_log_and_for_traces() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let bridge = BridgeProcess::start(&["--log", "debug", "--log-format", "json"]);
    let named = format!("x-request-id: mine-1\r\ntraceparent: {TRACE}\r\n");
    let answer = ask(bridge.address, "POST /v1/lookup", &named, &lookup("n"));
    assert!(answer.contains("x-request-id: mine-1") && answer.contains(&format!("traceparent: {TRACE}")), "{answer}");
    let line = |log: &str| log.lines().find(|line| line.contains("\"answered\"")).map(str::to_owned);
    within(Duration::from_secs(5), || line(&bridge.log()).is_some());
    let line: serde_json::Value = serde_json::from_str(&line(&bridge.log()).unwrap()).unwrap();
    assert_eq!((&line["span"]["id"], &line["span"]["trace"]), (&"mine-1".into(), &TRACE.into()), "{line}");
    assert_eq!((&line["call"], &line["outcome"]), (&"lookup".into(), &"miss".into()));
    let nameless = ask(bridge.address, "POST /v1/lookup", "traceparent: 00-zz\r\n", &lookup("n"));
    assert!(nameless.contains("x-request-id: ") && !nameless.contains("traceparent"), "{nameless}");
}

#[test]
fn the_figures_tell_what_came_of_each_call() {
    let bridge = BridgeProcess::start(&[]);
    for _ in 0..3 {
        ask(bridge.address, "POST /v1/lookup", "", &lookup("n"));
    }
    ask(bridge.address, "POST /v1/lookup", "", "{}");
    ask(bridge.address, "POST /v1/purge", "", r#"{"namespace":"n","tags":["a","b"]}"#);
    let text = ask(bridge.address, "GET /metrics", "", "");
    for line in [
        r#"routecache_bridge_calls_total{call="lookup",outcome="miss"} 3"#,
        r#"routecache_bridge_calls_total{call="lookup",outcome="malformed"} 1"#,
        r#"routecache_bridge_call_duration_seconds_count{call="lookup"} 4"#,
        "routecache_bridge_purged_tags_total 2",
        "routecache_bridge_store_up 1",
        "routecache_bridge_store_breaker_open 0",
        "routecache_bridge_calls_under_way 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} in\n{text}");
    }
    let stats = ask(bridge.address, "GET /v1/stats", "", "");
    let stats: serde_json::Value = serde_json::from_str(stats.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((&stats["lookups"]["miss"], &stats["purges"]), (&3.into(), &1.into()), "{stats}");
    assert_eq!(stats["store"]["answers"], true);
}
