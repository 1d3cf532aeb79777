//! A small part of what `cargo xtask simulate` does, on each run of the tests.

#[path = "judges.rs"]
mod judges;

use std::time::Duration;

use e2e::simulation::hunt::{hunt, shrink};
use e2e::simulation::plan::Plan;
use e2e::simulation::planted::named;
use e2e::simulation::run::run;

/// On a busy machine these are fewer seeds, not more time.
const WITHIN: Duration = Duration::from_secs(15);

/// C1 to C9, C11 to C13.
#[test]
fn no_seed_makes_a_fault_break_a_law() {
    let filter = routecache_harness::filter().expect("the filter");
    let (tally, found) = hunt(1..=150, &filter, None, WITHIN);
    assert!(tally.runs > 0 && tally.hits > 0, "{tally:?}");
    if let Some(found) = found.map(|found| shrink(found, &filter, None)) {
        let breaches: String = found.breaches.iter().map(|breach| format!("{breach}\n")).collect();
        panic!("{breaches}{}\n{}", found.plan, found.history);
    }
}

/// The judges aren't blind: those mistakes that need no filter of their own.
#[test]
fn what_a_wrong_bridge_does_is_found() {
    let filter = routecache_harness::filter().expect("the filter");
    for name in ["feed_gap_ignored", "store_under_tail", "create_unchecked"] {
        let plant = named(name).expect("a planted mistake");
        let (tally, found) = hunt(1..=plant.seeds, &filter, Some(plant), Duration::from_secs(60));
        assert!(found.is_some(), "{name} wasn't found in {tally:?}");
    }
}

/// I30.
#[test]
fn a_seed_repeats_its_run() {
    let filter = routecache_harness::filter().expect("the filter");
    for seed in [3, 4, 5, 24, 25] {
        let plan = Plan::draw(seed);
        let runs = [(); 2].map(|()| run(&plan, &filter, None));
        let [once, again] = runs.map(|history| format!("{history}{:?}", history.contacts));
        assert_eq!(once, again, "seed {seed}");
    }
}

#[test]
fn no_mistake_is_planted_in_the_filter_that_ships() {
    let filter = std::fs::read(routecache_harness::filter().expect("the filter")).expect("a file");
    let trace = b"ROUTECACHE_PLANTED";
    assert!(!filter.windows(trace.len()).any(|bytes| bytes == trace));
}
