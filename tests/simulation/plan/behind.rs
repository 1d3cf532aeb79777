//! What happens in runs about what gateways do by themselves: uses that renew a lifetime, writes after which something is
//! read again, and what is asked about, all with purges and faults in between.

use super::load::{at, ms};
use super::{Chance, KINDS_OF, Plan, Step, Theme, USERS, What};
use crate::simulation::history::{Ask, Kind};

impl Plan {
    /// One thing of many, again and again, for runs about [`Theme::Behind`].
    pub(super) fn behind(&self, chance: &mut Chance, kinds: &[u64], writes: u64) -> Vec<Step> {
        let of = chance.of(&KINDS_OF);
        let steps = match chance.below(9) {
            0..3 => self.used(chance, of),
            3..6 => self.written(chance, of),
            6 | 7 => self.due(chance, of),
            _ => (0..12).map(|_| self.step(chance, Theme::Behind, kinds, writes, 60_000)).collect(),
        };
        let reaches_gateways =
            |what: &What| !matches!(what, What::WriteBehind { .. } | What::Soften { .. } | What::Everything);
        steps.into_iter().filter(|step| self.grouped || reaches_gateways(&step.what)).collect()
    }

    /// Something is used again and again for longer than it would be fresh, perhaps purged meanwhile; and then it isn't used
    /// for a while.
    fn used(&self, chance: &mut Chance, of: Kind) -> Vec<Step> {
        let mut steps: Vec<Step> = self.everywhere(of, self.long_ms()).collect();
        let uses = 3 + chance.below(5);
        let purged = if chance.percent(50) { chance.below(uses) } else { uses };
        for number in 0..uses {
            if number == purged {
                steps.push(at(chance.below(300), self.purge(chance)));
            }
            let pause_ms = self.lifetime_ms / 6 + chance.below(self.lifetime_ms / 2);
            steps.push(at(pause_ms, self.anywhere(chance, 0, of, Ask::Whole)));
        }
        let over_ms = self.lifetime_ms + ms(self.care.while_revalidate) + self.long_ms();
        steps.push(at(chance.of(&[self.lifetime_ms / 2, over_ms]), self.anywhere(chance, 0, of, Ask::Whole)));
        steps.extend(self.everywhere(of, 20));
        steps
    }

    fn purge(&self, chance: &mut Chance) -> What {
        let (gateway, worker) = (chance.index(self.gateways), chance.index(self.workers));
        let write = What::Write { gateway, worker, user: 0 };
        if self.grouped { chance.of(&[write, What::WriteBehind { user: 0, tags: 1 }]) } else { write }
    }

    /// Writes, one or several in a row, of which one's client may leave, and reads around them.
    fn written(&self, chance: &mut Chance, of: Kind) -> Vec<Step> {
        let mut steps: Vec<Step> = self.everywhere(of, chance.below(40)).collect();
        let (gateway, spread_ms) = (chance.index(self.gateways), chance.of(&[1, 10, 60]));
        for _ in 0..1 + chance.below(4) {
            let (worker, user) = (chance.index(self.workers), chance.below(USERS));
            steps.push(at(chance.below(spread_ms), What::Write { gateway, worker, user }));
            if chance.percent(15) {
                steps.push(at(chance.below(self.origin_way_ms), What::Leave { back: 0 }));
            }
        }
        steps.extend((0..6).map(|_| at(chance.below(60), self.anywhere(chance, 0, of, Ask::Whole))));
        steps.push(at(1000 + self.long_ms(), What::Nothing));
        steps.extend(self.everywhere(of, 1));
        steps
    }

    /// Something is soon to be refreshed, is refreshed, and asked for all the time.
    fn due(&self, chance: &mut Chance, of: Kind) -> Vec<Step> {
        let mut steps: Vec<Step> = self.everywhere(of, self.long_ms()).collect();
        let soon_ms = self.care.behind.revalidate_after.map_or(self.lifetime_ms, ms);
        let due_ms = soon_ms.min(self.lifetime_ms.saturating_sub(ms(self.care.early)));
        steps.push(at(due_ms.saturating_sub(100), What::Nothing));
        for _ in 0..8 {
            steps.extend(self.everywhere(of, chance.below(80)));
        }
        steps
    }
}
