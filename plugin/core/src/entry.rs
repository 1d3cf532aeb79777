//! A stored response: [`Entry`], one run of bytes that every tier keeps as it is.
//!
//! ```text
//! "rce1" checksum │ position era received age lifetime fingerprint status lengths │ key tags vary header body
//! ```
//!
//! The last byte of the mark is the format's version: an entry of another version doesn't decode, and what doesn't
//! decode is a miss (C9). The header is serialised as the host takes it ([`crate::fields`]), so that a hit copies it and
//! adds two lines. Position, era and receipt time belong to one gateway; what comes from the group gets new ones.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::cache_status::CacheStatus;
use crate::fields::{self, Fields};
use crate::wire::{Reader, put_len, put_text};

const MARK: &[u8; 4] = b"rce1";

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
    /// Its age then, in milliseconds.
    pub age_ms: u64,
    /// Its freshness lifetime, in milliseconds.
    pub lifetime_ms: u64,
    /// Of the rule ([`crate::policy::Rule::fingerprint`]).
    pub fingerprint: u64,
    /// The response's status.
    pub status: u16,
    /// The cache key.
    pub key: &'a str,
    /// Hashes of all its tags ([`crate::key::tag_hash`]).
    pub tags: &'a [u64],
    /// The request's values of the fields that `Vary` names.
    pub vary: &'a VaryKey,
    /// Header lines that are replayed.
    pub header: &'a [(&'a [u8], &'a [u8])],
    /// The whole body.
    pub body: &'a [u8],
}

/// The selecting fields of a stored response: names in lower case, and the values of the request that it answered, all
/// lines joined (RFC 9111 §4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaryKey(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl VaryKey {
    /// The selecting fields that `response` names, as `request` has them.
    #[must_use]
    pub fn of(response: &Fields<'_>, request: &Fields<'_>) -> Self {
        let mut names: Vec<Vec<u8>> = response.list("vary").map(<[u8]>::to_ascii_lowercase).collect();
        names.sort_unstable();
        names.dedup();
        Self(
            names
                .into_iter()
                .map(|name| (selecting_value(request, &name), name))
                .map(|(value, name)| (name, value))
                .collect(),
        )
    }

    /// Whether `request` selects the same response.
    #[must_use]
    pub fn selects(&self, request: &Fields<'_>) -> bool {
        self.0.iter().all(|(name, value)| selecting_value(request, name) == *value)
    }
}

