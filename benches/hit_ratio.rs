//! How many requests does the worker tier's eviction answer, next to other policies with as many bytes? LRU (`lru`), a
//! relative of S3-FIFO (`quick_cache`) and W-TinyLFU (`moka`), on requests whose popularity is Zipf's, on such requests
//! between scans, and while what is popular changes.

use lru::LruCache;
use moka::sync::Cache as Moka;
use quick_cache::Weighter;
use quick_cache::unsync::Cache as Quick;
use routecache_core::eviction::S3Fifo;

/// Keys that there are, and requests for them.
const KEYS: usize = 100_000;
const REQUESTS: usize = 1_000_000;

fn main() {
    println!("{REQUESTS} requests for {KEYS} keys of 200 B to 20 KB; share of requests that are answered\n");
    println!("{:<22} {:>8}  {:>8} {:>8} {:>12} {:>10}", "", "bytes", "S3-FIFO", "LRU", "quick_cache", "W-TinyLFU");
    println!("{:<22} {:>8}  {:>8} {:>8} {:>12} {:>10}", "", "", "(ours)", "(lru)", "", "(moka)");
    let all: u64 = (0..KEYS as u64).map(size).sum();
    for (name, trace) in
        [("Zipf 1.0", zipf(1.0)), ("Zipf 0.8", zipf(0.8)), ("Zipf 1.0 and scans", scans()), ("shifting", shifting())]
    {
        for percent in [1, 5, 20] {
            let bytes = all * percent / 100;
            let ratios = [ours(&trace, bytes), least_recent(&trace, bytes), quick(&trace, bytes), moka(&trace, bytes)];
            let [ours, lru, quick, moka] = ratios.map(|hits| hits as f64 * 100.0 / trace.len() as f64);
            let megabytes = bytes / 1_000_000;
            println!("{name:<22} {megabytes:>5} MB  {ours:>6.1} % {lru:>6.1} % {quick:>10.1} % {moka:>8.1} %");
        }
    }
}

/// A key's size in bytes; the same in every run.
fn size(key: u64) -> u64 {
    200 + mix(key) % 100 * (mix(key ^ 0xff) % 200)
}

/// SplitMix64.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A number in [0, 1).
fn unit(seed: u64) -> f64 {
    (mix(seed) >> 11) as f64 / (1_u64 << 53) as f64
}

fn zipf(skew: f64) -> Vec<u64> {
    let mut sum = 0.0;
    let mut shares = Vec::with_capacity(KEYS);
    for rank in 1..=KEYS {
        sum += 1.0 / (rank as f64).powf(skew);
        shares.push(sum);
    }
    let key = |request: usize| shares.partition_point(|share| *share < unit(request as u64) * sum) as u64;
    // Ranks are spread over the keys, so that size and popularity have nothing to do with each other.
    (0..REQUESTS).map(|request| mix(key(request)) % KEYS as u64).collect()
}

/// After every 50 000 requests, 50 000 keys that are asked for once.
fn scans() -> Vec<u64> {
    let mut trace = Vec::new();
    for (part, requests) in zipf(1.0).chunks(50_000).enumerate() {
        trace.extend(requests);
        trace.extend((0..50_000).map(|number| (KEYS * (part + 1) + number) as u64));
    }
    trace
}

/// What is popular changes ten times.
fn shifting() -> Vec<u64> {
    let shift = |(number, key): (usize, u64)| (key + (number / (REQUESTS / 10) * 7_919) as u64) % KEYS as u64;
    zipf(1.0).into_iter().enumerate().map(shift).collect()
}

fn ours(trace: &[u64], bytes: u64) -> usize {
    let mut cache = S3Fifo::new(bytes);
    trace
        .iter()
        .filter(|key| hits(cache.get(mix(**key)).is_some(), || drop(cache.insert(mix(**key), (), size(**key)))))
        .count()
}

fn least_recent(trace: &[u64], bytes: u64) -> usize {
    let (mut cache, mut held) = (LruCache::unbounded(), 0);
    let mut count = 0;
    for key in trace {
        if cache.get(key).is_some() {
            count += 1;
            continue;
        }
        cache.put(*key, ());
        held += size(*key);
        while held > bytes {
            let Some((old, ())) = cache.pop_lru() else { break };
            held -= size(old);
        }
    }
    count
}

#[derive(Clone)]
struct Sizes;

impl Weighter<u64, ()> for Sizes {
    fn weight(&self, key: &u64, (): &()) -> u64 {
        size(*key)
    }
}

fn quick(trace: &[u64], bytes: u64) -> usize {
    let capacity = usize::try_from(bytes / 1_000).unwrap_or(usize::MAX);
    let mut cache = Quick::with_weighter(capacity, bytes, Sizes);
    trace.iter().filter(|key| hits(cache.get(*key).is_some(), || cache.insert(**key, ()))).count()
}

fn moka(trace: &[u64], bytes: u64) -> usize {
    let weigh = |key: &u64, (): &()| u32::try_from(size(*key)).unwrap_or(u32::MAX);
    let cache = Moka::builder().max_capacity(bytes).weigher(weigh).build();
    let mut since = 0;
    let mut count = 0;
    for key in trace {
        if cache.get(key).is_some() {
            count += 1;
        } else {
            cache.insert(*key, ());
        }
        since += 1;
        // It evicts when it has the time; here it has, or it would hold more bytes than the others.
        if since % 64 == 0 {
            cache.run_pending_tasks();
        }
    }
    count
}

fn hits(hit: bool, otherwise: impl FnOnce()) -> bool {
    if !hit {
        otherwise();
    }
    hit
}
