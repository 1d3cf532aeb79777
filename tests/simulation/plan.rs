//! What a seed draws: how large the world is, what may fail in it, and what happens step by step.

mod behind;
mod load;
mod narrow;

use std::fmt;
use std::time::Duration;

use super::care::Care;
use super::chance::Chance;
use super::history::{Ask, Kind as Of};

/// Users whose versions are read and written; few, so that requests meet.
pub const USERS: u64 = 2;

/// A run, before it is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything that the steps leave open.
    pub seed: u64,
    /// What it is about.
    pub theme: Theme,
    /// Gateways, each with shared data of its own.
    pub gateways: usize,
    /// Workers of each.
    pub workers: usize,
    /// The consistency window, in milliseconds.
    pub window_ms: u64,
    /// How many records the store keeps in its log.
    pub log_records: usize,
    /// How many records fit an answer to a poll.
    pub feed_records: usize,
    /// How long a poll's answer may be on its way at most, in milliseconds.
    pub feed_way_ms: u64,
    /// How long the bridge's other answers may take at most, in milliseconds.
    pub bridge_way_ms: u64,
    /// How long the origin may take at most, in milliseconds.
    pub origin_way_ms: u64,
    /// Whether there is a group: without one, a gateway hears of every purge itself.
    pub grouped: bool,
    /// Whether writes wait until every gateway has heard of their purges.
    pub heard: bool,
    /// Whether shared data compare as ngx_wasm_module's do, rather than Envoy's.
    pub exact: bool,
    /// Freshness lifetime, in milliseconds.
    pub lifetime_ms: u64,
    /// How far the origin's clock is ahead of the gateways', in seconds.
    pub origin_ahead_s: i64,
    /// Whether gateways seal what they share.
    pub sealed: bool,
    /// How far each gateway's wall clock is ahead of the world's, in seconds.
    pub gateways_ahead_s: Vec<i64>,
    /// Whether the first requests come before the feed was heard.
    pub cold: bool,
    /// What the rules say of load.
    pub care: Care,
    /// What happens, one after the other.
    pub steps: Vec<Step>,
}

/// Something that happens, a while after what was before it.
#[derive(Clone, Debug)]
pub struct Step {
    /// The while, in microseconds.
    pub after_us: u64,
    /// What.
    pub what: What,
}

/// What happens in a step.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum What {
    /// A client reads.
    Read { gateway: usize, worker: usize, user: u64, of: Of, ask: Ask },
    /// A client writes.
    Write { gateway: usize, worker: usize, user: u64 },
    /// The client of one of the latest requests goes away.
    Leave { back: usize },
    /// The origin's data change behind the gateways, and whoever did it purges through the bridge's API; some purge so
    /// many tags that a gateway's ring can't hold them.
    WriteBehind { user: u64, tags: usize },
    /// The same with a purge by pattern.
    Ban { user: u64 },
    /// The same, but what is purged is stale rather than gone.
    Soften { user: u64 },
    /// Somebody purges everything.
    Everything,
    /// For a while, what the origin says isn't what it says at other times.
    Says { says: Says, ms: u64 },
    /// Many such writes, of which the user's comes last.
    Burst { user: u64, others: usize },
    /// The store evicts.
    Evict(Evicted),
    /// It evicts a user's epochs as soon as they have been purged.
    EvictNext { user: u64 },
    /// The next entry that the store gives away is damaged.
    Damage(Damage),
    /// The store's clock jumps.
    StoreClock { seconds: i64 },
    /// The store's replica takes over what there is to know.
    Replicate,
    /// The store's replica becomes the store: what came since it last took over is lost.
    FailOver,
    /// The bridge and its memory start again.
    RestartBridge,
    /// For a while, a gateway has its calls fail.
    Cut { gateway: usize, failure: Failure, ms: u64 },
    /// For a while, a gateway talks to a deposed master, which answers what it knew and takes no writes.
    Depose { gateway: usize, ms: u64 },
    /// A worker's VM dies after so many turns of its gateway's threads, perhaps between two host calls.
    Crash { gateway: usize, worker: usize, turns: u64 },
    /// The worker that polls for a gateway dies over the next records that it gets, after so many turns.
    CrashPoller { gateway: usize, turns: u64 },
    /// A gateway's process dies.
    Restart { gateway: usize },
    /// A gateway's shared data are evicted, as some hosts do.
    Forget { gateway: usize, part: Part },
    /// A gateway gets rules again; a new lifetime for orders makes their entries those of another rule.
    Reconfigure { gateway: usize, longer: bool },
    /// The wall clock is set.
    Clock { seconds: i64 },
    /// Writes to shared data find another version, so many times.
    Race { times: u32 },
    /// For a while, the origin fails.
    Origin { failure: OriginFailure, ms: u64 },
    /// Nothing happens.
    Nothing,
    /// After so many turns of a gateway's threads, a worker lets the others go first for so many.
    Yield { gateway: usize, worker: usize, after: u64, turns: u64 },
    /// Nothing happens for two windows.
    Rest,
    /// Nothing happens for nearly one.
    Wait,
}

