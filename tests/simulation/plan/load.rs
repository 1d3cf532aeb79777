//! What happens in runs about load: crowds that want the same, and what goes wrong while they wait; entries that are
//! refreshed, and stale for a while.

use std::time::Duration;

use super::{Ask, Chance, Failure, KINDS_OF, OriginFailure, Plan, Says, Step, Theme, USERS, What};
use crate::simulation::history::Kind;

/// How many come at once.
const CROWD: u64 = 10;

/// Longer than a lease that isn't renewed, and than a lock's wait.
const ALL_LEASES_END_MS: u64 = 5500;

pub(super) fn at(after_ms: u64, what: What) -> Step {
    Step { after_us: after_ms * 1000, what }
}

pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or_default()
}

impl Plan {
    /// One thing of many, again and again, for runs about [`Theme::Load`].
    pub(super) fn load(&self, chance: &mut Chance) -> Vec<Step> {
        let of = chance.of(&KINDS_OF);
        let steps = match chance.below(11) {
            0 => self.rush(chance, of, None),
            1 => {
                let (gateway, worker) = (chance.index(self.gateways), chance.index(self.workers));
                let turns = chance.of(&[4, 10, 30, 60]);
                let mut steps = self.rush(chance, of, Some(What::Crash { gateway, worker, turns }));
                steps.push(at(ALL_LEASES_END_MS, What::Rest));
                steps
            }
            2 => {
                let back = chance.index(usize::try_from(CROWD).unwrap_or(1));
                self.rush(chance, of, Some(What::Leave { back }))
            }
            3 => self.unshared(chance, of),
            4 => self.everything(chance),
            5 => self.gone(chance, of),
            6 | 9 => self.silent_bridge(chance),
            7 => self.expiry(chance, of),
            8 => self.own_write(chance, of),
            _ => {
                let failure = chance.of(&[OriginFailure::Refuses, OriginFailure::Resets, OriginFailure::Cuts]);
                let mut steps = self.rush(chance, of, None);
                steps.insert(1, at(0, What::Origin { failure, ms: 100 + chance.below(600) }));
                steps
            }
        };
        let reaches_gateways = |what: &What| {
            !matches!(what, What::WriteBehind { .. } | What::Soften { .. } | What::Everything | What::Cut { .. })
        };
        steps.into_iter().filter(|step| self.grouped || reaches_gateways(&step.what)).collect()
    }

    pub(super) fn anywhere(&self, chance: &mut Chance, user: u64, of: Kind, ask: Ask) -> What {
        let (gateway, worker) = (chance.index(self.gateways), chance.index(self.workers));
        What::Read { gateway, worker, user, of, ask }
    }

    pub(super) fn everywhere(&self, of: Kind, after_ms: u64) -> impl Iterator<Item = Step> {
        let places = |gateway| (0..self.workers).map(move |worker| (gateway, worker));
        let read = move |(gateway, worker)| What::Read { gateway, worker, user: 0, of, ask: Ask::Whole };
        (0..self.gateways).flat_map(places).map(move |place| at(after_ms, read(place)))
    }

    /// So long that whoever asked for something has got it.
    pub(super) fn long_ms(&self) -> u64 {
        self.origin_way_ms * 2 + self.bridge_way_ms * 2 + 300
    }

    /// A crowd comes for what isn't stored, and something happens to it.
    fn rush(&self, chance: &mut Chance, of: Kind, then: Option<What>) -> Vec<Step> {
        let user = chance.below(USERS);
        let write = What::Write { gateway: chance.index(self.gateways), worker: chance.index(self.workers), user };
        let purge = if self.grouped { chance.of(&[write, What::WriteBehind { user, tags: 1 }]) } else { write };
        let mut steps = vec![at(self.long_ms(), purge), at(self.long_ms() + self.window_ms, What::Nothing)];
        let spread_ms = chance.of(&[1, 1, 10, 60]);
        for number in 0..CROWD {
            let ask = if chance.percent(10) { Ask::IfChanged } else { Ask::Whole };
            steps.push(at(chance.below(spread_ms), self.anywhere(chance, user, of, ask)));
            if number == CROWD / 2 {
                steps.extend(then.map(|what| at(chance.below(spread_ms), what)));
            }
        }
        steps
    }

    /// A crowd comes for what the origin gives to each by itself.
    fn unshared(&self, chance: &mut Chance, of: Kind) -> Vec<Step> {
        let mut steps = self.rush(chance, of, None);
        let ms = (self.origin_way_ms + self.bridge_way_ms) * 4 + 200;
        steps.insert(2, at(0, What::Says { says: Says::Private, ms }));
        steps
    }

    /// All is purged, and everybody wants something else.
    fn everything(&self, chance: &mut Chance) -> Vec<Step> {
        let gateway = chance.index(self.gateways);
        let mut steps = vec![at(self.long_ms(), What::Everything)];
        if !self.grouped {
            steps.extend((0..USERS).map(|user| at(0, What::Write { gateway, worker: 0, user })));
        }
        steps.push(at(self.long_ms() + self.window_ms, What::Nothing));
        for user in 0..USERS {
            for of in [Kind::User, Kind::Orders, Kind::Basket] {
                let worker = chance.index(self.workers);
                steps.push(at(chance.below(3), What::Read { gateway, worker, user, of, ask: Ask::Whole }));
            }
        }
        steps
    }

