//! Bodies flow as they come, and no further than somebody takes them.

use std::io::{ErrorKind, Write as _};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use crate::probe::{on, probe};
use crate::stage::{Origin, PATIENCE, Peer, serve};

fn passing() -> Vec<u8> {
    probe("")
}

#[test]
fn a_response_reaches_the_client_while_it_is_still_being_made() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::start(move |_, peer| {
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
        wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        peer.send("3\r\ntwo\r\n0\r\n\r\n");
        true
    });
    let (server, _) = serve(&passing(), |builder| builder.upstream(origin.url()));
    let mut client = Peer::connect(server.address());
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200"));
    assert_eq!(client.chunk().as_deref(), Some("one"));
    go_on.send(()).unwrap();
    assert_eq!((client.chunk().as_deref(), client.chunk().as_deref()), (Some("two"), Some("")));
}

#[test]
fn a_request_reaches_the_origin_while_it_is_still_being_made() {
    let (tell, heard) = mpsc::channel();
    let tell = Mutex::new(tell);
    let origin = Origin::start(move |_, peer| {
        while let Some(chunk) = peer.chunk().filter(|chunk| !chunk.is_empty()) {
            tell.lock().unwrap().send(chunk).unwrap();
        }
        peer.trailers();
        peer.send("HTTP/1.1 204 No Content\r\n\r\n");
        true
    });
    let (server, _) = serve(&passing(), |builder| builder.upstream(origin.url()));
    let mut client = Peer::connect(server.address());
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for word in ["one", "two"] {
        client.send(&format!("3\r\n{word}\r\n"));
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), word);
    }
    client.send("0\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 204"));
}

/// Sends until the other side takes no more for a while; how many bytes it took.
fn taken(client: &mut Peer, bytes_max: usize) -> usize {
    let stream = client.stream();
    stream.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    let piece = [b'x'; 16 << 10];
    let mut taken = 0;
    while taken < bytes_max {
        match stream.write(&piece) {
            Ok(count) => taken += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    taken
}

/// The filter waits for ever with the request's headers: its body stays with the client, but for what the buffers hold.
#[test]
fn a_client_waits_while_the_filter_does() {
    const BYTES: usize = 64 << 20;
    let filter = probe(&on("request_headers", "(i32.const 1)"));
    let (server, _) = serve(&filter, |builder| builder);
    let mut client = Peer::connect(server.address());
    client.send(&format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {BYTES}\r\n\r\n"));
    let taken = taken(&mut client, BYTES);
    // 1 MiB in the server; the rest is what the system keeps for two sockets.
    assert!(taken < 16 << 20, "{taken}");
}

#[test]
fn an_origin_waits_while_the_client_does() {
    const BYTES: usize = 64 << 20;
    let (tell, heard) = mpsc::channel();
    let tell = Mutex::new(tell);
    let origin = Origin::start(move |_, peer| {
        peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n"));
        tell.lock().unwrap().send(taken(peer, BYTES)).unwrap();
        false
    });
    let (server, _) = serve(&passing(), |builder| builder.upstream(origin.url()));
    let mut client = Peer::connect(server.address());
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let taken = heard.recv_timeout(PATIENCE).unwrap();
    assert!(taken < 32 << 20, "{taken}");
}

#[test]
fn the_filter_and_the_origin_hear_that_a_client_has_gone() {
    let (tell, heard) = mpsc::channel();
    let tell = Mutex::new(tell);
    let origin = Origin::start(move |_, peer| {
        tell.lock().unwrap().send("asked").unwrap();
        assert!(peer.is_closed());
        tell.lock().unwrap().send("closed").unwrap();
        false
    });
    let filter = probe(&on("log", "(call $note \"gone\" (i32.const 1))"));
    let (server, record) = serve(&filter, |builder| builder.upstream(origin.url()));
    let mut client = Peer::connect(server.address());
    client.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(heard.recv_timeout(PATIENCE), Ok("asked"));
    client.close();
    assert_eq!(heard.recv_timeout(PATIENCE), Ok("closed"));
    record.wait_for("gone=1");
    assert_eq!(record.accesses(), ["GET /slow 0 downstream_remote_disconnect"]);
}