fn selecting_value(request: &Fields<'_>, name: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(name).ok().and_then(|name| request.joined(name))
}

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
    age_ms: u64,
    lifetime_ms: u64,
    fingerprint: u64,
    status: u16,
    tags: Vec<u64>,
    vary: VaryKey,
    key: std::ops::Range<usize>,
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
            parts.age_ms,
            parts.lifetime_ms,
            parts.fingerprint,
        ] {
            out.extend(number.to_le_bytes());
        }
        out.extend(parts.status.to_le_bytes());
        put_text(&mut out, parts.key.as_bytes())?;
        put_len(&mut out, parts.tags.len())?;
        parts.tags.iter().for_each(|tag| out.extend(tag.to_le_bytes()));
        put_len(&mut out, parts.vary.0.len())?;
        for (name, value) in &parts.vary.0 {
            put_text(&mut out, name)?;
            out.push(u8::from(value.is_some()));
            put_text(&mut out, value.as_deref().unwrap_or_default())?;
        }
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

    fn read(bytes: Vec<u8>) -> Option<Self> {
        let mut reader = Reader::new(&bytes);
        if reader.take(MARK.len())? != MARK {
            return None;
        }
        let checksum = reader.u64()?;
        if checksum != xxh3_64(bytes.get(reader.at..)?) {
            return None;
        }
        let (position, era) = (reader.u64()?, reader.u64()?);
        let (received_ms, age_ms, lifetime_ms, fingerprint) =
            (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
        let status = reader.u16()?;
        let key = reader.range()?;
        std::str::from_utf8(bytes.get(key.clone())?).ok()?;
        let count = reader.len()?;
        let mut tags = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            tags.push(reader.u64()?);
        }
        let count = reader.len()?;
        let mut vary = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let name = reader.text()?;
            let present = reader.u8()? == 1;
            let value = reader.text()?;
            vary.push((name.to_vec(), present.then(|| value.to_vec())));
        }
        let header = reader.range()?;
        Fields::decode(bytes.get(header.clone())?)?;
        let body = reader.range()?;
        reader.done()?;
        let ticket = Ticket { era, position };
        let vary = VaryKey(vary);
        Some(Self {
            ticket,
            received_ms,
            age_ms,
            lifetime_ms,
            fingerprint,
            status,
            tags,
            vary,
            key,
            header,
            body,
            bytes,
        })
    }

    /// The same response under the ticket of a lookup in this gateway, `resident_ms` older, received now. What comes from
    /// the group passes through here: its own ticket, era and receipt time mean nothing on this machine.
    #[must_use]
    pub fn adopted(&self, ticket: Ticket, resident_ms: u64, now_ms: u64, tags: &[u64]) -> Option<Self> {
        let parts = Parts {
            ticket,
            received_ms: now_ms,
            age_ms: self.age_ms.saturating_add(resident_ms),
            lifetime_ms: self.lifetime_ms,
            fingerprint: self.fingerprint,
            status: self.status,
            key: self.key(),
            tags,
            vary: &self.vary,
            header: &self.header().iter().collect::<Vec<_>>(),
            body: self.body(),
        };
        Self::new(&parts)
    }

    /// The entry as the group keeps it: as old as it is now, and under no gateway's ticket.
    #[must_use]
    pub fn for_group(&self, now_ms: u64) -> Option<Self> {
        self.adopted(Ticket { era: 0, position: 0 }, now_ms.saturating_sub(self.received_ms), 0, &self.tags)
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
        let vary = self
            .vary
            .0
            .iter()
            .map(|(name, value)| name.len().saturating_add(value.as_ref().map_or(0, Vec::len)).saturating_add(48));
        u64::try_from(vary.fold(own, usize::saturating_add)).unwrap_or(u64::MAX)
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

    /// Hashes of its tags.
    #[must_use]
    pub fn tags(&self) -> &[u64] {
        &self.tags
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

    /// Its selecting fields.
    #[must_use]
    pub fn vary(&self) -> &VaryKey {
        &self.vary
    }

    /// Its stored header lines.
    #[must_use]
    pub fn header(&self) -> Fields<'_> {
        self.bytes.get(self.header.clone()).and_then(Fields::decode).unwrap_or_default()
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.body.clone()).unwrap_or_default()
    }

    /// Its age at `now_ms` of the monotonic clock, in milliseconds (RFC 9111 §4.2.3); never less than at its receipt.
    #[must_use]
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        self.age_ms.saturating_add(now_ms.saturating_sub(self.received_ms))
    }

    /// How long it is still fresh at `now_ms`, in milliseconds; 0 when it is stale.
    #[must_use]
    pub fn fresh_ms(&self, now_ms: u64) -> u64 {
        self.lifetime_ms.saturating_sub(self.age_ms(now_ms))
    }

    /// Writes the reply's header as the host takes it: the stored lines, `Age` (RFC 9111 §5.1) and `Cache-Status`.
    /// `out` is kept by the caller from hit to hit.
    pub fn reply_header(&self, now_ms: u64, status: &CacheStatus, out: &mut Vec<u8>) {
        let age = (self.age_ms(now_ms) / 1000).to_string();
        let status = status.to_string();
        let lines = [(&b"age"[..], age.as_bytes()), (&b"cache-status"[..], status.as_bytes())];
        append_lines(self.bytes.get(self.header.clone()).unwrap_or_default(), &lines, out);
    }
}

