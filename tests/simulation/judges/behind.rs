//! Likewise for what gateways do by themselves.

use std::time::Duration;

use e2e::simulation::behind::{Again, Behind, Whose};
use e2e::simulation::care::{Care, Reach};
use e2e::simulation::history::{BACKGROUND, Contact, History, Kind, Read, Resource, Write};
use e2e::simulation::laws::Law;

use super::{RESOURCE, at, broken, contact, read};

const MISS: &str = "fwd=uri-miss; stored";
const HIT: &str = "hit; ttl=1; detail=worker";

/// A gateway that is quick, whose entries live for ten seconds.
fn history(behind: Behind, contacts: Vec<Contact>, reads: Vec<Read>) -> History {
    let care = Care { lock: Reach::Gateway, background: true, behind, ..Care::usual(false) };
    let (healed, workers) = (at(60_000), 1);
    let (window, transit, slack, lifetime) = (at(200), at(20), at(20), at(10_000));
    History {
        care,
        window,
        transit,
        slack,
        lifetime,
        lifetime_least: lifetime,
        healed,
        workers,
        contacts,
        reads,
        ..History::default()
    }
}

fn behind(from_ms: u64, to_ms: u64) -> Contact {
    Contact { request: BACKGROUND, ..contact(0, from_ms, to_ms) }
}

fn own(from_ms: u64, to_ms: u64) -> Contact {
    Contact { own: true, ..behind(from_ms, to_ms) }
}

fn hit(request: usize, ms: u64, origin: usize) -> Read {
    let age = Some((ms / 1000).to_string());
    Read { age, ..read(request, ms, ms, origin, HIT) }
}

#[test]
fn a_lifetime_that_no_use_has_renewed_in_time_is_seen() {
    for (last_ms, expected) in [(17_500, &[][..]), (25_000, &[Law::Lifetime])] {
        let reads = vec![read(0, 0, 100, 0, MISS), hit(1, 9000, 0), hit(2, last_ms, 0)];
        let seen = history(Behind { sliding: true, ..Behind::default() }, vec![contact(0, 0, 100)], reads);
        assert_eq!(broken(&seen), expected, "{last_ms}");
    }
}

#[test]
fn what_is_due_and_nobody_asks_about_is_seen() {
    let rules = || Behind { revalidate_after: Some(Duration::from_secs(2)), ..Behind::default() };
    let reads = || vec![read(0, 0, 100, 0, MISS), hit(1, 3000, 0)];
    assert_eq!(broken(&history(rules(), vec![contact(0, 0, 100)], reads())), [Law::Due]);
    assert_eq!(broken(&history(rules(), vec![contact(0, 0, 100), behind(3001, 3100)], reads())), []);
}

#[test]
fn what_is_asked_about_again_too_soon_is_seen() {
    for (again_ms, expected) in [(1200, &[Law::Once][..]), (13_000, &[])] {
        let contacts = vec![behind(0, 100), behind(again_ms, again_ms + 10)];
        assert_eq!(broken(&history(Behind::default(), contacts, Vec::new())), expected, "{again_ms}");
    }
}

#[test]
fn what_a_write_has_read_again_too_early_twice_or_as_somebody_is_seen() {
    let again = vec![Again { kind: Kind::Orders, whose: Whose::Written }];
    let write = Write {
        gateway: Some(0),
        worker: 0,
        user: RESOURCE.user,
        version: 2,
        done: at(1000),
        released: Some(at(1050)),
        ended: Some(at(1060)),
        began: at(1000),
        left: false,
        told: String::new(),
    };
    let named = Contact { named: true, ..own(1070, 1080) };
    for (contacts, expected) in [
        (vec![own(1070, 1080)], &[][..]),
        (vec![own(1040, 1049)], &[Law::Again]),
        (vec![own(1070, 1080), own(1090, 1099)], &[Law::Again]),
        (vec![named], &[Law::Nobody]),
    ] {
        let seen = history(Behind { again: again.clone(), ..Behind::default() }, contacts, Vec::new());
        assert_eq!(broken(&History { writes: vec![write.clone()], ..seen }), expected);
    }
}

#[test]
fn what_is_warmed_all_at_once_again_or_not_at_all_is_seen() {
    let other = Contact { resource: Resource { user: 1, ..RESOURCE }, ..own(10, 110) };
    let warmed = |contacts| {
        let warm = vec![RESOURCE, other.resource];
        let seen = history(Behind { warm, concurrency: Some(1), ..Behind::default() }, contacts, Vec::new());
        // Somebody asks for something there, so that there is a gateway.
        History { reads: vec![Read { complete: false, left: true, ..hit(9, 50_000, 0) }], ..seen }
    };
    let later = Contact { at: at(120), answered: at(120), ended: at(220), ..other.clone() };
    assert_eq!(broken(&warmed(vec![own(0, 100), later.clone()])), []);
    assert_eq!(broken(&warmed(vec![own(0, 100), other.clone()])), [Law::Paced]);
    assert_eq!(broken(&warmed(vec![own(0, 100), later, own(9000, 9100)])), [Law::Warmed]);
    assert_eq!(broken(&warmed(vec![own(0, 100)])), [Law::Warmed]);
    let counted = |mut seen: History| {
        seen.care.fills = Some(1);
        seen.care.behind.concurrency = None;
        broken(&seen)
    };
    assert_eq!(counted(warmed(vec![own(0, 100), other.clone()])), [Law::Fills]);
}
