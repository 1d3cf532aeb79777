//! `simulate`: what `cargo xtask simulate` runs, which also builds the filters that it needs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use e2e::simulation::hunt::{Found, Tally, hunt, shrink};
use e2e::simulation::plan::{Plan, Theme};
use e2e::simulation::planted::{PLANTS, Place, Plant, named};

struct Options {
    seeds: Option<u64>,
    first: u64,
    plant: Option<&'static Plant>,
    within: Duration,
    theme: Option<Theme>,
    shrink: bool,
    mixes: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list-planted") {
        PLANTS.iter().for_each(|plant| println!("{}", plant.name));
        return ExitCode::SUCCESS;
    }
    match options(&words).and_then(|options| simulate(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(mistake) => {
            eprintln!("simulate: {mistake}");
            ExitCode::from(2)
        }
    }
}

fn options(words: &[String]) -> Result<Options, String> {
    let (within, theme) = (Duration::MAX, None);
    let mut options = Options { seeds: None, first: 1, plant: None, within, theme, shrink: true, mixes: true };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|value| value.parse::<u64>().ok());
            value.ok_or_else(|| format!("`{word}` wants a number"))
        };
        match word.as_str() {
            "--seeds" => options.seeds = Some(number()?),
            "--seed" => options.first = number()?,
            "--seconds" => options.within = Duration::from_secs(number()?),
            "--no-shrink" => options.shrink = false,
            "--quiet" => options.mixes = false,
            "--theme" => {
                let name = words.next().map(String::as_str).unwrap_or_default();
                options.theme = Some(Theme::named(name).ok_or_else(|| format!("there is no theme `{name}`"))?);
            }
            "--planted" => {
                let name = words.next().map(String::as_str).unwrap_or_default();
                let plant = named(name)
                    .ok_or_else(|| format!("there is no planted mistake `{name}`\n    `--list-planted` lists them"))?;
                options.plant = Some(plant);
            }
            other => return Err(format!("`{other}` is not an option")),
        }
    }
    Ok(options)
}

fn simulate(options: &Options) -> Result<bool, String> {
    let target = routecache_harness::target().map_err(|error| error.to_string())?;
    let planted = options.plant.is_some_and(|plant| plant.place == Place::Filter);
    let filter: PathBuf = target.join(if planted { "routecache-planted.wasm" } else { "routecache.wasm" });
    if !filter.exists() {
        return Err(format!("{} isn't there\n    run: cargo xtask simulate", filter.display()));
    }
    let seeds = options.seeds.unwrap_or_else(|| options.plant.map_or(1000, |plant| plant.seeds).max(300));
    let (start, next) = (Instant::now(), AtomicU64::new(0));
    let (tally, found) = (Mutex::new(Tally::default()), Mutex::new(None::<Found>));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let over = number >= seeds || start.elapsed() >= options.within;
                    if over || found.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                        return;
                    }
                    let seed = options.first.wrapping_add(number);
                    let plan = Plan::draw(seed);
                    if options.theme.is_some_and(|wanted| wanted != plan.theme) {
                        continue;
                    }
                    if options.mixes {
                        println!("{}", plan.mix());
                    }
                    let (ran, broken) = hunt([seed], &filter, options.plant, Duration::MAX);
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    tally.runs += ran.runs;
                    tally.requests += ran.requests;
                    tally.hits += ran.hits;
                    if let Some(broken) = broken {
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        // The lowest seed, whatever thread was faster.
                        if found.as_ref().is_none_or(|other| other.plan.seed > seed) {
                            *found = Some(broken);
                        }
                    }
                }
            });
        }
    });
    let Tally { runs, requests, hits } = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let took = start.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(requests).unwrap_or(u32::MAX)) / took.max(0.001);
    println!("{runs} runs, {requests} requests ({hits} hits) in {took:.1} s: {rate:.0} requests/s");
    let Some(found) = found.into_inner().unwrap_or_else(PoisonError::into_inner) else {
        println!("no law was broken");
        return Ok(true);
    };
    let seed = found.plan.seed;
    println!("\nseed {seed} breaks a law: {}", found.breaches[0]);
    let steps = found.plan.steps.len();
    let found = if options.shrink { shrink(found, &filter, options.plant) } else { found };
    println!("\n{} of its {steps} steps are enough:\n{}\n{}", found.plan.steps.len(), found.plan, found.history);
    found.breaches.iter().take(10).for_each(|breach| println!("{breach}"));
    println!("\nto repeat it: cargo xtask simulate --seeds 1 --seed {seed}{}", planted_words(options.plant));
    Ok(false)
}

fn planted_words(plant: Option<&Plant>) -> String {
    plant.map(|plant| format!(" --planted {}", plant.name)).unwrap_or_default()
}
