//! What does an entry cost in each tier, beyond its body? The worker tier is counted at the allocator, the gateway tier as
//! keys and values of shared data, the group tier in memory by its own account and in Redis by `used_memory`.

use std::alloc::{GlobalAlloc, Layout as Block, System};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bridge_api::{LOOKUP, LookupReply, LookupRequest, STORE, StoreRequest, decode, encode};
use http::Method;
use routecache_bridge::mem::Memory;
use routecache_core::entry::{Entry, Freshness, Parts, Ticket};
use routecache_core::eviction::S3Fifo;
use routecache_core::gateway_tier::{Admission, Index, Layout, slot_bytes};
use routecache_core::key::hash_of;
use routecache_core::policy::Terms;
use routecache_core::reply::Replay;
use routecache_harness::{Bridge, Client, Redis, Request, Result};

const ENTRIES: usize = 4_000;
const BODY: usize = 1_024;
const TAGS: [&str; 5] =
    ["user:1", "!url:00112233445566778899aabbccddeeff", "!host:api.example.com", "!rule:orders", "!all"];

/// The system's allocator, counting.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe; this one hands everything on")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Block) -> *mut u8 {
        HELD.fetch_add(block.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(block) }
    }

    unsafe fn dealloc(&self, at: *mut u8, block: Block) {
        HELD.fetch_sub(block.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, block) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn key(number: usize) -> String {
    format!("shop:v1 orders https GET api.example.com user:{number}:orders:1 size=20")
}

fn entry(number: usize) -> Entry {
    Entry::new(&Parts {
        ticket: Ticket { era: 1, position: 1 },
        received_ms: 0,
        freshness: Freshness { lifetime_ms: 300_000, ..Freshness::default() },
        fingerprint: 1,
        status: 200,
        key: &key(number),
        tags: &TAGS,
        header: &[
            (b"content-type", b"application/json"),
            (b"date", b"Mon, 23 Nov 2026 05:19:30 GMT"),
            (b"etag", b"\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
        ],
        body: &vec![b'x'; BODY],
    })
    .expect("an entry")
}

fn worker() -> usize {
    let before = HELD.load(Ordering::Relaxed);
    let mut tier = S3Fifo::new(1 << 30);
    for number in 0..ENTRIES {
        let replay = Rc::new(Replay::new(entry(number), &Terms::default()));
        let footprint = replay.footprint();
        tier.insert(hash_of(&key(number)), replay, footprint);
    }
    (HELD.load(Ordering::Relaxed) - before) / ENTRIES - BODY
}

fn gateway() -> usize {
    let layout = Layout::new(64 << 20, 1 << 20);
    let mut bytes = 0;
    let mut indexes: Vec<Index> = (0..layout.segments).map(|_| Index::new(layout, 1)).collect();
    for number in 0..ENTRIES {
        let (hash, entry) = (hash_of(&key(number)), entry(number));
        let segment = layout.segment(hash);
        let size = u64::try_from(entry.bytes().len()).unwrap_or(u64::MAX);
        if let Admission::Place { slot, .. } = indexes[usize::from(segment)].admit(hash, entry.ticket(), size) {
            bytes +=
                slot_bytes(&slot, Some(&entry)).len() + format!("routecache/1/shop:v1/{segment}/{}", slot.number).len();
        }
    }
    bytes += indexes.iter().map(|index| index.encode().len()).sum::<usize>();
    bytes / ENTRIES - BODY
}

fn store(number: usize, ticket: bridge_api::Ticket) -> (StoreRequest, Vec<u8>) {
    let request = StoreRequest {
        namespace: "shop:v1".to_owned(),
        key: key(number),
        tags: TAGS.map(str::to_owned).to_vec(),
        ticket,
        keep_ms: 300_000,
        holder: None,
    };
    (request, entry(number).for_group(0).expect("an entry").bytes().to_vec())
}

fn lookup() -> LookupRequest {
    let (namespace, key) = ("shop:v1".to_owned(), "nothing".to_owned());
    LookupRequest { namespace, key, tags: Vec::new(), ..LookupRequest::default() }
}

fn memory() -> usize {
    let mut memory = Memory::new(1 << 30, 1);
    let (LookupReply::Miss { ticket, .. }, _) = memory.lookup(&lookup(), 1) else { return 0 };
    let before = memory.bytes();
    for number in 0..ENTRIES {
        let (request, payload) = store(number, ticket);
        memory.store(&request, payload.into(), 1);
    }
    (memory.bytes() - before) / ENTRIES - BODY
}

async fn redis() -> Result<usize> {
    let redis = Redis::start().await?;
    let bridge = Bridge::start(redis.url()).await?;
    let mut connection = Client::new(bridge.address()).connect().await?;
    let mut call = async |path: &str, body: Vec<u8>| connection.send(Request::new(Method::POST, path).body(body)).await;
    let answer = call(LOOKUP, encode(&lookup(), b"")).await?;
    let Ok((LookupReply::Miss { ticket, .. }, _)) = decode(&answer.body) else { return Ok(0) };
    let before = redis.used_memory().await?;
    for number in 0..ENTRIES {
        let (request, payload) = store(number, ticket);
        call(STORE, encode(&request, &payload)).await?;
    }
    Ok((redis.used_memory().await? - before) / ENTRIES - BODY)
}

#[tokio::main]
async fn main() -> ExitCode {
    println!(
        "bytes for each of {ENTRIES} entries beyond a body of {BODY} bytes; key, header and checksum are {} of them\n",
        entry(1).bytes().len() - BODY
    );
    println!("worker tier (allocated)     {:>6}", worker());
    println!("gateway tier (shared data)  {:>6}", gateway());
    println!("group tier, mem://          {:>6}", memory());
    match redis().await {
        Ok(bytes) => println!("group tier, Redis           {bytes:>6}"),
        Err(error) => println!("group tier, Redis                -  ({error})"),
    }
    ExitCode::SUCCESS
}
