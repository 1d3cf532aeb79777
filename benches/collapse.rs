//! How many requests does the origin get when a hot key expires under load, or a crowd asks for a cold one, next to nginx
//! (`proxy_cache_lock`, `use_stale updating`, `background_update`), Varnish (grace) and Envoy's own cache filter?
//!
//! Each cache stands in front of the same origin, which counts, and is asked by the same clients, one cache after the other.
//! They disagree on when a lifetime of some seconds is over (nginx counts whole seconds, others a response's `Date`), so what
//! is counted is requests for each expiry: those that arrive until the origin hasn't been asked for half a second. A
//! client's latency counts where its request overlaps an expiry. The last line is the worst ratio of our requests to those of
//! the best of the others, in any of the four cases; above 1 is a failure.

mod caches;
mod envoys;

use std::error::Error;
use std::time::{Duration, Instant};

use http::StatusCode;
use routecache_harness::{Answer, Heard, Load, Origin, Request, Seen};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use caches::Cache;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Clients that read a hot key without end, each on its connection, and what each waits between two requests.
const READERS: usize = 32;
const PAUSE: Duration = Duration::from_millis(10);

/// How often the hot key expires, and how often a crowd comes.
const EXPIRIES: usize = 5;
const CROWDS: usize = 3;

/// Clients in a crowd.
const CROWD: usize = 1000;

/// An expiry is over when the origin hasn't been asked for so long. Shorter than any cache holds what it got.
const QUIET: Duration = Duration::from_millis(500);

/// What happens, and what the origin says meanwhile.
struct Case {
    name: &'static str,
    folder: &'static str,
    origin_takes: Duration,
    cache_control: &'static str,
    cold: bool,
}

const CASES: [Case; 4] = [
    Case {
        name: "hot key expires, stale may answer, origin takes 100 ms",
        folder: "lenient",
        origin_takes: Duration::from_millis(100),
        cache_control: "max-age=3, stale-while-revalidate=30",
        cold: false,
    },
    Case {
        name: "hot key expires, stale may answer, origin takes 1 s",
        folder: "slow",
        origin_takes: Duration::from_secs(1),
        cache_control: "max-age=3, stale-while-revalidate=30",
        cold: false,
    },
    Case {
        name: "hot key expires, nothing stale may answer, origin takes 100 ms",
        folder: "strict",
        origin_takes: Duration::from_millis(100),
        cache_control: "max-age=3",
        cold: false,
    },
    Case {
        name: "1000 clients at once ask for a cold key, origin takes 1 s",
        folder: "cold",
        origin_takes: Duration::from_secs(1),
        cache_control: "max-age=600",
        cold: true,
    },
];

/// What a case came to with one cache.
struct Count {
    cache: &'static str,
    /// Requests that the origin got.
    asked: usize,
    /// Expiries, or crowds.
    times: usize,
    clients: usize,
    errors: usize,
    /// Sorted; of requests during an expiry.
    took: Vec<Duration>,
}

