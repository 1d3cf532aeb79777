//! The words that the filter and the bridge exchange.
//!
//! Every call is `POST /v1/<call>`. A request or an answer is one line of JSON (its *head*), and where it carries a
//! stored response, a line feed and then the stored bytes as they are (its *payload*):
//!
//! ```text
//! {"namespace":"shop:v3","key":"…","tags":["user:7"],…}\n<payload bytes>
//! ```
//!
//! JSON never holds a raw line feed, so the first one ends the head; a call without payload can be typed with curl.
//! Every answer of the bridge, a refusal too, carries the header [`MARKER`]: a gateway turns a failed call into an
//! answer of its own that looks real (Envoy: 503 or 504 with a text body), and only the marker tells the two apart.
//!
//! What the positions, eras and epochs mean is the purge protocol of `ARCHITECTURE.md`: every purge has a position in
//! the group's log, every lookup returns a *ticket* (the log's tail as it was then), and an entry is valid while the
//! epoch of each of its tags exists and isn't younger than the entry's ticket.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects
    )
)] // the filter runs this code: a panic there ends every stream of a worker (C12)

mod answer;

use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Header that marks an answer as the bridge's own; its value is [`VERSION`].
pub const MARKER: &str = "routecache-bridge";

/// Version of these words, the `v1` of the paths. A peer that speaks another one is treated as absent.
pub const VERSION: &str = "1";

/// Media type of requests and answers.
pub const CONTENT_TYPE: &str = "application/vnd.routecache";

/// Path of the call that asks for an entry: [`LookupRequest`] → [`LookupReply`].
pub const LOOKUP: &str = "/v1/lookup";
/// Path of the call that stores an entry: [`StoreRequest`] + payload → [`StoreReply`].
pub const STORE: &str = "/v1/store";
/// Path of the call that purges tags: [`PurgeRequest`] → [`PurgeReply`].
pub const PURGE: &str = "/v1/purge";
/// Path of the long poll that carries the group's log into a gateway: [`FeedRequest`] → [`FeedReply`].
pub const FEED: &str = "/v1/feed";
/// Path of the long poll that ends with somebody else's lease: [`WaitRequest`] → [`WaitReply`].
pub const WAIT: &str = "/v1/wait";
/// Path of the call that gives a lease back without storing: [`ReleaseRequest`] → [`ReleaseReply`].
pub const RELEASE: &str = "/v1/release";

/// A place in the group's log: the id that the store gave the record (`ms-seq`, never a dense counter) and the random
/// number that the writer put into it, so that a record that was lost in a failover isn't mistaken for another one
/// that later got its id.
///
/// Written `ms-seq-unique`, the last in hexadecimal; ordered by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Milliseconds part of the id, by the store's clock. Only compared, never taken for a time.
    pub ms: u64,
    /// Sequence part of the id.
    pub seq: u64,
    /// Chosen at random by whoever appended the record.
    pub unique: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{:x}", self.ms, self.seq, self.unique)
    }
}

/// Who it is, whom others need to tell apart: a number that a filler, or a gateway, chose at random, written in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder(pub u64);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for Holder {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        u64::from_str_radix(text, 16).map(Self).map_err(|_| Malformed(text.to_owned()))
    }
}

/// A text that is no [`Position`], [`Era`] or [`Holder`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is neither a log position (ms-seq-unique) nor an era or a holder (hexadecimal)", self.0)
    }
}

impl std::error::Error for Malformed {}

impl FromStr for Position {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed(text.to_owned());
        let mut parts = text.splitn(3, '-');
        let mut next = || parts.next().ok_or_else(malformed);
        let ms = next()?.parse().map_err(|_| malformed())?;
        let seq = next()?.parse().map_err(|_| malformed())?;
        let unique = u64::from_str_radix(next()?, 16).map_err(|_| malformed())?;
        Ok(Self { ms, seq, unique })
    }
}

/// Identity of an unbroken group log. Whenever history may have been lost, the log gets a new era, and everything
/// stored under an older one is void. Written in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Era(pub u64);

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for Era {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        u64::from_str_radix(text, 16).map(Self).map_err(|_| Malformed(text.to_owned()))
    }
}

macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
as_text!(Position);
as_text!(Era);
as_text!(Holder);

