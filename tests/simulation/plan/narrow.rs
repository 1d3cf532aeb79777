//! What happens in runs about [`Theme::Narrow`](super::Theme): mistakes that show only if something happens just so, each
//! brought about on purpose.

use super::load::at;
use super::{Chance, Damage, Failure, KINDS_OF, OriginFailure, Plan, Step, USERS, What};
use crate::simulation::history::{Ask, Kind};

impl Plan {
    /// One thing of many, again and again.
    pub(super) fn narrow(&self, chance: &mut Chance) -> Vec<Step> {
        let of = chance.of(&KINDS_OF);
        match chance.below(8) {
            0 => self.damaged(chance, of),
            1 | 7 => self.silent(chance),
            2 | 3 => self.overtaken_renewal(chance, of),
            4 => self.purged_and_failing(chance, of),
            5 => self.deposed(chance, of),
            _ => self.unseen(chance, of),
        }
    }

    /// What one gateway has fetched is damaged when another one gets it from the group.
    fn damaged(&self, chance: &mut Chance, of: Kind) -> Vec<Step> {
        let (gateway, user) = (chance.index(self.gateways), chance.below(USERS));
        let read = |gateway| What::Read { gateway, worker: 0, user, of, ask: Ask::Whole };
        let damage = chance.of(&[Damage::Flipped, Damage::Flipped, Damage::Truncated]);
        vec![
            at(self.long_ms(), What::Write { gateway, worker: 0, user }),
            at(self.long_ms() + self.window_ms, read(gateway)),
            at(self.long_ms(), What::Damage(damage)),
            at(0, read((gateway + 1) % self.gateways)),
        ]
    }

    /// A bridge that says nothing, for requests that ask it each, one soon after the other: who doesn't hear the feed doesn't ask
    /// for long.
    fn silent(&self, chance: &mut Chance) -> Vec<Step> {
        let (gateway, worker) = (chance.index(self.gateways), chance.index(self.workers));
        let mut steps = vec![at(self.long_ms(), What::Cut { gateway, failure: Failure::Hangs, ms: 1500 })];
        let read = |user| What::Read { gateway, worker, user, of: Kind::Orders, ask: Ask::Authorised };
        steps.extend((0..24).map(|number| at(8 + chance.below(10), read(number % USERS))));
        steps.push(at(1500, What::Rest));
        steps
    }

    /// A validation that begins before a write of what it is about, and ends after it.
    fn overtaken_renewal(&self, chance: &mut Chance, of: Kind) -> Vec<Step> {
        let (gateway, worker) = (chance.index(self.gateways), chance.index(self.workers));
        let read = |worker| What::Read { gateway, worker, user: 0, of, ask: Ask::Whole };
        let write = What::Write { gateway, worker: chance.index(self.workers), user: 0 };
        vec![
            at(self.long_ms(), read(worker)),
            at(self.lifetime_ms + self.origin_way_ms * 2, read(worker)),
            at(self.bridge_way_ms + 2 + chance.below(20), write),
            at(self.origin_way_ms * 2 + 60, read(worker)),
            at(10, read(chance.index(self.workers))),
        ]
    }

    /// Something stale is purged, and then the origin fails.
    fn purged_and_failing(&self, chance: &mut Chance, of: Kind) -> Vec<Step> {
        let gateway = chance.index(self.gateways);
        let read = |worker| What::Read { gateway, worker, user: 0, of, ask: Ask::Whole };
        let write = What::Write { gateway, worker: chance.index(self.workers), user: 0 };
        let failure = chance.of(&[OriginFailure::Refuses, OriginFailure::Resets]);
        let one = chance.index(self.workers);
        vec![
            at(self.long_ms(), read(one)),
            at(self.lifetime_ms + self.origin_way_ms * 2, write),
            at(self.origin_way_ms + self.bridge_way_ms * 2 + 40, What::Origin { failure, ms: 400 }),
            at(5, read(one)),
            at(100, read(chance.index(self.workers))),
            at(400, What::Nothing),
        ]
    }

    /// A gateway talks to a deposed master while a purge is made at the one that took over.
    fn deposed(&self, chance: &mut Chance, of: Kind) -> Vec<Step> {
        let (gateway, worker) = (chance.index(self.gateways), chance.index(self.workers));
        let read = What::Read { gateway, worker, user: 0, of, ask: Ask::Whole };
        vec![
            at(self.long_ms(), read),
            at(self.origin_way_ms * 2 + 40, What::Depose { gateway, ms: self.window_ms * 2 + 100 }),
            at(chance.below(40), What::WriteBehind { user: 0, tags: 1 }),
            at(self.window_ms + 40, read),
            at(chance.below(40), read),
            at(self.window_ms * 2, What::Rest),
        ]
    }

    /// A write whose end nobody sees: its client leaves, or the origin's answer is lost.
    fn unseen(&self, chance: &mut Chance, of: Kind) -> Vec<Step> {
        let (gateway, worker) = (chance.index(self.gateways), chance.index(self.workers));
        let read = What::Read { gateway, worker, user: 0, of, ask: Ask::Whole };
        let write = What::Write { gateway, worker: chance.index(self.workers), user: 0 };
        let mut steps = vec![at(self.long_ms(), read)];
        if chance.percent(50) {
            let lost = What::Origin { failure: OriginFailure::Resets, ms: 20 };
            steps.extend([at(self.origin_way_ms * 2 + 40, lost), at(1, write)]);
        } else {
            steps.extend([at(self.origin_way_ms * 2 + 40, write), at(1 + chance.below(20), What::Leave { back: 0 })]);
        }
        steps.push(at(self.origin_way_ms + 60, read));
        steps
    }
}
