//! Webhooks, over HTTP, with real signatures.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ring::hmac;

use crate::process::ask;
use crate::support::{BridgeProcess, RedisServer, signal, within};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NEXT: &str = "fedcba9876543210fedcba9876543210";

/// A bridge with the hooks of this text, whose secrets are in the file `secret` beside it.
fn bridge(folder: &Path, hooks: &str, arguments: &[&str]) -> BridgeProcess {
    std::fs::write(folder.join("secret"), SECRET).unwrap();
    let config = folder.join("bridge.toml");
    std::fs::write(&config, hooks.replace("SECRET", folder.join("secret").to_str().unwrap())).unwrap();
    BridgeProcess::start(&[&["--config", config.to_str().unwrap()], arguments].concat())
}

fn hex(secret: &str, signed: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// A delivery with these fields; its whole answer.
fn deliver(address: SocketAddr, hook: &str, fields: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    let head = format!(
        "POST /v1/hooks/{hook} HTTP/1.1\r\nhost: b\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn github(secret: &str, body: &[u8]) -> String {
    format!("X-Hub-Signature-256: sha256={}\r\n", hex(secret, body))
}

fn standard(secret: &str, id: &str, sent_s: u64, body: &[u8]) -> String {
    let signed = [format!("{id}.{sent_s}.").as_bytes(), body].concat();
    format!("webhook-id: {id}\r\nwebhook-timestamp: {sent_s}\r\nwebhook-signature: v1,{}\r\n", hex(secret, &signed))
}

/// An entry with these tags in `shop:v1`.
fn fill(address: SocketAddr, tags: &str) {
    let missed = ask(address, "POST", "/v1/lookup", r#"{"namespace":"shop:v1","key":"k","tags":[]}"#);
    let ticket = missed.split("\"ticket\":").nth(1).unwrap().trim_end().strip_suffix('}').unwrap();
    let head = format!(r#"{{"namespace":"shop:v1","key":"k","tags":{tags},"ticket":{ticket},"keep_ms":60000}}"#);
    assert!(ask(address, "POST", "/v1/store", &(head + "\nbody")).contains("stored"));
    assert!(is_held(address));
}

fn is_held(address: SocketAddr) -> bool {
    ask(address, "POST", "/v1/lookup", r#"{"namespace":"shop:v1","key":"k","tags":[]}"#).contains(r#""outcome":"hit""#)
}

fn events(address: SocketAddr, outcome: &str) -> u64 {
    let name = format!(r#"routecache_bridge_events_total{{source="webhook",outcome="{outcome}"}} "#);
    let text = ask(address, "GET", "/metrics", "");
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

const HOOKS: &str = r#"
[hooks.cms]
namespace = "shop:v1"
secret_file = "SECRET"
tags = ["{/model}:{/entry/id}", "section:{/entry/sections/*/slug}"]

[hooks.github]
namespace = "shop:v1"
secret_file = "SECRET"
signature = "body"
tags = ["pages"]
"#;

const DISH: &[u8] = br#"{"model":"dish","entry":{"id":7,"sections":[{"slug":"soups"},{"slug":"pies"}]}}"#;

fn a_signed_delivery_purges(store: &str) {
    let folder = tempfile::tempdir().unwrap();
    let bridge = bridge(folder.path(), HOOKS, &["--store", store]);
    let at = bridge.address;
    for (number, tag) in ["dish:7", "section:soups", "section:pies"].into_iter().enumerate() {
        fill(at, &format!("[\"{tag}\"]"));
        let answer = deliver(at, "cms", &standard(SECRET, &format!("msg_{number}"), now_s(), DISH), DISH);
        assert!(answer.contains("200 OK") && answer.ends_with(r#"{"outcome":"purged"}"#), "{answer}");
        assert!(!is_held(at), "{tag}");
    }
    fill(at, r#"["pages"]"#);
    assert!(deliver(at, "github", &github(SECRET, b"no json"), b"no json").contains("purged"));
    assert!(!is_held(at));
    // What names nothing purges nothing, and is no mistake: senders try their hooks so.
    fill(at, r#"["dish:7"]"#);
    assert!(deliver(at, "cms", &standard(SECRET, "ping", now_s(), b"{}"), b"{}").contains(r#"{"outcome":"nothing"}"#));
    assert!(is_held(at));
    assert_eq!((events(at, "purged"), events(at, "nothing")), (4, 1));
}

#[test]
fn a_signed_delivery_purges_what_its_templates_say_in_memory() {
    a_signed_delivery_purges("mem://");
}

#[test]
fn a_signed_delivery_purges_what_its_templates_say_in_redis() {
    a_signed_delivery_purges(&RedisServer::start().url());
}

#[test]
fn a_delivery_is_carried_out_once_and_only_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let bridge = bridge(folder.path(), HOOKS, &[]);
    let at = bridge.address;
    let fields = standard(SECRET, "msg_1", now_s(), DISH);
    assert!(deliver(at, "cms", &fields, DISH).contains("purged"));
    fill(at, r#"["dish:7"]"#);
    assert!(deliver(at, "cms", &fields, DISH).contains(r#"{"outcome":"repeated"}"#));
    assert!(deliver(at, "cms", &standard(SECRET, "msg_2", now_s() - 400, DISH), DISH).contains("403 Forbidden"));
    assert!(deliver(at, "cms", &standard(SECRET, "msg_3", now_s() + 400, DISH), DISH).contains("403 Forbidden"));
    assert!(is_held(at));
    assert_eq!((events(at, "repeated"), events(at, "doubtful")), (1, 2));
}

#[test]
fn what_is_forged_or_malformed_is_counted_logged_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bridge = bridge(folder.path(), HOOKS, &[]);
    let at = bridge.address;
    fill(at, r#"["dish:7","pages"]"#);
    let large = vec![b' '; (1 << 20) + 1];
    let cases = [
        ("cms", String::new(), DISH, "403", "doubtful"),
        ("cms", standard(NEXT, "m", now_s(), DISH), DISH, "403", "doubtful"),
        ("cms", standard(SECRET, "m", now_s(), b"{}"), DISH, "403", "doubtful"),
        ("cms", standard(SECRET, "m", now_s(), b"{"), b"{", "400", "malformed"),
        ("cms", standard(SECRET, "m", now_s(), b"\xff\0"), b"\xff\0", "400", "malformed"),
        ("cms", standard(SECRET, "m", now_s(), &large), &large, "413", "refused"),
        ("github", github(SECRET, b"other"), DISH, "403", "doubtful"),
        ("github", github(SECRET, DISH).repeat(2), DISH, "403", "doubtful"),
        ("nobody", github(SECRET, DISH), DISH, "404", "refused"),
        ("..%2fpurge", github(SECRET, DISH), DISH, "404", "refused"),
    ];
    for (hook, fields, body, status, event) in &cases {
        let before = events(at, event);
        let answer = deliver(at, hook, fields, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{hook}: {answer}");
        assert!(answer.contains("routecache-bridge: 1") && answer.contains("x-request-id: "), "{answer}");
        assert_eq!(events(at, event), before + 1, "{event}");
    }
    assert!(ask(at, "GET", "/v1/hooks/cms", "").contains("405 Method Not Allowed"));
    assert!(is_held(at));
    let log = bridge.log();
    assert!(log.contains("a delivery to a webhook is refused") && !log.contains(SECRET), "{log}");
}

#[test]
fn a_secret_is_changed_without_a_lost_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let bridge = bridge(folder.path(), HOOKS, &[]);
    let at = bridge.address;
    let taken = |secret: &str| deliver(at, "github", &github(secret, b"{}"), b"{}").contains("200 OK");
    assert!(taken(SECRET) && !taken(NEXT));
    let secrets = |text: &str| {
        std::fs::write(folder.path().join("secret"), text).unwrap();
        signal(&bridge.child, "-HUP");
    };
    secrets(&format!("{SECRET}\n{NEXT}\n"));
    within(Duration::from_secs(10), || taken(NEXT));
    assert!(taken(SECRET), "both count until the sender has changed");
    secrets("short");
    within(Duration::from_secs(10), || ask(at, "GET", "/readyz", "").contains("degraded: settings: hook `cms`"));
    assert!(taken(SECRET) && taken(NEXT), "a mistake changes nothing");
    secrets(NEXT);
    within(Duration::from_secs(10), || !taken(SECRET));
    assert!(taken(NEXT));
}

#[test]
fn a_place_of_their_own_answers_webhooks_only_and_needs_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("hooks.sock");
    let place = format!("unix:{}", socket.display());
    let bridge = bridge(folder.path(), HOOKS, &["--hooks-listen", &place, "--admin-listen", "127.0.0.1:0"]);
    let at_hooks = |method: &str, path: &str, fields: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: b\r\nconnection: close\r\ncontent-length: 2\r\n{fields}");
        stream.write_all((head + "\r\n{}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(at_hooks("POST", "/v1/hooks/github", &github(SECRET, b"{}")).contains("purged"));
    assert!(at_hooks("POST", "/v1/hooks/github", "").contains("403 Forbidden"));
    for (method, path) in [("POST", "/v1/purge"), ("POST", "/v1/lookup"), ("GET", "/metrics"), ("GET", "/v1/stats")] {
        assert!(at_hooks(method, path, "").contains("404 Not Found"), "{path}");
    }
    assert!(at_hooks("GET", "/healthz", "").contains("200 OK"));
    assert!(
        deliver(bridge.address, "github", &github(SECRET, b"{}"), b"{}").contains("404"),
        "that is the gateways' place"
    );
}

#[test]
fn hooks_that_make_no_sense_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("bridge.toml");
    let told = |text: &str, arguments: &[&str]| {
        std::fs::write(&config, text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_routecache-bridge"));
        command.arg("--config").arg(&config).arg("--check-config").args(arguments).env("HOOK", "hush");
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{text}");
        String::from_utf8(output.stderr).unwrap()
    };
    let hook = |more: &str| format!("[hooks.a]\nnamespace = 'n'\n{more}");
    let short = told(&hook("secret_env = 'HOOK'\ntags = ['a']"), &[]);
    assert!(short.contains("hook `a`: a secret has fewer than 16 bytes") && !short.contains("hush"), "{short}");
    assert!(told(&hook("secret_env = 'NOT_SET'\ntags = ['a']"), &[]).contains("NOT_SET isn't set"));
    assert!(told(&hook("secret_env = 'HOOK'\ntag = 'a'"), &[]).contains("bridge.toml:4: unknown field `tag`"));
    assert!(told("", &["--hooks-listen", "0.0.0.0:1"]).contains("the file has no `[hooks.NAME]`"));
}

/// The hooks of the guide, as they stand there.
#[test]
fn the_guides_hooks_purge_what_it_says() {
    let guide = include_str!("../../../docs/bridge-events.md");
    let config = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = config.replace("secret_env = \"CMS_HOOK_SECRET\"", "secret_file = \"SECRET\"");
    let bridge = bridge(folder.path(), &config.replace("/run/secrets/pages-hook", "SECRET"), &[]);
    let at = bridge.address;
    let body = br#"{"model":"dish","entry":{"id":7,"path":"/menu","sections":[{"slug":"soups"}]}}"#;
    for tag in ["dish:7", "section:soups"] {
        fill(at, &format!("[\"{tag}\"]"));
        assert!(deliver(at, "cms", &standard(SECRET, tag, now_s(), body), body).contains("purged"), "{}", bridge.log());
        assert!(!is_held(at), "{tag}");
    }
    fill(at, r#"["event:release"]"#);
    let fields = github(SECRET, b"") + "x-github-event: release\r\n";
    assert!(deliver(at, "pages", &fields, b"").contains("purged"));
    assert!(!is_held(at));
}