/// What a lookup tells about the log, and what a fill that starts then must show when it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The log's last record when the lookup ran.
    pub at: Position,
    /// The log's era then.
    pub era: Era,
    /// The time then by the store's clock, in milliseconds. Whoever stores gives it back with what has gone by since the
    /// answer to that lookup until the entry was as old as it says, by a clock of its own: so neither the fill nor the way
    /// of the store makes an entry look younger. Without it, it is as old as it says when it arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_ms: Option<u64>,
}

/// Asks for an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupRequest {
    /// Prefix and version, `shop:v3`. Every key and tag lives in one.
    pub namespace: String,
    /// The whole cache key.
    pub key: String,
    /// The tags that the request itself names; the entry may carry more.
    pub tags: Vec<String>,
    /// The newest position that this gateway has seen acknowledged. A log that lacks it is behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Position>,
    /// Asks for the key's lease if the answer is a miss, in the same atomic step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseRequest>,
    /// What was purged softly is a hit too, of which the answer says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
}

/// Asks to be the one that fetches: others that ask for the same key meanwhile are told to wait.
///
/// A lease decides who goes to the origin, never what is valid. A store that forgets one costs a second fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// Who asks; asking again renews.
    pub holder: Holder,
    /// How long the fetch may take, in milliseconds. Then others may begin one.
    pub ttl_ms: u64,
}

/// Who fetches what was missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Lease {
    /// The asker: it ends the lease by naming it in a [`StoreRequest`] or a [`ReleaseRequest`].
    Granted,
    /// Somebody else; `wait`, then look up again.
    Held {
        /// Until the lease ends by itself, in milliseconds.
        remaining_ms: u64,
    },
    /// Everybody: an answer couldn't be stored lately, so waiting for one is in vain.
    Pass {
        /// Until this is forgotten, in milliseconds.
        remaining_ms: u64,
    },
}

/// What the group holds for a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", try_from = "serde_json::Value")]
pub enum LookupReply {
    /// A valid entry; its bytes are the payload.
    Hit {
        /// The log as it was when this lookup ran, not when the entry was stored.
        ticket: Ticket,
        /// All tags of the entry, with those that only the response named.
        tags: Vec<String>,
        /// Milliseconds since the entry was stored, by the store's own reckoning of elapsed time.
        resident_ms: u64,
        /// Milliseconds since it was first purged softly, by the store's clock, if it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stale_ms: Option<u64>,
    },
    /// Nothing valid is held; a fill may be stored under this ticket.
    Miss {
        /// The log as it was when this lookup ran.
        ticket: Ticket,
        /// Who fetches it, if the request asked to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<Lease>,
    },
    /// The log lacks a position that the gateway knows to exist (a replica, a failed-over store): don't trust it, and
    /// store nothing.
    Behind,
}

/// Stores an entry; the payload is its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRequest {
    /// Prefix and version.
    pub namespace: String,
    /// The whole cache key.
    pub key: String,
    /// All tags of the entry.
    pub tags: Vec<String>,
    /// The ticket of the lookup with which the fill began.
    pub ticket: Ticket,
    /// How long the store may keep it, in milliseconds.
    pub keep_ms: u64,
    /// Ends this holder's lease of the key, kept or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

/// Whether it was kept. Not keeping is no error: a cache may forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum StoreReply {
    /// Kept.
    Stored,
    /// An entry with a newer ticket is there already.
    Newer,
    /// A tag was purged, or the log lost its history, after the ticket: the entry would never be served.
    Void,
    /// The store has no room for it.
    Full,
}

/// Waits until nobody else holds the key's lease. What it says is a hint: look up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitRequest {
    /// Prefix and version.
    pub namespace: String,
    /// The whole cache key.
    pub key: String,
    /// Who waits; a lease of its own isn't waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// How long the bridge may hold the answer, in milliseconds.
    pub hold_ms: u64,
}

/// How the waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", try_from = "serde_json::Value")]
pub enum WaitReply {
    /// An entry was stored.
    Stored,
    /// The lease was given back without an entry.
    Released,
    /// The lease ran out: its holder is gone, or slow.
    Expired,
    /// What came can't be stored: don't wait again.
    Pass {
        /// Until this is forgotten, in milliseconds.
        remaining_ms: u64,
    },
    /// The time is up, and the lease is still held.
    Held {
        /// Until the lease ends by itself, in milliseconds.
        remaining_ms: u64,
    },
}

