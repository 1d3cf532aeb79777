//! Conditions: of `match` and `bypass` on requests, of `when` and `unless` on responses.

use routecache_core::condition::{Condition, Glob, Subject, Test};
use routecache_core::json::Pointer;
use routecache_core::policy::{ResponseTests, StatusRange};

use crate::mistake::{Wanted, What};
use crate::terms::{field_named, status_range};
use crate::tree::{Kind, shorten};
use crate::vocabulary::RESPONSE_TESTS;
use crate::walk::{At, Fields, Found, Range};

/// Each is held against each request or response.
const NAMES_MAX: usize = 16;
const VALUES_MAX: usize = 64;

/// A millisecond is the least that is measured; nobody waits longer than an hour.
const SLOWER_THAN: Range = Range { low: (1, "`1ms`"), high: (3_600_000, "`1h`") };

/// The conditions on a request among the fields of a map.
pub(crate) fn of_request(fields: &Fields<'_>, found: &mut Found) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for (field, kind) in [
        (
            "header",
            (|at, found| field_named(at, found).map(Subject::Header)) as fn(&At<'_>, &mut Found) -> Option<Subject>,
        ),
        ("query", |at, _| Some(Subject::Query(at.name.to_owned()))),
        ("cookie", |at, _| Some(Subject::Cookie(at.name.to_owned()))),
        ("json", |at, found| pointer_named(at, found).map(Subject::Json)),
    ] {
        for at in fields.get(field).map(|at| named(at, found)).unwrap_or_default() {
            if let (Some(subject), Some(test)) = (kind(&at, found), test(&at, found)) {
                conditions.push(Condition { subject, test });
            }
        }
    }
    conditions
}

/// The conditions on a response.
pub(crate) fn of_response(at: &At<'_>, found: &mut Found) -> ResponseTests {
    let Some(fields) = at.fields(&RESPONSE_TESTS, found) else { return ResponseTests::default() };
    let mut tests = ResponseTests {
        status: fields.get("status").map(|at| statuses(at, found)).unwrap_or_default(),
        slower_than_ms: fields.get("slower_than").and_then(|at| at.duration_ms(&SLOWER_THAN, found)).map(u64::from),
        ..ResponseTests::default()
    };
    for at in fields.get("header").map(|at| named(at, found)).unwrap_or_default() {
        tests.header.extend(field_named(&at, found).zip(test(&at, found)));
    }
    for at in fields.get("json").map(|at| named(at, found)).unwrap_or_default() {
        tests.json.extend(pointer_named(&at, found).zip(test(&at, found)));
    }
    tests
}

/// A JSON pointer.
pub(crate) fn pointer(at: &At<'_>, text: &str, found: &mut Found) -> Option<Pointer> {
    Pointer::parse(text).map_err(|_| found.add(at, What::BadPointer(shorten(text)))).ok()
}

/// The same of the name of an entry.
fn pointer_named(at: &At<'_>, found: &mut Found) -> Option<Pointer> {
    Pointer::parse(at.name).map_err(|_| found.add_name(at, What::BadPointer(shorten(at.name)))).ok()
}

fn named<'a>(at: &At<'a>, found: &mut Found) -> Vec<At<'a>> {
    let entries = at.entries_in_order(found).unwrap_or_default();
    if entries.is_empty() && matches!(at.node.kind, Kind::Map(_)) {
        found.add(at, What::EmptyMap(at.said()));
    }
    if entries.len() > NAMES_MAX {
        found.add(at, What::TooMany { field: "names", max: NAMES_MAX });
    }
    entries
}

/// `"yes"`, `[a, "b*"]`, `on` for anything, `off` for nothing; in a list, `on` and `off` are texts like others.
fn test(at: &At<'_>, found: &mut Found) -> Option<Test> {
    let glob = |at: &At<'_>, found: &mut Found| match &at.node.kind {
        Kind::Text(text) => Some(Glob::new(text)),
        Kind::Integer(number) => Some(Glob::new(&number.to_string())),
        _ => {
            at.wanted(Wanted::Test, found);
            None
        }
    };
    match &at.node.kind {
        Kind::Bool(true) => Some(Test::Present),
        Kind::Bool(false) => Some(Test::Absent),
        Kind::Text(text) if text == "on" => Some(Test::Present),
        Kind::Text(text) if text == "off" => Some(Test::Absent),
        Kind::List(items) => {
            if items.is_empty() {
                found.add(at, What::EmptyList("values"));
            }
            if items.len() > VALUES_MAX {
                found.add(at, What::TooMany { field: "values", max: VALUES_MAX });
            }
            let items = at.items(found)?;
            Some(Test::Is(items.iter().filter_map(|item| glob(item, found)).collect()))
        }
        _ => glob(at, found).map(|glob| Test::Is(vec![glob])),
    }
}

/// One status, or a list of them: `[200, 5xx]`.
fn statuses(at: &At<'_>, found: &mut Found) -> Vec<StatusRange> {
    let items =
        if matches!(at.node.kind, Kind::List(_)) { at.items(found).unwrap_or_default() } else { vec![at.clone()] };
    if items.is_empty() {
        found.add(at, What::EmptyList("status"));
    }
    let mut ranges = Vec::with_capacity(items.len());
    for item in items {
        let range = match &item.node.kind {
            Kind::Integer(status) => status_range(&status.to_string()),
            Kind::Text(text) => status_range(text),
            _ => None,
        };
        match range {
            Some(range) => ranges.push(range),
            None => found.add(&item, What::BadStatus(item.node.shown())),
        }
    }
    ranges
}
