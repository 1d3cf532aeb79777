//! Many runs of one scenario, each with a seed of its own: what it draws, what goes wrong, and how a failure is made small.
//!
//! ```
//! use proxy_wasm_host_test::{Request, Response, Simulation, World};
//!
//! let filter = br#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
//!     (func (export "malloc") (param i32) (result i32) (i32.const 1024)))"#;
//! let simulation = Simulation::new(move || World::builder().filter(filter.as_slice()).workers(2).origin(|_| Response::ok("menu")))
//!     .requests(|dice| (0..20).map(|_| (dice.up_to_ms(500), Request::get("/").worker(dice.below(2)))).collect())
//!     .check(|world| match world.answers().find(|(_, answer)| answer.status == 200 && answer.text() != "menu") {
//!         Some((_, answer)) => Err(format!("a wrong answer: {}", answer.text())),
//!         None => Ok(()),
//!     });
//! for seed in 0..3 {
//!     if let Err(failure) = simulation.run(seed) {
//!         // The filter kept to the laws, but a fault can cut an answer short.
//!         println!("{failure}");
//!     }
//! }
//! ```

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::faults::{Fault, Faults, Injected, Site};
use crate::random::Random;
use crate::request::Request;
use crate::world::{World, WorldBuilder};

type Requests = Box<dyn Fn(&mut Dice) -> Vec<(Duration, Request)>>;
type Check = Box<dyn Fn(&World) -> Result<(), String>>;

/// A scenario that is run with many seeds.
///
/// The seed decides the requests, the order in which workers go on, and the [faults](Faults). Each run is done twice: a run that isn't the
/// same twice has failed.
pub struct Simulation {
    build: Box<dyn Fn() -> WorldBuilder>,
    requests: Requests,
    check: Check,
    faults: Box<dyn Fn(u64) -> Faults>,
}

/// What a scenario draws from.
#[derive(Debug)]
pub struct Dice(Random);

impl Dice {
    /// A number below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound)
    }

    /// A time of at most so many milliseconds.
    pub fn up_to_ms(&mut self, max: u32) -> Duration {
        let drawn = self.0.below(usize::try_from(max).unwrap_or(usize::MAX).saturating_add(1));
        Duration::from_millis(u64::try_from(drawn).unwrap_or(u64::MAX))
    }

    /// One of these.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn one_of<'a, T>(&mut self, these: &'a [T]) -> &'a T {
        &these[self.0.below(these.len())]
    }
}

/// A run that can be done again: which of its seed's requests are sent, counted from 0, and what goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The seed.
    pub seed: u64,
    /// The requests.
    pub requests: Vec<usize>,
    /// The faults.
    pub faults: Vec<Injected>,
}

impl Replay {
    /// As a YAML file.
    pub fn to_yaml(&self) -> String {
        let requests: Vec<String> = self.requests.iter().map(usize::to_string).collect();
        let faults: String = self.faults.iter().map(|fault| format!("  - '{fault}'\n")).collect();
        let faults = if faults.is_empty() { " []\n".to_owned() } else { format!("\n{faults}") };
        format!("replay: 1\nseed: {}\nrequests: [{}]\nfaults:{faults}", self.seed, requests.join(", "))
    }

    /// Reads what [`Self::to_yaml`] writes; lines that begin with `#` are passed over.
    ///
    /// # Errors
    ///
    /// The line that isn't understood.
    pub fn from_yaml(text: &str) -> Result<Self, String> {
        let mut replay = Self { seed: 0, requests: Vec::new(), faults: Vec::new() };
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let wrong = || format!("not a line of a replay file: {line}");
            if let Some(fault) = line.trim_start().strip_prefix("- ") {
                replay.faults.push(Injected::parse(fault.trim_matches('\'')).ok_or_else(wrong)?);
                continue;
            }
            let (name, value) = line.split_once(':').ok_or_else(wrong)?;
            match (name, value.trim()) {
                ("replay", "1") | ("faults", "" | "[]") => {}
                ("seed", seed) => replay.seed = seed.parse().map_err(|_| wrong())?,
                ("requests", list) => {
                    let list = list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).ok_or_else(wrong)?;
                    let numbers = list.split(',').map(str::trim).filter(|number| !number.is_empty());
                    replay.requests = numbers.map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
                }
                _ => return Err(wrong()),
            }
        }
        Ok(replay)
    }
}

/// A run that broke a law, failed its check, panicked or couldn't be repeated.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong, of the smallest run.
    pub what: String,
    /// The smallest run that was found.
    pub replay: Replay,
    /// How many requests and faults the run had at first.
    pub found_with: (usize, usize),
    /// The log of the smallest run.
    pub log: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (requests, faults) = self.found_with;
        write!(
            formatter,
            "{}\nfound with {requests} requests and {faults} faults; the smallest run, for Simulation::replay:\n\n{}\n{}",
            self.what,
            self.replay.to_yaml(),
            self.log
        )
    }
}