/// What a gateway's shared data lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The log of purges.
    Log,
    /// Its head.
    Head,
    /// Both.
    LogAndHead,
    /// Everything.
    All,
}

/// What becomes of an entry's bytes in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// They end too soon.
    Truncated,
    /// One is another.
    Flipped,
    /// They say that they are of another version.
    OtherVersion,
    /// There are too many.
    Oversized,
    /// They are another key's.
    Foreign,
    /// Somebody wrote others, and counted every checksum anew; only where gateways seal.
    Forged,
}

/// What the store forgets.
#[derive(Clone, Copy, Debug)]
pub enum Evicted {
    /// The epoch of a user's tag.
    Epoch(u64),
    /// The epoch of the tag that all orders carry.
    Orders,
    /// A user's entry.
    Entry(u64),
    /// The log.
    Log,
}

/// How a gateway's calls to the bridge fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Envoy knows no healthy host.
    Refused,
    /// Nobody listens.
    NoConnection,
    /// It accepts and says nothing.
    Hangs,
    /// It breaks the connection.
    Resets,
    /// Something else answers 200.
    Stranger,
    /// It answers with its mark and nonsense.
    Garbage,
    /// It can't reach its store.
    Unavailable,
    /// It does what it is asked, and its answer is lost.
    AnswerLost,
    /// It takes no purges, and does everything else.
    NoPurges,
    /// It answers no polls, and does everything else.
    NoPolls,
}

/// What the origin says for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// That all of it is for one client only.
    Private,
    /// 404.
    Missing,
    /// 410, which no rule stores.
    Gone,
}

/// How the origin fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginFailure {
    /// It answers 503, and does nothing.
    Refuses,
    /// It does what it is asked, and the connection breaks before the answer.
    Resets,
    /// The connection breaks in the middle of the body.
    Cuts,
}