/// Gives a lease back without an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// Prefix and version.
    pub namespace: String,
    /// The whole cache key.
    pub key: String,
    /// Who held it.
    pub holder: Holder,
    /// The answer can't be stored: let everybody pass for this long, in milliseconds. A later store ends that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_ms: Option<u64>,
}

/// Whether the lease was the caller's to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum ReleaseReply {
    /// It is given back, or had ended by itself; `pass_ms` is remembered.
    Released,
    /// Somebody else holds the key by now, and goes on.
    HeldByAnother,
}

/// Purges tags: no entry that carries one of them and began before this call is served afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeRequest {
    /// Prefix and version.
    pub namespace: String,
    /// The tags.
    pub tags: Vec<String>,
    /// Holds the answer until every gateway of the group has heard of the purge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hear: Option<Hearing>,
}

/// How the answer to a purge waits for gateways to hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hearing {
    /// The gateway that asks, if one does: it knows of its own purge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Listener>,
    /// How long the bridge may hold the answer, in milliseconds.
    pub hold_ms: u64,
}

/// A gateway that hears of purges through the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// What it is known by, as long as its process lives.
    pub name: Holder,
    /// How long it serves what it holds without hearing the feed, in milliseconds.
    pub window_ms: u64,
}

/// Acknowledges a purge: it is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct PurgeReply {
    /// Where it stands in the log.
    pub position: Position,
    /// The log's era.
    pub era: Era,
    /// Whether a gateway may not have heard of it yet, where the purge asked to wait for that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unheard: bool,
}

/// Asks for the log after a position, and waits a while if there is nothing yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedRequest {
    /// Prefix and version.
    pub namespace: String,
    /// The position up to which this gateway has applied the log; none at its first poll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Position>,
    /// The newest position that this gateway has seen acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Position>,
    /// How long the bridge may hold an answer that would be empty, in milliseconds.
    pub hold_ms: u64,
    /// Who asks. A purge may wait until this gateway has applied it, which its next cursor shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Listener>,
}

/// What came after the cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct FeedReply {
    /// Whether the log goes on from the cursor without a gap.
    pub continuity: Continuity,
    /// The purges since the cursor, oldest first; none unless the log goes on.
    pub records: Vec<FeedRecord>,
    /// The cursor of the next poll.
    pub cursor: Position,
    /// How long the bridge held the call, in milliseconds: a gateway has heard the log up to *start of the call + this*.
    pub held_ms: u64,
    /// False when the answer was cut at a size limit and more is waiting: then nothing may be counted as heard.
    pub complete: bool,
}

/// One purge of the group's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedRecord {
    /// Where it stands.
    pub position: Position,
    /// What it purged. With patterns, the tag of everything is there once more than was asked for, for gateways that don't know
    /// patterns.
    pub tags: Vec<String>,
    /// What it purged by pattern: who knows these leaves that tag aside, once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<Pattern>,
}

/// The implicit tag of every entry of a namespace.
pub const TAG_ALL: &str = "!all";

/// Among the tags of a purge: it is soft. What carries one of the others is stale from then on, rather than void. No entry has
/// this tag, and who doesn't know it purges the others for good.
pub const TAG_SOFT: &str = "!soft";

/// Whether a purge of these tags is soft.
#[must_use]
pub fn is_soft(tags: &[String]) -> bool {
    tags.iter().any(|tag| tag == TAG_SOFT)
}

/// A set of entries by how their key, or any of their tags, is written. `*` stands for any characters, `\` in front of a
/// character for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Entries whose whole key looks like this.
    Key(String),
    /// Entries one of whose tags looks like this.
    Tag(String),
}

impl Pattern {
    /// Whether an entry with this key and these tags is meant.
    #[must_use]
    pub fn means<'t>(&self, key: &str, mut tags: impl Iterator<Item = &'t str>) -> bool {
        match self {
            Self::Key(glob) => looks_like(key, glob),
            Self::Tag(glob) => tags.any(|tag| looks_like(tag, glob)),
        }
    }

    /// The pattern that only this key has.
    #[must_use]
    pub fn only_key(key: &str) -> Self {
        Self::Key(key.replace('\\', "\\\\").replace('*', "\\*"))
    }
}

