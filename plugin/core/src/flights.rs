//! Collapsed requests of one worker: who fetches what, who waits for it, and for how long ([`Flights`]).
//!
//! A *flight* is a fetch of one key under way, with one *holder* and those who wait for its answer. It ends when the answer
//! is stored, when it turns out to be nobody else's, when it fails, or when its holder is gone; and whatever becomes of
//! it, nobody waits longer than the rule's `lock_wait`. Streams are known by their number, flights by a hash: two keys
//! that share one wait for each other in vain, and then fetch for themselves.

use std::collections::VecDeque;

use crate::numbered::Numbered;
use crate::planted::planted;

/// How long it is remembered that the answers for a key aren't for sharing (hit-for-miss), in milliseconds. A shareable
/// one ends it.
pub const PASS_MS: u64 = 60_000;

/// How long it is remembered that a fetch failed, or that its answer wasn't kept, in milliseconds. After another one, those who still wait go on by
/// themselves: one after the other they would wait for an origin that is down. A failure that took so long is the last one.
pub const FAILED_PASS_MS: u64 = 1000;

/// Keys of which it is remembered that they aren't for sharing.
const PASSES_MAX: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub struct Flights {
    flights: Numbered<u64, Flight>,
    passes: Passes,
}

#[derive(Debug)]
struct Flight {
    holder: Member,
    /// From then on, the holder counts as stuck, and whoever comes becomes the holder.
    until_ms: u64,
    /// When to look again for the flight of another worker, if that is what the holder waits for.
    elsewhere_ms: Option<u64>,
    waiters: VecDeque<Member>,
}

/// A stream that would join a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub stream: u32,
    /// When it stops waiting, in milliseconds of the monotonic clock.
    pub until_ms: u64,
    /// Whether what it fetches can be for others too.
    pub may_hold: bool,
}

/// What a stream that joins is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Fetch, for those too who come after it.
    Hold,
    /// Wait to be woken.
    Wait,
    /// Fetch for itself: answers for this key aren't for sharing.
    Pass,
    /// Fetch for itself, if it must: the origin has just failed.
    Down,
    /// Fetch for itself: nobody fetches, and what it fetches isn't for others.
    Alone,
    /// Too many wait already.
    Crowded,
}

/// How a fetch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is an entry now.
    Stored,
    /// The answer is for one client only.
    Uncacheable,
    /// The origin failed.
    Failed,
    /// The same, and nobody is to try once more: it took too long, or another worker's fetch has failed, too.
    Down,
    /// The answer couldn't be kept: a purge has overtaken it, or there was no room.
    Unkept,
    /// The holder's client has gone.
    Gone,
}

/// Who is to be woken when a fetch has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nobody, and nothing has ended: another stream holds the flight by now.
    Not,
    /// This one, who holds the flight from now on.
    Next(u32),
    /// All of these; the flight is over.
    All(Vec<u32>),
}

impl Outcome {
    /// That of an error, by its status: what took too long isn't to be waited for once more.
    #[must_use]
    pub fn of_error(status: u16) -> Self {
        if status == 504 { Self::Down } else { Self::Failed }
    }
}

impl Flights {
    /// Has a stream join the flight of a key. Where there is no `room` for one more, it doesn't wait.
    pub fn join(&mut self, key: u64, member: Member, now_ms: u64, room: bool) -> Join {
        match self.passes.of(key, now_ms) {
            Some(Pass::Uncacheable) if !planted("pass_not_remembered") => return Join::Pass,
            Some(Pass::Unkept) => return Join::Pass,
            Some(Pass::Failed) => return Join::Down,
            Some(Pass::Uncacheable | Pass::Suspect { .. }) | None => {}
        }
        match self.flights.get_mut(key) {
            // One that waits itself isn't stuck: it will be woken.
            Some(flight) if now_ms >= flight.until_ms && flight.elsewhere_ms.is_none() && member.may_hold => {
                (flight.holder, flight.until_ms) = (member, member.until_ms);
                Join::Hold
            }
            Some(_) if !room || now_ms >= member.until_ms => Join::Crowded,
            Some(flight) => {
                flight.waiters.push_back(member);
                Join::Wait
            }
            None if member.may_hold => {
                self.flights.insert(key, Flight::of(member));
                Join::Hold
            }
            None => Join::Alone,
        }
    }

