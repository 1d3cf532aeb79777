//! A stored response: [`Entry`], one run of bytes that every tier keeps as it is.
//!
//! ```text
//! "rce4" checksum │ position era received age lifetime stale-if-error stale-while-revalidate took sliding fingerprint flags status │ key tags header body
//! ```
//!
//! The last byte of the mark is the format's version: an entry of another version doesn't decode, and what doesn't
//! decode is a miss (C9). The header is serialised as the host takes it ([`crate::fields`]), so that a hit copies it and
//! adds a few lines. Position, era and receipt time belong to one gateway; what comes from the group gets new ones. An
//! entry whose status is 0 is no response: it tells the variants of its key ([`crate::vary`]).

use std::cell::Cell;
use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::fields::{self, Fields, Line};
use crate::key::tag_hash;
use crate::planted::planted;
use crate::wire::{Reader, put_len, put_text};

const MARK: &[u8; 4] = b"rce4";

/// What stands between the mark and the key: eleven numbers, flags and status.
const NUMBERS_BYTES: usize = 11 * 8 + 1 + 2;

/// A position in a gateway's log of purges, with the log's era; see [`crate::gateway_log`]. An entry's is that of the
/// lookup with which its fill began: its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Identity of the gateway's log.
    pub era: u64,
    /// Position in it.
    pub position: u64,
}

/// What an entry is made of.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// The ticket of the fill.
    pub ticket: Ticket,
    /// When the response arrived, in milliseconds of this machine's monotonic clock.
    pub received_ms: u64,
    /// How it may be reused.
    pub freshness: Freshness,
    /// Of the rule ([`crate::policy::Rule::fingerprint`]).
    pub fingerprint: u64,
    /// The response's status.
    pub status: u16,
    /// The cache key.
    pub key: &'a str,
    /// All its tags.
    pub tags: &'a [&'a str],
    /// Header lines that are replayed.
    pub header: &'a [Line<'a>],
    /// The whole body.
    pub body: &'a [u8],
}

/// How a stored response may be reused (RFC 9111 §4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// Its age when it arrived, in milliseconds (§4.2.3 `corrected_initial_age`).
    pub age_ms: u64,
    /// Its freshness lifetime, in milliseconds (§4.2.1).
    pub lifetime_ms: u64,
    /// How long after that it may stand in for an error, in milliseconds (RFC 5861 §4).
    pub stale_if_error_ms: u64,
    /// How long after that it may be served while it is asked about behind the client, in milliseconds (RFC 5861 §3).
    pub stale_while_revalidate_ms: u64,
    /// How long the origin took to answer, in milliseconds.
    pub took_ms: u64,
    /// How long a use makes it fresh again, in milliseconds; 0 if uses don't.
    pub sliding_ms: u64,
    /// It is never served stale (§5.2.2.2, §5.2.2.8, §5.2.2.10).
    pub must_revalidate: bool,
    /// It is never reused without validation (§5.2.2.4).
    pub no_cache: bool,
    /// It may answer requests with `Authorization` (§3.5).
    pub shareable: bool,
}

impl Freshness {
    fn flags(self) -> u8 {
        u8::from(self.must_revalidate) | u8::from(self.no_cache) << 1 | u8::from(self.shareable) << 2
    }

    /// The same of what the origin doesn't stand by any more: good for nothing but to be asked about.
    #[must_use]
    pub fn outdated(self) -> Self {
        Self { lifetime_ms: 0, stale_if_error_ms: 0, stale_while_revalidate_ms: 0, sliding_ms: 0, ..self }
    }
}

/// How long what can be validated is kept after it went stale, in milliseconds: asking about it is cheaper than getting
/// it anew.
const KEPT_FOR_VALIDATION_MS: u64 = 60 * 60 * 1000;

/// Bytes that are no entry: another version, cut short, or damaged. They are a miss, and are to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEntry;

impl fmt::Display for NoEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes are no entry of this version, or damaged")
    }
}

impl std::error::Error for NoEntry {}