/// Whether the text is as the glob says. Takes time in proportion to the product of their lengths at most.
#[must_use]
pub fn looks_like(text: &str, glob: &str) -> bool {
    let (mut text, mut glob) = (text.chars(), glob.chars());
    let mut star = None; // where to go on when what follows the last `*` doesn't fit
    loop {
        let before = glob.clone();
        let fits = match glob.next() {
            Some('*') => {
                star = Some((text.clone(), glob.clone()));
                continue;
            }
            Some('\\') => {
                let wanted = glob.next().unwrap_or('\\');
                text.next().map(|found| found == wanted)
            }
            Some(wanted) => text.next().map(|found| found == wanted),
            None if text.clone().next().is_none() => return true,
            None => Some(false),
        };
        match (fits, &mut star) {
            (Some(true), _) => {}
            (None, _) => return before.as_str().chars().all(|rest| rest == '*'), // the text is at its end
            (Some(false), None) => return false,
            (Some(false), Some((from, after))) => {
                if from.next().is_none() {
                    return false;
                }
                (text, glob) = (from.clone(), after.clone());
            }
        }
    }
}

/// Whether a feed joins on to what a gateway applied before. Anything but [`Continuity::Joined`] makes it drop all it
/// holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Continuity {
    /// The records follow the cursor without a gap.
    Joined,
    /// There was no cursor yet.
    First,
    /// The cursor is older than what the log still holds.
    Trimmed,
    /// The log lacks what it must have held (failover, restart): it has got a new era.
    Lost,
    /// A record after the cursor began a new era.
    NewEra,
}

/// A call that the bridge refuses, with an HTTP status of 4xx or 5xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A short code for programs: `malformed`, `too-large`, `store-unavailable`, `busy`, `not-found`.
    pub error: String,
    /// The same for people: what, and how to mend it.
    pub message: String,
}

/// Writes a head and a payload as one body. Without payload there is no line feed either.
#[must_use]
pub fn encode<T: Serialize>(head: &T, payload: &[u8]) -> Vec<u8> {
    // These types have string keys only, so writing them to memory can't fail; an empty body is refused by the reader.
    let mut body = serde_json::to_vec(head).unwrap_or_default();
    if !payload.is_empty() {
        body.reserve(payload.len().saturating_add(1));
        body.push(b'\n');
        body.extend_from_slice(payload);
    }
    body
}

