//! The scripts in Redis and the plain code in memory are two writings of one protocol: whatever is done, both say the same.

use std::sync::Arc;

use bridge_api::{Continuity, Lease, LookupReply, Pattern, Position, ReleaseReply, StoreReply, Ticket};
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::strategy::Just;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{HOUR, RedisServer, Replica, Rig};

const KEYS: [&str; 2] = ["k", "l"];
const TAGS: [&str; 3] = ["a", "b", "c"];

/// Which of the things seen before, counted from the newest.
type Back = usize;

#[derive(Clone, Debug)]
enum Step {
    Lookup { key: usize, tags: u8, known: Option<Back> },
    Store { key: usize, tags: u8, ticket: Back },
    Purge { tags: u8 },
    Ban { tags: u8, key: usize, by_tag: bool },
    Compete { key: usize, tags: u8, holder: u64 },
    StoreBy { key: usize, tags: u8, ticket: Back, holder: u64 },
    Release { key: usize, holder: u64, pass: bool },
    Poll { cursor: Option<Back>, known: Option<Back> },
    ForgetEpoch { tag: usize },
    ForgetLog,
    Copy,
    FailOver,
}

fn step() -> impl Strategy<Value = Step> {
    let back = || 0..6_usize;
    let some_back = move || proptest::option::of(back());
    let tags = || 0..8_u8;
    prop_oneof![
        6 => (0..2_usize, tags(), some_back()).prop_map(|(key, tags, known)| Step::Lookup { key, tags, known }),
        6 => (0..2_usize, tags(), back()).prop_map(|(key, tags, ticket)| Step::Store { key, tags, ticket }),
        4 => (1..8_u8).prop_map(|tags| Step::Purge { tags }),
        2 => (tags(), 0..3_usize, any::<bool>()).prop_map(|(tags, key, by_tag)| Step::Ban { tags, key, by_tag }),
        4 => (0..2_usize, tags(), 1..3_u64).prop_map(|(key, tags, holder)| Step::Compete { key, tags, holder }),
        3 => (0..2_usize, tags(), back(), 1..3_u64)
            .prop_map(|(key, tags, ticket, holder)| Step::StoreBy { key, tags, ticket, holder }),
        2 => (0..2_usize, 1..3_u64, any::<bool>()).prop_map(|(key, holder, pass)| Step::Release { key, holder, pass }),
        4 => (some_back(), some_back()).prop_map(|(cursor, known)| Step::Poll { cursor, known }),
        2 => (0..3_usize).prop_map(|tag| Step::ForgetEpoch { tag }),
        1 => Just(Step::ForgetLog),
        1 => Just(Step::Copy),
        1 => Just(Step::FailOver),
    ]
}

/// One store, and what a gateway of it has seen.
struct Side {
    rig: Rig,
    positions: Vec<Position>,
    tickets: Vec<Ticket>,
    copy: Option<Replica>,
}

