//! Faults drawn by seed: each seed has a mix of its own, and what was injected can be injected again, one by one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::abi::Status;
use crate::random::Random;
use crate::upstream::{Reply, Response};

/// Where something can go wrong. Each place counts how often it was passed, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// A client sends a request.
    Request,
    /// A request reaches the origin.
    Origin,
    /// A callout reaches its cluster.
    Callout,
    /// A timer runs out.
    Tick,
    /// Shared data is read.
    SharedRead,
    /// Shared data is written, with a `cas`.
    SharedWrite,
}

impl Site {
    const ALL: [Self; 6] =
        [Self::Request, Self::Origin, Self::Callout, Self::Tick, Self::SharedRead, Self::SharedWrite];

    /// Its name in a replay file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Origin => "origin",
            Self::Callout => "callout",
            Self::Tick => "tick",
            Self::SharedRead => "shared-read",
            Self::SharedWrite => "shared-write",
        }
    }

    /// What can go wrong there.
    fn faults(self) -> &'static [Fault] {
        use Fault::{
            Absent, BadAnswer, CasMismatch, ClientLeaves, Crash, Cut, Double, Evict, Garbage, Hang, Late, NoConnection,
            Refuse, Reset, Restart, Skip, Slow, WallJump,
        };
        match self {
            Self::Request => {
                &[ClientLeaves(5), ClientLeaves(40), Restart, Crash, WallJump(3600), WallJump(-3600), Evict]
            }
            Self::Origin => &[NoConnection, Reset, Hang, Cut, Slow(300), BadAnswer(503), BadAnswer(500)],
            Self::Callout => {
                &[Refuse, NoConnection, Reset, Hang, Cut, Slow(20), Slow(300), BadAnswer(500), BadAnswer(301), Garbage]
            }
            Self::Tick => &[Skip, Double, Late(200)],
            Self::SharedRead => &[Absent],
            Self::SharedWrite => &[CasMismatch],
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The client goes away after so many milliseconds.
    ClientLeaves(u32),
    /// The worker loses its VM and gets a new one, just before the request.
    Restart,
    /// The worker's VM traps in this request's headers callback.
    Crash,
    /// The wall clock jumps by so many seconds.
    WallJump(i32),
    /// All shared data is lost.
    Evict,
    /// The callout is refused while the filter makes it.
    Refuse,
    /// No connection.
    NoConnection,
    /// The connection breaks before the answer.
    Reset,
    /// There is no answer.
    Hang,
    /// The answer breaks off before its end.
    Cut,
    /// The answer comes so many milliseconds later.
    Slow(u32),
    /// An answer with this status and a text takes the place of the real one.
    BadAnswer(u16),
    /// The answer's body is replaced by bytes that mean nothing.
    Garbage,
    /// The timer is passed over this once.
    Skip,
    /// The timer runs out twice.
    Double,
    /// The timer runs out so many milliseconds late.
    Late(u32),
    /// The value isn't there, as if the host had evicted it.
    Absent,
    /// Another worker was faster.
    CasMismatch,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientLeaves(ms) => write!(formatter, "client-leaves {ms}"),
            Self::Restart => formatter.write_str("restart"),
            Self::Crash => formatter.write_str("crash"),
            Self::WallJump(seconds) => write!(formatter, "wall-jump {seconds}"),
            Self::Evict => formatter.write_str("evict"),
            Self::Refuse => formatter.write_str("refuse"),
            Self::NoConnection => formatter.write_str("no-connection"),
            Self::Reset => formatter.write_str("reset"),
            Self::Hang => formatter.write_str("hang"),
            Self::Cut => formatter.write_str("cut"),
            Self::Slow(ms) => write!(formatter, "slow {ms}"),
            Self::BadAnswer(status) => write!(formatter, "bad-answer {status}"),
            Self::Garbage => formatter.write_str("garbage"),
            Self::Skip => formatter.write_str("skip"),
            Self::Double => formatter.write_str("double"),
            Self::Late(ms) => write!(formatter, "late {ms}"),
            Self::Absent => formatter.write_str("absent"),
            Self::CasMismatch => formatter.write_str("cas-mismatch"),
        }
    }
}

impl Fault {
    /// What becomes of an upstream's reply.
    pub(crate) fn spoil(self, reply: Reply) -> Reply {
        match self {
            Self::Refuse => Reply::refuse(Status::InternalFailure),
            Self::NoConnection => Reply::connect_failure(),
            Self::Reset => Reply::reset(),
            Self::Hang => Reply::hang(),
            Self::Slow(ms) => {
                let after = reply.after + Duration::from_millis(ms.into());
                reply.after(after)
            }
            Self::BadAnswer(status) => Response::new(status).body("it broke").into(),
            Self::Cut => reply.map_response(|response| response.then_reset(Duration::ZERO)),
            Self::Garbage => reply.map_response(|response| response.garbled()),
            _ => reply,
        }
    }
}

