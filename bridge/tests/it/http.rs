//! The calls over HTTP, on a bridge in this process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use axum::body::Body;
use bridge_api::{CONTENT_TYPE, FEED, LOOKUP, LookupReply, MARKER, PURGE, Refusal, STORE, StoreReply, decode};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use routecache_bridge::{Bridge, Limits, MemStore};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::ServiceExt;

const LOOK: &str = r#"{"namespace":"shop:v1","key":"k","tags":["a"]}"#;

fn bridge() -> Bridge {
    Bridge::new(MemStore::new(16 << 20))
}

async fn call(bridge: &Bridge, method: Method, path: &str, body: impl Into<Body>) -> (Response<()>, Bytes) {
    let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
    let (head, body) = bridge.router().oneshot(request).await.unwrap().into_parts();
    (Response::from_parts(head, ()), body.collect().await.unwrap().to_bytes())
}

async fn post(bridge: &Bridge, path: &str, body: impl Into<Body>) -> (StatusCode, Bytes) {
    let (head, body) = call(bridge, Method::POST, path, body).await;
    (head.status(), body)
}

/// Served on a real socket until the sender is used or dropped.
async fn serve(bridge: Bridge) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<bool>) {
    serve_on("127.0.0.1:0", bridge).await
}

async fn serve_on(address: &str, bridge: Bridge) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<bool>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let stopped = async { drop(stopped.await) };
    (address, stop, tokio::spawn(bridge.serve(listener, stopped)))
}