/// Splits a body into its head and its payload (empty where there is none).
///
/// # Errors
///
/// What `serde_json` says of a head that isn't a `T`.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<(T, &[u8]), serde_json::Error> {
    let mut parts = body.splitn(2, |byte| *byte == b'\n');
    let head = serde_json::from_slice(parts.next().unwrap_or_default())?;
    Ok((head, parts.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_comes_back_byte_for_byte_whatever_it_holds() {
        let head =
            PurgeRequest { namespace: "shop:v1".into(), tags: vec!["user:7\n".into()], ..PurgeRequest::default() };
        for payload in [&b""[..], b"\n\n{}", b"\0\xff\nx"] {
            let body = encode(&head, payload);
            assert_eq!(decode::<PurgeRequest>(&body).unwrap(), (head.clone(), payload));
        }
    }

    #[test]
    fn a_position_reads_back_as_it_was_written() {
        let position = Position { ms: 1_764_000_000_123, seq: 4, unique: u64::MAX };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in ["", "1", "1-2", "1-2-xyz", "-1-2-3", "1-2-3-4"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_answers_look_like_this_on_the_wire() {
        let ticket = Ticket { at: Position { ms: 5, seq: 0, unique: 255 }, era: Era(16), seen_ms: None };
        assert_eq!(
            encode(&LookupReply::Hit { ticket, tags: vec!["a".into()], resident_ms: 9, stale_ms: None }, b"x"),
            b"{\"outcome\":\"hit\",\"ticket\":{\"at\":\"5-0-ff\",\"era\":\"10\"},\"tags\":[\"a\"],\"resident_ms\":9}\nx"
        );
        assert_eq!(encode(&StoreReply::Void, b""), b"{\"outcome\":\"void\"}");
    }

    #[test]
    fn the_answers_read_back_as_they_were_written() {
        fn check<T: Serialize + DeserializeOwned + fmt::Debug + PartialEq>(answers: impl IntoIterator<Item = T>) {
            for answer in answers {
                assert_eq!(decode::<T>(&encode(&answer, b"payload")).unwrap(), (answer, &b"payload"[..]));
            }
        }
        let (at, era, remaining_ms) = (Position { ms: 5, seq: 0, unique: 255 }, Era(16), 7);
        let [ticket, unseen] = [Some(6), None].map(|seen_ms| Ticket { at, era, seen_ms });
        check([LookupReply::Miss { ticket: unseen, lease: None }]);
        let leases = [Lease::Granted, Lease::Held { remaining_ms }, Lease::Pass { remaining_ms }];
        check([None].into_iter().chain(leases.map(Some)).map(|lease| LookupReply::Miss { ticket, lease }));
        let hit = |stale_ms| LookupReply::Hit { ticket, tags: vec!["a".into()], resident_ms: 9, stale_ms };
        check([hit(None), hit(Some(5)), LookupReply::Behind]);
        let (pass, held) = (WaitReply::Pass { remaining_ms }, WaitReply::Held { remaining_ms });
        check([WaitReply::Stored, WaitReply::Released, WaitReply::Expired, pass, held]);
        check([true, false].map(|unheard| PurgeReply { position: at, era, unheard }));
        let patterns = vec![Pattern::Key("a*".into()), Pattern::Tag("b*".into())];
        let records = [Vec::new(), patterns].map(|patterns| FeedRecord { position: at, tags: Vec::new(), patterns });
        let continuities =
            [Continuity::Joined, Continuity::First, Continuity::Trimmed, Continuity::Lost, Continuity::NewEra];
        check(continuities.map(|continuity| {
            let records = records.to_vec();
            FeedReply { continuity, records, cursor: at, held_ms: 1, complete: true }
        }));
    }

    #[test]
    fn an_answer_that_lacks_something_is_none() {
        let whole = br#"{"outcome":"hit","ticket":{"at":"5-0-ff","era":"10"},"tags":[],"resident_ms":9,"new":[{}]}"#;
        assert!(decode::<LookupReply>(whole).is_ok());
        for [written, instead] in [["hit", "hot"], ["5-0-ff", "5-0"], ["era", "eras"], ["tags", "tag"], ["9", "null"]] {
            let body = String::from_utf8_lossy(whole).replacen(written, instead, 1);
            assert!(decode::<LookupReply>(body.as_bytes()).is_err(), "{body}");
        }
        let lease = br#"{"outcome":"miss","ticket":{"at":"5-0-ff","era":"10"},"lease":{"state":"held"}}"#;
        assert!(decode::<LookupReply>(lease).is_err());
    }

    #[test]
    fn a_pattern_means_what_it_looks_like() {
        let cases = [
            ("", "", true),
            ("", "*", true),
            ("a", "", false),
            ("", "a", false),
            ("user:12", "user:12", true),
            ("user:123", "user:12", false),
            ("user:12", "user:*", true),
            ("user:", "user:*", true),
            ("xuser:1", "user:*", false),
            ("shop:v1 menu GET a /x", "* menu *", true),
            ("aXbXc", "a*b*c", true),
            ("aXbXcd", "a*b*c", false),
            ("abcabd", "*ab?d", false),
            ("aaab", "*aab", true),
            ("a*b", "a\\*b", true),
            ("axb", "a\\*b", false),
            ("a\\", "a\\\\", true),
            ("ab", "a**b*", true),
            ("ää", "ä*", true),
        ];
        for (text, glob, means) in cases {
            assert_eq!(looks_like(text, glob), means, "{text:?} {glob:?}");
        }
        for key in ["a*b\\c", "*", "\\", "plain"] {
            assert!(Pattern::only_key(key).means(key, [].into_iter()));
            assert!(!Pattern::only_key(key).means(&format!("{key}x"), [].into_iter()));
        }
        assert!(Pattern::Tag("user:*".into()).means("k", ["a", "user:7"].into_iter()));
        let long = "a".repeat(4_000);
        assert!(!looks_like(&long, &"*a".repeat(500).replace("*a", "*aa*b")));
    }

    #[test]
    fn a_head_that_is_not_what_was_asked_for_is_an_error() {
        for body in [&b""[..], b"\n", b"{}", b"[1,2]\nrest", b"\xff"] {
            assert!(decode::<PurgeRequest>(body).is_err());
        }
    }
}
