//! Reading what the bridge answers.
//!
//! Answers are read as JSON of any form, and then told apart. A reader for each kind, as `serde` derives it, is fifty
//! kilobytes more in the filter, which a gateway compiles before it serves: most of that buffers a tagged enum until its
//! tag is known, and words mistakes that nobody reads.

use std::str::FromStr;

use serde_json::Value;

use crate::{Continuity, FeedRecord, FeedReply, Lease, LookupReply, Pattern, PurgeReply, Ticket, WaitReply};

/// A field of an answer.
fn text<'a>(answer: &'a Value, name: &str) -> Option<&'a str> {
    answer.get(name)?.as_str()
}

fn parsed<T: FromStr>(answer: &Value, name: &str) -> Option<T> {
    text(answer, name)?.parse().ok()
}

fn number(answer: &Value, name: &str) -> Option<u64> {
    answer.get(name)?.as_u64()
}

fn texts(answer: &Value, name: &str) -> Option<Vec<String>> {
    answer.get(name)?.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

fn ticket(answer: &Value) -> Option<Ticket> {
    let ticket = answer.get("ticket")?;
    Some(Ticket { at: parsed(ticket, "at")?, era: parsed(ticket, "era")?, seen_ms: number(ticket, "seen_ms") })
}

fn lease(lease: &Value) -> Option<Lease> {
    Some(match text(lease, "state")? {
        "granted" => Lease::Granted,
        "held" => Lease::Held { remaining_ms: number(lease, "remaining_ms")? },
        "pass" => Lease::Pass { remaining_ms: number(lease, "remaining_ms")? },
        _ => return None,
    })
}

fn lookup(answer: &Value) -> Option<LookupReply> {
    Some(match text(answer, "outcome")? {
        "hit" => LookupReply::Hit {
            ticket: ticket(answer)?,
            tags: texts(answer, "tags")?,
            resident_ms: number(answer, "resident_ms")?,
            stale_ms: match answer.get("stale_ms") {
                None | Some(Value::Null) => None,
                Some(given) => Some(given.as_u64()?),
            },
        },
        "miss" => LookupReply::Miss {
            ticket: ticket(answer)?,
            lease: match answer.get("lease") {
                None | Some(Value::Null) => None,
                Some(given) => Some(lease(given)?),
            },
        },
        "behind" => LookupReply::Behind,
        _ => return None,
    })
}

fn wait(answer: &Value) -> Option<WaitReply> {
    Some(match text(answer, "outcome")? {
        "stored" => WaitReply::Stored,
        "released" => WaitReply::Released,
        "expired" => WaitReply::Expired,
        "pass" => WaitReply::Pass { remaining_ms: number(answer, "remaining_ms")? },
        "held" => WaitReply::Held { remaining_ms: number(answer, "remaining_ms")? },
        _ => return None,
    })
}

fn purge(answer: &Value) -> Option<PurgeReply> {
    Some(PurgeReply {
        position: parsed(answer, "position")?,
        era: parsed(answer, "era")?,
        unheard: answer.get("unheard").map_or(Some(false), Value::as_bool)?,
    })
}

fn feed(answer: &Value) -> Option<FeedReply> {
    let continuity = match text(answer, "continuity")? {
        "joined" => Continuity::Joined,
        "first" => Continuity::First,
        "trimmed" => Continuity::Trimmed,
        "lost" => Continuity::Lost,
        "new-era" => Continuity::NewEra,
        _ => return None,
    };
    Some(FeedReply {
        continuity,
        records: answer.get("records")?.as_array()?.iter().map(record).collect::<Option<_>>()?,
        cursor: parsed(answer, "cursor")?,
        held_ms: number(answer, "held_ms")?,
        complete: answer.get("complete")?.as_bool()?,
    })
}

fn record(record: &Value) -> Option<FeedRecord> {
    let mut patterns = Vec::new();
    for pattern in record.get("patterns").and_then(Value::as_array).into_iter().flatten() {
        let key = text(pattern, "key").map(|glob| Pattern::Key(glob.to_owned()));
        patterns.push(key.or_else(|| text(pattern, "tag").map(|glob| Pattern::Tag(glob.to_owned())))?);
    }
    Some(FeedRecord { position: parsed(record, "position")?, tags: texts(record, "tags")?, patterns })
}

macro_rules! told_apart {
    ($($kind:ty: $read:ident, $called:literal;)*) => {
        $(impl TryFrom<Value> for $kind {
            type Error = &'static str;

            fn try_from(answer: Value) -> Result<Self, Self::Error> {
                $read(&answer).ok_or(concat!("no answer to a ", $called))
            }
        })*
    };
}
told_apart! {
    LookupReply: lookup, "lookup";
    WaitReply: wait, "wait";
    PurgeReply: purge, "purge";
    FeedReply: feed, "poll of the feed";
}