impl Plan {
    /// Draws a plan.
    pub fn draw(seed: u64) -> Self {
        let (mut chance, mut aside) = (Chance::new(seed), Chance::new(seed ^ 0x0061_7369_6465));
        let mut walls = Chance::new(seed ^ 0x0077_616c_6c73);
        let drawn = chance.of(&Theme::DRAWN);
        let theme = Theme::aside(seed).unwrap_or(drawn);
        let alone = matches!(theme, Theme::Alone | Theme::Overtaken);
        let crowd = alone || theme == Theme::Crowd;
        let grouped = match theme {
            Theme::Load | Theme::Behind => chance.percent(70),
            _ => !alone,
        };
        let (gateways, workers) = match theme {
            Theme::Load => (if grouped { 1 + chance.index(2) } else { 1 }, 1 + chance.of(&[0, 1, 1, 2])),
            Theme::Alone => (1, 2 + chance.index(4)),
            Theme::Overtaken => (1, 4),
            Theme::Crowd => (1 + chance.index(2), 2 + chance.index(2)),
            Theme::SlowGroup => (3, 1),
            Theme::FailOver | Theme::Feed | Theme::FeedLoss | Theme::Heard => (2, 1 + chance.index(2)),
            Theme::DyingPoller => (2, 2),
            Theme::Crossing => (1, 2),
            Theme::Forgery => (2, 1 + chance.index(2)),
            Theme::Witness => (2, 2),
            Theme::Clocks => (2, 1 + chance.index(2)),
            Theme::Pending => (1 + chance.index(2), 2),
            Theme::Behind => (if grouped { 1 + chance.index(2) } else { 1 }, 1 + chance.index(2)),
            Theme::Narrow => (2, 1 + chance.index(2)),
            _ => (1 + chance.index(2) + usize::from(chance.percent(15)), 1 + chance.index(2)),
        };
        let mut weigh = |(share, word, _): &Kind| match theme.kinds() {
            Some(kinds) if kinds.contains(word) => 3 + chance.below(6),
            Some(_) => 0,
            None if chance.percent(*share) => 1 + chance.below(4),
            None => 0,
        };
        let kinds: Vec<u64> = KINDS.iter().map(&mut weigh).collect();
        let slow_feed =
            matches!(theme, Theme::Feed | Theme::FeedLoss | Theme::Pending | Theme::LateStore | Theme::Heard);
        let narrow = matches!(theme, Theme::Feed | Theme::FeedLoss | Theme::DyingPoller);
        let mut plan = Self {
            seed,
            theme,
            gateways,
            workers,
            window_ms: match theme {
                _ if narrow => 200,
                Theme::Crossing => 1000,
                Theme::Narrow => chance.of(&[300, 400]),
                _ => chance.of(&[200, 400, 1000]),
            },
            log_records: if theme.kinds().is_some() { 1000 } else { chance.of(&[2, 4, 1000, 1000]) },
            feed_records: if theme == Theme::Feed { 1 } else { chance.of(&[1, 2, 512, 512]) },
            feed_way_ms: match theme {
                _ if slow_feed => 48,
                Theme::SlowGroup => 1,
                _ => chance.of(&[1, 20, 40]),
            },
            bridge_way_ms: match theme {
                Theme::Crowd => 1,
                Theme::SlowGroup | Theme::Pending | Theme::Crossing => 45,
                Theme::Witness => 10,
                Theme::Clocks => 90,
                Theme::Load => chance.of(&[1, 10, 45]),
                Theme::Behind => chance.of(&[1, 10]),
                Theme::Narrow => 10,
                _ => chance.of(&[1, 10, 45, 100]),
            },
            origin_way_ms: match theme {
                _ if crowd => 1,
                Theme::Crossing | Theme::Clocks => 1,
                Theme::SlowGroup | Theme::Witness => 5,
                Theme::LateStore => 40,
                Theme::Ageing => chance.of(&[40, 150]),
                Theme::Load => chance.of(&[40, 150, 300]),
                Theme::Narrow => 150,
                _ => chance.of(&[5, 40, 150]),
            },
            grouped,
            heard: theme == Theme::Heard || grouped && aside.percent(30),
            exact: theme == Theme::Anything && chance.percent(15),
            lifetime_ms: match theme {
                Theme::Ageing | Theme::Refreshing => chance.of(&[1000, 2000]),
                Theme::Load => chance.of(&[2000, 3_600_000]),
                Theme::Clocks => chance.of(&[3000, 3_600_000]),
                Theme::Behind => chance.of(&[3000, 4000]),
                Theme::Narrow => 1000,
                Theme::Anything => chance.of(&[2000, 3_600_000, 3_600_000]),
                _ => 3_600_000,
            },
            origin_ahead_s: if theme == Theme::Anything { chance.of(&[0, 0, -240, 240]) } else { 0 },
            sealed: theme == Theme::Forgery && aside.percent(60),
            gateways_ahead_s: (0..gateways).map(|_| walls.of(&[0, 0, -600, -300, -20, 2, 60, 599])).collect(),
            cold: chance.percent(30),
            care: Care::draw(theme, grouped, &mut aside),
            steps: Vec::new(),
        };
        if plan.heard {
            let usual = plan.care.purge_timeout + Duration::from_millis(plan.window_ms);
            // Less than the window: some writes aren't heard in time.
            plan.care.purge_timeout = if seed.is_multiple_of(2) { Duration::from_millis(100) } else { usual };
        }
        let writes = if crowd { 60 } else { chance.of(&[10, 20, 40]) };
        let pace_us = match theme {
            _ if crowd => 1,
            Theme::Ageing => 60_000,
            _ => chance.of(&[2_000, 20_000, 60_000]),
        };
        let count = 30 + chance.index(60);
        plan.steps = match theme {
            Theme::Alone => (0..count / 8).flat_map(|_| plan.race(&mut chance, &kinds)).collect(),
            Theme::Ageing if chance.percent(50) => (0..count / 8).flat_map(|_| plan.renewal(&mut chance)).collect(),
            Theme::FeedLoss => (0..count / 8).flat_map(|_| plan.feed_loss(&mut chance)).collect(),
            Theme::LateStore => (0..count / 6).flat_map(|_| plan.late_store(&mut chance)).collect(),
            Theme::DyingPoller => (0..count / 8).flat_map(|_| plan.dying_poller(&mut chance)).collect(),
            Theme::Pending => (0..count / 8).flat_map(|_| plan.pending(&mut chance)).collect(),
            Theme::Heard => (0..count / 8).flat_map(|_| plan.heard(&mut chance)).collect(),
            Theme::Crossing => (0..count / 6).flat_map(|_| plan.crossing(&mut chance)).collect(),
            Theme::Overtaken => (0..count / 2).flat_map(|_| plan.overtaken(&mut chance)).collect(),
            Theme::Clocks => (0..count / 8).flat_map(|_| plan.clocks(&mut chance)).collect(),
            Theme::Witness => (0..count / 6).flat_map(|_| plan.witness(&mut chance)).collect(),
            Theme::Forgery if !plan.sealed || chance.percent(50) => {
                (0..count / 6).flat_map(|_| plan.forgery(&mut chance)).collect()
            }
            Theme::Load => (0..count / 8).flat_map(|_| plan.load(&mut chance)).collect(),
            Theme::Refreshing => (0..count / 8).flat_map(|_| plan.refreshing(&mut chance, &kinds, writes)).collect(),
            Theme::Behind => (0..count / 12).flat_map(|_| plan.behind(&mut chance, &kinds, writes)).collect(),
            Theme::Narrow => (0..count / 6).flat_map(|_| plan.narrow(&mut chance)).collect(),
            _ => (0..count).map(|_| plan.step(&mut chance, theme, &kinds, writes, pace_us)).collect(),
        };
        for step in plan.steps.iter_mut().filter(|_| plan.sealed) {
            if matches!(step.what, What::Damage(_)) && chance.percent(50) {
                step.what = What::Damage(Damage::Forged);
            }
        }
        for step in &mut plan.steps {
            if let What::WriteBehind { user, tags: 1 } = step.what
                && aside.percent(40)
            {
                step.what = What::Ban { user };
            }
        }
        plan
    }

