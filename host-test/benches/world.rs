//! What does a test cost? How many requests does a world simulate in a second, and what does it take to load a filter: compiled anew,
//! from the cache on disk, and once more in the same process?
//!
//! `cargo bench -p proxy-wasm-host-test --profile dev` measures what `cargo test` has; paths of other filters may follow behind `--`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use proxy_wasm_host_test::{Request, Response, World};

const CACHE_VARIABLE: &str = "PROXY_WASM_HOST_TEST_CACHE";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.as_slice() {
        [word, filter] if word == "load" => println!("{}", load(Path::new(filter)).as_micros()),
        filters => measure(filters),
    }
}

fn measure(filters: &[String]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filters");
    let own = ["c.wasm", "add_header.wasm"].map(|name| folder.join(name));
    for filter in own.into_iter().chain(filters.iter().map(PathBuf::from)) {
        let size = std::fs::metadata(&filter).map_or(0, |metadata| metadata.len() / 1024);
        println!("{} ({size} KiB)", filter.file_name().unwrap_or_default().to_string_lossy());
        let cache = std::env::temp_dir().join(format!("proxy-wasm-host-test-bench-{}", std::process::id()));
        let of = |cache: &Path| in_a_process_of_its_own(&filter, cache);
        println!("  load without a cache:          {:>8.1?}", of(Path::new("")));
        println!("  load with an empty cache:      {:>8.1?}", of(&cache));
        println!("  load from the cache:           {:>8.1?}", of(&cache));
        // Whatever is left there is temporary anyway.
        let _ = std::fs::remove_dir_all(&cache);
        load(&filter);
        println!("  another world in the process:  {:>8.1?}", load(&filter));
        for workers in [1, 4] {
            println!(
                "  requests a second, {workers} worker{}:  {:>7.0}",
                if workers > 1 { "s" } else { " " },
                rate(&filter, workers)
            );
        }
    }
}

/// Builds a world with a worker.
fn load(filter: &Path) -> Duration {
    let began = Instant::now();
    let world = World::builder().filter(filter).root_id("add_header").tolerate_violations().build();
    let took = began.elapsed();
    if let Err(error) = world {
        eprintln!("{}: {error}", filter.display());
    }
    took
}

/// The same in a process that hasn't loaded anything yet.
fn in_a_process_of_its_own(filter: &Path, cache: &Path) -> Duration {
    let itself = std::env::current_exe().expect("a program knows its own path");
    let output = Command::new(itself).arg("load").arg(filter).env(CACHE_VARIABLE, cache).output();
    let said = String::from_utf8(output.expect("it starts once more").stdout).unwrap_or_default();
    Duration::from_micros(said.trim().parse().unwrap_or(0))
}

/// Requests that a world gets through in a second of ours, each with an answer of its own.
fn rate(filter: &Path, workers: usize) -> f64 {
    const REQUESTS: u32 = 5000;
    let world = World::builder()
        .filter(filter)
        .root_id("add_header")
        .workers(workers)
        .keep_callbacks(100)
        .origin(|_| Response::ok("menu").after(Duration::from_millis(3)))
        .tolerate_violations()
        .build();
    let Ok(mut world) = world else { return 0.0 };
    let began = Instant::now();
    for number in 0..REQUESTS {
        let worker = usize::try_from(number).unwrap_or(0) % workers;
        world.after(Duration::from_millis(1) * number, move |world| _ = world.send(Request::get("/").worker(worker)));
    }
    world.run_until_idle();
    f64::from(REQUESTS) / began.elapsed().as_secs_f64()
}