/// What a step says, without what may differ: ids, numbers, times.
#[derive(Debug, PartialEq)]
enum Said {
    Lookup(&'static str, Vec<String>),
    Store(StoreReply),
    Lease(Option<&'static str>),
    Release(ReleaseReply),
    Poll(Continuity, Vec<(Vec<String>, Vec<Pattern>)>, bool),
    Nothing,
}

impl Side {
    fn new(rig: Rig) -> Self {
        Self { rig, positions: Vec::new(), tickets: Vec::new(), copy: None }
    }

    async fn take(&mut self, step: &Step) -> Said {
        let named =
            |tags: u8| TAGS.into_iter().enumerate().filter(move |(bit, _)| tags >> bit & 1 == 1).map(|(_, tag)| tag);
        let position = |back: Option<Back>| newest(&self.positions, back?).copied();
        match *step {
            Step::Lookup { key, tags, known } => {
                let tags: Vec<_> = named(tags).collect();
                let (said, seen, tags) = match self.rig.ask(KEYS[key], &tags, position(known)).await.0 {
                    LookupReply::Hit { ticket, tags, .. } => ("hit", ticket, tags),
                    LookupReply::Miss { ticket, .. } => ("miss", ticket, Vec::new()),
                    LookupReply::Behind => return Said::Lookup("behind", Vec::new()),
                };
                self.tickets.push(seen);
                Said::Lookup(said, tags)
            }
            Step::Store { key, tags, ticket } => {
                let Some(ticket) = newest(&self.tickets, ticket).copied() else { return Said::Nothing };
                let tags: Vec<_> = named(tags).collect();
                Said::Store(self.rig.put(KEYS[key], &tags, ticket).await)
            }
            Step::Purge { tags } => {
                let tags: Vec<_> = named(tags).collect();
                self.positions.push(self.rig.purge(&tags).await.position);
                Said::Nothing
            }
            Step::Ban { tags, key, by_tag } => {
                let tags: Vec<_> = named(tags).collect();
                let pattern = if by_tag {
                    Pattern::Tag(format!("{}*", TAGS[key]))
                } else {
                    Pattern::Key(["k", "l", "*"][key].into())
                };
                self.positions.push(self.rig.ban(&tags, &[pattern]).await.position);
                Said::Nothing
            }
            Step::Compete { key, tags, holder } => {
                let tags: Vec<_> = named(tags).collect();
                let lease = self.rig.compete(KEYS[key], &tags, holder, HOUR).await;
                Said::Lease(lease.map(|lease| match lease {
                    Lease::Granted => "granted",
                    Lease::Held { .. } => "held",
                    Lease::Pass { .. } => "pass",
                }))
            }
            Step::StoreBy { key, tags, ticket, holder } => {
                let Some(ticket) = newest(&self.tickets, ticket).copied() else { return Said::Nothing };
                let tags: Vec<_> = named(tags).collect();
                Said::Store(self.rig.put_by(holder, KEYS[key], &tags, ticket).await)
            }
            Step::Release { key, holder, pass } => {
                Said::Release(self.rig.release(KEYS[key], holder, pass.then_some(HOUR)).await)
            }
            Step::Poll { cursor, known } => {
                let reading = self.rig.poll(position(cursor), position(known)).await;
                self.positions.push(reading.cursor);
                let records = reading.records.into_iter().map(|record| (record.tags, record.patterns)).collect();
                Said::Poll(reading.continuity, records, reading.complete)
            }
            Step::ForgetEpoch { tag } => {
                self.rig.forget_epoch(TAGS[tag]);
                Said::Nothing
            }
            Step::ForgetLog => {
                self.rig.forget_log().await;
                Said::Nothing
            }
            Step::Copy => {
                self.copy = Some(self.rig.replica());
                Said::Nothing
            }
            Step::FailOver => {
                if let Some(copy) = &self.copy {
                    self.rig.fail_over_to(copy).await;
                }
                Said::Nothing
            }
        }
    }
}

fn newest<T>(seen: &[T], back: Back) -> Option<&T> {
    seen.iter().rev().nth(back)
}

#[test]
fn both_stores_say_the_same_whatever_is_done_and_lost() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let server = Arc::new(RedisServer::start());
    let case = std::cell::Cell::new(0);
    let steps = (any::<bool>(), proptest::collection::vec(step(), 1..40));
    TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() })
        .run(&steps, |(short_log, steps)| {
            case.set(case.get() + 1);
            let records = if short_log { 4 } else { 1000 };
            let mut mem = Side::new(Rig::mem_with_log(records));
            let mut redis = Side::new(Rig::on_redis(&server, records, &format!("case{}x", case.get())));
            runtime.block_on(async {
                for (index, step) in steps.iter().enumerate() {
                    let (in_memory, in_redis) = (mem.take(step).await, redis.take(step).await);
                    proptest::prop_assert_eq!(in_memory, in_redis, "step {}: {:?}", index, step);
                }
                Ok(())
            })
        })
        .unwrap();
}