    /// A stream's fetch has ended, whether it holds the flight or not: an answer is welcome from anyone.
    pub fn end(&mut self, key: u64, stream: u32, outcome: Outcome, now_ms: u64) -> Ended {
        let flight = self.flights.get_mut(key);
        let holds = flight.as_ref().is_some_and(|flight| flight.holder.stream == stream);
        match outcome {
            Outcome::Uncacheable if holds && planted("pass_not_remembered") => return self.next(key),
            Outcome::Stored => self.passes.forget(key),
            Outcome::Uncacheable => self.passes.add(key, Pass::Uncacheable, PASS_MS, now_ms),
            Outcome::Failed | Outcome::Down | Outcome::Unkept | Outcome::Gone if !holds => return Ended::Not,
            Outcome::Failed | Outcome::Down | Outcome::Unkept | Outcome::Gone => {
                let before = self.passes.of(key, now_ms);
                let again = outcome == Outcome::Down || before.is_some();
                let pass = match (outcome, before) {
                    (Outcome::Down, _) | (Outcome::Failed, Some(Pass::Suspect { failed: true } | Pass::Failed)) => {
                        Pass::Failed
                    }
                    (_, None) => Pass::Suspect { failed: outcome == Outcome::Failed },
                    _ => Pass::Unkept,
                };
                if outcome != Outcome::Gone {
                    self.passes.add(key, pass, FAILED_PASS_MS, now_ms);
                }
                if outcome == Outcome::Gone || !again {
                    return self.next(key);
                }
            }
        }
        Ended::All(self.disband(key))
    }

    /// Has the longest waiting of those who may hold take over.
    fn next(&mut self, key: u64) -> Ended {
        let Some(flight) = self.flights.get_mut(key) else { return Ended::Not };
        let next = flight.waiters.iter().position(|waiter| waiter.may_hold).and_then(|at| flight.waiters.remove(at));
        match next {
            Some(next) => {
                (flight.holder, flight.until_ms, flight.elsewhere_ms) = (next, next.until_ms, None);
                Ended::Next(next.stream)
            }
            None => Ended::All(self.disband(key)),
        }
    }

    fn disband(&mut self, key: u64) -> Vec<u32> {
        let Some(Flight { holder, elsewhere_ms, mut waiters, .. }) = self.flights.remove(key) else {
            return Vec::new();
        };
        if elsewhere_ms.is_some() {
            waiters.push_front(holder); // it waits, too
        }
        waiters.into_iter().map(|waiter| waiter.stream).collect()
    }

    /// A stream that waited doesn't any more.
    pub fn leave(&mut self, key: u64, stream: u32) {
        if let Some(flight) = self.flights.get_mut(key) {
            flight.waiters.retain(|waiter| waiter.stream != stream);
        }
    }

    /// The holder waits for another worker's flight, and looks again at `check_ms`, unless it is told before.
    pub fn wait_elsewhere(&mut self, key: u64, check_ms: u64) {
        if let Some(flight) = self.flights.get_mut(key) {
            flight.elsewhere_ms = Some(check_ms);
        }
    }

    /// Another worker's flight has ended: who here has waited for it.
    pub fn heard_from_elsewhere(&mut self, key: u64) -> Option<u32> {
        let flight = self.flights.get_mut(key)?;
        flight.elsewhere_ms.take().map(|_| flight.holder.stream)
    }

    /// It is known elsewhere that answers for a key aren't for sharing, or that the origin is `down`. Returns those who waited.
    pub fn pass(&mut self, key: u64, down: bool, until_ms: u64, now_ms: u64) -> Vec<u32> {
        let pass = if down { Pass::Failed } else { Pass::Uncacheable };
        self.passes.add(key, pass, until_ms.saturating_sub(now_ms), now_ms);
        self.disband(key)
    }

