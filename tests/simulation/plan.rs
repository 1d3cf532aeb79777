//! What a seed draws: how large the world is, what may fail in it, and what happens step by step.

use std::fmt;

use super::chance::Chance;

/// Users whose versions are read and written; few, so that requests meet.
pub const USERS: u64 = 2;

/// A run, before it is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything that the steps leave open.
    pub seed: u64,
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
    /// Whether the first requests come before the feed was heard.
    pub cold: bool,
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
    Read { gateway: usize, worker: usize, user: u64, orders: bool },
    /// A client writes.
    Write { gateway: usize, worker: usize, user: u64 },
    /// The client of one of the latest requests goes away.
    Leave { back: usize },
    /// The origin's data change behind the gateways, and whoever did it purges through the bridge's API; some purge so
    /// many tags that a gateway's ring can't hold them.
    WriteBehind { user: u64, tags: usize },
    /// The store evicts.
    Evict(Evicted),
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
    /// A gateway's process dies.
    Restart { gateway: usize },
    /// A gateway gets rules again; a new lifetime for orders makes their entries those of another rule.
    Reconfigure { gateway: usize, longer: bool },
    /// The wall clock is set.
    Clock { seconds: i64 },
    /// Writes to shared data find another version, so many times.
    Race { times: u32 },
    /// For a while, the origin fails.
    Origin { failure: OriginFailure, ms: u64 },
    /// Nothing happens.
    Rest,
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
        let mut chance = Chance::new(seed);
        let theme = chance.of(&Theme::ALL);
        let crowd = theme == Theme::Crowd;
        let (gateways, workers) = match theme {
            Theme::Crowd => (1 + chance.index(2), 2 + chance.index(2)),
            Theme::SlowGroup => (3, 1),
            Theme::FailOver | Theme::Feed => (2, 1 + chance.index(2)),
            _ => (1 + chance.index(2) + usize::from(chance.percent(15)), 1 + chance.index(2)),
        };
        let mut weigh = |(share, word, _): &Kind| match theme.kinds() {
            Some(kinds) if kinds.contains(word) => 3 + chance.below(6),
            Some(_) => 0,
            None if chance.percent(*share) => 1 + chance.below(4),
            None => 0,
        };
        let kinds: Vec<u64> = KINDS.iter().map(&mut weigh).collect();
        let (feed, slow_group) = (theme == Theme::Feed, theme == Theme::SlowGroup);
        let mut plan = Self {
            seed,
            gateways,
            workers,
            window_ms: if feed { 200 } else { chance.of(&[200, 400, 1000]) },
            log_records: if theme.kinds().is_some() { 1000 } else { chance.of(&[2, 4, 1000, 1000]) },
            feed_records: if feed { 1 } else { chance.of(&[1, 2, 512, 512]) },
            feed_way_ms: if feed {
                48
            } else if slow_group {
                1
            } else {
                chance.of(&[1, 20, 40])
            },
            bridge_way_ms: if crowd {
                1
            } else if slow_group {
                45
            } else {
                chance.of(&[1, 10, 45, 100])
            },
            origin_way_ms: if crowd {
                1
            } else if slow_group {
                5
            } else {
                chance.of(&[5, 40, 150])
            },
            cold: chance.percent(30),
            steps: Vec::new(),
        };
        let writes = if crowd { 60 } else { chance.of(&[10, 20, 40]) };
        let pace_us = if crowd { 1 } else { chance.of(&[2_000, 20_000, 60_000]) };
        let count = 30 + chance.index(60);
        plan.steps = (0..count).map(|_| plan.step(&mut chance, &kinds, writes, pace_us)).collect();
        plan
    }

    fn step(&self, chance: &mut Chance, kinds: &[u64], writes: u64, pace_us: u64) -> Step {
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
            return step(What::Read { gateway, worker, user, orders: chance.percent(40) });
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
enum Theme {
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
}

impl Theme {
    const ALL: [Self; 9] = [
        Self::Anything,
        Self::Anything,
        Self::Anything,
        Self::Crowd,
        Self::FailOver,
        Self::Feed,
        Self::Eviction,
        Self::SlowGroup,
        Self::LostWrites,
    ];

    /// The faults that it is about; none in particular.
    fn kinds(self) -> Option<&'static [&'static str]> {
        Some(match self {
            Self::Anything => return None,
            Self::Crowd => &["race", "crash", "cut"],
            Self::FailOver => &["fail over"],
            Self::Feed => &["write behind", "cut"],
            Self::Eviction => &["evict"],
            Self::SlowGroup => &["write behind"],
            Self::LostWrites => &["leave", "origin"],
        })
    }
}

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
        let Self { feed_way_ms, bridge_way_ms, origin_way_ms, cold, .. } = self;
        let mut kinds: Vec<String> =
            self.steps.iter().map(|step| format!("{:?}", step.what)).map(|what| word(&what).to_owned()).collect();
        kinds.sort();
        kinds.dedup();
        format!(
            "seed {seed}: {gateways} gateways × {workers} workers, window {window_ms} ms, log of {log_records} records, \
             {feed_records} to an answer, ways of up to {feed_way_ms} (feed), {bridge_way_ms} (bridge) and \
             {origin_way_ms} ms (origin){}; {} steps: {}",
            if *cold { ", cold" } else { "" },
            self.steps.len(),
            kinds.join(" ")
        )
    }
}

fn word(what: &str) -> &str {
    what.split([' ', '(']).next().unwrap_or(what)
}
