//! The judges of load aren't blind: histories that break each of their laws, and the same without what breaks it.

#[path = "judges/behind.rs"]
mod behind;

use std::time::Duration;

use e2e::simulation::care::{Care, Reach};
use e2e::simulation::history::{Ask, Contact, History, Kind, Purge, Read, Resource, Trouble, While};
use e2e::simulation::laws::{Law, breaches};

const RESOURCE: Resource = Resource { user: 0, kind: Kind::Orders };

const fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A gateway with one lock for all its workers, a second of what is stale, and no group.
fn history(contacts: Vec<Contact>, reads: Vec<Read>) -> History {
    let care = Care { lock: Reach::Gateway, while_revalidate: at(1000), ..Care::usual(false) };
    let (window, transit, slack) = (at(200), at(20), at(20));
    History { care, window, transit, slack, lifetime: at(60_000), contacts, reads, ..History::default() }
}

/// What the origin was asked for a request, and for how long.
fn contact(request: usize, from_ms: u64, to_ms: u64) -> Contact {
    Contact {
        request,
        gateway: 0,
        worker: request % 2,
        resource: RESOURCE,
        at: at(from_ms),
        answered: at(from_ms),
        ended: at(to_ms),
        status: 200,
        is_get: true,
        whole: true,
        private: false,
        own: false,
        named: false,
    }
}

/// A read that was answered by one of the origin's answers.
fn read(request: usize, from_ms: u64, to_ms: u64, origin: usize, told: &str) -> Read {
    Read {
        request,
        gateway: 0,
        worker: request % 2,
        resource: RESOURCE,
        ask: Ask::Whole,
        began: at(from_ms),
        ended: at(to_ms),
        status: 200,
        complete: true,
        left: false,
        body: RESOURCE.body(1),
        had: None,
        told: format!("routecache; {told}"),
        age: Some("0".to_owned()),
        origin: vec![origin],
    }
}

fn broken(history: &History) -> Vec<Law> {
    breaches(history).into_iter().map(|breach| breach.law).collect()
}

#[test]
fn two_fetches_at_once_of_what_one_would_do_are_seen() {
    let reads = || vec![read(0, 0, 100, 0, "fwd=uri-miss; stored"), read(1, 50, 150, 1, "fwd=uri-miss; stored")];
    let both = history(vec![contact(0, 0, 100), contact(1, 50, 150)], reads());
    assert_eq!(broken(&both), [Law::SingleFlight]);
    let apart = Care { lock: Reach::Worker, ..Care::usual(false) };
    assert_eq!(broken(&History { care: apart, ..both }), []);
    let waits =
        vec![read(0, 0, 100, 0, "fwd=uri-miss; stored"), read(1, 50, 100, 0, "fwd=uri-miss; collapsed; ttl=60")];
    assert_eq!(broken(&history(vec![contact(0, 0, 100)], waits)), []);
}

#[test]
fn who_waits_for_nothing_is_seen() {
    let forgotten = |to_ms| read(1, 50, to_ms, 0, "fwd=uri-miss; collapsed; ttl=60");
    for (to_ms, expected) in [(110, &[][..]), (300, &[Law::Waiting])] {
        let reads = vec![read(0, 0, 100, 0, "fwd=uri-miss; stored"), forgotten(to_ms)];
        assert_eq!(broken(&history(vec![contact(0, 0, 100)], reads)), expected, "{to_ms}");
    }
}

#[test]
fn one_after_the_other_for_what_isnt_for_sharing_is_seen() {
    for (began_ms, expected) in [(15, &[][..]), (100, &[Law::Unshared])] {
        let mut contacts = vec![contact(0, 10, 100), contact(1, began_ms, began_ms + 100)];
        contacts.iter_mut().for_each(|contact| contact.private = true);
        let told = "fwd=uri-miss; detail=private";
        let reads = vec![read(0, 10, 100, 0, told), read(1, 0, began_ms + 100, 1, told)];
        assert_eq!(broken(&history(contacts, reads)), expected, "{began_ms}");
    }
}

#[test]
fn more_fetches_than_the_rules_allow_are_seen() {
    let contacts = || {
        let mut other = contact(1, 50, 150);
        other.resource.user = 1;
        vec![contact(0, 0, 100), other]
    };
    let told = "fwd=uri-miss; stored";
    let mut other = read(1, 50, 150, 1, told);
    (other.resource.user, other.body) = (1, Resource { user: 1, ..RESOURCE }.body(1));
    let both = history(contacts(), vec![read(0, 0, 100, 0, told), other]);
    for (fills, expected) in [(2, &[][..]), (1, &[Law::Fills])] {
        let care = Care { fills: Some(fills), ..both.care.clone() };
        assert_eq!(broken(&History { care, ..both.clone() }), expected, "{fills}");
    }
}

#[test]
fn an_error_that_no_rule_stores_is_seen() {
    for (missing, expected) in [(Some(at(1000)), &[][..]), (None, &[Law::Negative])] {
        let gone = Contact { status: 404, ..contact(0, 0, 100) };
        let told = [read(0, 0, 100, 0, "fwd=uri-miss; stored"), read(1, 200, 200, 0, "hit; ttl=0; detail=worker")];
        let reads = told.map(|read| Read { status: 404, ..read });
        let seen = history(vec![gone], reads.to_vec());
        let care = Care { missing, ..seen.care.clone() };
        assert_eq!(broken(&History { care, ..seen }), expected, "{missing:?}");
    }
}

#[test]
fn what_was_purged_softly_and_is_told_to_be_fresh_or_served_too_long_is_seen() {
    for (asked_ms, ttl, expected) in
        [(1000, "-0", &[][..]), (1000, "59", &[Law::SoftWindow]), (1900, "-1", &[Law::SoftWindow])]
    {
        let hit = read(1, asked_ms, asked_ms, 0, &format!("hit; ttl={ttl}; detail=worker"));
        let reads = vec![read(0, 0, 100, 0, "fwd=uri-miss; stored"), Read { age: Some("1".to_owned()), ..hit }];
        let purge = Purge { at: at(500), user: 0, version: 2, gateway: None, soft: true, lost: None };
        let seen = History { purges: vec![purge], ..history(vec![contact(0, 0, 100)], reads) };
        assert_eq!(broken(&seen), expected, "{asked_ms} {ttl}");
    }
}

#[test]
fn a_breaker_that_stays_closed_is_seen() {
    for (count, expected) in [(6, &[][..]), (9, &[Law::Breaker])] {
        let times = |number: usize| u64::try_from(number).unwrap_or_default() * 100;
        let contacts = (0..count).map(|number| contact(number * 2, times(number) + 50, times(number) + 60)).collect();
        let told = "fwd=uri-miss; detail=credentials";
        let asked =
            |number| Read { ask: Ask::Authorised, ..read(number * 2, times(number), times(number) + 60, number, told) };
        let cut = While { trouble: Trouble::NoBridge, gateway: Some(0), from: at(0), to: at(1000) };
        let seen = history(contacts, (0..count).map(asked).collect());
        let seen = History { grouped: true, troubles: vec![cut], ..seen };
        assert_eq!(broken(&seen), expected, "{count}");
    }
}