/// A complete stored response.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    bytes: Vec<u8>,
    ticket: Ticket,
    received_ms: u64,
    freshness: Freshness,
    fingerprint: u64,
    status: u16,
    tags: Vec<u64>,
    /// Up to where in its gateway's log it was compared with what was purged by pattern.
    compared: Cell<u64>,
    key: std::ops::Range<usize>,
    /// The tags as they are written, each counted.
    texts: std::ops::Range<usize>,
    header: std::ops::Range<usize>,
    body: std::ops::Range<usize>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key())
            .field("status", &self.status)
            .field("ticket", &self.ticket)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Entry {
    /// Puts an entry together; `None` when a part is too long to be written (4 GiB).
    #[must_use]
    pub fn new(parts: &Parts<'_>) -> Option<Self> {
        let mut out = Vec::with_capacity(parts.body.len().saturating_add(512));
        out.extend_from_slice(MARK);
        for number in [
            0,
            parts.ticket.position,
            parts.ticket.era,
            parts.received_ms,
            parts.freshness.age_ms,
            parts.freshness.lifetime_ms,
            parts.freshness.stale_if_error_ms,
            parts.freshness.stale_while_revalidate_ms,
            parts.freshness.took_ms,
            parts.freshness.sliding_ms,
            parts.fingerprint,
        ] {
            out.extend(number.to_le_bytes());
        }
        out.push(parts.freshness.flags());
        out.extend(parts.status.to_le_bytes());
        put_text(&mut out, parts.key.as_bytes())?;
        put_len(&mut out, parts.tags.len())?;
        parts.tags.iter().try_for_each(|tag| put_text(&mut out, tag.as_bytes()))?;
        put_text(&mut out, &fields::encode(parts.header))?;
        put_text(&mut out, parts.body)?;
        seal(&mut out);
        Self::decode(out).ok()
    }

    /// Reads what [`Entry::bytes`] gave.
    ///
    /// # Errors
    ///
    /// [`NoEntry`].
    pub fn decode(bytes: Vec<u8>) -> Result<Self, NoEntry> {
        Self::read(bytes).ok_or(NoEntry)
    }

    /// Whether bytes are as many as an entry's that begins like this. Nothing vouches for them: for what is too long to be read.
    #[must_use]
    pub fn is_all_there(bytes: &[u8]) -> bool {
        let mut reader = Reader::new(bytes);
        let mut walk = || {
            (reader.take(MARK.len())? == MARK).then_some(())?;
            reader.take(NUMBERS_BYTES)?;
            reader.text()?;
            for _ in 0..reader.len()? {
                reader.text()?;
            }
            reader.text()?;
            reader.text()?;
            reader.done()
        };
        walk().is_some()
    }

    fn read(bytes: Vec<u8>) -> Option<Self> {
        let mut reader = Reader::new(&bytes);
        if reader.take(MARK.len())? != MARK && !planted("version_unread") {
            return None;
        }
        let checksum = reader.u64()?;
        if checksum != xxh3_64(bytes.get(reader.at..)?) && !planted("checksum_unread") {
            return None;
        }
        let (position, era) = (reader.u64()?, reader.u64()?);
        let received_ms = reader.u64()?;
        let (age_ms, lifetime_ms, stale_if_error_ms) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (stale_while_revalidate_ms, took_ms, sliding_ms) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let fingerprint = reader.u64()?;
        let flags = reader.u8()?;
        let freshness = Freshness {
            age_ms,
            lifetime_ms,
            stale_if_error_ms,
            stale_while_revalidate_ms,
            took_ms,
            sliding_ms,
            must_revalidate: flags & 1 != 0,
            no_cache: flags & 2 != 0,
            shareable: flags & 4 != 0,
        };
        let status = reader.u16()?;
        let key = reader.range()?;
        std::str::from_utf8(bytes.get(key.clone())?).ok()?;
        let count = reader.len()?;
        let mut tags = Vec::with_capacity(count.min(1024));
        let first = reader.at;
        for _ in 0..count {
            tags.push(tag_hash(std::str::from_utf8(reader.text()?).ok()?));
        }
        let texts = first..reader.at;
        let header = reader.range()?;
        Fields::decode(bytes.get(header.clone())?)?;
        let body = reader.range()?;
        reader.done()?;
        let ticket = Ticket { era, position };
        let compared = Cell::new(position);
        Some(Self {
            ticket,
            received_ms,
            freshness,
            fingerprint,
            status,
            tags,
            compared,
            key,
            texts,
            header,
            body,
            bytes,
        })
    }

    /// The same response under the ticket of a lookup in this gateway, `resident_ms` older, received now. What comes from
    /// the group passes through here: its own ticket, era and receipt time mean nothing on this machine.
    #[must_use]
    pub fn adopted(&self, ticket: Ticket, resident_ms: u64, now_ms: u64, tags: &[&str]) -> Option<Self> {
        let parts = Parts {
            ticket,
            received_ms: now_ms,
            freshness: Freshness { age_ms: self.freshness.age_ms.saturating_add(resident_ms), ..self.freshness },
            fingerprint: self.fingerprint,
            status: self.status,
            key: self.key(),
            tags,
            header: &self.header().iter().collect::<Vec<_>>(),
            body: self.body(),
        };
        Self::new(&parts)
    }

    /// The same with another body.
    #[must_use]
    pub fn with_body(&self, body: &[u8]) -> Option<Self> {
        Self::new(&Parts {
            ticket: self.ticket,
            received_ms: self.received_ms,
            freshness: self.freshness,
            fingerprint: self.fingerprint,
            status: self.status,
            key: self.key(),
            tags: &self.tag_texts().collect::<Vec<_>>(),
            header: &self.header().iter().collect::<Vec<_>>(),
            body,
        })
    }

    /// The entry as the group keeps it: as old as it is now, under no gateway's ticket, and without its tags, which the group
    /// has beside it.
    #[must_use]
    pub fn for_group(&self, now_ms: u64) -> Option<Self> {
        self.adopted(Ticket { era: 0, position: 0 }, now_ms.saturating_sub(self.received_ms), 0, &[])
    }

    /// The whole entry, as every tier keeps it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it takes in memory, roughly, in bytes.
    #[must_use]
    pub fn footprint(&self) -> u64 {
        let own =
            size_of::<Self>().saturating_add(self.tags.len().saturating_mul(8)).saturating_add(self.bytes.capacity());
        u64::try_from(own).unwrap_or(u64::MAX)
    }

    /// Its cache key.
    #[must_use]
    pub fn key(&self) -> &str {
        self.bytes.get(self.key.clone()).and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default()
    }

    /// The ticket of its fill.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Hashes of its tags ([`tag_hash`]).
    #[must_use]
    pub fn tags(&self) -> &[u64] {
        &self.tags
    }

    /// Its tags as they are written.
    pub fn tag_texts(&self) -> impl Iterator<Item = &str> {
        let mut reader = Reader::new(self.bytes.get(self.texts.clone()).unwrap_or_default());
        std::iter::from_fn(move || std::str::from_utf8(reader.text()?).ok())
    }

    /// Up to where in its gateway's log it was compared with what was purged by pattern; at first, its ticket's position.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.compared.get()
    }

    /// It was compared up to there, and not meant.
    pub fn compare_from(&self, position: u64) {
        self.compared.set(position);
    }

    /// Of the rule that it was stored under.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// How it may be reused.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// When it arrived, in milliseconds of the monotonic clock.
    #[must_use]
    pub fn received_ms(&self) -> u64 {
        self.received_ms
    }

    /// Its stored header lines.
    #[must_use]
    pub fn header(&self) -> Fields<'_> {
        self.bytes.get(self.header.clone()).and_then(Fields::decode).unwrap_or_default()
    }

    /// The same, serialised as the host takes them.
    #[must_use]
    pub fn header_block(&self) -> &[u8] {
        self.bytes.get(self.header.clone()).unwrap_or_default()
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.body.clone()).unwrap_or_default()
    }

    /// Its age at `now_ms` of the monotonic clock, in milliseconds (RFC 9111 §4.2.3); never less than at its receipt.
    #[must_use]
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        self.freshness.age_ms.saturating_add(now_ms.saturating_sub(self.received_ms))
    }

    /// How long it is still fresh at `now_ms`, in milliseconds; 0 when it is stale.
    #[must_use]
    pub fn fresh_ms(&self, now_ms: u64) -> u64 {
        self.freshness.lifetime_ms.saturating_sub(self.age_ms(now_ms))
    }

    /// How long it has been stale at `now_ms`, in milliseconds; 0 when it is fresh.
    #[must_use]
    pub fn stale_ms(&self, now_ms: u64) -> u64 {
        self.age_ms(now_ms).saturating_sub(self.freshness.lifetime_ms)
    }

    /// Whether it may stand in for an error at `now_ms` (RFC 5861 §4).
    #[must_use]
    pub fn may_replace_error(&self, now_ms: u64) -> bool {
        let in_time = self.stale_ms(now_ms) < self.freshness.stale_if_error_ms;
        self.fresh_ms(now_ms) == 0 && (in_time || planted("error_past_limit"))
    }

    /// Whether it may stand in at `now_ms` where the cache answers only for an origin that fails.
    #[must_use]
    pub fn may_fail_over(&self, now_ms: u64) -> bool {
        !self.freshness.no_cache && (self.fresh_ms(now_ms) > 0 || self.may_replace_error(now_ms))
    }

    /// Whether it may be served at `now_ms` while it is asked about behind the client (RFC 5861 §3).
    #[must_use]
    pub fn may_be_refreshed_behind(&self, now_ms: u64) -> bool {
        let window_ms = self.freshness.stale_while_revalidate_ms;
        self.stale_ms(now_ms) < window_ms || window_ms > 0 && planted("stale_past_limit")
    }

    /// The same, made fresh again by a use at `now_ms`; `None` if uses don't do that, or the last one was hardly ago.
    #[must_use]
    pub fn slid(&self, now_ms: u64) -> Option<Self> {
        /// A use counts when so much of the lifetime is over, so that it isn't written at every use.
        const SHARE: u64 = 8;
        let (sliding_ms, fresh_ms) = (self.freshness.sliding_ms, self.fresh_ms(now_ms));
        (sliding_ms.saturating_sub(fresh_ms) > sliding_ms / SHARE && fresh_ms > 0).then_some(())?;
        let sliding_ms = if planted("sliding_past_limit") { sliding_ms.saturating_mul(4) } else { sliding_ms };
        let lifetime_ms = self.age_ms(now_ms).saturating_add(sliding_ms);
        if planted("sliding_past_purges") {
            let newest = Ticket { position: u64::MAX, ..self.ticket };
            return self.fresh_for(lifetime_ms).map(|slid| Self { ticket: newest, ..slid });
        }
        self.fresh_for(lifetime_ms)
    }

    /// The same, stale since a soft purge at `at_ms` of the monotonic clock; `None` if it is stale since before.
    #[must_use]
    pub fn softened(&self, at_ms: u64) -> Option<Self> {
        let early_ms = self.received_ms.saturating_sub(at_ms);
        let lifetime_ms = self.age_ms(at_ms).saturating_sub(early_ms);
        (lifetime_ms < self.freshness.lifetime_ms).then(|| self.fresh_for(lifetime_ms))?
    }

    fn fresh_for(&self, lifetime_ms: u64) -> Option<Self> {
        Self::new(&Parts {
            ticket: self.ticket,
            received_ms: self.received_ms,
            freshness: Freshness { lifetime_ms, ..self.freshness },
            fingerprint: self.fingerprint,
            status: self.status,
            key: self.key(),
            tags: &self.tag_texts().collect::<Vec<_>>(),
            header: &self.header().iter().collect::<Vec<_>>(),
            body: self.body(),
        })
    }

    /// How long it is worth keeping from `now_ms` on, in milliseconds.
    #[must_use]
    pub fn keep_ms(&self, now_ms: u64) -> u64 {
        let header = self.header();
        let validation = if header.has("etag") || header.has("last-modified") { KEPT_FOR_VALIDATION_MS } else { 0 };
        let stale = self.freshness.stale_if_error_ms.max(self.freshness.stale_while_revalidate_ms).max(validation);
        self.freshness.lifetime_ms.saturating_add(stale).saturating_sub(self.age_ms(now_ms))
    }
}

