//! Which faults come when: drawn by seed, each seed with a mix of its own, or listed one by one.

use std::collections::BTreeMap;
use std::fmt;

use super::{Fault, Injected, Site};
use crate::random::Random;

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
    /// Draws a mix of what goes wrong in Envoy, and from it the faults of a run: most seeds know some kinds only, so that each kind is
    /// met alone and in company.
    pub fn from_seed(seed: u64) -> Self {
        Self::drawn(seed, |site| site.usual().to_vec())
    }

    /// The same with what Envoy never does but another host might: queues and stores that are full, functions that are left out, answers
    /// that are told twice, reads of old values. A filter whose SDK panics over unexpected statuses can't stand all of it.
    pub fn harsh_from_seed(seed: u64) -> Self {
        Self::drawn(seed, |site| site.faults().collect())
    }

    fn drawn(seed: u64, of: impl Fn(Site) -> Vec<Fault>) -> Self {
        let mut random = Random::new(seed ^ 0x6661_756c_7473);
        let mut mix = Vec::new();
        for site in Site::ALL {
            // Half of the sites stay sound.
            if random.below(2) == 0 {
                continue;
            }
            let rates = if site.is_busy() { [20, 100, 500, 2000] } else { [2, 5, 20, 100] };
            for fault in of(site) {
                if random.below(3) == 0 {
                    mix.push((site, fault, rates[random.below(rates.len())]));
                }
            }
        }
        Self(Plan::Drawn { random, mix })
    }

    /// Leaves some out, because the filter is known not to stand them.
    #[must_use]
    pub fn without(mut self, unwanted: impl Fn(Site, Fault) -> bool) -> Self {
        match &mut self.0 {
            Plan::Drawn { mix, .. } => mix.retain(|(site, fault, _)| !unwanted(*site, *fault)),
            Plan::Listed(list) => list.retain(|one| !unwanted(one.site, one.fault)),
        }
        self
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
    use std::collections::BTreeSet;

    use super::{Fault, Faults, Injected, Injector, Site};

    fn injected_by(faults: Faults) -> Vec<Injected> {
        let mut injector = Injector::new(faults);
        for _ in 0..200 {
            for site in Site::ALL {
                injector.pass(site);
            }
        }
        injector.injected
    }

    #[test]
    fn a_list_injects_what_a_seed_did() {
        let mut differing = BTreeSet::new();
        for drawn in (0..50).map(|seed| injected_by(Faults::from_seed(seed))) {
            assert_eq!(injected_by(Faults::listed(drawn.clone())), drawn);
            differing.insert(drawn.iter().map(|one| one.fault).collect::<BTreeSet<_>>());
        }
        assert!(differing.len() > 30, "seeds have mixes of their own");
    }

    #[test]
    fn some_can_be_left_out() {
        let left =
            (0..50).flat_map(|seed| injected_by(Faults::from_seed(seed).without(|site, _| site == Site::Request)));
        assert!(left.into_iter().all(|one| one.site != Site::Request));
    }

    #[test]
    fn every_fault_is_drawn_by_some_seed_and_harsh_ones_only_where_wanted() {
        let met = |draw: fn(u64) -> Faults| -> BTreeSet<(Site, Fault)> {
            let all = (0..500).flat_map(|seed| injected_by(draw(seed)));
            all.map(|one| (one.site, one.fault)).collect()
        };
        let all = |of: fn(Site) -> Vec<Fault>| -> BTreeSet<(Site, Fault)> {
            Site::ALL.into_iter().flat_map(|site| of(site).into_iter().map(move |fault| (site, fault))).collect()
        };
        assert_eq!(met(Faults::from_seed), all(|site| site.usual().to_vec()));
        assert_eq!(met(Faults::harsh_from_seed), all(|site| site.faults().collect()));
    }
}