/// Copies a serialised list of fields with more lines at its end.
fn append_lines(block: &[u8], lines: &[(&[u8], &[u8])], out: &mut Vec<u8>) {
    out.clear();
    let number = |len: usize| u32::try_from(len).unwrap_or_default().to_le_bytes();
    let count = block.first_chunk::<4>().map_or(0, |count| u32::from_le_bytes(*count));
    let count = usize::try_from(count).unwrap_or_default();
    let table = block.get(4..count.saturating_mul(8).saturating_add(4)).unwrap_or_default();
    let texts = block.get(table.len().saturating_add(4)..).unwrap_or_default();
    out.extend(number(count.saturating_add(lines.len())));
    out.extend_from_slice(table);
    for (name, value) in lines {
        out.extend(number(name.len()));
        out.extend(number(value.len()));
    }
    out.extend_from_slice(texts);
    for text in lines.iter().flat_map(|(name, value)| [name, value]) {
        out.extend_from_slice(text);
        out.push(0);
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
    use crate::cache_status::Tier;

    fn entry() -> Entry {
        let request = Fields::from_pairs(vec![(b"accept", b"a"), (b"accept", b"b")]);
        let response = Fields::from_pairs(vec![(b"vary", b"Accept, x-none")]);
        Entry::new(&Parts {
            ticket: Ticket { era: 5, position: 7 },
            received_ms: 1000,
            age_ms: 2000,
            lifetime_ms: 60_000,
            fingerprint: 9,
            status: 200,
            key: "the key",
            tags: &[3, 4],
            vary: &VaryKey::of(&response, &request),
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
            ("the key", &b"menu\n"[..], 200, &[3, 4][..])
        );
        assert_eq!(back, entry);
        assert_eq!(back.header().all("x").collect::<Vec<_>>(), [&b"\xff"[..], b""]);
    }

    /// C9.
    #[test]
    fn bytes_that_are_cut_damaged_or_of_another_version_are_no_entry() {
        let bytes = entry().bytes().to_vec();
        for len in 0..bytes.len() {
            assert!(Entry::decode(bytes[..len].to_vec()).is_err(), "cut at {len}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Entry::decode(damaged).is_err(), "damaged at {at}");
        }
        let mut longer = bytes;
        longer.push(0);
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
        let adopted = entry().adopted(Ticket { era: 1, position: 2 }, 500, 77, &[8]).unwrap();
        assert_eq!(
            (adopted.age_ms(77), adopted.ticket(), adopted.tags()),
            (2500, Ticket { era: 1, position: 2 }, &[8][..])
        );
        assert_eq!((adopted.key(), adopted.body(), adopted.vary()), ("the key", &b"menu\n"[..], entry().vary()));
    }

    /// RFC 9111 §4.1.
    #[test]
    fn selecting_fields_are_compared_over_all_their_lines() {
        let entry = entry();
        let accept = |lines: &[&'static str]| {
            Fields::from_pairs(lines.iter().map(|line| (&b"accept"[..], line.as_bytes())).collect())
        };
        assert!(entry.vary().selects(&accept(&["a", "b"])));
        assert!(entry.vary().selects(&accept(&["a, b"])));
        assert!(!entry.vary().selects(&accept(&["a"])));
        assert!(!entry.vary().selects(&accept(&[])));
    }

    #[test]
    fn the_replys_header_is_the_stored_one_with_age_and_cache_status() {
        let mut out = Vec::new();
        entry().reply_header(3500, &CacheStatus::Hit { ttl_s: 55, tier: Tier::Gateway }, &mut out);
        let header = Fields::decode(&out).unwrap();
        assert_eq!(header.iter().count(), 5);
        assert_eq!(header.first("age"), Some(&b"4"[..]));
        assert_eq!(header.first("cache-status"), Some(&b"routecache; hit; ttl=55; detail=gateway"[..]));
        assert_eq!(header.first("content-type"), Some(&b"text/plain"[..]));
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
