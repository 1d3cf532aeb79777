//! `bench`: what can be measured, by name.

use crate::step::{self, Failure};
use crate::{build, tools};

/// A measurement, and the question that it answers.
struct Bench {
    name: &'static str,
    question: &'static str,
    run: fn() -> Result<(), Failure>,
}

/// Every bench; a name given to `cargo xtask bench` is one of these.
const KNOWN: &[Bench] = &[
    Bench {
        name: "core",
        question: "what do the core's decisions cost, in nanoseconds?",
        run: || step::run("bench", &mut step::cargo(["bench", "--package", "routecache-benches"])),
    },
    Bench {
        name: "hit",
        question: "what does a hit from the worker tier cost in Envoy, next to Envoy's own cache and to no work at all?",
        run: hit,
    },
    Bench {
        name: "bridge",
        question: "how many lookups does the bridge answer per second of its CPU, next to webdis's GET on the same Redis?",
        run: bridge,
    },
    Bench {
        name: "purge",
        question: "does a purge cost more where more entries carry the tag?",
        run: || program("bench-purge"),
    },
    Bench {
        name: "hit-ratio",
        question: "how many requests does the worker tier answer, next to LRU, quick_cache and W-TinyLFU with as many bytes?",
        run: || program("bench-hit-ratio"),
    },
    Bench { name: "flat", question: "does the bridge's memory grow over a million requests?", run: flat },
    Bench {
        name: "collapse",
        question: "how many requests does the origin get when a hot key expires, next to nginx, Varnish and Envoy's own cache?",
        run: collapse,
    },
    Bench { name: "memory", question: "what does an entry cost in each tier, beyond its body?", run: memory },
];

fn bridge() -> Result<(), Failure> {
    tools::wrk()?;
    tools::webdis()?;
    let server = tools::redis()?;
    step::run("the bridge", &mut step::cargo(["build", "--release", "--package", "routecache-bridge"]))?;
    let mut bench = step::cargo(["run", "--release", "--package", "routecache-benches", "--bin", "bench-bridge"]);
    bench
        .env("ROUTECACHE_REDIS", server)
        .env("ROUTECACHE_BRIDGE_BIN", step::target().join("release/routecache-bridge"));
    step::run("lookups", &mut bench)
}

/// One of the benches' programs.
fn program(name: &str) -> Result<(), Failure> {
    step::run(name, &mut step::cargo(["run", "--release", "--package", "routecache-benches", "--bin", name]))
}

fn flat() -> Result<(), Failure> {
    let redis = tools::redis()?;
    let mut test = step::cargo(["test", "--release", "--package", "routecache-bridge", "--test", "it"]);
    test.args(["--", "--exact", "flat::memory_is_flat", "--nocapture"]).env("ROUTECACHE_REQUESTS", "1000000");
    step::run("a million requests", test.env("ROUTECACHE_REDIS", redis))
}

fn memory() -> Result<(), Failure> {
    let redis = tools::redis()?;
    step::run("bridge", &mut step::cargo(["build", "--release", "--package", "routecache-bridge"]))?;
    let mut bench = step::cargo(["run", "--release", "--package", "routecache-benches", "--bin", "bench-memory"]);
    step::run("memory", bench.env("ROUTECACHE_REDIS", redis))
}

fn hit() -> Result<(), Failure> {
    build::filter()?;
    tools::wrk()?;
    let mut bench = step::cargo(["run", "--release", "--package", "routecache-benches", "--bin", "bench-hit"]);
    step::run("hits", bench.env("ROUTECACHE_ENVOY", tools::envoy()?))
}

fn collapse() -> Result<(), Failure> {
    build::filter()?;
    let mut bench = step::cargo(["run", "--release", "--package", "routecache-benches", "--bin", "bench-collapse"]);
    bench.env("ROUTECACHE_ENVOY", tools::envoy()?);
    for (variable, found) in [("ROUTECACHE_NGINX", tools::nginx()), ("ROUTECACHE_VARNISHD", tools::varnish())] {
        match found {
            Ok(program) => _ = bench.env(variable, program),
            Err(failure) => eprintln!("\n{failure}\n\nTHE BENCH GOES ON WITHOUT IT\n"),
        }
    }
    step::run("collapse", &mut bench)
}

/// Prints the names and questions.
pub fn list() {
    for bench in KNOWN {
        println!("cargo xtask bench {:<10} {}", bench.name, bench.question);
    }
}

/// Runs the bench of that name.
///
/// # Errors
///
/// When there is none, or it fails.
pub fn run(name: &str) -> Result<(), Failure> {
    let bench = KNOWN.iter().find(|bench| bench.name == name).ok_or_else(|| {
        Failure::new(format!("there is no bench `{name}`"), "`cargo xtask bench` lists what can be measured")
    })?;
    eprintln!("{}", bench.question);
    (bench.run)()
}
