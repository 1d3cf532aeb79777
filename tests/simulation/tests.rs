//! What `cargo xtask simulate` does, for the first seeds, on each run of the tests.

#[path = "judges.rs"]
mod judges;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use e2e::simulation::hunt::{hunt, shrink};
use e2e::simulation::plan::Plan;
use e2e::simulation::planted::{PLANTS, Place, Plant, named};
use e2e::simulation::run::run;

/// What a share of the seeds may take. It needs some eight seconds of a core; and it ends in time to shrink what was found, before
/// the test runner ends it.
const WITHIN: Duration = Duration::from_secs(240);

/// C1 to C9, C11 to C13.
fn no_law_is_broken_by(seeds: RangeInclusive<u64>) {
    let filter = routecache_harness::filter().expect("the filter");
    let promised = seeds.clone().count();
    let (tally, found) = hunt(seeds.clone(), &filter, None, WITHIN);
    println!("seeds {seeds:?}: {tally:?}");
    if let Some(found) = found.map(|found| shrink(found, &filter, None)) {
        let breaches: String = found.breaches.iter().map(|breach| format!("{breach}\n")).collect();
        let seed = found.plan.seed;
        panic!(
            "seed {seed} breaks a law\n{breaches}{}\n{}\nto repeat it: cargo xtask simulate --seeds 1 --seed {seed}",
            found.plan, found.history
        );
    }
    assert!(tally.hits > 0, "{tally:?}");
    assert_eq!(
        usize::try_from(tally.runs),
        Ok(promised),
        "more than {WITHIN:?} for {seeds:?}; is this machine overloaded?"
    );
}

/// One test for each share of the seeds, so that a test runner spreads them over the cores.
macro_rules! seeds_in_shares {
    ($($name:ident: $seeds:expr,)*) => {
        $(#[test]
        fn $name() {
            no_law_is_broken_by($seeds);
        })*
    };
}

seeds_in_shares! {
    seeds_to_150_break_no_law: 1..=150,
    seeds_to_300_break_no_law: 151..=300,
    seeds_to_450_break_no_law: 301..=450,
    seeds_to_600_break_no_law: 451..=600,
    seeds_to_750_break_no_law: 601..=750,
    seeds_to_900_break_no_law: 751..=900,
    seeds_to_1050_break_no_law: 901..=1050,
    seeds_to_1200_break_no_law: 1051..=1200,
    seeds_to_1350_break_no_law: 1201..=1350,
    seeds_to_1500_break_no_law: 1351..=1500,
    seeds_to_1650_break_no_law: 1501..=1650,
    seeds_to_1800_break_no_law: 1651..=1800,
    seeds_to_1950_break_no_law: 1801..=1950,
    seeds_to_2100_break_no_law: 1951..=2100,
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

/// What the list says of the filter is there, and nothing else.
#[test]
fn every_mistake_of_the_list_is_planted_somewhere_and_listed_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = vec![root.join("plugin/src"), root.join("plugin/core/src")];
    let mut planted = BTreeSet::new();
    while let Some(path) = sources.pop() {
        if path.is_dir() {
            sources.extend(std::fs::read_dir(&path).expect("a folder").map(|file| file.expect("a file").path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source");
        let calls = text.split("planted(\"").skip(1);
        planted.extend(calls.filter_map(|rest| rest.split_once("\")")).map(|(name, _)| name.to_owned()));
    }
    let of_filter = |plant: &&Plant| plant.place == Place::Filter;
    let listed: Vec<String> = PLANTS.iter().filter(of_filter).map(|plant| plant.name.to_owned()).collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), planted);
    assert_eq!(listed.len(), planted.len(), "one is listed twice");
    // So that a default run looks for each as far as it is said to be found.
    assert!(PLANTS.iter().all(|plant| plant.seeds == 300));
}

#[test]
fn no_mistake_is_planted_in_the_filter_that_ships() {
    let filter = std::fs::read(routecache_harness::filter().expect("the filter")).expect("a file");
    let trace = b"ROUTECACHE_PLANTED";
    assert!(!filter.windows(trace.len()).any(|bytes| bytes == trace));
}
