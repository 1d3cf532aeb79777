//! The gateway's log of purges, kept in shared data: [`GatewayLog`], and the small [`Head`] that every request reads.
//!
//! Each purge gets a position; each lookup takes the position as its ticket before anything else; an entry is valid while
//! none of its tags was purged after its ticket. The log is one value, and every change of it one compare-and-swap: a
//! change is described by a [`Change`], [`GatewayLog::apply`] says what the log becomes, and the adapter swaps it in or
//! tries again. The head is published after that, never backwards; its writer may die in between, so whoever publishes
//! next takes the log's current state, not its own.
//!
//! This is the protocol of ARCHITECTURE.md ("The purge protocol"); its precautions are each there for a reason that an
//! executable model shows.

use std::collections::VecDeque;

use crate::planted::planted;
use crate::wire::{Reader, put_len, put_text};

/// Records that the log keeps for workers to catch up from; a worker that is further behind drops what it can't judge.
pub const RING_RECORDS: usize = 512;

/// Bytes of tags that may be pending at once; beyond, one purge of everything is pending instead.
const PENDING_BYTES_MAX: usize = 64 << 10;

const MARK: &[u8; 4] = b"rcl1";
const HEAD_MARK: &[u8; 4] = b"rch1";

/// A position in the *group's* log, as the bridge gives it: the store's id and the writer's random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupPosition {
    /// First part of the id.
    pub ms: u64,
    /// Second part of the id.
    pub seq: u64,
    /// Random.
    pub unique: u64,
}

/// One purged tag. A record without a tag moves the position, so that workers look at the log again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Hash of the tag ([`crate::key::tag_hash`]).
    pub tag: Option<u64>,
    /// Where the purge stands in the group's log, once that is known.
    pub group: Option<GroupPosition>,
    /// When a soft purge was heard of, or should have been, in milliseconds of the monotonic clock: what it names is stale
    /// since, rather than void.
    /// In the ring, a record of its own says so of the next one; a VM of an older filter that reads it purges for good.
    pub soft: Option<u64>,
}

/// Marks a record without tag that says of the next one that it is soft.
const SOFT: u64 = 0x736f_6674_736f_6674;

/// Marks a record without tag that says of the next one that it purges what looks like some patterns, and nothing else.
const BANS: u64 = 0x6261_6e73_6261_6e73;

impl Record {
    /// That a purge of this tag, which the next record is, is soft.
    fn softening(tag: u64, at_ms: u64) -> Self {
        Self { tag: None, group: Some(GroupPosition { ms: at_ms, seq: tag, unique: SOFT }), soft: None }
    }

    /// What such a record says: tag and time.
    #[must_use]
    pub fn softens(&self) -> Option<(u64, u64)> {
        let place = self.group.filter(|place| self.tag.is_none() && place.unique == SOFT)?;
        Some((place.seq, place.ms))
    }

    /// A purge by the patterns of this name ([`crate::bans::Bans`]), as it stands in the group's log. The second record purges
    /// everything for who doesn't know the first, or doesn't find the patterns.
    #[must_use]
    pub fn banning(ban: u64, at: GroupPosition) -> [Self; 2] {
        let says = GroupPosition { ms: ban, seq: at.unique, unique: BANS };
        let everything = crate::key::tag_hash(crate::key::TAG_ALL);
        [(None, says), (Some(everything), at)].map(|(tag, group)| Self { tag, group: Some(group), soft: None })
    }

    /// The name of the ban, if this is the first record of one.
    #[must_use]
    pub fn bans(&self) -> Option<u64> {
        self.group.filter(|place| self.tag.is_none() && place.unique == BANS).map(|place| place.ms)
    }

    /// The same, if the other record is its second.
    #[must_use]
    pub fn bans_by(&self, other: &Self) -> Option<u64> {
        let second =
            |says: GroupPosition, at: GroupPosition| *other == Self::banning(says.ms, at)[1] && says.seq == at.unique;
        self.bans().filter(|_| self.group.zip(other.group).is_some_and(|(says, at)| second(says, at)))
    }
}