    /// Writes of two users meet on two workers, with reads around them on all.
    fn race(&self, chance: &mut Chance, kinds: &[u64]) -> Vec<Step> {
        let at = |after_us: u64, what| Step { after_us, what };
        let of = chance.of(&KINDS_OF);
        let read = |worker, user| What::Read { gateway: 0, worker, user, of, ask: Ask::Whole };
        let everywhere = (0..self.workers).flat_map(|worker| [read(worker, 0), read(worker, 1)]);
        let mut steps: Vec<Step> = everywhere.clone().map(|what| at(2_000, what)).collect();
        let mut meeting: Vec<What> = (0..2 + chance.below(4))
            .map(|number| What::Write { gateway: 0, worker: chance.index(self.workers), user: u64::from(number == 0) })
            .collect();
        meeting.extend(everywhere.clone().filter(|_| chance.percent(60)));
        if chance.percent(15) {
            meeting.push(self.step(chance, Theme::Alone, kinds, 0, 1).what);
        }
        if chance.percent(20) {
            let part = chance.of(&[Part::Log, Part::Head, Part::LogAndHead, Part::All]);
            steps.push(at(2_000, What::Forget { gateway: 0, part }));
        }
        steps.push(at(2_000, What::Wait));
        while !meeting.is_empty() {
            steps.push(at(0, meeting.swap_remove(chance.index(meeting.len()))));
        }
        steps.push(at(3_000, read(0, 0)));
        steps.extend(everywhere.map(|what| at(0, what)));
        steps
    }

    /// Three writes at once on as many workers, of which one comes to a stop somewhere; a fourth worker reads.
    fn overtaken(&self, chance: &mut Chance) -> Vec<Step> {
        let at = |after_us: u64, what| Step { after_us, what };
        let read = |user| What::Read { gateway: 0, worker: 3, user, of: Of::User, ask: Ask::Whole };
        let write = |worker, user| What::Write { gateway: 0, worker, user };
        let (after, turns) = (chance.below(120), 20 + chance.below(60));
        let mut steps = vec![at(2_000, read(1)), at(2_000, What::Yield { gateway: 0, worker: 0, after, turns })];
        let mut meeting = vec![write(0, 0), write(1, 0), write(2, 1), read(0)];
        while !meeting.is_empty() {
            steps.push(at(0, meeting.swap_remove(chance.index(meeting.len()))));
        }
        steps.push(at(2_000, read(1)));
        steps
    }

    /// A gateway loses its feed while a purge is made elsewhere, and is asked around the end of the window.
    fn feed_loss(&self, chance: &mut Chance) -> Vec<Step> {
        let (gateway, worker) = (chance.index(self.gateways), chance.index(self.workers));
        let read = What::Read { gateway, worker, user: 0, of: chance.of(&KINDS_OF), ask: Ask::Whole };
        let change = match chance.below(3) {
            0 => What::Burst { user: 0, others: 6 + chance.index(20) },
            1 => What::WriteBehind { user: 0, tags: 1 },
            _ => What::Write { gateway: (gateway + 1) % self.gateways, worker: 0, user: 0 },
        };
        let failure = chance.of(&[Failure::Hangs, Failure::Resets, Failure::Hangs]);
        let lost = What::Cut { gateway, failure, ms: self.window_ms + 150 };
        let at = |after_ms: u64, what| Step { after_us: after_ms * 1000, what };
        let mut steps = vec![at(0, What::Rest), at(0, read), at(100 + chance.below(100), read)];
        if chance.percent(25) {
            // A purge between the first fill of a gateway and the first that it hears.
            steps.extend([at(0, What::Restart { gateway }), at(1 + chance.below(8), read)]);
            steps.extend([at(1 + chance.below(40), change), at(self.window_ms + 60, read), at(20, read)]);
            return steps;
        }
        let burst = matches!(change, What::Burst { .. });
        match burst {
            // The feed lags behind what it has to bring.
            true => steps.extend([at(20, What::Cut { gateway, failure, ms: 80 }), at(1, change), at(100, What::Wait)]),
            false => steps.extend([at(chance.below(60), lost), at(chance.below(4), change), at(0, What::Wait)]),
        }
        if chance.percent(30) {
            steps.push(at(0, What::Clock { seconds: chance.of(&[-60, -3600, 60]) }));
        }
        steps.extend((0..10).map(|_| at(1 + chance.below(8), read)));
        steps
    }