    /// Whether a stream fetches for others.
    #[must_use]
    pub fn is_held_by(&self, key: u64, stream: u32) -> bool {
        self.flights.get(key).is_some_and(|flight| flight.holder.stream == stream)
    }

    /// Whether the origin has just failed for a key, more than once or for long.
    #[must_use]
    pub fn is_down(&self, key: u64, now_ms: u64) -> bool {
        matches!(self.passes.of(key, now_ms), Some(Pass::Failed))
    }

    /// Who is to look again for another worker's flight.
    pub fn due(&mut self, now_ms: u64) -> Vec<u32> {
        let due = |flight: &&mut Flight| flight.elsewhere_ms.is_some_and(|check_ms| check_ms <= now_ms);
        let due = self.flights.values_mut().filter(due);
        due.map(|flight| {
            flight.elsewhere_ms = None;
            flight.holder.stream
        })
        .collect()
    }

    /// Takes out those who have waited long enough.
    pub fn expired(&mut self, now_ms: u64) -> Vec<u32> {
        let mut expired = Vec::new();
        for flight in self.flights.values_mut() {
            flight.waiters.retain(|waiter| {
                let waits = waiter.until_ms > now_ms;
                if !waits {
                    expired.push(waiter.stream);
                }
                waits
            });
        }
        expired
    }
}

impl Flight {
    fn of(holder: Member) -> Self {
        Self { holder, until_ms: holder.until_ms, elsewhere_ms: None, waiters: VecDeque::new() }
    }
}

/// Keys that nobody waits for, why, and until when that is remembered.
#[derive(Debug, Default)]
struct Passes(Numbered<u64, (Pass, u64)>);

#[derive(Clone, Copy, Debug)]
enum Pass {
    Uncacheable,
    Failed,
    /// Twice nothing was kept, though the origin answered at least once.
    Unkept,
    /// Nothing was kept once; that changes nothing yet.
    Suspect {
        /// Whether the origin failed.
        failed: bool,
    },
}

impl Passes {
    fn of(&self, key: u64, now_ms: u64) -> Option<Pass> {
        self.0.get(key).filter(|(_, until_ms)| *until_ms > now_ms).map(|(pass, _)| *pass)
    }

    fn add(&mut self, key: u64, pass: Pass, for_ms: u64, now_ms: u64) {
        if self.0.len() >= PASSES_MAX {
            self.0.retain(|_, (_, until_ms)| *until_ms > now_ms);
        }
        // Of too many, the new one isn't remembered: its waiters were released all the same.
        if self.0.len() < PASSES_MAX || self.0.contains(key) {
            self.0.insert(key, (pass, now_ms.saturating_add(for_ms)));
        }
    }

    fn forget(&mut self, key: u64) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const WAIT_MS: u64 = 5000;

    fn member(stream: u32, now_ms: u64) -> Member {
        Member { stream, until_ms: now_ms + WAIT_MS, may_hold: true }
    }

    /// A flight of key 7 with a holder (1) and these waiters, all at time 0.
    fn flight(waiters: std::ops::Range<u32>) -> Flights {
        let mut flights = Flights::default();
        assert_eq!(flights.join(7, member(1, 0), 0, true), Join::Hold);
        waiters.for_each(|stream| assert_eq!(flights.join(7, member(stream, 0), 0, true), Join::Wait));
        flights
    }

    #[test]
    fn all_who_wait_are_woken_when_there_is_an_entry() {
        let mut flights = flight(2..5);
        assert_eq!(flights.end(7, 1, Outcome::Stored, 10), Ended::All(vec![2, 3, 4]));
        assert_eq!(flights.join(7, member(5, 10), 10, true), Join::Hold);
    }