impl std::error::Error for Failure {}

/// What came of one run.
struct Outcome {
    wrong: Option<String>,
    injected: Vec<Injected>,
    /// Everything that happened, to be compared.
    trace: String,
    log: String,
}

impl Simulation {
    /// Worlds are built with this, a new one for each run; its seed and faults are set afterwards.
    pub fn new(build: impl Fn() -> WorldBuilder + 'static) -> Self {
        Self {
            build: Box::new(build),
            requests: Box::new(|_| Vec::new()),
            check: Box::new(|_| Ok(())),
            faults: Box::new(Faults::from_seed),
        }
    }

    /// What clients send, and when; drawn from the seed.
    #[must_use]
    pub fn requests(mut self, requests: impl Fn(&mut Dice) -> Vec<(Duration, Request)> + 'static) -> Self {
        self.requests = Box::new(requests);
        self
    }

    /// What must hold at the end, beside the laws.
    #[must_use]
    pub fn check(mut self, check: impl Fn(&World) -> Result<(), String> + 'static) -> Self {
        self.check = Box::new(check);
        self
    }

    /// Lets nothing go wrong by itself.
    #[must_use]
    pub fn without_faults(mut self) -> Self {
        self.faults = Box::new(|_| Faults::listed([]));
        self
    }

    /// Lets also go wrong what goes wrong in no Envoy: see [`Faults::harsh_from_seed`].
    #[must_use]
    pub fn harsh(mut self) -> Self {
        self.faults = Box::new(Faults::harsh_from_seed);
        self
    }

    /// Leaves out what the filter is known not to stand.
    #[must_use]
    pub fn without(mut self, unwanted: impl Fn(Site, Fault) -> bool + 'static) -> Self {
        let faults = self.faults;
        self.faults = Box::new(move |seed| faults(seed).without(&unwanted));
        self
    }

    /// Runs with a seed, twice. A failure is made as small as it gets: fewer faults, then fewer requests.
    ///
    /// # Errors
    ///
    /// The smallest [`Failure`] that was found; its text holds the replay file.
    pub fn run(&self, seed: u64) -> Result<(), Box<Failure>> {
        let all: Vec<usize> = (0..self.drawn(seed).len()).collect();
        let first = self.play(seed, &all, (self.faults)(seed));
        let replay = Replay { seed, requests: all.clone(), faults: first.injected.clone() };
        if first.wrong.is_none() {
            let second = self.play(seed, &all, (self.faults)(seed));
            if let Some(place) = first_difference(&first.trace, &second.trace) {
                let what = format!("two runs of seed {seed} differ: {place}");
                return Err(Self::failure(what, replay, &first, &first));
            }
            return Ok(());
        }
        let (replay, last) = self.shrink(replay);
        let what = last.wrong.clone().or(first.wrong.clone()).unwrap_or_default();
        Err(Self::failure(what, replay, &first, if last.wrong.is_some() { &last } else { &first })
            .with_requests(all.len()))
    }

    /// Runs a replay again, as it is.
    ///
    /// # Errors
    ///
    /// The [`Failure`], if it still fails.
    pub fn replay(&self, replay: &Replay) -> Result<(), Box<Failure>> {
        let outcome = self.play_again(replay);
        match &outcome.wrong {
            None => Ok(()),
            Some(what) => {
                let failure = Self::failure(what.clone(), replay.clone(), &outcome, &outcome);
                Err(failure.with_requests(replay.requests.len()))
            }
        }
    }

    fn failure(what: String, replay: Replay, found: &Outcome, smallest: &Outcome) -> Box<Failure> {
        let found_with = (replay.requests.len(), found.injected.len());
        Box::new(Failure { what, replay, found_with, log: smallest.log.clone() })
    }

    fn drawn(&self, seed: u64) -> Vec<(Duration, Request)> {
        (self.requests)(&mut Dice(Random::new(seed)))
    }

    fn play_again(&self, replay: &Replay) -> Outcome {
        self.play(replay.seed, &replay.requests, Faults::listed(replay.faults.clone()))
    }

