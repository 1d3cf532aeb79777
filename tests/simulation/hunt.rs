//! Goes through seeds, and makes a run that breaks a law as short as it can.

use std::path::Path;
use std::time::{Duration, Instant};

use super::history::History;
use super::laws::{Breach, breaches};
use super::plan::Plan;
use super::planted::Plant;
use super::run::run;

/// How long a run is shrunk at most, on the machine's clock.
const SHRINKING: Duration = Duration::from_secs(20);

/// A run that broke a law.
pub struct Found {
    /// As short as it could be made.
    pub plan: Plan,
    /// What happened in it.
    pub history: History,
    /// What broke.
    pub breaches: Vec<Breach>,
}

/// What was gone through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// Requests of clients in them.
    pub requests: u64,
    /// Reads that a cache answered.
    pub hits: u64,
}

impl Tally {
    fn add(&mut self, history: &History) {
        self.runs += 1;
        self.requests += u64::try_from(history.reads.len() + history.writes.len()).unwrap_or(0);
        let hits = history.reads.iter().filter(|read| read.told.contains("hit")).count();
        self.hits += u64::try_from(hits).unwrap_or(0);
    }
}

/// Runs these seeds until one breaks a law, or the time is up. What it found isn't shrunk.
pub fn hunt(
    seeds: impl IntoIterator<Item = u64>,
    filter: &Path,
    plant: Option<&Plant>,
    within: Duration,
) -> (Tally, Option<Found>) {
    let (start, mut tally) = (Instant::now(), Tally::default());
    for seed in seeds {
        if start.elapsed() >= within {
            break;
        }
        let plan = Plan::draw(seed);
        let history = run(&plan, filter, plant);
        tally.add(&history);
        let breaches = breaches(&history);
        if !breaches.is_empty() {
            return (tally, Some(Found { plan, history, breaches }));
        }
    }
    (tally, None)
}

/// Leaves out steps as long as the run still breaks the law that it broke first.
pub fn shrink(found: Found, filter: &Path, plant: Option<&Plant>) -> Found {
    let (start, mut best) = (Instant::now(), found);
    let Some(law) = best.breaches.first().map(|breach| breach.law) else { return best };
    let mut size = best.plan.steps.len() / 2;
    while size > 0 {
        let mut from = 0;
        while from < best.plan.steps.len() {
            if start.elapsed() >= SHRINKING {
                return best;
            }
            let mut plan = best.plan.clone();
            let to = (from + size).min(plan.steps.len());
            // The time that the steps took goes on passing, or what comes after them would come too soon.
            let took: u64 = plan.steps.drain(from..to).map(|step| step.after_us).sum();
            if let Some(next) = plan.steps.get_mut(from) {
                next.after_us += took;
            }
            let history = run(&plan, filter, plant);
            let breaches = breaches(&history);
            match breaches.first() {
                Some(breach) if breach.law == law => best = Found { plan, history, breaches },
                _ => from += size,
            }
        }
        size /= 2;
    }
    best
}