    /// I17.
    #[test]
    fn an_answer_for_one_client_releases_all_and_is_remembered_for_a_while() {
        let mut flights = flight(2..5);
        assert_eq!(flights.end(7, 1, Outcome::Uncacheable, 10), Ended::All(vec![2, 3, 4]));
        assert_eq!(flights.join(7, member(5, 20), 20, true), Join::Pass);
        assert_eq!(flights.join(8, member(5, 20), 20, true), Join::Hold, "another key");
        let later = 10 + PASS_MS;
        assert_eq!(flights.join(7, member(6, later), later, true), Join::Hold);
    }

    #[test]
    fn an_entry_ends_what_is_remembered() {
        let mut flights = flight(0..0);
        flights.end(7, 1, Outcome::Uncacheable, 10);
        assert_eq!(flights.end(7, 9, Outcome::Stored, 20), Ended::All(Vec::new()));
        assert_eq!(flights.join(7, member(5, 20), 20, true), Join::Hold);
    }

    #[test]
    fn when_the_holder_goes_exactly_one_takes_over_and_the_others_wait_on() {
        let mut flights = flight(2..5);
        assert_eq!(flights.end(7, 1, Outcome::Gone, 10), Ended::Next(2));
        assert_eq!(flights.join(7, member(5, 10), 10, true), Join::Wait);
        assert_eq!(flights.end(7, 1, Outcome::Gone, 10), Ended::Not, "it holds nothing any more");
        assert_eq!(flights.end(7, 2, Outcome::Gone, 20), Ended::Next(3));
    }

    #[test]
    fn after_two_answers_for_nobody_all_go_on_and_only_an_origin_that_fails_is_spared() {
        use Outcome::{Failed, Unkept};
        let both = [(Failed, Failed, Join::Down), (Unkept, Unkept, Join::Pass)];
        for (first, second, then) in
            both.into_iter().chain([(Failed, Unkept, Join::Pass), (Unkept, Failed, Join::Pass)])
        {
            let mut flights = flight(2..9);
            assert_eq!(flights.end(7, 1, first, 10), Ended::Next(2));
            assert_eq!(flights.end(7, 2, second, 20), Ended::All((3..9).collect()));
            assert_eq!(flights.join(7, member(9, 30), 30, true), then);
            let later = 20 + FAILED_PASS_MS;
            assert_eq!(flights.join(7, member(9, later), later, true), Join::Hold);
        }
    }

    #[test]
    fn an_origin_that_is_down_is_asked_no_more_whoever_has_found_that_out() {
        let mut flights = flight(2..5);
        assert!(flights.is_held_by(7, 1) && !flights.is_held_by(7, 2));
        assert_eq!(flights.end(7, 1, Outcome::Down, 10), Ended::All(vec![2, 3, 4]));
        let mut told = flight(2..5);
        assert_eq!(told.pass(7, true, 10 + FAILED_PASS_MS, 10), [2, 3, 4]);
        for mut flights in [flights, told] {
            assert!(flights.is_down(7, 20));
            assert_eq!(flights.join(7, member(9, 20), 20, true), Join::Down);
            assert!(!flights.is_down(7, 10 + FAILED_PASS_MS));
        }
    }

    #[test]
    fn an_answer_is_welcome_from_whoever_went_on_alone() {
        let mut flights = flight(2..4);
        assert_eq!(flights.end(7, 99, Outcome::Failed, 10), Ended::Not);
        assert_eq!(flights.end(7, 99, Outcome::Stored, 10), Ended::All(vec![2, 3]));
        assert_eq!(flights.end(7, 1, Outcome::Stored, 20), Ended::All(Vec::new()));
    }

    #[test]
    fn whose_answer_isnt_for_others_may_wait_but_never_holds() {
        let mut flights = Flights::default();
        let own = |stream| Member { may_hold: false, ..member(stream, 0) };
        assert_eq!(flights.join(7, own(1), 0, true), Join::Alone);
        assert_eq!(flights.join(7, member(2, 0), 0, true), Join::Hold);
        assert_eq!(
            (flights.join(7, own(3), 0, true), flights.join(7, member(4, 0), 0, true)),
            (Join::Wait, Join::Wait)
        );
        assert_eq!(flights.end(7, 2, Outcome::Gone, 10), Ended::Next(4));
        assert_eq!(flights.end(7, 4, Outcome::Gone, 10), Ended::All(vec![3]));
    }

