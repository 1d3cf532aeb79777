//! What is asked for while something fails, and what was before that.

use proxy_wasm_host_test::{Answer, Request, World};

use super::super::stage::{get, ms};

/// Clients of a crowd.
pub const CROWD: usize = 60;

/// Something that clients do, on gateway 0 of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads of what the gateway holds.
    Read,
    /// The same, when the feed hasn't been heard for longer than the window.
    ReadUnheard,
    /// A read of what nobody holds, and another one through the other worker.
    Fill,
    /// The same after five in a row that the bridge didn't answer.
    FillOpen,
    /// A read of what another gateway has read.
    ReadElsewhere,
    /// A read of what the gateway holds, gone stale, and another one through the other worker.
    FillStale,
    /// A write to what all hold, and a read through each worker.
    Write,
    /// The same to what nobody holds.
    WriteAbsent,
    /// A write to what all hold, after five lookups in a row that the bridge didn't answer.
    WriteOpen,
    /// A read of what the gateway holds and may serve while it is refreshed, and another one when that is done.
    Refresh,
    /// A read of what another gateway holds and could serve while it is refreshed.
    RefreshElsewhere,
    /// Many reads at once of what has gone stale.
    CrowdStale,
    /// Many reads at once of what nobody holds.
    Crowd,
    /// A read of what the gateway holds, gone stale, which may stand in for an error; and another one.
    StandIn,
    /// The same, longer stale than it may.
    StandInNoMore,
    /// Many at once of what may stand in.
    CrowdStandIn,
    /// A read of what is stored for when the origin fails.
    Failover,
    /// The same as [`Operation::StandInNoMore`] of what has a validator.
    ValidatedNoMore,
    /// Many reads, one after the other, of what nobody holds, where the origin is protected.
    Protected,
    /// Many reads at once of what nobody holds, where the origin is protected and nobody waits for long.
    CrowdProtected,
    /// Many reads at once, each of something else that nobody holds, where fetches are counted: so many are at once.
    Fills(usize),
}

/// `limits.fills`, where fetches are counted.
pub const FILLS: usize = 5;

impl Operation {
    /// As the page says it: what is done, and whether the gateway holds it.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Read => ("read, twice", "warm"),
            Self::ReadUnheard => ("read, twice, a window later", "warm"),
            Self::Fill => ("read and fill, then read through the other worker", "cold"),
            Self::FillOpen => ("the same after five lookups in vain: the breaker is open", "cold"),
            Self::ReadElsewhere => ("read of what another gateway has read", "cold"),
            Self::FillStale => ("read of what is stale, then read through the other worker", "warm"),
            Self::Write => ("write, then read through each worker", "warm"),
            Self::WriteAbsent => ("write, then read through each worker", "cold"),
            Self::WriteOpen => ("write after five lookups in vain: the breaker is open", "warm"),
            Self::Refresh => ("read within `stale_while_revalidate`, and again soon after", "warm"),
            Self::RefreshElsewhere => ("the same of what only another gateway has read", "cold"),
            Self::CrowdStale => ("sixty at once, of what is stale", "warm"),
            Self::Crowd => ("sixty at once", "cold"),
            Self::StandIn => ("read within `stale_if_error`, and again soon after", "warm"),
            Self::StandInNoMore => ("read, `stale_if_error` is over", "warm"),
            Self::CrowdStandIn => ("sixty at once within `stale_if_error`", "warm"),
            Self::Failover => ("read, `mode: failover`", "warm"),
            Self::ValidatedNoMore => ("the same of what has an `ETag`", "warm"),
            Self::Protected => ("ten reads in a second, `protect_origin: on`", "cold"),
            Self::CrowdProtected => ("sixty at once, `protect_origin: on`, `lock_wait: 100ms`", "cold"),
            Self::Fills(_) => ("sixty at once, each of something else, `limits.fills: 5`", "cold"),
        }
    }

    /// What comes before the failure.
    pub fn prepare(self, world: &mut World) {
        let path = match self {
            Self::FillStale | Self::CrowdStale => "/news/1",
            Self::Refresh => "/menus/1",
            Self::StandIn | Self::CrowdStandIn | Self::StandInNoMore => "/shops/1",
            Self::ValidatedNoMore => "/tagged/1",
            Self::Failover => "/banks/1",
            _ => "/users/1",
        };
        for worker in [0, 1] {
            get(world, worker, path);
        }
        let elsewhere = match self {
            Self::ReadElsewhere => "/users/3",
            Self::RefreshElsewhere => "/menus/1",
            _ => "/users/1",
        };
        world.fetch(Request::get(elsewhere).gateway(1));
        // Until what has a short lifetime is stale.
        world.run_for(ms(if matches!(self, Self::StandInNoMore | Self::ValidatedNoMore) { 8000 } else { 3000 }));
    }

    /// What is done during it; the answers, in the order of the questions.
    pub fn act(self, world: &mut World) -> Vec<Answer> {
        match self {
            Self::Read => both(world, "/users/1"),
            Self::ReadUnheard => {
                world.run_for(ms(1500));
                both(world, "/users/1")
            }
            Self::Fill => both(world, "/users/2"),
            Self::FillOpen => {
                five_lookups(world);
                both(world, "/users/2")
            }
            Self::ReadElsewhere => vec![get(world, 0, "/users/3")],
            Self::FillStale => both(world, "/news/1"),
            Self::Write | Self::WriteOpen | Self::WriteAbsent => {
                if self == Self::WriteOpen {
                    five_lookups(world);
                }
                let path = if self == Self::WriteAbsent { "/users/2" } else { "/users/1" };
                let write = world.fetch(Request::put(path).body("x"));
                [vec![write], both(world, path)].concat()
            }
            Self::Refresh => again(world, "/menus/1", ms(100)),
            Self::RefreshElsewhere => vec![get(world, 0, "/menus/1")],
            Self::CrowdStale => crowd(world, |_| "/news/1".to_owned()),
            Self::Crowd => crowd(world, |_| "/users/2".to_owned()),
            Self::CrowdProtected => crowd(world, |_| "/held/1".to_owned()),
            Self::Fills(_) => crowd(world, |number| format!("/users/{}", 100 + number)),
            Self::StandIn => again(world, "/shops/1", ms(100)),
            Self::StandInNoMore => vec![get(world, 0, "/shops/1")],
            Self::ValidatedNoMore => vec![get(world, 0, "/tagged/1")],
            Self::CrowdStandIn => crowd(world, |_| "/shops/1".to_owned()),
            Self::Failover => vec![get(world, 0, "/banks/1")],
            Self::Protected => (0..10)
                .map(|_| {
                    let answer = get(world, 0, "/rare/1");
                    world.run_for(ms(50));
                    answer
                })
                .collect(),
        }
    }
}

/// Through each worker.
fn both(world: &mut World, path: &str) -> Vec<Answer> {
    [0, 1].map(|worker| get(world, worker, path)).into()
}

fn again(world: &mut World, path: &str, after: std::time::Duration) -> Vec<Answer> {
    let first = get(world, 0, path);
    world.run_for(after);
    vec![first, get(world, 0, path)]
}

fn five_lookups(world: &mut World) {
    for user in 100..105 {
        get(world, 0, &format!("/users/{user}"));
    }
}

fn crowd(world: &mut World, path: impl Fn(usize) -> String) -> Vec<Answer> {
    let ids: Vec<_> = (0..CROWD).map(|number| world.send(Request::get(&path(number)).worker(number % 2))).collect();
    world.run_until(|world| ids.iter().all(|id| world.finished(*id).is_some()));
    ids.into_iter().map(|id| world.answer(id).clone()).collect()
}
