//! How answers travel, and how a gateway ends.

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use routecache_harness::{Answer, CacheStatus, Origin, Request, Result, Serve};
use tokio::net::TcpStream;

use super::stage::{ALONE, Gateway, file};
use crate::streaming;

#[tokio::test]
async fn a_miss_streams_and_is_kept_at_its_end_only() -> Result<()> {
    let origin = Origin::start().await?;
    let mut gateway = Gateway::open(ALONE, &origin, &[]).await?;
    streaming::piece_by_piece(&origin, &mut gateway.workers).await
}

#[tokio::test]
async fn hits_are_served_over_http_2_without_tls() -> Result<()> {
    let origin = Origin::start().await?;
    let mut gateway = Gateway::open(ALONE, &origin, &[]).await?;
    // The key holds the host, so both clients name the same one.
    let first = gateway.get(0, "/users/1").await?;
    let stream = TcpStream::connect(gateway.serve.address()).await.expect("it listens");
    let (mut sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("it speaks HTTP/2");
    tokio::spawn(driver);
    let uri = format!("http://{}/users/1", routecache_harness::API_HOST);
    for tier in ["worker", "worker"] {
        let request = http::Request::get(&uri).body(Empty::<Bytes>::new()).expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        let status = CacheStatus::of(answer.headers());
        assert_eq!((answer.status(), status.hit, status.detail.as_deref()), (StatusCode::OK, true, Some(tier)));
        assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), first.body);
    }
    Ok(())
}

#[tokio::test]
async fn an_origin_that_is_down_is_a_503_and_what_is_held_is_still_served() -> Result<()> {
    let origin = Origin::start().await?;
    let mut gateway = Gateway::open(ALONE, &origin, &[]).await?;
    gateway.get(0, "/users/1").await?;
    drop(origin);
    assert!(gateway.get(0, "/users/1").await?.cache_status().hit);
    let down = gateway.get(0, "/users/2").await?;
    assert_eq!(down.status, StatusCode::SERVICE_UNAVAILABLE, "{}", down.text());
    assert!(down.text().starts_with("upstream connect error"), "{}", down.text());
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_is_told_to_stop_lets_requests_end() -> Result<()> {
    let origin = Origin::start().await?;
    let mut gateway = Gateway::open(ALONE, &origin, &[]).await?;
    let (answer, gate) = Answer::in_two("{\"first\":1,", "\"second\":2}");
    origin.script("GET", "/users/1", answer);
    let mut arriving = gateway.workers[0].begin(Request::get("/users/1")).await?;
    arriving.next().await?;
    gateway.serve.terminate();
    while gateway.serve.client().connect().await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    gate.open();
    assert_eq!(arriving.next().await?.as_deref(), Some(&b"\"second\":2}"[..]));
    assert_eq!(arriving.next().await?, None);
    assert!(gateway.serve.log().contains("\"details\":\"via_upstream\""), "{}", gateway.serve.log());
    gateway.serve.ended().await
}

#[tokio::test]
async fn rules_with_mistakes_are_told_as_by_check() {
    let rules = file("version: 1\nroutes: [{ nam: user }]\n");
    let refused = Serve::start([&rules]).await.unwrap_err().to_string();
    assert!(refused.contains("exit status: 1") && refused.contains("`nam`"), "{refused}");
}