    #[test]
    fn nobody_waits_longer_than_it_may_and_a_stuck_holder_is_replaced() {
        let mut flights = flight(2..4);
        assert_eq!(flights.join(7, member(4, 100), 100, true), Join::Wait);
        assert_eq!(flights.expired(WAIT_MS), [2, 3]);
        assert_eq!(flights.join(7, member(5, WAIT_MS), WAIT_MS, true), Join::Hold);
        assert_eq!(flights.end(7, 1, Outcome::Gone, WAIT_MS), Ended::Not);
        assert_eq!(flights.end(7, 5, Outcome::Stored, WAIT_MS), Ended::All(vec![4]));
    }

    /// C13.
    #[test]
    fn who_finds_no_room_doesnt_wait_and_what_is_remembered_is_bounded() {
        let mut flights = flight(2..2);
        assert_eq!(flights.join(7, member(2, 0), 0, false), Join::Crowded);
        assert_eq!(flights.join(8, member(3, 0), 0, false), Join::Hold);
        for key in 100..20_000 {
            flights.pass(key, false, 1000, 0);
        }
        assert_eq!(flights.passes.0.len(), PASSES_MAX);
        flights.pass(7, false, 3000, 2000);
        assert!(flights.passes.0.len() == 1, "what is over makes room");
    }

    #[test]
    fn a_holder_that_waits_for_another_worker_is_told_or_looks_again() {
        let mut flights = flight(2..3);
        flights.wait_elsewhere(7, 300);
        assert_eq!((flights.due(299), flights.due(300), flights.due(301)), (vec![], vec![1], vec![]));
        flights.wait_elsewhere(7, 600);
        assert_eq!((flights.heard_from_elsewhere(8), flights.heard_from_elsewhere(7)), (None, Some(1)));
        assert_eq!(flights.heard_from_elsewhere(7), None);
        flights.wait_elsewhere(7, 700);
        assert_eq!(flights.end(7, 99, Outcome::Stored, 600), Ended::All(vec![1, 2]), "it waits like the others");
        let mut flights = flight(2..3);
        flights.wait_elsewhere(7, WAIT_MS);
        assert_eq!(flights.join(7, member(5, WAIT_MS), WAIT_MS, true), Join::Wait, "it isn't forgotten");
        assert_eq!(flights.due(WAIT_MS), [1]);
    }

    proptest! {
        /// Whatever happens, who waits is counted right, and ends: woken, replaced, expired or gone.
        #[test]
        fn nobody_is_forgotten(steps in prop::collection::vec((0u8..6, 0u64..3, 0u32..20), 0..200)) {
            let mut flights = Flights::default();
            let mut waits: HashMap<u32, u64> = HashMap::new();
            for (now, (step, key, stream)) in steps.into_iter().enumerate() {
                let now = now as u64;
                let ended = match step {
                    0 | 1 if !waits.contains_key(&stream) => {
                        if flights.join(key, member(stream, now), now, true) == Join::Wait { waits.insert(stream, key); }
                        Ended::Not
                    }
                    2 => flights.end(key, stream, Outcome::Stored, now),
                    3 => flights.end(key, stream, Outcome::Gone, now),
                    4 => flights.end(key, stream, Outcome::Failed, now),
                    _ => { flights.leave(key, stream); if waits.get(&stream) == Some(&key) { waits.remove(&stream); } Ended::Not }
                };
                match ended {
                    Ended::Not => {}
                    Ended::Next(next) => prop_assert_eq!(waits.remove(&next), Some(key)),
                    Ended::All(all) => {
                        for one in &all { prop_assert_eq!(waits.remove(one), Some(key)); }
                        prop_assert!(!waits.values().any(|waited| *waited == key));
                    }
                }
            }
            prop_assert_eq!(flights.expired(u64::MAX).len(), waits.len());
        }
    }
}