    fn play(&self, seed: u64, wanted: &[usize], faults: Faults) -> Outcome {
        let drawn = self.drawn(seed);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut world = match (self.build)().seed(seed).faults(faults).tolerate_violations().build() {
                Ok(world) => world,
                Err(error) => return Outcome::wrong(error.to_string()),
            };
            for (_, (at, request)) in drawn.into_iter().enumerate().filter(|(number, _)| wanted.contains(number)) {
                world.at(world.now() + at, move |world| {
                    world.send(request);
                });
            }
            world.run_until_idle();
            world.shut_down();
            let violations = world.violations();
            let broken: String = violations.iter().map(|violation| format!("{violation}\n")).collect();
            let wrong = if broken.is_empty() { (self.check)(&world).err() } else { Some(broken) };
            Outcome {
                wrong,
                injected: world.injected_faults(),
                trace: format!("{:#?}\n{:#?}", world.trace(), world.answers().collect::<Vec<_>>()),
                log: world.log_text(),
            }
        }));
        outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Outcome::wrong(
                text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default(),
            )
        })
    }

    /// Leaves out faults and requests, halves first, for as long as the run fails.
    fn shrink(&self, mut replay: Replay) -> (Replay, Outcome) {
        let mut last = self.play_again(&replay);
        if last.wrong.is_none() {
            // Its faults fell elsewhere: the seed itself is what fails.
            return (replay, last);
        }
        loop {
            let before = replay.clone();
            let faults = replay.faults.clone();
            replay.faults = smallest(faults, |faults| {
                let outcome = self.play_again(&Replay { faults: faults.to_vec(), ..replay.clone() });
                keep_if_wrong(outcome, &mut last)
            });
            // A fault that comes sooner needs fewer requests before it.
            for index in 0..replay.faults.len() {
                let number = replay.faults[index].number;
                for sooner in [0, number / 2, number.saturating_sub(1)] {
                    let mut earlier = replay.clone();
                    earlier.faults[index].number = sooner;
                    if sooner < replay.faults[index].number && keep_if_wrong(self.play_again(&earlier), &mut last) {
                        replay = earlier;
                    }
                }
            }
            let requests = replay.requests.clone();
            replay.requests = smallest(requests, |requests| {
                let outcome = self.play_again(&Replay { requests: requests.to_vec(), ..replay.clone() });
                keep_if_wrong(outcome, &mut last)
            });
            if replay == before {
                break;
            }
        }
        (replay, last)
    }
}

impl Failure {
    fn with_requests(mut self: Box<Self>, requests: usize) -> Box<Self> {
        self.found_with.0 = requests;
        self
    }
}

impl Outcome {
    fn wrong(what: String) -> Self {
        Self { wrong: Some(what), injected: Vec::new(), trace: String::new(), log: String::new() }
    }
}

fn keep_if_wrong(outcome: Outcome, last: &mut Outcome) -> bool {
    let wrong = outcome.wrong.is_some();
    if wrong {
        *last = outcome;
    }
    wrong
}

/// A part of a list, in its order, of which no single element can be left out any more.
pub(crate) fn smallest<T: Clone>(mut list: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut size = list.len();
    while size > 0 {
        let (mut start, mut shrunk) = (0, false);
        while start < list.len() {
            let end = (start + size).min(list.len());
            let without = [&list[..start], &list[end..]].concat();
            if fails(&without) {
                list = without;
                shrunk = true;
            } else {
                start = end;
            }
        }
        if size == 1 && !shrunk {
            break;
        }
        size = if size == 1 { 1 } else { size / 2 };
    }
    list
}

fn first_difference(one: &str, other: &str) -> Option<String> {
    if one == other {
        return None;
    }
    let differs = one.lines().zip(other.lines()).find(|(left, right)| left != right);
    Some(differs.map_or_else(|| "one is longer".to_owned(), |(left, right)| format!("{left} / {right}")))
}

#[cfg(test)]
mod tests {
    use super::{Injected, Replay, smallest};

    #[test]
    fn a_replay_file_reads_back() {
        let fault = |text| Injected::parse(text).unwrap();
        for faults in [vec![], vec![fault("callout 3: slow 300"), fault("request 0: wall-jump -3600")]] {
            for requests in [vec![], vec![0, 7]] {
                let replay = Replay { seed: 7, requests, faults: faults.clone() };
                let yaml = format!("# found today\n{}", replay.to_yaml());
                assert_eq!(Replay::from_yaml(&yaml), Ok(replay), "{yaml}");
            }
        }
        assert!(Replay::from_yaml("seed: x").unwrap_err().contains("seed: x"));
        assert!(Replay::from_yaml("faults:\n  - 'callout 3: nothing'").is_err());
    }

    #[test]
    fn a_list_shrinks_to_what_matters() {
        let needs_3_and_40 = |list: &[u32]| list.contains(&3) && list.contains(&40);
        assert_eq!(smallest((0..100).collect(), needs_3_and_40), [3, 40]);
        assert_eq!(smallest((0..100).collect::<Vec<u32>>(), |_| true), [0_u32; 0]);
    }
}