/// One fault at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Injected {
    /// Where.
    pub site: Site,
    /// The how manieth time that this place was passed, from 0.
    pub number: u64,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Injected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.site.name(), self.number, self.fault)
    }
}

impl Injected {
    /// Reads what [`Display`](fmt::Display) writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (place, fault) = text.split_once(": ")?;
        let (site, number) = place.split_once(' ')?;
        let site = Site::ALL.into_iter().find(|one| one.name() == site)?;
        let fault = site.faults().iter().copied().find(|one| one.to_string() == fault)?;
        Some(Self { site, number: number.parse().ok()?, fault })
    }
}

/// The faults of a world, for [`WorldBuilder::faults`](crate::WorldBuilder::faults).
#[derive(Clone, Debug)]
pub struct Faults(Plan);

#[derive(Clone, Debug)]
enum Plan {
    /// By chance: each fault of the mix comes once in so many passes of its site.
    Drawn { random: Random, mix: Vec<(Site, Fault, u32)> },
    /// These and no others.
    Listed(Vec<Injected>),
}

impl Faults {
    /// Draws a mix, and from it the faults of a run: most seeds know some kinds only, so that each kind is met alone and in company.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6661_756c_7473);
        let mut mix = Vec::new();
        for site in Site::ALL {
            // Half of the sites stay sound.
            if random.below(2) == 0 {
                continue;
            }
            for fault in site.faults() {
                if random.below(3) == 0 {
                    let one_in = [2, 5, 20, 100][random.below(4)];
                    mix.push((site, *fault, one_in));
                }
            }
        }
        Self(Plan::Drawn { random, mix })
    }

    /// These faults and no others.
    pub fn listed(faults: impl Into<Vec<Injected>>) -> Self {
        Self(Plan::Listed(faults.into()))
    }
}

impl fmt::Display for Faults {
    /// The mix, for people.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = match &self.0 {
            Plan::Drawn { mix, .. } => {
                mix.iter().map(|(site, fault, one_in)| format!("{}: {fault} (1 in {one_in})", site.name())).collect()
            }
            Plan::Listed(list) => list.iter().map(Injected::to_string).collect(),
        };
        formatter.write_str(if words.is_empty() { "no faults" } else { "" })?;
        formatter.write_str(&words.join("; "))
    }
}

/// Decides at each pass of a site, and remembers.
#[derive(Debug)]
pub(crate) struct Injector {
    plan: Plan,
    passed: BTreeMap<Site, u64>,
    pub(crate) injected: Vec<Injected>,
}

impl Injector {
    pub(crate) fn new(Faults(plan): Faults) -> Self {
        Self { plan, passed: BTreeMap::new(), injected: Vec::new() }
    }

    /// What goes wrong this time, if anything.
    pub(crate) fn pass(&mut self, site: Site) -> Option<Fault> {
        let passed = self.passed.entry(site).or_default();
        let number = *passed;
        *passed += 1;
        let fault = match &mut self.plan {
            Plan::Drawn { random, mix } => {
                let here = mix.iter().filter(|(of, ..)| *of == site);
                let drawn = here.filter(|(.., one_in)| random.below(*one_in as usize) == 0);
                drawn.map(|(_, fault, _)| *fault).last()
            }
            Plan::Listed(list) => list.iter().find(|one| (one.site, one.number) == (site, number)).map(|one| one.fault),
        }?;
        self.injected.push(Injected { site, number, fault });
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::{Faults, Injected, Injector, Site};

    #[test]
    fn every_fault_reads_back_as_it_is_written() {
        for site in Site::ALL {
            for fault in site.faults() {
                let injected = Injected { site, number: 7, fault: *fault };
                assert_eq!(Injected::parse(&injected.to_string()), Some(injected));
            }
        }
        for wrong in ["", "callout 1", "callout x: reset", "callout 1: crash", "nowhere 1: reset"] {
            assert_eq!(Injected::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_list_injects_what_a_seed_did() {
        let passes = |faults| {
            let mut injector = Injector::new(faults);
            for _ in 0..200 {
                for site in Site::ALL {
                    injector.pass(site);
                }
            }
            injector.injected
        };
        let kinds = (0..50).map(|seed| passes(Faults::from_seed(seed)));
        let mut differing = std::collections::BTreeSet::new();
        for drawn in kinds {
            assert_eq!(passes(Faults::listed(drawn.clone())), drawn);
            differing.insert(drawn.iter().map(|one| one.fault).collect::<std::collections::BTreeSet<_>>());
        }
        assert!(differing.len() > 30, "seeds have mixes of their own");
    }
}
