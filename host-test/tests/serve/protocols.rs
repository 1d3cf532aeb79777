//! HTTP/1.1 and HTTP/2, on both sides.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxy_wasm_host_test::serve::UpstreamUrl;

use crate::probe::{on, probe};
use crate::stage::{Origin, Peer, serve};

/// Says what the request was, and marks the response.
fn marking() -> Vec<u8> {
    probe(
        &[
            on("request_headers", "(call $read (i32.const 0) \":path\") (i32.const 0)"),
            on("response_headers", "(drop (call $add_header (i32.const 2) \"x-seen\" \"yes\")) (i32.const 0)"),
        ]
        .concat(),
    )
}

#[test]
fn a_request_passes_the_filter_both_ways() {
    let origin = Origin::echo();
    let (server, record) = serve(&marking(), |builder| builder.upstream(origin.url()));
    let answer = Peer::connect(server.address()).get("//menu/../menu?size=1");
    assert_eq!((answer.status(), answer.body.as_str()), (200, "/menu?size=1"));
    assert_eq!((answer.header("x-seen"), answer.header("content-length")), (Some("yes"), Some("12")));
    assert!(answer.header("x-envoy-upstream-service-time").is_some() && answer.header("date").is_some());
    let seen = origin.heads()[0].to_lowercase();
    for line in ["host: shop.example\r\n", "x-forwarded-for: 127.0.0.1\r\n", "x-forwarded-proto: http\r\n"] {
        assert!(seen.contains(line), "{seen}");
    }
    assert!(server.stop());
    assert!(record.logs().contains(&"worker 0: /menu?size=1".to_owned()), "{:?}", record.logs());
    assert_eq!(record.accesses(), ["GET /menu?size=1 200 via_upstream"]);
}

#[test]
fn connections_are_kept_on_both_sides() {
    let origin = Origin::echo();
    let (server, _) = serve(&marking(), |builder| builder.upstream(origin.url()));
    let mut client = Peer::connect(server.address());
    for path in ["/one", "/two", "/three"] {
        assert_eq!(client.get(path).body, path);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn requests_that_no_filter_is_to_see_are_refused() {
    let origin = Origin::echo();
    let (server, _) = serve(&marking(), |builder| builder.upstream(origin.url()));
    for (request, status) in [
        ("GET /a%2fb HTTP/1.1\r\nhost: a\r\n\r\n", 307),
        ("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 403),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", 403),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        (&format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(70_000)), 431),
    ] {
        let mut client = Peer::connect(server.address());
        client.send(request);
        let head = client.head();
        assert_eq!(head.split(' ').nth(1), Some(status.to_string().as_str()), "{head}");
    }
    assert_eq!(origin.heads(), Vec::<String>::new());
}

#[test]
fn an_answer_to_head_keeps_its_length_and_has_no_body() {
    let origin = Origin::start(|_, peer| {
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
        true
    });
    let (server, _) = serve(&marking(), |builder| builder.upstream(origin.url()));
    let mut client = Peer::connect(server.address());
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 5\r\n"), "{head}");
    }
}

#[test]
fn trailers_pass_in_http_1() {
    let origin = Origin::start(|_, peer| {
        let request = peer.chunk().unwrap() + &peer.chunk().unwrap();
        let trailers = peer.trailers();
        peer.send(&format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\n{request}\r\n0\r\nx-sum: {}\r\n\r\n",
            trailers.trim()
        ));
        true
    });
    let (server, _) = serve(&marking(), |builder| builder.upstream(origin.url()));
    let mut client = Peer::connect(server.address());
    client.send(
        "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-check\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-check: 7\r\n\r\n",
    );
    let answer = client.read();
    assert_eq!((answer.body.as_str(), answer.trailers.trim()), ("hi", "x-sum: x-check: 7"));
}