#[tokio::test]
async fn a_fill_goes_there_and_back_over_http() {
    let bridge = bridge();
    let (_, body) = post(&bridge, LOOKUP, LOOK).await;
    let (LookupReply::Miss { ticket, .. }, _) = decode(&body).unwrap() else { panic!("{body:?}") };
    let ticket = serde_json::to_string(&ticket).unwrap();
    let head = format!(r#"{{"namespace":"shop:v1","key":"k","tags":["a"],"ticket":{ticket},"keep_ms":60000}}"#);
    let stored = [head.as_bytes(), b"\n", &[0, 255, b'\n', b'\n']].concat();
    let (_, body) = post(&bridge, STORE, stored).await;
    assert_eq!(decode::<StoreReply>(&body).unwrap().0, StoreReply::Stored);
    let (head, body) = call(&bridge, Method::POST, LOOKUP, LOOK).await;
    assert_eq!(head.headers()["content-type"], CONTENT_TYPE);
    let (reply, payload) = decode::<LookupReply>(&body).unwrap();
    assert!(matches!(reply, LookupReply::Hit { .. }), "{reply:?}");
    assert_eq!(payload, [0, 255, b'\n', b'\n']);
    assert_eq!(post(&bridge, PURGE, r#"{"namespace":"shop:v1","tags":["a"]}"#).await.0, StatusCode::OK);
    let (_, body) = post(&bridge, LOOKUP, LOOK).await;
    assert!(matches!(decode(&body).unwrap().0, LookupReply::Miss { .. }));
}

#[tokio::test]
async fn every_answer_carries_the_marker_and_every_refusal_its_code() {
    let long_key = format!(r#"{{"namespace":"n","key":"{}","tags":[]}}"#, "k".repeat(8193));
    let long_tag = format!(r#"{{"namespace":"n","tags":["{}"]}}"#, "t".repeat(513));
    let many_tags = format!(r#"{{"namespace":"n","tags":[{}"t"]}}"#, r#""t","#.repeat(256));
    let ticket = r#""ticket":{"at":"1-1-1","era":"1"}"#;
    let cases = [
        ("GET", "/", "", 404, "not-found"),
        ("POST", "/v2/lookup", "{}", 404, "not-found"),
        ("POST", "/v1/lookup/", "{}", 404, "not-found"),
        ("GET", LOOKUP, "", 405, "malformed"),
        ("DELETE", PURGE, "", 405, "malformed"),
        ("POST", "/healthz", "", 405, "malformed"),
        ("POST", LOOKUP, "", 400, "malformed"),
        ("POST", LOOKUP, "[]", 400, "malformed"),
        ("POST", LOOKUP, "{\"namespace\":\n\"n\",\"key\":\"k\",\"tags\":[]}", 400, "malformed"),
        ("POST", LOOKUP, r#"{"namespace":"{a}","key":"k","tags":[]}"#, 400, "malformed"),
        ("POST", LOOKUP, r#"{"namespace":"n","key":"","tags":[]}"#, 400, "malformed"),
        ("POST", LOOKUP, r#"{"namespace":"n","key":"k","tags":[],"known":"1-2"}"#, 400, "malformed"),
        ("POST", LOOKUP, &long_key, 413, "too-large"),
        ("POST", PURGE, r#"{"namespace":"n","tags":[]}"#, 400, "malformed"),
        ("POST", PURGE, &long_tag, 413, "too-large"),
        ("POST", PURGE, &many_tags, 413, "too-large"),
        ("POST", FEED, r#"{"namespace":"","hold_ms":1}"#, 400, "malformed"),
        ("POST", FEED, r#"{"namespace":"n","hold_ms":-1}"#, 400, "malformed"),
        ("POST", STORE, &format!(r#"{{"namespace":"n","key":"k","tags":[],{ticket},"keep_ms":0}}"#), 400, "malformed"),
    ];
    let bridge = bridge();
    for (method, path, body, status, code) in cases {
        let (head, answer) = call(&bridge, method.parse().unwrap(), path, body.to_owned()).await;
        let case = format!("{method} {path} {:.60}", body);
        assert_eq!(head.status(), status, "{case}");
        assert_eq!(head.headers()[MARKER], "1", "{case}");
        let (refusal, _) = decode::<Refusal>(&answer).unwrap();
        assert_eq!(refusal.error, code, "{case}");
        assert!(!refusal.message.is_empty());
    }
    for path in ["/healthz", "/readyz"] {
        let (head, _) = call(&bridge, Method::GET, path, "").await;
        assert_eq!((head.status(), &head.headers()[MARKER]), (StatusCode::OK, &"1".parse().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_announced_or_not() {
    let (address, _stop, _) = serve(bridge().with_limits(Limits { body_bytes: 1_000, ..Limits::default() })).await;
    let fits = LOOK.to_owned() + &" ".repeat(1_000 - LOOK.len());
    let announced = |length: usize| format!("content-length: {length}\r\n\r\n");
    let chunk = format!("100\r\n{}\r\n", "x".repeat(256));
    let cases = [
        (announced(1_000) + &fits, "200"),
        (announced(1_001), "413"),
        ("transfer-encoding: chunked\r\n\r\n".to_owned() + &chunk.repeat(4), "413"),
    ];
    tokio::task::spawn_blocking(move || {
        for (rest, status) in cases {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            write!(stream, "POST {LOOKUP} HTTP/1.1\r\nhost: a\r\n{rest}").unwrap();
            let mut answer = vec![0; 1_000];
            let count = stream.read(&mut answer).unwrap();
            let answer = String::from_utf8_lossy(&answer[..count]);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert!(answer.contains("routecache-bridge: 1"), "{answer}");
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn http_1_and_cleartext_http_2_are_served_on_one_port() {
    let (address, _stop, _) = serve(bridge()).await;
    for only_2 in [false, true] {
        let client = Client::builder(TokioExecutor::new()).http2_only(only_2).build_http::<Body>();
        for _ in 0..2 {
            let request = Request::post(format!("http://{address}{LOOKUP}")).body(Body::from(LOOK)).unwrap();
            let response = client.request(request).await.unwrap();
            let expected = if only_2 { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
            assert_eq!((response.status(), response.version()), (StatusCode::OK, expected));
        }
    }
}

#[tokio::test]
async fn calls_over_the_limit_are_refused_as_busy_while_health_answers() {
    let bridge = bridge().with_limits(Limits { requests: 1, ..Limits::default() });
    let (address, _stop, _) = serve(bridge).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let send = |path: &str, body: &str| {
        client.request(Request::post(format!("http://{address}{path}")).body(Body::from(body.to_owned())).unwrap())
    };
    let first = send(FEED, r#"{"namespace":"n","hold_ms":0}"#).await.unwrap().into_body().collect().await.unwrap();
    let cursor = decode::<bridge_api::FeedReply>(&first.to_bytes()).unwrap().0.cursor;
    let held = format!(r#"{{"namespace":"n","hold_ms":600,"cursor":"{cursor}"}}"#);
    let held = tokio::spawn(send(FEED, &held));
    tokio::time::sleep(Duration::from_millis(150)).await;
    let busy = send(LOOKUP, LOOK).await.unwrap();
    assert_eq!((busy.status(), &busy.headers()[MARKER]), (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap()));
    let body = busy.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(decode::<Refusal>(&body).unwrap().0.error, "busy");
    let health = client.get(format!("http://{address}/healthz").parse().unwrap()).await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    assert_eq!(held.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(send(LOOKUP, LOOK).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_stays_silent_is_closed() {
    let limits = Limits { silence: Duration::from_millis(200), ..Limits::default() };
    let (address, _stop, _) = serve(bridge().with_limits(limits)).await;
    for beginning in ["", "PRI * HT", "POST /v1/lookup HTTP/1.1\r\nhost: a\r\n"] {
        let closed_after = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.write_all(beginning.as_bytes()).unwrap();
            let began = Instant::now();
            let _ = stream.read_to_end(&mut Vec::new());
            began.elapsed()
        });
        let closed_after = closed_after.await.unwrap();
        assert!(closed_after < Duration::from_secs(3), "{beginning:?}: {closed_after:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_wait_for_a_place() {
    let (address, _stop, _) = serve(bridge().with_limits(Limits { connections: 1, ..Limits::default() })).await;
    tokio::task::spawn_blocking(move || {
        let request = format!("POST {LOOKUP} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{LOOK}", LOOK.len());
        let answers = |stream: &mut TcpStream| {
            stream.write_all(request.as_bytes()).unwrap();
            stream.read(&mut [0; 8]).is_ok_and(|count| count == 8)
        };
        let connect = || {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            stream
        };
        let mut first = connect();
        assert!(answers(&mut first));
        let mut second = connect();
        assert!(!answers(&mut second));
        drop(first);
        second.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(second.read(&mut [0; 8]).unwrap(), 8);
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn stopping_lets_calls_under_way_end_and_takes_no_more() {
    // An address of its own: on the others' the next test may get this port as soon as it is free.
    let (address, stop, served) = serve_on("127.0.0.2:0", bridge()).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let send =
        |body: String| client.request(Request::post(format!("http://{address}{FEED}")).body(Body::from(body)).unwrap());
    let first = send(r#"{"namespace":"n","hold_ms":0}"#.into()).await.unwrap().into_body().collect().await.unwrap();
    let cursor = decode::<bridge_api::FeedReply>(&first.to_bytes()).unwrap().0.cursor;
    let held = tokio::spawn(send(format!(r#"{{"namespace":"n","hold_ms":30000,"cursor":"{cursor}"}}"#)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    stop.send(()).unwrap();
    let response = held.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let reply = decode::<bridge_api::FeedReply>(&response.into_body().collect().await.unwrap().to_bytes()).unwrap().0;
    assert_eq!((reply.continuity, reply.records.len()), (bridge_api::Continuity::Joined, 0));
    assert!(served.await.unwrap(), "all calls ended in time");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(TcpStream::connect(address).is_err());
}