    /// A fill that ends after the purge of what it brings, whose epoch is evicted.
    fn late_store(&self, chance: &mut Chance) -> Vec<Step> {
        let (gateway, worker) = (chance.index(self.gateways), chance.index(self.workers));
        let other = (gateway + 1) % self.gateways;
        let of = chance.of(&KINDS_OF);
        let read = |gateway| What::Read { gateway, worker, user: 0, of, ask: Ask::Whole };
        let at = |after_ms: u64, what| Step { after_us: after_ms * 1000, what };
        vec![
            at(300, What::Write { gateway: other, worker, user: 0 }),
            at(200 + chance.below(100), What::EvictNext { user: 0 }),
            at(0, read(gateway)),
            at(chance.below(self.bridge_way_ms + self.origin_way_ms), What::Write { gateway: other, worker, user: 0 }),
            at(100 + chance.below(100), read(other)),
            at(self.window_ms, read(other)),
        ]
    }

    /// A validation that ends after the purge of what it was about.
    fn renewal(&self, chance: &mut Chance) -> Vec<Step> {
        let gateway = chance.index(self.gateways);
        let of = chance.of(&KINDS_OF);
        let read = |worker| What::Read { gateway, worker, user: 0, of, ask: Ask::Whole };
        let at = |after_ms: u64, what| Step { after_us: after_ms * 1000, what };
        let (one, other) = (chance.index(self.workers), chance.index(self.workers));
        if chance.percent(30) {
            // What was purged may not stand in for an error.
            let write = What::Write { gateway, worker: other, user: 0 };
            let fails = What::Origin { failure: OriginFailure::Refuses, ms: 200 };
            return vec![
                at(300, read(one)),
                at(self.lifetime_ms + self.origin_way_ms * 2, write),
                at(self.origin_way_ms + self.bridge_way_ms + 20, fails),
                at(5, read(one)),
                at(5, read(other)),
            ];
        }
        vec![
            at(300, read(one)),
            at(self.lifetime_ms + self.origin_way_ms * 2, read(one)),
            at(chance.below(self.bridge_way_ms + 20), What::Write { gateway, worker: other, user: 0 }),
            at(self.origin_way_ms * 2 + 60, read(one)),
            at(10, read(other)),
        ]
    }

    /// The worker that polls dies over a purge, and nothing else happens until the window is over.
    fn dying_poller(&self, chance: &mut Chance) -> Vec<Step> {
        let gateway = chance.index(self.gateways);
        let of = chance.of(&KINDS_OF);
        let read = |worker| What::Read { gateway, worker, user: 0, of, ask: Ask::Whole };
        let at = |after_ms: u64, what| Step { after_us: after_ms * 1000, what };
        vec![
            at(0, What::Rest),
            at(0, read(0)),
            at(0, read(1)),
            at(150, What::CrashPoller { gateway, turns: chance.below(16) }),
            at(chance.below(50), What::WriteBehind { user: 0, tags: 1 }),
            at(self.window_ms + 60, read(0)),
            at(2, read(1)),
            at(100, read(0)),
            at(2, read(1)),
        ]
    }

    /// A purge that the bridge takes late, while reads of what only the response's tags name are under way.
    fn pending(&self, chance: &mut Chance) -> Vec<Step> {
        let (gateway, worker) = (chance.index(self.gateways), chance.index(self.workers));
        let read = |worker| What::Read { gateway, worker, user: 0, of: Of::Basket, ask: Ask::Whole };
        let at = |after_ms: u64, what| Step { after_us: after_ms * 1000, what };
        let mut steps = vec![at(0, What::Rest), at(0, read(worker)), at(200, What::Restart { gateway })];
        if chance.percent(40) {
            steps.push(at(200, What::Cut { gateway, failure: Failure::NoPurges, ms: 400 + chance.below(900) }));
        }
        steps.push(at(300, What::Write { gateway, worker, user: 0 }));
        steps.extend((0..12).map(|number| at(chance.below(6 + self.origin_way_ms / 4), read(number % self.workers))));
        steps
    }

    /// A purge on its way to the group, and reads that overtake it, of what only the response's tags name. Their answers may
    /// come after the acknowledgement, and the feed brings the purge later.
    fn crossing(&self, chance: &mut Chance) -> Vec<Step> {
        let read = |worker| What::Read { gateway: 0, worker, user: 0, of: Of::Basket, ask: Ask::Whole };
        let at = |after_ms: u64, what| Step { after_us: after_ms * 1000, what };
        let one = chance.index(2);
        vec![
            at(0, What::Rest),
            at(0, read(one)),
            at(150, What::Cut { gateway: 0, failure: Failure::NoPolls, ms: 200 }),
            at(0, What::Write { gateway: 0, worker: chance.index(2), user: 0 }),
            at(1 + chance.below(4), read(one)),
            at(chance.below(4), read(1 - one)),
            at(100, read(one)),
            at(0, read(1 - one)),
        ]
    }

