//! What clients get when something fails: what they would get from Envoy.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use proxy_wasm_host_test::serve::{Limits, ServeError, Server, UpstreamUrl};
use proxy_wasm_host_test::{BuildError, FailurePolicy};

use crate::probe::{on, probe};
use crate::stage::{Origin, Peer, serve};

/// Where nobody listens: a port that is kept for a protocol nobody speaks.
fn nowhere() -> UpstreamUrl {
    "http://127.0.0.1:1".parse().unwrap()
}

#[test]
fn an_upstream_that_fails_is_answered_as_in_envoy() {
    let closing = Origin::start(|_, _| false);
    let hanging = Origin::start(|_, peer| !peer.is_closed());
    let reset = "upstream connect error or disconnect/reset before headers. reset reason: ";
    let filter = probe(&on("response_headers", "(call $read (i32.const 2) \":status\") (i32.const 0)"));
    for (upstream, status, body, details) in [
        (Some(nowhere()), 503, format!("{reset}remote connection failure"), "upstream_reset_before_response_started{"),
        (Some(closing.url()), 503, format!("{reset}connection termination"), "upstream_reset_before_response_started{"),
        (Some(hanging.url()), 504, "upstream request timeout".to_owned(), "response_timeout"),
        (None, 503, "no healthy upstream".to_owned(), "no_healthy_upstream"),
    ] {
        let limits = Limits { upstream: Some(Duration::from_millis(200)), ..Limits::default() };
        let (server, record) = serve(&filter, |builder| match upstream {
            Some(upstream) => builder.upstream(upstream).limits(limits),
            None => builder,
        });
        let answer = Peer::connect(server.address()).get("/");
        assert_eq!((answer.status(), answer.body.as_str()), (status, body.as_str()));
        server.stop();
        assert!(record.accesses()[0].contains(details), "{:?}", record.accesses());
        assert!(record.logs().contains(&format!("worker 0: {status}")), "the filter sees it: {:?}", record.logs());
    }
}

#[test]
fn an_answer_that_breaks_off_is_broken_off_for_the_client_too() {
    let origin = Origin::start(|head, peer| {
        let length = if head.contains("/chunked") { "transfer-encoding: chunked" } else { "content-length: 99" };
        peer.send(&format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n4\r\npart\r\n"));
        false
    });
    let (server, record) = serve(&probe(""), |builder| builder.upstream(origin.url()));
    for path in ["/chunked", "/sized"] {
        let mut client = Peer::connect(server.address());
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert!(client.head().starts_with("HTTP/1.1 200"));
        if path == "/chunked" {
            assert_eq!((client.chunk().as_deref(), client.chunk()), (Some("part"), None));
        } else {
            assert_eq!(client.body(9), "4\r\npart\r\n");
            assert!(client.is_closed());
        }
    }
    server.stop();
    assert!(
        record.accesses()[0].ends_with("upstream_reset_after_response_started{protocol_error}"),
        "{:?}",
        record.accesses()
    );
}

#[test]
fn a_request_in_which_nothing_moves_ends() {
    let filter = probe(&on("request_headers", "(i32.const 1)"));
    let limits = Limits { silence: Duration::from_millis(100), ..Limits::default() };
    let (server, _) = serve(&filter, |builder| builder.limits(limits));
    let mut client = Peer::connect(server.address());
    assert_eq!(client.get("/").status(), 504);
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 408"));
}

#[test]
fn a_vm_that_traps_answers_503_and_is_replaced_after_a_second() {
    let filter = probe(&on(
        "request_headers",
        "(drop (call $get_header (i32.const 0) \"x-trap\" (i32.const 0) (i32.const 4)))
         (if (i32.load (i32.const 4)) (then (unreachable)))
         (i32.const 0)",
    ));
    let origin = Origin::echo();
    let (server, record) = serve(&filter, |builder| builder.upstream(origin.url()));
    let mut client = Peer::connect(server.address());
    client.send("GET / HTTP/1.1\r\nhost: a\r\nx-trap: 1\r\n\r\n");
    assert_eq!(client.read().status(), 503);
    let failed = Instant::now();
    assert_eq!(client.get("/").status(), 503);
    std::thread::sleep(Duration::from_millis(1050).saturating_sub(failed.elapsed()));
    assert_eq!(client.get("/").status(), 200);
    record.wait_for("unreachable");
    let (server, _) = serve(&filter, |builder| builder.upstream(origin.url()).failure_policy(FailurePolicy::Open));
    let mut client = Peer::connect(server.address());
    client.send("GET / HTTP/1.1\r\nhost: a\r\nx-trap: 1\r\n\r\n");
    assert_eq!(client.read().status(), 200);
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let refusing = probe(&on("configure", "(call $say \"not like this\") (i32.const 0)"));
    let refused = Server::builder().filter(refusing).start().err().unwrap();
    assert!(matches!(refused, ServeError::Filter(BuildError::Refused { .. })), "{refused:?}");
    assert!(refused.to_string().contains("not like this"), "{refused}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = Server::builder().filter(probe("")).listen(taken.local_addr().unwrap()).start().err().unwrap();
    assert!(matches!(refused, ServeError::Listen { .. }), "{refused:?}");
}