/// A purge that the group hasn't acknowledged. It stands here, so that any VM of the gateway retries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Names the purge; random.
    pub operation: u64,
    /// What it purges.
    pub tags: Vec<String>,
    /// When it was last sent, in milliseconds of the monotonic clock.
    pub sent_ms: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayLog {
    /// Identity of an unbroken log; a new one voids everything stored under the old.
    pub era: u64,
    /// Position of the last record.
    pub seq: u64,
    /// The last records; the newest has position `seq`.
    pub ring: VecDeque<Record>,
    /// Up to where the group's log has been applied.
    pub cursor: Option<GroupPosition>,
    /// The newest position of the group's log that it acknowledged to this gateway.
    pub known: Option<GroupPosition>,
    /// Purges on their way to the group.
    pub pending: Vec<Pending>,
}

/// What is to be done to the log.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Tags that are purged.
    pub records: Vec<Record>,
    /// Void everything.
    pub flush: bool,
    /// The change comes from the feed: only if the cursor is still the first, and it becomes the second.
    pub feed: Option<(Option<GroupPosition>, GroupPosition)>,
    /// A purge that is now on its way to the group.
    pub pend: Option<Pending>,
    /// A purge that the group has acknowledged.
    pub settle: Option<u64>,
    /// A position that the group has acknowledged.
    pub known: Option<GroupPosition>,
    /// A known position that the group's log turned out to lack.
    pub forget: Option<GroupPosition>,
    /// Pending purges that are being sent again, and when.
    pub resent: Option<(Vec<u64>, u64)>,
}

/// What a [`Change`] makes of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Another feed poll was applied first: this one is dropped, with what it heard.
    Superseded,
    /// The log is as it was.
    Unchanged,
    /// The log is to become this.
    Changed(GatewayLog),
}

impl GatewayLog {
    /// An empty log of a new era.
    #[must_use]
    pub fn new(era: u64) -> Self {
        Self { era, seq: 0, ring: VecDeque::new(), cursor: None, known: None, pending: Vec::new() }
    }

    /// What `change` makes of this log. `fresh_era` is a random number, used if a new era is needed.
    #[must_use]
    pub fn apply(&self, change: &Change, fresh_era: u64) -> Applied {
        if change.feed.is_some_and(|(expected, _)| expected != self.cursor) {
            return Applied::Superseded;
        }
        let mut log = self.clone();
        if change.flush {
            if !planted("flush_same_position") {
                log.era = fresh_era;
                log.seq = log.seq.saturating_add(1);
            }
            log.ring.clear();
        }
        // History was lost, and with it what was known of it; what was acknowledged since then stays.
        if change.forget.is_some() && log.known == change.forget {
            log.known = None;
        }
        // An own purge comes back through the feed; it was recorded when it was acknowledged.
        // Of a purge with many tags, all have its position: for those of another gateway, the log is searched once.
        let mut recorded = (None, false);
        let mut echo = |record: &Record| {
            // Those without a tag say something of the next one.
            if change.feed.is_none() || record.group.is_none() || record.tag.is_none() {
                return false;
            }
            if recorded.0 != record.group {
                recorded = (record.group, self.has(record.group, None));
            }
            recorded.1 && self.has(record.group, record.tag)
        };
        for record in change.records.iter().filter(|record| !echo(record)) {
            log.push(*record);
        }
        if change.records.is_empty() && (change.pend.is_some() || change.settle.is_some()) {
            log.push(Record { tag: None, group: None, soft: None });
        }
        if let Some((_, cursor)) = change.feed {
            log.cursor = Some(cursor);
        }
        if let Some(pending) = &change.pend {
            log.pend(pending);
        }
        if let Some(operation) = change.settle {
            log.pending.retain(|pending| pending.operation != operation);
        }
        if !planted("no_known") {
            log.known = log.known.max(change.known);
        }
        if planted("cursor_from_ack") && change.settle.is_some() {
            log.cursor = change.known;
        }
        if let Some((operations, now_ms)) = &change.resent {
            log.pending
                .iter_mut()
                .filter(|pending| operations.contains(&pending.operation))
                .for_each(|pending| pending.sent_ms = *now_ms);
        }
        if log == *self { Applied::Unchanged } else { Applied::Changed(log) }
    }