/// Answers as an HTTP/2 server without TLS: with the body, and a trailer that tells which authority was asked.
async fn h2c_origin() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(async |request: http::Request<hyper::body::Incoming>| {
                let authority = request.uri().authority().unwrap().to_string();
                let whole = request.into_body().collect().await.unwrap();
                let mut trailers = whole.trailers().cloned().unwrap_or_default();
                trailers.insert("x-authority", authority.parse().unwrap());
                trailers.insert("grpc-status", "0".parse().unwrap());
                let body = Full::new(whole.to_bytes()).with_trailers(std::future::ready(Some(Ok(trailers))));
                Ok::<_, hyper::Error>(http::Response::new(body))
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_without_tls_works_on_both_sides_and_trailers_pass() {
    let upstream: UpstreamUrl = format!("h2c://{}", h2c_origin().await).parse().unwrap();
    let (server, _) = serve(&marking(), |builder| builder.upstream(upstream));
    let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(driver);
    for word in ["one", "two"] {
        let trailers = [("x-check".parse().unwrap(), "7".parse().unwrap())].into_iter().collect();
        let body = Full::new(Bytes::from(word)).with_trailers(std::future::ready(Some(Ok(trailers))));
        let request = http::Request::post("http://shop.example/echo").body(body).unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let whole = body.collect().await.unwrap();
        let trailers = whole.trailers().cloned().unwrap();
        assert_eq!((head.status.as_u16(), head.headers["x-seen"].as_bytes()), (200, b"yes".as_slice()));
        assert_eq!(
            (&trailers["x-check"], &trailers["x-authority"]),
            (&"7".parse().unwrap(), &"shop.example".parse().unwrap())
        );
        assert_eq!(whole.to_bytes(), word);
    }
    drop(sender);
    driver.await.unwrap().unwrap();
    assert!(tokio::task::spawn_blocking(|| server.stop()).await.unwrap());
}

/// What comes back is what was sent: the origin echoes, and adds a `grpc-status`.
#[tokio::test(flavor = "multi_thread")]
async fn grpc_calls_and_streams_go_over_http_2() {
    let filter = probe(
        &[
            on(
                "request_headers",
                "(call $note \"call\" (call $grpc_call \"echo\" \"Echo\" \"Say\" (i32.const 0) (i32.const 0) \"who\"
                    (i32.const 5000) (i32.const 8)))
                 (drop (call $grpc_stream \"echo\" \"Echo\" \"Talk\" (i32.const 0) (i32.const 0) (i32.const 8)))
                 (drop (call $grpc_send (i32.load (i32.const 8)) \"one\" (i32.const 0)))
                 (drop (call $grpc_send (i32.load (i32.const 8)) \"three\" (i32.const 1)))
                 (i32.const 0)",
            ),
            on("grpc_receive", "(call $note \"message\" (local.get $size)) (call $body (i32.const 5))"),
            on("grpc_receive_initial_metadata", "(call $note \"initial\" (i32.const 1))"),
            on("grpc_receive_trailing_metadata", "(call $note \"trailing\" (i32.const 1))"),
            on("grpc_close", "(call $note \"close\" (local.get $size))"),
        ]
        .concat(),
    );
    let upstream: UpstreamUrl = format!("h2c://{}", h2c_origin().await).parse().unwrap();
    let (server, record) = serve(&filter, |builder| builder.cluster("echo", upstream));
    tokio::task::spawn_blocking(move || {
        assert_eq!(Peer::connect(server.address()).get("/").status(), 503, "there is no upstream");
        record.wait_for("close=0");
        record.wait_for("who");
        let said: Vec<_> = record.logs().iter().map(|line| line.replace("worker 0: ", "")).collect();
        let of_stream: Vec<&str> =
            said.iter().map(String::as_str).filter(|line| !["message=3", "who", "one"].contains(line)).collect();
        assert_eq!(of_stream, ["call=0", "initial=1", "message=5", "three", "trailing=1", "close=0"], "{said:?}");
        assert_eq!(said.iter().filter(|line| **line == "message=3").count(), 2, "{said:?}");
    })
    .await
    .unwrap();
}