    /// The origin has nothing for a while.
    fn gone(&self, chance: &mut Chance, of: Kind) -> Vec<Step> {
        let says = chance.of(&[Says::Missing, Says::Missing, Says::Gone]);
        let mut steps = self.rush(chance, of, None);
        steps.insert(2, at(0, What::Says { says, ms: self.origin_way_ms + self.bridge_way_ms + 100 }));
        let missing_ms = self.care.missing.map_or(400, ms);
        let read = self.anywhere(chance, 0, of, Ask::Whole);
        steps.extend((0..5).map(|_| at(missing_ms / 2, read)));
        steps
    }

    /// A bridge that says nothing, for requests that ask it each.
    fn silent_bridge(&self, chance: &mut Chance) -> Vec<Step> {
        let gateway = chance.index(self.gateways);
        let worker = chance.index(self.workers);
        let failure = chance.of(&[Failure::Hangs, Failure::Hangs, Failure::Hangs, Failure::AnswerLost]);
        let ms = 900 + chance.below(1200);
        let mut steps = vec![at(self.long_ms(), What::Cut { gateway, failure, ms })];
        let step_ms = 1 + chance.below(60);
        let ask = chance.of(&[Ask::Authorised, Ask::Authorised, Ask::Whole]);
        let read = |user| What::Read { gateway, worker, user, of: Kind::Orders, ask };
        steps.push(at(0, What::Write { gateway, worker, user: 0 }));
        steps.extend((0..14).map(|number| at(step_ms, read(number % USERS))));
        steps.push(at(ms, What::Rest));
        steps
    }

    /// A write, and its gateway is asked until its response has come.
    fn own_write(&self, chance: &mut Chance, of: Kind) -> Vec<Step> {
        let (gateway, worker) = (chance.index(self.gateways), chance.index(self.workers));
        let mut steps: Vec<Step> = self.everywhere(of, self.long_ms()).collect();
        steps.push(at(0, What::Write { gateway, worker, user: 0 }));
        let read = |number| What::Read { gateway, worker: number % self.workers, user: 0, of, ask: Ask::Whole };
        steps.extend((0..self.origin_way_ms / 10 + 6).map(|number| at(10, read(usize::try_from(number).unwrap_or(0)))));
        steps
    }

    /// What everybody has goes stale for all at once.
    fn expiry(&self, chance: &mut Chance, of: Kind) -> Vec<Step> {
        let mut steps: Vec<Step> = self.everywhere(of, self.long_ms()).collect();
        let over_ms = self.lifetime_ms.min(5000) + ms(self.care.while_revalidate) + self.long_ms();
        steps.push(at(chance.of(&[self.lifetime_ms.min(5000), over_ms]) + chance.below(100), What::Nothing));
        for _ in 0..3 {
            steps.extend(self.everywhere(of, 0));
        }
        steps
    }

    /// Reads and faults of all kinds, on entries that go stale, are purged softly, and are refreshed.
    pub(super) fn refreshing(&self, chance: &mut Chance, kinds: &[u64], writes: u64) -> Vec<Step> {
        let of = chance.of(&KINDS_OF);
        let stale_ms = ms(self.care.while_revalidate);
        let slack_ms = self.long_ms() + chance.below(200);
        let mut steps: Vec<Step> = self.everywhere(of, 20).collect();
        match chance.below(6) {
            // Past all limits, before anybody has had it refreshed.
            0 => {
                steps.push(at(slack_ms, What::Soften { user: 0 }));
                steps.push(at(self.window_ms + stale_ms + slack_ms, What::Nothing));
            }
            1 => steps.push(at(self.lifetime_ms + stale_ms + slack_ms, What::Nothing)),
            2 => {
                steps.push(at(slack_ms, What::Soften { user: 0 }));
                steps.extend([at(self.window_ms + chance.below(300), What::WriteBehind { user: 0, tags: 1 })]);
                steps.push(at(self.window_ms + chance.below(60), What::Nothing));
            }
            3 => {
                // Within the window, and at once.
                steps.push(at(self.lifetime_ms + chance.below(stale_ms.max(1)), What::Nothing));
                steps.extend(self.everywhere(of, 0));
                steps.extend(self.everywhere(of, 0));
            }
            4 => {
                let write = What::Write { gateway: chance.index(self.gateways), worker: 0, user: 0 };
                steps.push(at(chance.below(slack_ms), write));
            }
            _ => steps.extend((0..12).map(|_| self.step(chance, Theme::Refreshing, kinds, writes, 60_000))),
        }
        if chance.percent(15) {
            let failure = chance.of(&[OriginFailure::Refuses, OriginFailure::Resets, OriginFailure::Cuts]);
            steps.push(at(0, What::Origin { failure, ms: 100 + chance.below(1500) }));
        }
        steps.extend(self.everywhere(of, 1));
        steps.extend(self.everywhere(of, chance.below(300)));
        steps
    }
}