    /// Whether it has a record of the group's position; of this tag, if one is given.
    fn has(&self, group: Option<GroupPosition>, tag: Option<u64>) -> bool {
        self.ring.iter().any(|known| known.group == group && (tag.is_none() || known.tag == tag))
    }

    fn push(&mut self, record: Record) {
        if let (Some(tag), Some(at_ms)) = (record.tag, record.soft) {
            self.push(Record::softening(tag, at_ms));
            return self.push(Record { soft: None, ..record });
        }
        self.seq = self.seq.saturating_add(1);
        self.ring.push_back(record);
        if self.ring.len() > RING_RECORDS {
            self.ring.pop_front();
        }
    }

    fn pend(&mut self, pending: &Pending) {
        self.pending.push(pending.clone());
        let bytes = self
            .pending
            .iter()
            .flat_map(|pending| &pending.tags)
            .fold(0, |sum: usize, tag| sum.saturating_add(tag.len()));
        if bytes > PENDING_BYTES_MAX {
            // Too much to remember one by one: one purge of everything stands for all of them. It purges too much, never
            // too little.
            self.pending = vec![Pending { tags: vec![String::from(crate::key::TAG_ALL)], ..pending.clone() }];
        }
    }

    /// Whether there is a purge by pattern among the records.
    #[must_use]
    pub fn has_bans(&self) -> bool {
        self.ring.iter().any(|record| record.bans().is_some())
    }

    /// The position before the ring's first record.
    #[must_use]
    pub fn ring_start(&self) -> u64 {
        self.seq.saturating_sub(u64::try_from(self.ring.len()).unwrap_or(u64::MAX))
    }

    /// The log as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MARK.to_vec();
        out.extend(self.era.to_le_bytes());
        out.extend(self.seq.to_le_bytes());
        put_position(&mut out, self.cursor);
        put_position(&mut out, self.known);
        let records = self.ring.iter().take(RING_RECORDS);
        let counted = put_len(&mut out, records.len());
        for record in records {
            out.push(u8::from(record.tag.is_some()));
            out.extend(record.tag.unwrap_or_default().to_le_bytes());
            put_position(&mut out, record.group);
        }
        let pending = counted.and_then(|()| {
            put_len(&mut out, self.pending.len())?;
            for pending in &self.pending {
                out.extend(pending.operation.to_le_bytes());
                out.extend(pending.sent_ms.to_le_bytes());
                put_len(&mut out, pending.tags.len())?;
                pending.tags.iter().try_for_each(|tag| put_text(&mut out, tag.as_bytes()))?;
            }
            Some(())
        });
        // Lengths are bounded far below 32 bits; a log that couldn't be written would be read as lost, which is safe.
        pending.map_or_else(Vec::new, |()| out)
    }

    /// Reads what [`GatewayLog::encode`] wrote; `None` when the bytes are something else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        (reader.take(4)? == MARK).then_some(())?;
        let (era, seq) = (reader.u64()?, reader.u64()?);
        let (cursor, known) = (position(&mut reader)?, position(&mut reader)?);
        let count = reader.len()?;
        let mut ring = VecDeque::with_capacity(count.min(RING_RECORDS));
        for _ in 0..count {
            let present = reader.u8()? == 1;
            let tag = reader.u64()?;
            ring.push_back(Record { tag: present.then_some(tag), group: position(&mut reader)?, soft: None });
        }
        let count = reader.len()?;
        let mut pending = Vec::new();
        for _ in 0..count {
            let (operation, sent_ms) = (reader.u64()?, reader.u64()?);
            let mut tags = Vec::new();
            for _ in 0..reader.len()? {
                tags.push(String::from_utf8(reader.text()?.to_vec()).ok()?);
            }
            pending.push(Pending { operation, tags, sent_ms });
        }
        reader.done()?;
        Some(Self { era, seq, ring, cursor, known, pending })
    }
}