impl Count {
    fn per_time(&self) -> f64 {
        as_f64(self.asked) / as_f64(self.times)
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let origin = Origin::start().await?;
    let caches = caches::all(origin.address()).await?;
    let mut worst: f64 = 0.0;
    for case in &CASES {
        let mut counts = Vec::new();
        for cache in &caches {
            eprintln!("{}: {}", case.name, cache.name);
            counts.push(if case.cold {
                crowds(case, cache, &origin).await?
            } else {
                expiries(case, cache, &origin).await?
            });
        }
        worst = worst.max(report(case, &counts));
    }
    println!("{worst:.2}");
    if worst > 1.0 {
        std::process::exit(1);
    }
    Ok(())
}

/// Prints a case; the ratio of ours to the best of the others.
fn report(case: &Case, counts: &[Count]) -> f64 {
    println!("{}", case.name);
    println!(
        "    {:<20}{:>16}{:>9}{:>13}{:>10}{:>8}{:>12}{:>12}",
        "", "origin requests", "of times", "each time", "clients'", "errors", "p99", "longest"
    );
    for count in counts {
        let nth = |share: usize| count.took.get((count.took.len().saturating_sub(1)) * share / 100).copied();
        let ms = |time: Option<Duration>| time.map_or("-".into(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3));
        println!(
            "    {:<20}{:>16}{:>9}{:>13.2}{:>10}{:>8}{:>12}{:>12}",
            count.cache,
            count.asked,
            count.times,
            count.per_time(),
            count.clients,
            count.errors,
            ms(nth(99)),
            ms(nth(100))
        );
    }
    let best = counts.iter().skip(1).map(Count::per_time).fold(f64::INFINITY, f64::min);
    counts.first().map_or(f64::INFINITY, |ours| ours.per_time() / best)
}

/// A new path whose answers are the case's.
fn script(case: &Case, cache: &Cache, nth: usize, origin: &Origin) -> String {
    let name = cache.name.to_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    let path = format!("/{}/{name}/{nth}", case.folder);
    let answer = Answer::json(StatusCode::OK, &json!({ "text": "x".repeat(1024) }));
    origin.script("GET", &path, answer.header("cache-control", case.cache_control).after(case.origin_takes));
    path
}

/// Readers that don't stop, until the key has expired often enough.
async fn expiries(case: &Case, cache: &Cache, origin: &Origin) -> Outcome<Count> {
    let path = script(case, cache, 0, origin);
    cache.client().get(&path).await?;
    let asked = path.clone();
    let load = Load::start(cache.client(), READERS, PAUSE, move |_, _| Request::get(asked.as_str()));
    let began = Instant::now();
    // The first time is the fill.
    let mut times = Vec::new();
    while times.len() <= EXPIRIES {
        if began.elapsed() > Duration::from_secs(120) {
            return Err(format!("{}: {} expiries in two minutes, not {EXPIRIES}", cache.name, times.len()).into());
        }
        sleep(Duration::from_millis(50)).await;
        times = bursts(&heard(origin, &path));
    }
    let seen = load.end().await;
    let expiries = times.get(1..=EXPIRIES).unwrap_or_default();
    let during = |one: &&Seen| {
        let overlaps = |burst: &Burst| one.began < burst.ends && burst.begins < one.began + one.took;
        expiries.iter().any(overlaps)
    };
    let mut took: Vec<Duration> = seen.iter().filter(during).map(|one| one.took).collect();
    took.sort();
    Ok(Count {
        cache: cache.name,
        asked: expiries.iter().map(|burst| burst.requests).sum(),
        times: expiries.len(),
        clients: seen.len(),
        errors: seen.iter().filter(|one| one.status != Some(StatusCode::OK)).count(),
        took,
    })
}

/// Crowds that come at once, each for another key.
async fn crowds(case: &Case, cache: &Cache, origin: &Origin) -> Outcome<Count> {
    let mut count = Count { cache: cache.name, asked: 0, times: CROWDS, clients: 0, errors: 0, took: Vec::new() };
    let mut connections = Vec::new();
    for _ in 0..CROWD {
        connections.push(cache.client().connect().await?);
    }
    for nth in 0..CROWDS {
        let path = script(case, cache, nth, origin);
        let mut crowd = JoinSet::new();
        for mut connection in connections.drain(..) {
            let path = path.clone();
            crowd.spawn(async move {
                let answer = connection.get(&path).await;
                (connection, answer)
            });
        }
        for (connection, answer) in crowd.join_all().await {
            connections.push(connection);
            count.clients += 1;
            match answer {
                Ok(answer) if answer.status == StatusCode::OK => count.took.push(answer.elapsed),
                _ => count.errors += 1,
            }
        }
        count.asked += heard(origin, &path).len();
    }
    count.took.sort();
    Ok(count)
}

fn heard(origin: &Origin, path: &str) -> Vec<Heard> {
    let request = format!("GET {path}");
    origin.heard().into_iter().filter(|one| one.request == request).collect()
}

/// Requests for one key that followed each other closely.
struct Burst {
    begins: Instant,
    ends: Instant,
    requests: usize,
}

/// Those that are over.
fn bursts(heard: &[Heard]) -> Vec<Burst> {
    let mut bursts: Vec<Burst> = Vec::new();
    for one in heard {
        let ends = one.ended.unwrap_or_else(Instant::now);
        match bursts.last_mut() {
            Some(last) if one.at < last.ends + QUIET => {
                last.ends = last.ends.max(ends);
                last.requests += 1;
            }
            _ => bursts.push(Burst { begins: one.at, ends, requests: 1 }),
        }
    }
    let now = Instant::now();
    bursts.retain(|burst| burst.ends + QUIET < now);
    bursts
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^53")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