/// Writes the checksum of all that follows it.
fn seal(bytes: &mut [u8]) {
    let checksum = bytes.get(12..).map(xxh3_64).unwrap_or_default().to_le_bytes();
    if let Some(place) = bytes.get_mut(4..12) {
        place.copy_from_slice(&checksum);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> Entry {
        Entry::new(&Parts {
            ticket: Ticket { era: 5, position: 7 },
            received_ms: 1000,
            freshness: Freshness {
                age_ms: 2000,
                lifetime_ms: 60_000,
                stale_if_error_ms: 5000,
                stale_while_revalidate_ms: 3000,
                took_ms: 40,
                shareable: true,
                sliding_ms: 60_000,
                ..Freshness::default()
            },
            fingerprint: 9,
            status: 200,
            key: "the key",
            tags: &["user:3", "é"],
            header: &[(b"content-type", b"text/plain"), (b"x", b"\xff"), (b"x", b"")],
            body: b"menu\n",
        })
        .unwrap()
    }

    #[test]
    fn an_entry_reads_back_as_it_was_written() {
        let entry = entry();
        let back = Entry::decode(entry.bytes().to_vec()).unwrap();
        assert_eq!(
            (back.key(), back.body(), back.status(), back.tags()),
            ("the key", &b"menu\n"[..], 200, &["user:3", "é"].map(tag_hash)[..])
        );
        assert_eq!(back, entry);
        assert_eq!(back.tag_texts().collect::<Vec<_>>(), ["user:3", "é"]);
        assert_eq!(back.header().all("x").collect::<Vec<_>>(), [&b"\xff"[..], b""]);
    }

    /// Gateways of two versions share a store (I29): whoever changes this changes the mark, too.
    #[test]
    fn an_entry_is_written_like_this() {
        let written = entry().bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let known = "\
            726365341fd0c4249137f11807000000000000000500000000000000e803000000000000d00700000000000060ea0000\
            000000008813000000000000b80b000000000000280000000000000060ea000000000000090000000000000004c80007\
            000000746865206b65790200000006000000757365723a3302000000c3a93b000000030000000c0000000a0000000100\
            0000010000000100000000000000636f6e74656e742d7479706500746578742f706c61696e007800ff00780000050000\
            006d656e750a";
        assert_eq!(written, known);
    }

    /// C9.
    #[test]
    fn bytes_that_are_cut_damaged_or_of_another_version_are_no_entry() {
        let bytes = entry().bytes().to_vec();
        for len in 0..bytes.len() {
            assert!(Entry::decode(bytes[..len].to_vec()).is_err(), "cut at {len}");
            assert!(!Entry::is_all_there(&bytes[..len]), "cut at {len}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Entry::decode(damaged).is_err(), "damaged at {at}");
        }
        assert!(Entry::is_all_there(&bytes));
        let mut longer = bytes;
        longer.push(0);
        assert!(!Entry::is_all_there(&longer));
        assert!(Entry::decode(longer).is_err());
    }

    #[test]
    fn an_entry_ages_from_its_receipt_and_a_clock_that_steps_back_never_makes_it_younger() {
        let entry = entry();
        assert_eq!((entry.age_ms(1000), entry.age_ms(11_000), entry.age_ms(0)), (2000, 12_000, 2000));
        assert_eq!((entry.fresh_ms(1000), entry.fresh_ms(59_000), entry.fresh_ms(u64::MAX)), (58_000, 0, 0));
    }

    #[test]
    fn what_comes_from_the_group_is_as_old_as_it_was_there_and_longer() {
        let adopted = entry().adopted(Ticket { era: 1, position: 2 }, 500, 77, &["8"]).unwrap();
        assert_eq!(
            (adopted.age_ms(77), adopted.ticket(), adopted.tags()),
            (2500, Ticket { era: 1, position: 2 }, &[tag_hash("8")][..])
        );
        assert_eq!((adopted.key(), adopted.body()), ("the key", &b"menu\n"[..]));
    }

    /// RFC 5861 §4: the window is a hard limit.
    #[test]
    fn an_entry_may_stand_in_for_an_error_only_while_it_is_stale_for_less_than_its_window() {
        let entry = entry();
        for (now_ms, allowed) in [(1000, false), (58_999, false), (59_000, true), (63_999, true), (64_000, false)] {
            assert_eq!(entry.may_replace_error(now_ms), allowed, "{now_ms}");
        }
        assert_eq!((entry.keep_ms(59_000), entry.keep_ms(64_000)), (5000, 0));
    }

    /// RFC 5861 §3: this window too is a hard limit.
    #[test]
    fn an_entry_may_be_served_stale_behind_a_refresh_only_within_its_window() {
        let entry = entry();
        for (now_ms, allowed) in [(1000, true), (59_000, true), (61_999, true), (62_000, false)] {
            assert_eq!(entry.may_be_refreshed_behind(now_ms), allowed, "{now_ms}");
        }
    }

    #[test]
    fn a_use_makes_an_entry_fresh_again_where_uses_do_and_keeps_its_age() {
        let entry = entry(); // 2 s old of 60 when it came, at 1 s
        assert_eq!(entry.slid(6000), None, "hardly used up");
        let slid = entry.slid(41_000).unwrap();
        assert_eq!((slid.fresh_ms(41_000), slid.age_ms(41_000), slid.received_ms()), (60_000, 42_000, 1000));
        assert_eq!(slid.bytes().len(), entry.bytes().len());
        assert_eq!(entry.slid(59_000), None, "stale");
        let fixed = Entry::new(&Parts {
            ticket: entry.ticket(),
            received_ms: 1000,
            freshness: Freshness { sliding_ms: 0, ..entry.freshness() },
            fingerprint: 9,
            status: 200,
            key: "the key",
            tags: &[],
            header: &[],
            body: b"",
        });
        assert_eq!(fixed.unwrap().slid(41_000), None);
    }

    /// I7: what was purged softly is stale from then on, for no longer than it may be, and never gets younger by it.
    #[test]
    fn an_entry_that_was_purged_softly_is_stale_since_then_and_its_windows_stay() {
        let entry = entry(); // 2 s old of 60 when it came, at 1 s; 3 s behind a refresh, 5 s for errors
        let stale = entry.softened(11_000).unwrap();
        assert_eq!((stale.fresh_ms(11_000), stale.stale_ms(13_000), stale.age_ms(13_000)), (0, 2000, 14_000));
        assert!(stale.may_be_refreshed_behind(13_999) && !stale.may_be_refreshed_behind(14_000));
        assert!(stale.may_replace_error(15_999) && !stale.may_replace_error(16_000));
        assert_eq!(stale.softened(12_000), None, "it was before");
        assert_eq!(entry.softened(59_000), None, "it was stale by itself");
        assert_eq!(entry.softened(0).unwrap().stale_ms(3000), 3000, "while it was on its way");
        assert_eq!(stale.slid(11_000), None);
    }

    /// What `mode: failover` serves.
    #[test]
    fn an_entry_stands_in_for_a_failing_origin_while_it_is_fresh_or_within_its_window() {
        let entry = entry();
        for (now_ms, allowed) in [(1000, true), (59_000, true), (63_999, true), (64_000, false)] {
            assert_eq!(entry.may_fail_over(now_ms), allowed, "{now_ms}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes: Vec<u8>, sealed: bool) {
            bytes.splice(0..0, *MARK);
            if sealed && bytes.len() > 12 {
                seal(&mut bytes);
            }
            let _ = Entry::decode(bytes);
        }
    }
}