/// The part of a log that every request reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The log's era.
    pub era: u64,
    /// The log's position.
    pub seq: u64,
    /// Until when the group's log has been heard, in milliseconds of the monotonic clock; 0 for never.
    pub heard_ms: u64,
}

impl Head {
    /// What the head is to become, from the log as it is now; `None` when it is so already.
    #[must_use]
    pub fn publish(current: Option<Self>, log: &GatewayLog, heard_ms: Option<u64>) -> Option<Self> {
        let before = current.map_or(0, |head| head.heard_ms);
        let next = Self { era: log.era, seq: log.seq, heard_ms: before.max(heard_ms.unwrap_or_default()) };
        (current != Some(next)).then_some(next)
    }

    /// Whether what this gateway holds may be trusted: the feed was heard within the window.
    #[must_use]
    pub fn is_fresh(&self, now_ms: u64, window_ms: u32) -> bool {
        self.heard_ms > 0 && now_ms <= self.heard_ms.saturating_add(u64::from(window_ms))
    }

    /// The head as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = HEAD_MARK.to_vec();
        [self.era, self.seq, self.heard_ms].iter().for_each(|number| out.extend(number.to_le_bytes()));
        out
    }

    /// Reads what [`Head::encode`] wrote.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        (reader.take(4)? == HEAD_MARK).then_some(())?;
        let head = Self { era: reader.u64()?, seq: reader.u64()?, heard_ms: reader.u64()? };
        reader.done()?;
        Some(head)
    }
}

fn put_position(out: &mut Vec<u8>, position: Option<GroupPosition>) {
    out.push(u8::from(position.is_some()));
    if let Some(GroupPosition { ms, seq, unique }) = position {
        [ms, seq, unique].iter().for_each(|number| out.extend(number.to_le_bytes()));
    }
}

