//! Workers, what they share, callouts, ticks, and the end.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use proxy_wasm_host_test::serve::Limits;

use crate::probe::{on, probe};
use crate::stage::{Origin, PATIENCE, Peer, serve};

/// Asks cluster `bridge` about each request, says what came, and lets the request go on.
fn asking() -> Vec<u8> {
    probe(
        &[
            on("request_headers", "(call $call) (global.set $waiting (local.get $context)) (i32.const 1)"),
            on(
                "http_call_response",
                "(call $note \"headers\" (local.get $headers))
                 (if (local.get $headers) (then (call $read (i32.const 6) \":status\") (call $body (i32.const 4))))
                 (drop (call $act_for (global.get $waiting)))
                 (drop (call $resume (i32.const 0)))",
            ),
            "(global $waiting (mut i32) (i32.const 0))".into(),
        ]
        .concat(),
    )
}

#[test]
fn callouts_go_to_the_cluster_of_their_name() {
    let bridge = Origin::start(|_, peer| {
        assert_eq!(peer.body(3), "ask");
        peer.send("HTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\nasked");
        true
    });
    let origin = Origin::echo();
    let (server, record) = serve(&asking(), |builder| builder.upstream(origin.url()).cluster("bridge", bridge.url()));
    let mut client = Peer::connect(server.address());
    for _ in 0..2 {
        assert_eq!(client.get("/menu").body, "/menu");
    }
    assert!(bridge.heads()[0].starts_with("POST /ask HTTP/1.1\r\n"), "{:?}", bridge.heads());
    assert!(bridge.heads()[0].contains("host: bridge\r\n"), "{:?}", bridge.heads());
    assert_eq!(bridge.connections(), 1);
    assert_eq!(record.logs()[..4], ["call=0", "headers=3", "201", "asked"].map(|line| format!("worker 0: {line}")));
}

#[test]
fn failures_of_callouts_have_envoys_shapes() {
    let hanging = Origin::start(|_, peer| !peer.is_closed());
    let closing = Origin::start(|_, _| false);
    let cutting = Origin::start(|_, peer| {
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart");
        false
    });
    let origin = Origin::echo();
    for (bridge, want) in [
        (Some(hanging.url()), "call=0 headers=3 504 upstream request timeout"),
        (
            Some(closing.url()),
            "call=0 headers=3 503 upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        ),
        (Some(cutting.url()), "call=0 headers=0"),
        (None, "call=2"),
    ] {
        let (server, record) = serve(&asking(), |builder| {
            let builder = builder.upstream(origin.url());
            bridge.into_iter().fold(builder, |builder, bridge| builder.cluster("bridge", bridge))
        });
        let mut client = Peer::connect(server.address());
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        record.wait_for(want.split(' ').next_back().unwrap());
        let said: Vec<_> = record.logs().iter().map(|line| line.replace("worker 0: ", "")).collect();
        assert_eq!(said.join(" "), want);
    }
}

/// Connections go to workers in turn, so two clients meet two VMs; what one enqueues, the last to register hears of.
#[test]
fn workers_share_queues_and_data() {
    let filter = probe(
        &[
            on("configure", "(drop (call $register_queue \"news\" (i32.const 8))) (i32.const 1)"),
            on(
                "request_headers",
                "(drop (call $enqueue (i32.load (i32.const 8)) \"extra\"))
                 (drop (call $reply (i32.const 200) (i32.const 0) (i32.const 0) \"ok\" (i32.const 0) (i32.const 0) (i32.const -1)))
                 (i32.const 1)",
            ),
            on(
                "queue_ready",
                "(drop (call $dequeue (local.get $token) (i32.const 0) (i32.const 4)))
                 (call $say (i32.load (i32.const 0)) (i32.load (i32.const 4)))",
            ),
        ]
        .concat(),
    );
    let (server, record) = serve(&filter, |builder| builder.workers(3));
    let mut clients: Vec<_> = (0..3).map(|_| Peer::connect(server.address())).collect();
    for (count, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.get("/").body, "ok");
        crate::stage::eventually("news", || record.logs().len() == count + 1);
    }
    assert_eq!(record.logs(), ["worker 2: extra"; 3]);
}

#[test]
fn every_thread_ticks() {
    let filter = probe(
        &[on("configure", "(drop (call $tick (i32.const 20))) (i32.const 1)"), on("tick", "(call $say \"tick\")")]
            .concat(),
    );
    let (server, record) = serve(&filter, |builder| builder.workers(2));
    for thread in ["main thread", "worker 0", "worker 1"] {
        crate::stage::eventually("three ticks", || {
            record.logs().iter().filter(|line| **line == format!("{thread}: tick")).count() >= 3
        });
    }
    drop(server);
}

#[test]
fn a_server_that_stops_lets_requests_end_and_takes_no_more() {
    let (go_on, wait) = mpsc::channel::<()>();
    let (tell, heard) = mpsc::channel::<()>();
    let both = Mutex::new((wait, tell));
    let origin = Origin::start(move |_, peer| {
        let both = both.lock().unwrap();
        both.1.send(()).unwrap();
        both.0.recv_timeout(PATIENCE).unwrap();
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate");
        true
    });
    let filter = probe(&on("done", "(call $say \"done\") (i32.const 1)"));
    let (server, record) = serve(&filter, |builder| builder.upstream(origin.url()));
    let address = server.address();
    let (mut idle, mut busy) = (Peer::connect(address), Peer::connect(address));
    busy.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    heard.recv_timeout(PATIENCE).unwrap();
    let stopping = std::thread::spawn(|| server.stop());
    assert!(idle.is_closed());
    crate::stage::eventually("it listens no more", || TcpStream::connect(address).is_err());
    go_on.send(()).unwrap();
    let answer = busy.read();
    assert_eq!((answer.body.as_str(), answer.header("connection")), ("late", Some("close")));
    assert!(stopping.join().unwrap());
    // The request's context, and the root contexts of both threads.
    assert_eq!(record.logs().iter().filter(|line| line.ends_with("done")).count(), 3);
}

#[test]
fn what_does_not_end_in_time_is_cut_off() {
    let filter = probe(&on("request_headers", "(call $say \"came\") (i32.const 1)"));
    let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
    let (server, record) = serve(&filter, |builder| builder.limits(limits));
    let mut client = Peer::connect(server.address());
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    record.wait_for("came");
    assert!(!server.stop());
    assert!(client.is_closed());
    assert_eq!(record.accesses(), ["GET / 0 broken_off"]);
}
