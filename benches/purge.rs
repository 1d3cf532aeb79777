//! Does a purge cost more where more entries carry the tag (C14)? In the group's store in memory; and what it costs in a
//! gateway's log with a worker that follows it, where nothing knows how many entries there are.
//!
//! `bench-purge [--entries-max N]`

use std::process::ExitCode;
use std::time::Instant;

use bridge_api::{LookupReply, LookupRequest, PurgeRequest, StoreRequest};
use routecache_bridge::mem::Memory;
use routecache_core::bans::Bans;
use routecache_core::gateway_log::{Applied, Change, GatewayLog, Head, Record};
use routecache_core::key::tag_hash;
use routecache_core::purge_table::PurgeTable;

const NAMESPACE: &str = "bench:v1";
const TAG: &str = "user:7";
const PURGES: u32 = 2_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let most = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Some(1_000_000),
        ["--entries-max", most] => most.parse().ok(),
        _ => None,
    };
    let Some(most) = most else {
        eprintln!("bench-purge: say `--entries-max 100000`, or nothing");
        return ExitCode::from(2);
    };
    // First: an allocator that has a million small pieces back is slow at large ones for a while.
    println!("gateway's log and a worker, whatever they hold: {:.2} µs", gateway());
    println!("{:>9} entries with the tag   group's store", "");
    for entries in [1, 1_000, 10_000, 100_000, 1_000_000].into_iter().filter(|entries| *entries <= most) {
        println!("{entries:>9}                      {:>8.2} µs", group(entries));
    }
    ExitCode::SUCCESS
}

/// Microseconds for a purge in the store.
fn group(entries: u64) -> f64 {
    let mut memory = Memory::new(4 << 30, 1);
    let (namespace, tags) = (NAMESPACE.to_owned(), vec![TAG.to_owned()]);
    let ask =
        LookupRequest { namespace: namespace.clone(), key: String::new(), tags: vec![], ..LookupRequest::default() };
    let (LookupReply::Miss { ticket, .. }, _) = memory.lookup(&ask, 1) else { unreachable!("nothing is stored") };
    for entry in 0..entries {
        let (namespace, tags, key) = (namespace.clone(), tags.clone(), format!("key {entry}"));
        let request = StoreRequest { namespace, key, tags, ticket, keep_ms: 3_600_000, holder: None };
        memory.store(&request, b"a small entry".to_vec().into(), 1);
    }
    let start = Instant::now();
    for purge in 0..PURGES {
        memory.purge(
            &PurgeRequest { namespace: namespace.clone(), tags: tags.clone(), ..PurgeRequest::default() },
            purge.into(),
        );
    }
    micros(start)
}

/// Microseconds for a purge in a gateway: the log changed and written, the head published, a worker brought up to date.
fn gateway() -> f64 {
    let mut bytes = GatewayLog::new(1).encode();
    let mut table = PurgeTable::default();
    let mut head = None;
    let record = Record { tag: Some(tag_hash(TAG)), group: None, soft: None };
    let start = Instant::now();
    for _ in 0..PURGES {
        let log = GatewayLog::decode(&bytes).expect("our own log");
        if let Applied::Changed(next) = log.apply(&Change { records: vec![record], ..Change::default() }, 2) {
            bytes = next.encode();
            head = Head::publish(head, &next, None).or(head);
        }
        table.follow(&GatewayLog::decode(&bytes).expect("our own log"), &Bans::default());
    }
    micros(start)
}

fn micros(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / f64::from(PURGES)
}