fn position(reader: &mut Reader<'_>) -> Option<Option<GroupPosition>> {
    Some(match reader.u8()? {
        0 => None,
        _ => Some(GroupPosition { ms: reader.u64()?, seq: reader.u64()?, unique: reader.u64()? }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn at(ms: u64) -> GroupPosition {
        GroupPosition { ms, seq: 0, unique: ms ^ 0xff }
    }

    fn record(tag: u64, group: Option<u64>) -> Record {
        Record { tag: Some(tag), group: group.map(at), soft: None }
    }

    fn apply(log: &GatewayLog, change: &Change) -> GatewayLog {
        match log.apply(change, 99) {
            Applied::Changed(log) => log,
            other => panic!("{other:?}"),
        }
    }

    fn pending(operation: u64, tag: &str) -> Pending {
        Pending { operation, tags: vec![tag.into()], sent_ms: 1 }
    }

    #[test]
    fn a_purge_is_recorded_and_pending_in_one_change_and_settled_with_a_second_record() {
        let log = GatewayLog::new(1);
        let log =
            apply(&log, &Change { records: vec![record(7, None)], pend: Some(pending(3, "a")), ..Change::default() });
        assert_eq!((log.seq, log.pending.len()), (1, 1));
        let settle =
            Change { records: vec![record(7, Some(5))], settle: Some(3), known: Some(at(5)), ..Change::default() };
        let log = apply(&log, &settle);
        assert_eq!((log.seq, log.pending.len(), log.known), (2, 0, Some(at(5))));
    }

    #[test]
    fn an_own_purge_that_the_feed_brings_back_is_not_recorded_again() {
        let log = apply(&GatewayLog::new(1), &Change { records: vec![record(7, Some(5))], ..Change::default() });
        let feed = Change {
            records: vec![record(7, Some(5)), record(8, Some(5))],
            feed: Some((None, at(5))),
            ..Change::default()
        };
        let log = apply(&log, &feed);
        assert_eq!((log.seq, log.cursor), (2, Some(at(5))));
    }

    #[test]
    fn of_two_feed_polls_from_one_cursor_the_second_is_dropped() {
        let feed = Change { records: vec![record(7, Some(5))], feed: Some((None, at(5))), ..Change::default() };
        let log = apply(&GatewayLog::new(1), &feed);
        assert_eq!(log.apply(&feed, 99), Applied::Superseded);
    }

    #[test]
    fn a_flush_is_a_new_era_at_a_new_position() {
        let log = apply(
            &GatewayLog::new(1),
            &Change { records: vec![record(7, Some(5))], known: Some(at(5)), ..Change::default() },
        );
        let flushed =
            apply(&log, &Change { flush: true, forget: Some(at(5)), feed: Some((None, at(9))), ..Change::default() });
        assert_eq!((flushed.era, flushed.seq, flushed.ring.len(), flushed.known), (99, 2, 0, None));
    }

    #[test]
    fn the_ring_and_the_pending_tags_are_bounded() {
        let records = (0..2000).map(|tag| record(tag, None)).collect();
        let log = apply(&GatewayLog::new(1), &Change { records, ..Change::default() });
        assert_eq!((log.ring.len(), log.seq, log.ring_start()), (RING_RECORDS, 2000, 2000 - RING_RECORDS as u64));
        let long = "x".repeat(500);
        let log = (0..200).fold(log, |log, operation| {
            apply(&log, &Change { pend: Some(pending(operation, &long)), ..Change::default() })
        });
        assert!(log.encode().len() < 128 << 10);
        assert_eq!(log.pending[0].tags, ["!all"]);
    }

    #[test]
    fn a_change_that_changes_nothing_says_so() {
        let log = apply(&GatewayLog::new(1), &Change { feed: Some((None, at(5))), ..Change::default() });
        assert_eq!(
            log.apply(&Change { feed: Some((Some(at(5)), at(5))), ..Change::default() }, 99),
            Applied::Unchanged
        );
    }

    #[test]
    fn the_head_follows_the_log_and_hearing_never_goes_back() {
        let log = GatewayLog { seq: 4, ..GatewayLog::new(1) };
        let head = Head::publish(None, &log, Some(50)).unwrap();
        assert_eq!(Head::publish(Some(head), &log, Some(40)), None);
        assert_eq!(Head::publish(Some(head), &GatewayLog { seq: 5, ..log }, None).unwrap().heard_ms, 50);
        assert!(head.is_fresh(1050, 1000) && !head.is_fresh(1051, 1000));
        assert!(!Head { heard_ms: 0, ..head }.is_fresh(10, 1000), "never heard");
        assert_eq!(Head::decode(&head.encode()), Some(head));
    }

    #[test]
    fn a_log_reads_back_as_it_was_written() {
        let log = apply(
            &GatewayLog::new(1),
            &Change {
                records: vec![record(7, None), record(8, Some(5))],
                pend: Some(pending(3, "a")),
                ..Change::default()
            },
        );
        assert_eq!(GatewayLog::decode(&log.encode()), Some(log.clone()));
        for len in 0..log.encode().len() {
            assert_eq!(GatewayLog::decode(&log.encode()[..len]), None, "cut at {len}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(mut bytes: Vec<u8>) {
            let _ = Head::decode(&bytes);
            bytes.splice(0..0, *MARK);
            let _ = GatewayLog::decode(&bytes);
        }
    }
}
