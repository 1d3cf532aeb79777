//! How often an entry's bytes are copied on their way: counted as what is asked of the allocator for each byte of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use bridge_api::{LOOKUP, STORE};
use routecache_bridge::{Bridge, Packing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{RedisServer, redis_store};

/// The system's allocator, counting each thread's bytes.
struct Counting;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    ASKED.with(|asked| asked.set(asked.get() + bytes));
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Layout) -> *mut u8 {
        count(block.size());
        // SAFETY: as above.
        unsafe { System.alloc(block) }
    }

    unsafe fn dealloc(&self, at: *mut u8, block: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, block) }
    }

    unsafe fn realloc(&self, at: *mut u8, block: Layout, bytes: usize) -> *mut u8 {
        count(bytes);
        // SAFETY: as above.
        unsafe { System.realloc(at, block, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ENTRY: usize = 1 << 20;

/// Everything but Redis runs on this thread.
#[tokio::test]
async fn an_entry_is_copied_four_times_on_its_way_in_and_once_on_its_way_out() {
    let server = RedisServer::start();
    let packing = Packing { by: None, ..Packing::default() };
    let store = redis_store(&server.url(), Duration::from_secs(5)).with_packing(packing);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Bridge::new(store).serve(listener, std::future::pending()));
    let mut peer = Peer { stream: TcpStream::connect(address).await.unwrap(), answer: vec![0; 2 * ENTRY] };

    let asked = r#"{"namespace":"n","key":"k","tags":["a"]}"#;
    let miss = String::from_utf8(peer.call(LOOKUP, asked).await.to_vec()).unwrap();
    let ticket = miss.split_once(r#""ticket":"#).unwrap().1.split_inclusive('}').next().unwrap();
    let head = format!(r#"{{"namespace":"n","key":"k","tags":["a"],"ticket":{ticket},"keep_ms":60000}}"#);
    let stored = format!("{head}\n{}", "x".repeat(ENTRY));

    let per_store = peer.copies(STORE, &stored, r#"{"outcome":"stored"}"#).await;
    let per_lookup = peer.copies(LOOKUP, asked, r#"{"outcome":"hit""#).await;
    println!("bytes allocated per byte of an entry of 1 MiB: store {per_store:.2}, lookup {per_lookup:.2}");
    // What hyper reads, all of it in one piece, the command, and the pipeline that the client makes of it.
    assert!(per_store < 4.2, "{per_store}");
    // What the client takes from its buffer goes into the answer as it is.
    assert!(per_lookup < 1.1, "{per_lookup}");
}

struct Peer {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Peer {
    /// What is allocated for each byte of an entry, once buffers have grown.
    async fn copies(&mut self, path: &str, body: &str, begins: &str) -> f64 {
        const CALLS: usize = 20;
        let request = request(path, body);
        let mut before = 0;
        for call in 0..2 * CALLS {
            if call == CALLS {
                before = ASKED.get();
            }
            let answer = self.send(&request).await;
            assert!(answer.starts_with(begins.as_bytes()), "{}", String::from_utf8_lossy(&answer[..100]));
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let per_byte = (ASKED.get() - before) as f64 / (CALLS * ENTRY) as f64;
        per_byte
    }

    async fn call(&mut self, path: &str, body: &str) -> &[u8] {
        self.send(&request(path, body)).await
    }

    /// Allocates nothing.
    async fn send(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).await.unwrap();
        let mut length = 0;
        loop {
            length += self.stream.read(&mut self.answer[length..]).await.unwrap();
            if let Some(body) = body(&self.answer[..length]) {
                return &self.answer[body..length];
            }
        }
    }
}

fn request(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: b\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// Where the body begins, if all of it is there.
fn body(answer: &[u8]) -> Option<usize> {
    let head = answer.windows(4).take(1000).position(|at| at == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&answer[..head]).unwrap();
    let length: usize = text.split_once("content-length: ")?.1.split('\r').next()?.parse().unwrap();
    (answer.len() >= head + length).then_some(head)
}