    /// A purge that one gateway alone knows to be acknowledged, and a failover that loses it.
    fn witness(&self, chance: &mut Chance) -> Vec<Step> {
        let (gateway, worker) = (chance.index(self.gateways), chance.index(self.workers));
        let of = chance.of(&KINDS_OF);
        let read = |worker| What::Read { gateway, worker, user: 0, of, ask: Ask::Whole };
        let at = |after_ms: u64, what| Step { after_us: after_ms * 1000, what };
        let mut steps = vec![at(0, What::Rest), at(0, read(worker)), at(100, What::Replicate)];
        let unfed = |gateway| What::Cut { gateway, failure: Failure::NoPolls, ms: 100 };
        steps.extend((0..self.gateways).map(|gateway| at(0, unfed(gateway))));
        steps.extend([
            at(1 + chance.below(20), What::Write { gateway, worker, user: 0 }),
            at(20 + chance.below(20), What::FailOver),
            at(chance.below(10), read(worker)),
            at(chance.below(10), read(chance.index(self.workers))),
        ]);
        steps
    }

    /// What one gateway fetches, and another gets from the group in between, which a stranger has changed there.
    fn forgery(&self, chance: &mut Chance) -> Vec<Step> {
        let (gateway, user, of) = (chance.index(self.gateways), chance.below(USERS), chance.of(&KINDS_OF));
        let read = |gateway| What::Read { gateway, worker: 0, user, of, ask: Ask::Whole };
        let at = |after_ms: u64, what| Step { after_us: after_ms * 1000, what };
        let mut steps = vec![at(20, What::Write { gateway, worker: 0, user }), at(300, read(gateway))];
        let damage = if self.sealed { Damage::Forged } else { Damage::OtherVersion };
        steps.push(at(300, What::Damage(damage)));
        steps.extend((0..1 + chance.below(3)).map(|_| at(chance.below(40), read((gateway + 1) % self.gateways))));
        steps
    }

    /// An entry that gateways share, and clocks that are set while it lies in the store: a replica may take over whose clock is
    /// behind.
    fn clocks(&self, chance: &mut Chance) -> Vec<Step> {
        let gateway = chance.index(self.gateways);
        let (user, of) = (chance.below(USERS), chance.of(&KINDS_OF));
        let read = |gateway| What::Read { gateway, worker: 0, user, of, ask: Ask::Whole };
        let at = |after_ms: u64, what| Step { after_us: after_ms * 1000, what };
        let mut steps = vec![at(0, What::Write { gateway, worker: 0, user }), at(300, read(gateway))];
        for _ in 0..1 + chance.below(3) {
            steps.push(at(chance.below(900), What::StoreClock { seconds: chance.of(&[-1, -2, -60, -3600, 60]) }));
            if chance.percent(20) {
                steps.extend([at(0, What::Replicate), at(chance.below(300), What::FailOver)]);
            }
            if chance.percent(30) {
                steps.push(at(0, What::Clock { seconds: chance.of(&[-600, -60, 600]) }));
            }
        }
        steps.push(at(100 + chance.below(1500), read((gateway + 1) % self.gateways)));
        // Ages are told in seconds: what is missing shows around the end of one.
        steps.extend((0..12).map(|_| at(70 + chance.below(30), read((gateway + 1) % self.gateways))));
        steps
    }

    /// A write in one gateway, while another one hears late of it, or not at all for a while, and is asked all the time.
    fn heard(&self, chance: &mut Chance) -> Vec<Step> {
        let gateway = chance.index(self.gateways);
        let other = (gateway + 1) % self.gateways;
        let read = What::Read { gateway: other, worker: 0, user: 0, of: chance.of(&KINDS_OF), ask: Ask::Whole };
        let at = |after_ms: u64, what| Step { after_us: after_ms * 1000, what };
        let mut steps = vec![at(0, What::Rest), at(0, read), at(200, read)];
        if chance.percent(30) {
            let failure = chance.of(&[Failure::Hangs, Failure::Resets]);
            steps.push(at(0, What::Cut { gateway: other, failure, ms: chance.below(self.window_ms * 2) }));
        }
        steps.push(at(chance.below(20), What::Write { gateway, worker: 0, user: 0 }));
        steps.extend((0..24).map(|_| at(1 + chance.below(8), read)));
        steps
    }

    fn step(&self, chance: &mut Chance, theme: Theme, kinds: &[u64], writes: u64, pace_us: u64) -> Step {
        let (gateway, worker) = (chance.index(self.gateways), chance.index(self.workers));
        // Most of what happens concerns one user, or nothing would ever meet.
        let user = if chance.percent(80) { 0 } else { chance.below(USERS) };
        let faults: u64 = kinds.iter().sum();
        let mut draw = chance.below(100 + writes + faults * 4);
        let after_us = match chance.below(20) {
            0 => 300_000,
            1..=4 => 0,
            _ => chance.below(pace_us),
        };
        let step = |what| Step { after_us, what };
        if draw < 100 {
            let ask = match chance.below(20) {
                0 => Ask::Head,
                1 => Ask::Part,
                2 => Ask::IfChanged,
                3 => Ask::Authorised,
                _ => Ask::Whole,
            };
            let ask = if matches!(theme, Theme::Anything | Theme::Ageing | Theme::Refreshing | Theme::Behind) {
                ask
            } else {
                Ask::Whole
            };
            return step(What::Read { gateway, worker, user, of: chance.of(&KINDS_OF), ask });
        }
        if draw < 100 + writes {
            return step(What::Write { gateway, worker, user });
        }
        draw = (draw - 100 - writes) / 4;
        for ((_, _, make), weight) in KINDS.iter().zip(kinds) {
            if draw < *weight {
                return step(make(chance, gateway, worker, user));
            }
            draw -= weight;
        }
        step(What::Rest)
    }
}

