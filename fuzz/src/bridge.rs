//! What reaches the bridge: calls, orders, deliveries, settings, and what Redis answers.

use std::cell::LazyCell;

use axum::body::Body;
use bridge_api::{FeedReply, LookupReply, PurgeReply, Refusal, ReleaseReply, StoreReply, WaitReply, decode, encode};
use http::{HeaderMap, HeaderValue, Request};
use routecache_bridge::access::Tokens;
use routecache_bridge::hooks::signature::{Check, Scheme};
use routecache_bridge::hooks::template::{Delivery, Template};
use routecache_bridge::settings::{Address, Settings};
use routecache_bridge::{Bridge, MemStore, StoreUrl, decoders};
use tower::ServiceExt;

use crate::{Target, texts};

pub(crate) const TARGETS: &[Target] = &[
    Target::new("bridge-calls", calls, || {
        let bodies = [
            (0, r#"{"namespace":"n","key":"k","tags":["a"],"lease":{"holder":"a1","ttl_ms":5}}"#),
            (
                1,
                "{\"namespace\":\"n\",\"key\":\"k\",\"tags\":[],\"ticket\":{\"at\":\"1-1-1\",\"era\":\"1\"},\"keep_ms\":9}\nbody",
            ),
            (
                2,
                r#"{"namespace":"n","tags":["a"],"urls":["https://h/p?q=1"],"patterns":[{"key":"a*"}],"dry_run":true}"#,
            ),
            (3, r#"{"namespace":"n","cursor":"1-1-1","hold_ms":0}"#),
            (4, r#"{"namespace":"n","key":"k","hold_ms":0}"#),
            (5, r#"{"namespace":"n","key":"k","holder":"a1","pass_ms":5}"#),
            (6, r#"{"namespace":"n","key":"k","body":true}"#),
        ];
        bodies.iter().map(|(path, body)| [&[*path], body.as_bytes()].concat()).collect()
    }),
    Target::new("bridge-paths", paths, || {
        texts(&[
            "P/v1/keys/n/k?ttl_ms=5&add=true",
            "O/v1/keys/n/k/increment?by=-5",
            "D/v1/keys/n?pattern=*",
            "G/v1/keys/n/%00",
        ])
    }),
    Target::new("bridge-replies", replies, || {
        texts(&[
            "{\"outcome\":\"hit\",\"ticket\":{\"at\":\"1-1-1\",\"era\":\"1\"},\"tags\":[\"a\"],\"resident_ms\":1}\nbody",
            r#"{"continuity":"joined","records":[{"position":"1-1-1","tags":["a"]}],"cursor":"1-1-1","held_ms":1,"complete":true}"#,
            r#"{"position":"1-1-1","era":"1"}"#,
            r#"{"error":"malformed","message":"no"}"#,
        ])
    }),
    Target::new("bridge-hooks", hooks, || {
        texts(&[
            "tag:{/a/*/b}\n{\"a\":[{\"b\":1}]}",
            "{/x}:{header.x}\n{\"x\":\"y\"}",
            "{/*/a}-{/*/b}\n[{\"a\":1,\"b\":true}]",
        ])
    }),
    Target::new("bridge-signatures", signatures, || {
        texts(&["v1,AAAA\nbody", "t=1614265330,v1=00\nbody", "sha256=00\nbody", "1614265330\nv1,g0hM9SsE\nbody"])
    }),
    Target::new("bridge-settings", settings, || {
        texts(&[
            "listen = ['0.0.0.0:1', 'unix:/a']\nmax_requests = 7",
            "[hooks.cms]\nnamespace = 'n'\nsecret_env = 'X'\ntags = ['{/a}']",
        ])
    }),
    Target::new("bridge-tokens", tokens, || texts(&["aaaaaaaaaaaaaaaa filter,read shop:*,a name # why; b"])),
    Target::new("bridge-urls", urls, || {
        texts(&[
            "redis://u:p@h:1/2",
            "redis+sentinel://a:1,b/main/0?sentinel_password=x",
            "mem://?bytes=1MiB",
            "unix:/a",
        ])
    }),
    Target::new("bridge-redis-entry", decoders::redis_entry, decoders::redis_entries),
    Target::new("bridge-redis-log", decoders::redis_reading, decoders::redis_readings),
];

thread_local! {
    static SERVED: LazyCell<(tokio::runtime::Runtime, Bridge)> = LazyCell::new(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        (runtime, Bridge::new(MemStore::new(1 << 20)))
    });
}

/// Whatever is asked, there is an answer that carries the mark, and the fault is never ours.
fn ask(request: Request<Body>) {
    SERVED.with(|served| {
        let (runtime, bridge) = &**served;
        let answer = runtime.block_on(bridge.router().oneshot(request)).expect("infallible");
        assert!(answer.headers().contains_key(bridge_api::MARKER));
        assert!(!answer.status().is_server_error() || answer.status() == 507, "{}", answer.status());
    });
}

fn calls(bytes: &[u8]) {
    let Some((path, body)) = bytes.split_first() else { return };
    let paths = ["lookup", "store", "purge", "feed", "wait", "release", "entry"];
    let path = paths[usize::from(*path) % paths.len()];
    // What holds its answer isn't waited for.
    let text = String::from_utf8_lossy(body);
    if matches!(path, "feed" | "wait") && !text.contains("\"hold_ms\":0}") {
        return;
    }
    ask(Request::post(format!("/v1/{path}")).body(body.to_vec().into()).expect("a request"));
}

fn paths(bytes: &[u8]) {
    let Some((method, target)) = bytes.split_first() else { return };
    let method = match method {
        b'P' => "PUT",
        b'O' => "POST",
        b'D' => "DELETE",
        b'H' => "HEAD",
        _ => "GET",
    };
    if let Ok(request) = Request::builder().method(method).uri(target).body(Body::from("5")) {
        ask(request);
    }
}

fn replies(bytes: &[u8]) {
    macro_rules! each {
        ($($reply:ty),+) => {
            $(if let Ok((reply, payload)) = decode::<$reply>(bytes) {
                let again = encode(&reply, payload);
                assert_eq!(decode::<$reply>(&again).expect("what we wrote"), (reply, payload));
            })+
        };
    }
    each!(LookupReply, StoreReply, FeedReply, PurgeReply, WaitReply, ReleaseReply, Refusal);
}

/// The first line is a template, the rest a delivery.
fn hooks(bytes: &[u8]) {
    let (template, payload) = split(bytes);
    let Ok(template) = Template::parse(&String::from_utf8_lossy(template)) else { return };
    let Ok(payload) = serde_json::from_slice(payload) else { return };
    let mut headers = HeaderMap::new();
    headers.insert("x", HeaderValue::from_static("a:b/c"));
    let from = Delivery { headers: &headers, payload: &payload };
    let (tags, texts) = (template.tags(&from, 1000), template.texts(&from, 1000));
    assert_eq!(tags.as_ref().map(Vec::len), texts.as_ref().map(Vec::len));
    let graphic = |tag: &String| !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_graphic());
    assert!(tags.is_ok_and(|tags| tags.iter().all(graphic)) || texts.is_err());
}

/// Nobody who doesn't know the secret is believed.
fn signatures(bytes: &[u8]) {
    let (first, rest) = split(bytes);
    let (second, body) = split(rest);
    let (Ok(first), Ok(second)) = (HeaderValue::from_bytes(first), HeaderValue::from_bytes(second)) else { return };
    for scheme in [Scheme::Standard, Scheme::Body, Scheme::Timestamped, Scheme::Secret] {
        let check = Check::new(scheme, Some("x"), 300, "0123456789abcdef0123456789abcdef").expect("sound settings");
        let mut headers = HeaderMap::new();
        headers.insert("x", first.clone());
        headers.insert("x-id", HeaderValue::from_static("id"));
        headers.insert("x-timestamp", first.clone());
        headers.insert("x-signature", second.clone());
        assert!(check.verify(&headers, body, 1_614_265_330).is_err());
    }
}

fn settings(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(settings) = Settings::parse(text, "fuzz.toml")
    {
        let _ = (
            settings.places(),
            settings.sources(),
            settings.told_at(),
            settings.limits(),
            settings.store_tls().is_ok(),
        );
    }
}

fn tokens(bytes: &[u8]) {
    let _ = Tokens::parse(&String::from_utf8_lossy(bytes));
}

fn urls(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (text.parse::<Address>(), StoreUrl::parse(&text).map(|url| url.to_string()));
}

fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    (&bytes[..at], bytes.get(at + 1..).unwrap_or_default())
}
