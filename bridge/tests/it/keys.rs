//! The key space of applications, on both stores, and over HTTP.

use std::collections::BTreeMap;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use redis::Commands;
use routecache_bridge::people::{KeyCall, KeyReply};
use routecache_bridge::{Bridge, KeyOf, MemStore};
use tower::ServiceExt;

use crate::support::{HOUR, NAMESPACE, Rig};

fn of(key: &str) -> KeyOf {
    KeyOf { namespace: NAMESPACE.into(), key: key.into() }
}

fn set(value: &str) -> KeyCall {
    KeyCall::Set { value: Bytes::copy_from_slice(value.as_bytes()), ttl_ms: HOUR }
}

fn add(value: &str) -> KeyCall {
    KeyCall::Add { value: Bytes::copy_from_slice(value.as_bytes()), ttl_ms: HOUR }
}

fn increment(by: i64) -> KeyCall {
    KeyCall::Increment { by, ttl_ms: HOUR }
}

async fn call(rig: &Rig, key: &str, call: &KeyCall) -> KeyReply {
    rig.store.key(&of(key), call).await.unwrap()
}

/// What a key holds, if anything.
async fn value(rig: &Rig, key: &str) -> Option<String> {
    match call(rig, key, &KeyCall::Get).await {
        KeyReply::Value(value, 1..) => Some(String::from_utf8(value.to_vec()).unwrap()),
        KeyReply::Absent => None,
        other => panic!("{other:?}"),
    }
}

on_both_stores! {
    async fn what_is_set_is_read_until_it_is_deleted(rig: Rig) {
        assert_eq!(value(&rig, "k").await, None);
        assert_eq!(call(&rig, "k", &set("one")).await, KeyReply::Done);
        assert_eq!(call(&rig, "k", &set("two")).await, KeyReply::Done);
        assert_eq!(value(&rig, "k").await.as_deref(), Some("two"));
        assert_eq!(call(&rig, "k", &KeyCall::Delete).await, KeyReply::Done);
        assert_eq!(call(&rig, "k", &KeyCall::Delete).await, KeyReply::Absent);
        assert_eq!(value(&rig, "k").await, None);
    }

    async fn add_writes_only_where_nothing_is(rig: Rig) {
        assert_eq!(call(&rig, "k", &add("one")).await, KeyReply::Done);
        assert_eq!(call(&rig, "k", &add("two")).await, KeyReply::Present);
        assert_eq!(value(&rig, "k").await.as_deref(), Some("one"));
    }

    async fn pop_reads_once(rig: Rig) {
        call(&rig, "k", &set("one")).await;
        let KeyReply::Value(popped, _) = call(&rig, "k", &KeyCall::Pop).await else { panic!() };
        assert_eq!(popped, "one");
        assert_eq!(call(&rig, "k", &KeyCall::Pop).await, KeyReply::Absent);
    }

    async fn a_key_counts_up_and_down_with_64_bits(rig: Rig) {
        assert_eq!(call(&rig, "n", &increment(5)).await, KeyReply::Number(5));
        assert_eq!(call(&rig, "n", &increment(-7)).await, KeyReply::Number(-2));
        assert_eq!(value(&rig, "n").await.as_deref(), Some("-2"));
        call(&rig, "n", &set("9223372036854775806")).await;
        assert_eq!(call(&rig, "n", &increment(1)).await, KeyReply::Number(i64::MAX));
        assert_eq!(call(&rig, "n", &increment(1)).await, KeyReply::NoNumber);
        for none in ["", "x", "1.5", " 1", "01", "+1"] {
            call(&rig, "n", &set(none)).await;
            assert_eq!(call(&rig, "n", &increment(1)).await, KeyReply::NoNumber, "{none:?}");
        }
    }

    async fn each_goes_when_its_time_is_up_and_counting_does_not_renew_it(rig: Rig) {
        call(&rig, "k", &KeyCall::Set { value: "x".into(), ttl_ms: 100 }).await;
        call(&rig, "n", &KeyCall::Increment { by: 1, ttl_ms: 100 }).await;
        assert_eq!(call(&rig, "n", &increment(1)).await, KeyReply::Number(2));
        rig.pass(150).await;
        assert_eq!((value(&rig, "k").await, value(&rig, "n").await), (None, None));
        assert_eq!(call(&rig, "k", &add("y")).await, KeyReply::Done);
    }

    async fn a_pattern_deletes_what_looks_like_it_in_its_namespace(rig: Rig) {
        for key in ["cart:1", "cart:2", "cart", "{cart:3}", "user:1"] {
            call(&rig, key, &set("x")).await;
        }
        let elsewhere = KeyOf { namespace: "shop:v2".into(), key: "cart:1".into() };
        rig.store.key(&elsewhere, &set("x")).await.unwrap();
        let deleted = rig.store.delete_keys(NAMESPACE, "cart:*").await.unwrap();
        assert_eq!((deleted.deleted, deleted.complete), (2, true));
        assert_eq!(value(&rig, "cart:1").await, None);
        for key in ["cart", "{cart:3}", "user:1"] {
            assert!(value(&rig, key).await.is_some(), "{key}");
        }
        assert!(matches!(rig.store.key(&elsewhere, &KeyCall::Get).await.unwrap(), KeyReply::Value(..)));
    }

    async fn keys_and_values_may_hold_anything_and_are_no_entries(rig: Rig) {
        for key in ["a b", "{x}", "}:", "*", "ä\u{0}\r\n", &"k".repeat(1024)] {
            call(&rig, key, &set(key)).await;
            assert_eq!(value(&rig, key).await.as_deref(), Some(key));
        }
        rig.fill("k", &["a"]).await;
        assert_eq!(value(&rig, "k").await, None);
        rig.store.delete_keys(NAMESPACE, "*").await.unwrap();
        assert!(rig.hits("k", &["a"]).await);
    }
}