/// What a run is about. Some mistakes show only where one thing happens often and nothing else gets in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their steps say what they are")]
pub enum Theme {
    Anything,
    /// Many requests at the same instant.
    Crowd,
    FailOver,
    /// A feed that is slow, cut into pieces, and lost.
    Feed,
    Eviction,
    /// Answers of the group that come after the purge of what they bring.
    SlowGroup,
    /// Writes whose end nobody sees.
    LostWrites,
    /// A gateway without a group: what it doesn't record itself, nobody does.
    Alone,
    /// A gateway that doesn't hear what was purged.
    FeedLoss,
    /// A fill that is stored after the purge, and an epoch that is gone.
    LateStore,
    /// The worker that polls dies in the middle of it.
    DyingPoller,
    /// A purge that takes long to reach the group.
    Pending,
    /// Writes that wait until every gateway has heard of them, and reads elsewhere right after.
    Heard,
    /// Entries that go stale, are validated, and stand in for errors.
    Ageing,
    /// Answers of the group that cross a purge on its way there.
    Crossing,
    /// A failover that loses what one gateway alone has seen.
    Witness,
    /// Somebody else writes to the store: forgers where gateways seal, filters of another format where they don't.
    Forgery,
    /// Entries that are stale for a while, by age and by soft purges, and refreshed behind clients, under faults of all kinds.
    Refreshing,
    /// Crowds that want the same, and what goes wrong while they wait.
    Load,
    /// Clocks that are set back.
    Clocks,
    /// Writers that others overtake between two host calls.
    Overtaken,
    /// What gateways fetch by themselves: what uses renew, what a write has read again, what is warmed.
    Behind,
    /// What shows a mistake only if it happens just so, and seldom does elsewhere.
    Narrow,
}

impl Theme {
    /// As often as they are drawn. This list stays as it is, or every seed would draw another run: see [`Theme::ASIDE`].
    const DRAWN: [Self; 16] = [
        Self::Anything,
        Self::Anything,
        Self::Anything,
        Self::Crowd,
        Self::FailOver,
        Self::Feed,
        Self::Eviction,
        Self::SlowGroup,
        Self::LostWrites,
        Self::Alone,
        Self::Alone,
        Self::FeedLoss,
        Self::LateStore,
        Self::DyingPoller,
        Self::Pending,
        Self::Ageing,
    ];

    /// Those that came later. Each takes a run in sixteen from the drawn ones and leaves all other seeds what they were.
    const ASIDE: [Self; 8] = [
        Self::Heard,
        Self::Crossing,
        Self::Witness,
        Self::Forgery,
        Self::Refreshing,
        Self::Load,
        Self::Clocks,
        Self::Overtaken,
    ];

    /// Those that came last. Each takes every eighth run, from this one on, of those that are left, so that a few are among
    /// any hundred.
    const IN_TURN: [(u64, Self); 2] = [(3, Self::Narrow), (7, Self::Behind)];

    /// The later theme that takes this seed's run, if one does.
    fn aside(seed: u64) -> Option<Self> {
        let takes = |number: u64| Chance::new(seed ^ (0x7468_656d_6500 + number)).below(16) == 0;
        let of_turn = || Self::IN_TURN.into_iter().find(|(turn, _)| seed % 8 == *turn).map(|(_, theme)| theme);
        (0..).zip(Self::ASIDE).find_map(|(number, theme)| takes(number).then_some(theme)).or_else(of_turn)
    }

    /// The theme of that name.
    pub fn named(name: &str) -> Option<Self> {
        let of_name = |theme: &Self| format!("{theme:?}").eq_ignore_ascii_case(name);
        let last = Self::IN_TURN.map(|(_, theme)| theme);
        Self::DRAWN.into_iter().chain(Self::ASIDE).chain(last).find(of_name)
    }

    /// The faults that it is about; none in particular.
    fn kinds(self) -> Option<&'static [&'static str]> {
        Some(match self {
            Self::Anything | Self::Refreshing | Self::Behind => return None,
            Self::Crowd => &["race", "crash", "cut"],
            Self::FailOver => &["fail over"],
            Self::Feed => &["write behind", "cut"],
            Self::Eviction => &["evict"],
            Self::SlowGroup => &["write behind"],
            Self::LostWrites => &["leave", "origin"],
            Self::Alone => &["crash", "race"],
            Self::Ageing => &["origin", "clock", "store clock"],
            Self::FeedLoss | Self::LateStore | Self::DyingPoller | Self::Pending => &[],
            Self::Heard | Self::Crossing | Self::Witness | Self::Load | Self::Clocks | Self::Overtaken => &[],
            Self::Narrow => &[],
            Self::Forgery => &["damage", "fail over", "restart", "reconfigure", "write behind"],
        })
    }
}

