//! Memory stays flat, however many requests there are: `cargo xtask bench flat` makes a million of them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::ask;
use crate::support::{BridgeProcess, RedisServer};

/// What may come on top of what is there after a fifth of the requests.
const GROWTH_MAX_KIB: usize = 8 << 10;

const CONNECTIONS: usize = 16;

/// Requests in a row of which one asks again for the same key, one stores and one purges.
const MIX: usize = 8;

fn resident_kib(bridge: &BridgeProcess) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", bridge.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[test]
fn memory_is_flat() {
    let requests = std::env::var("ROUTECACHE_REQUESTS").map_or(50_000, |number| number.parse().unwrap());
    let keys = requests / 10;
    let server = RedisServer::start();
    let bridge = BridgeProcess::start(&["--store", &server.url(), "--store-timeout-ms", "5000"]);
    let answer = ask(bridge.address, "POST", "/v1/lookup", r#"{"namespace":"n","key":"k","tags":[]}"#);
    let ticket = answer.split_once(r#""ticket":"#).unwrap().1.split_inclusive('}').next().unwrap();

    let (done, mut samples) = (AtomicUsize::new(0), Vec::new());
    thread::scope(|scope| {
        for number in 0..CONNECTIONS {
            let (done, address) = (&done, bridge.address);
            scope.spawn(move || {
                let mut peer = Peer::connect(address);
                for request in (number..requests).step_by(CONNECTIONS) {
                    peer.send(request, request / MIX * 7919 % keys, ticket);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let began = Instant::now();
        for tenth in 2..=10 {
            while done.load(Ordering::Relaxed) < requests / 10 * tenth {
                assert!(began.elapsed() < Duration::from_secs(600), "nothing is answered any longer");
                thread::sleep(Duration::from_millis(5));
            }
            samples.push(resident_kib(&bridge));
        }
    });
    println!("resident KiB after each tenth of {requests} requests, from the second: {samples:?}");
    let (first, most) = (samples[0], samples.iter().max().unwrap());
    assert!(most - first <= GROWTH_MAX_KIB, "{samples:?}");
}

struct Peer {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Peer {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, answer: vec![0; 64 << 10] }
    }

    fn send(&mut self, request: usize, key: usize, ticket: &str) {
        let tags = format!(r#""tags":["a{key}","all"]"#);
        let (path, body) = match request % MIX {
            0 => {
                let head = format!(r#"{{"namespace":"n","key":"k{key}",{tags},"ticket":{ticket},"keep_ms":60000}}"#);
                // Of many lengths, up to what is compressed.
                ("store", format!("{head}\n{}", "payload ".repeat(key % 1000)))
            }
            1 => ("purge", format!(r#"{{"namespace":"n","tags":["a{key}"]}}"#)),
            _ => ("lookup", format!(r#"{{"namespace":"n","key":"k{key}",{tags}}}"#)),
        };
        let length = body.len();
        let text = format!("POST /v1/{path} HTTP/1.1\r\nhost: b\r\ncontent-length: {length}\r\n\r\n{body}");
        self.stream.write_all(text.as_bytes()).unwrap();
        let mut come = 0;
        loop {
            let more = self.stream.read(&mut self.answer[come..]).unwrap();
            assert!(more > 0, "the bridge hung up");
            come += more;
            let Some(head) = self.answer[..come].windows(4).position(|at| at == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.answer[..head]).unwrap();
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            let length = text.split_once("content-length: ").unwrap().1.split('\r').next().unwrap();
            if come == head + 4 + length.parse::<usize>().unwrap() {
                return;
            }
        }
    }
}