/// Any key at all lies in its namespace's part of Redis, in a slot that a hash chose.
#[tokio::test]
async fn no_name_leaves_its_namespace_or_chooses_its_slot() {
    let rig = Rig::redis();
    for key in ["../x", "{tag}k", "x}:{y", "routecache:{shop:v1}:log"] {
        call(&rig, key, &set("x")).await;
    }
    let names: Vec<String> = rig.redis_do(|redis| redis.keys("*"));
    assert_eq!(names.len(), 4);
    for name in names {
        let rest = name.strip_prefix("routecache:shop:v1:key:{").unwrap();
        assert!(rest.as_bytes()[..16].iter().all(u8::is_ascii_hexdigit) && &rest[16..18] == "}:", "{name}");
        assert!(rig.redis_do(|redis| redis.pttl::<_, i64>(&name)) > 0);
    }
}

async fn ask(bridge: &Bridge, method: &str, path: &str, body: &str) -> (StatusCode, BTreeMap<String, String>, String) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let (head, body) = bridge.router().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let fields = head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    (head.status, fields.collect(), String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn over_http_a_key_is_a_resource() {
    let bridge = Bridge::new(MemStore::new(16 << 20));
    let at = "/v1/keys/shop:v1/a%2Fb%20%7Bc%7D";
    let status = async |method: &str, path: &str, body: &str| ask(&bridge, method, path, body).await.0.as_u16();
    assert_eq!(status("GET", at, "").await, 404);
    assert_eq!(status("PUT", &format!("{at}?ttl_ms=60000"), "value").await, 204);
    let (code, fields, body) = ask(&bridge, "GET", at, "").await;
    assert_eq!((code.as_u16(), &*body, &*fields["content-type"]), (200, "value", "application/octet-stream"));
    assert!((1..=60_000).contains(&fields["routecache-ttl-ms"].parse::<u64>().unwrap()));
    assert_eq!(status("HEAD", at, "").await, 200);
    assert_eq!(status("PUT", &format!("{at}?add=true"), "other").await, 409);
    assert_eq!(ask(&bridge, "POST", &format!("{at}/pop"), "").await.2, "value");
    assert_eq!(status("POST", &format!("{at}/pop"), "").await, 404);
    let counter = "/v1/keys/shop:v1/n/increment";
    assert_eq!(ask(&bridge, "POST", counter, "").await.2, r#"{"value":1}"#);
    assert_eq!(ask(&bridge, "POST", &format!("{counter}?by=-5&ttl_ms=9"), "").await.2, r#"{"value":-4}"#);
    assert_eq!(ask(&bridge, "DELETE", "/v1/keys/shop:v1?pattern=n*", "").await.2, r#"{"deleted":1,"complete":true}"#);
    for (method, path, code) in [
        ("PUT", "/v1/keys/shop:v1/k?ttl_ms=0", 400),
        ("PUT", "/v1/keys/shop:v1/k?tll_ms=5", 400),
        ("PUT", "/v1/keys/%7Bshop%7D/k", 400),
        ("DELETE", "/v1/keys/shop:v1", 400),
        ("DELETE", "/v1/keys/shop:v1/none", 404),
        ("GET", "/v1/keys/shop:v1/", 404),
        ("GET", "/v1/keys/shop:v1/a/b", 404),
        ("POST", "/v1/keys/shop:v1/k", 405),
        ("GET", &format!("/v1/keys/shop:v1/{}", "k".repeat(1025)), 413),
    ] {
        assert_eq!(status(method, path, "x").await, code, "{method} {path}");
    }
}