/// Of what is read, as often as it is.
const KINDS_OF: [Of; 4] = [Of::User, Of::User, Of::Orders, Of::Basket];

/// How many in a hundred runs about anything know a kind of fault, its name, and what it does.
type Kind = (u64, &'static str, fn(&mut Chance, usize, usize, u64) -> What);

const KINDS: &[Kind] = &[
    (30, "leave", |chance, _, _, _| What::Leave { back: chance.index(4) }),
    (30, "write behind", |chance, _, _, user| What::WriteBehind { user, tags: chance.of(&[1, 1, 600]) }),
    (40, "evict", |chance, _, _, user| {
        What::Evict(match chance.below(12) {
            0..4 => Evicted::Epoch(user),
            4..8 => Evicted::Orders,
            8..10 => Evicted::Entry(user),
            _ => Evicted::Log,
        })
    }),
    (40, "fail over", |chance, _, _, _| if chance.percent(50) { What::Replicate } else { What::FailOver }),
    (25, "damage", |chance, _, _, _| {
        What::Damage(chance.of(&[
            Damage::Truncated,
            Damage::Flipped,
            Damage::Flipped,
            Damage::OtherVersion,
            Damage::Oversized,
            Damage::Foreign,
        ]))
    }),
    (15, "store clock", |chance, _, _, _| What::StoreClock { seconds: chance.of(&[1, 60, 300]) }),
    (15, "forget", |chance, gateway, _, _| What::Forget {
        gateway,
        part: chance.of(&[Part::Log, Part::Head, Part::LogAndHead, Part::All]),
    }),
    (15, "restart bridge", |_, _, _, _| What::RestartBridge),
    (45, "cut", |chance, gateway, _, _| What::Cut {
        gateway,
        failure: chance.of(&[
            Failure::Refused,
            Failure::NoConnection,
            Failure::Hangs,
            Failure::Resets,
            Failure::Stranger,
            Failure::Garbage,
            Failure::Unavailable,
            Failure::AnswerLost,
            Failure::AnswerLost,
            Failure::NoPurges,
        ]),
        ms: chance.of(&[20, 200, 900, 2000]),
    }),
    (20, "depose", |chance, gateway, _, _| What::Depose { gateway, ms: chance.of(&[100, 1500, 4000]) }),
    (30, "crash", |chance, gateway, worker, _| What::Crash { gateway, worker, turns: chance.of(&[0, 3, 10, 30, 90]) }),
    (20, "restart", |_, gateway, _, _| What::Restart { gateway }),
    (20, "reconfigure", |chance, gateway, _, _| What::Reconfigure { gateway, longer: chance.percent(50) }),
    (20, "clock", |chance, _, _, _| What::Clock { seconds: chance.of(&[-3600, -60, 60, 3600]) }),
    (30, "race", |chance, _, _, _| What::Race { times: chance.of(&[1, 2, 5]) }),
    (30, "origin", |chance, _, _, _| What::Origin {
        failure: chance.of(&[OriginFailure::Refuses, OriginFailure::Resets, OriginFailure::Cuts, OriginFailure::Cuts]),
        ms: chance.of(&[20, 100, 300]),
    }),
];

impl fmt::Display for Plan {
    /// The mix, on one line, and then a line for each step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.mix())?;
        self.steps.iter().try_for_each(|Step { after_us, what }| writeln!(f, "  +{after_us:>6} µs  {what:?}"))
    }
}

impl Plan {
    /// What the seed drew, on one line.
    pub fn mix(&self) -> String {
        let Self { seed, gateways, workers, window_ms, log_records, feed_records, .. } = self;
        let Self {
            feed_way_ms, bridge_way_ms, origin_way_ms, grouped, heard, exact, lifetime_ms, sealed, cold, ..
        } = self;
        let mut kinds: Vec<String> =
            self.steps.iter().map(|step| format!("{:?}", step.what)).map(|what| word(&what).to_owned()).collect();
        kinds.sort();
        kinds.dedup();
        format!(
            "seed {seed} ({:?}): {gateways} gateways × {workers} workers, window {window_ms} ms, log of {log_records} records, \
             {feed_records} to an answer, ways of up to {feed_way_ms} (feed), {bridge_way_ms} (bridge) and \
             {origin_way_ms} ms (origin), fresh for {lifetime_ms} ms{}{}{}{}{}{}; {} steps: {}",
            self.theme,
            self.care,
            if *grouped { "" } else { ", alone" },
            if *heard { ", heard" } else { "" },
            if *exact { ", nginx" } else { "" },
            if *sealed { ", sealed" } else { "" },
            if *cold { ", cold" } else { "" },
            self.steps.len(),
            kinds.join(" ")
        )
    }
}

fn word(what: &str) -> &str {
    what.split([' ', '(']).next().unwrap_or(what)
}
