//! What one worker knows of the gateway's log: [`PurgeTable`], the position of each tag's last purge.

use crate::bans::{Ban, Bans, Looks, over};
use crate::entry::{Entry, Ticket};
use crate::gateway_log::{GatewayLog, GroupPosition, Head, RING_RECORDS, Record};
use crate::numbered::Numbered;
use crate::order::sorted;
use crate::planted::planted;

/// Tags whose last purge is remembered one by one; beyond, the older half is forgotten and the floor goes up.
const TAGS_MAX: usize = 1 << 16;

/// Soft purges that are remembered; beyond, what came before them counts as purged for good.
const SOFTS_MAX: usize = 1 << 13;

/// A worker's copy of the log, brought up to date whenever the head has moved.
#[derive(Debug, Default)]
pub struct PurgeTable {
    era: Option<u64>,
    position: u64,
    /// Entries with an older ticket can't be judged, and count as purged.
    floor: u64,
    last: Numbered<u64, u64>,
    /// The soft purges of each tag: position, and when they were heard of.
    soft: Numbered<u64, Vec<(u64, u64)>>,
    softs: usize,
    /// Purges by pattern, and where they stand; the newest last.
    bans: Vec<(u64, Ban)>,
    /// Where the newest of them stands. What was compared since needs no look at them.
    last_ban: u64,
    /// How patterns are compared; without, they mean everything.
    looks: Option<Looks>,
    pending: Numbered<u64, ()>,
    known: Option<GroupPosition>,
    /// Where in the group's log the last purges stand, and where here.
    grouped: Vec<(GroupPosition, u64)>,
}

impl PurgeTable {
    /// An empty table.
    #[must_use]
    pub fn new(looks: Looks) -> Self {
        Self { looks: Some(looks), ..Self::default() }
    }

    /// Whether this table is up to date with `head`.
    #[must_use]
    pub fn is_at(&self, head: &Head) -> bool {
        self.era == Some(head.era) && self.position == head.seq
    }

    /// Brings the table up to date. What the log says of patterns stands in `bans`.
    pub fn follow(&mut self, log: &GatewayLog, bans: &Bans) {
        let start = log.ring_start();
        if self.era != Some(log.era) {
            // A new VM, or a new era: nothing is known of what was purged before the ring begins.
            let looks = self.looks;
            *self = Self { era: Some(log.era), position: start, floor: start, looks, ..Self::default() };
            if planted("vm_no_floor") {
                (self.position, self.floor) = (log.seq, 0);
            }
        }
        if self.position < start && !planted("ring_gap") {
            self.floor = self.floor.max(start);
        }
        let mut before: Option<&Record> = None; // may say something of the next one
        for (position, record) in (start.saturating_add(1)..).zip(&log.ring) {
            let says = before.replace(record);
            let (true, Some(tag)) = (position > self.position, record.tag) else { continue };
            let softened = says.and_then(Record::softens).filter(|(softened, _)| *softened == tag);
            let named = says.and_then(|says| says.bans_by(record));
            let ban = named.and_then(|name| bans.get(name));
            if let Some((_, at_ms)) = softened {
                match self.soft.get_mut(tag) {
                    Some(softened) => softened.push((position, at_ms)),
                    None => drop(self.soft.insert(tag, vec![(position, at_ms)])),
                }
                self.softs = self.softs.saturating_add(1);
            } else if let Some(ban) = ban {
                self.ban(position, ban.clone());
            } else {
                self.last.insert(tag, position);
            }
            // A ban that isn't found purges everything here, and not in the group: what it has may be older.
            if let Some(group) = record.group.filter(|_| named.is_none() || ban.is_some()) {
                self.grouped.push((group, position));
            }
        }
        if let Some(older) = self.grouped.len().checked_sub(RING_RECORDS) {
            self.grouped.drain(..older);
        }
        self.position = log.seq;
        let pending = log.pending.iter().flat_map(|pending| &pending.tags);
        self.pending = pending.map(|tag| (crate::key::tag_hash(tag), ())).collect();
        self.known = log.known.max(log.cursor);
        if self.softs > SOFTS_MAX {
            // What is older counts as purged for good.
            (self.soft, self.softs, self.floor) = (Numbered::default(), 0, self.position);
        }
        if self.last.len() > TAGS_MAX {
            self.forget_half();
        }
    }

    fn ban(&mut self, position: u64, ban: Ban) {
        self.bans.push((position, ban));
        self.last_ban = position;
        let over = over(self.bans.iter().map(|(_, ban)| ban));
        if let Some((newest, _)) = self.bans.drain(..over).next_back() {
            self.floor = self.floor.max(newest); // what is older may be meant by it
        }
    }

    fn forget_half(&mut self) {
        let positions = sorted(self.last.values().copied());
        let middle = positions.get(positions.len() / 2).copied().unwrap_or(self.position);
        self.last.retain(|_, position| *position > middle);
        self.floor = self.floor.max(middle);
    }

    /// The ticket of a lookup that begins now; `None` before the first [`PurgeTable::follow`].
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        self.era.map(|era| Ticket { era, position: self.position })
    }

    /// The ticket of a lookup that began when the group's log was at this position, as far as this worker knows: as old as it
    /// can say, where that is longer ago.
    #[must_use]
    pub fn as_of(&self, group: GroupPosition) -> Option<Ticket> {
        let mut position = self.position;
        for (purged, at) in &self.grouped {
            if *purged > group {
                position = position.min(at.saturating_sub(1));
            }
        }
        self.era.map(|era| Ticket { era, position: position.max(self.floor) })
    }

    /// Whether none of the tags was purged after the ticket.
    #[must_use]
    pub fn is_valid(&self, ticket: Ticket, tags: &[u64]) -> bool {
        if planted("ticket_unchecked") {
            return true;
        }
        Some(ticket.era) == self.era
            && ticket.position >= self.floor
            && tags.iter().all(|tag| self.last.get(*tag).is_none_or(|purged| *purged <= ticket.position))
    }

    /// When the entry was first purged softly, in milliseconds of the monotonic clock, if it was.
    #[must_use]
    pub fn softened_ms(&self, entry: &Entry) -> Option<u64> {
        if self.soft.is_empty() {
            return None;
        }
        let position = entry.ticket().position;
        let first = |tag: &u64| self.soft.get(*tag)?.iter().find(|(at, _)| *at > position).map(|(_, at_ms)| *at_ms);
        entry.tags().iter().filter_map(first).min()
    }

    /// Whether the entry may still be served, as far as purges go.
    #[must_use]
    pub fn admits(&self, entry: &Entry) -> bool {
        self.is_valid(entry.ticket(), entry.tags()) && !self.bans(entry)
    }

    /// Whether a pattern that was purged after the entry's ticket means it. Each entry is compared with each of them once, as
    /// long as it stays in memory.
    fn bans(&self, entry: &Entry) -> bool {
        let compared = entry.compared();
        if self.last_ban <= compared || planted("ban_ignored") {
            return false;
        }
        let mut since = self.bans.iter().filter(|(position, _)| *position > compared);
        let banned = since.any(|(_, ban)| self.looks.is_none_or(|looks| ban.means(entry, looks)));
        if !banned {
            entry.compare_from(self.last_ban);
        }
        banned
    }

    /// Whether a purge of one of the tags is on its way to the group: then the group isn't asked (C5).
    #[must_use]
    pub fn is_pending(&self, tags: &[u64]) -> bool {
        !planted("pending_ignored") && !self.pending.is_empty() && tags.iter().any(|tag| self.pending.contains(*tag))
    }

    /// Whether any purge is on its way to the group.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The newest position of the group's log that this gateway has seen.
    #[must_use]
    pub fn known(&self) -> Option<GroupPosition> {
        self.known.filter(|_| !planted("no_token"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::bans::{BANS_BYTES_MAX, BANS_MAX};
    use crate::gateway_log::{Applied, Change, Pending};
    use crate::key::{TAG_ALL, tag_hash as tag};

    fn purge(log: &GatewayLog, tags: impl IntoIterator<Item = u64>) -> GatewayLog {
        let records = tags.into_iter().map(|tag| Record { tag: Some(tag), group: None, soft: None }).collect();
        match log.apply(&Change { records, ..Change::default() }, 2) {
            Applied::Changed(log) => log,
            other => panic!("{other:?}"),
        }
    }

    fn table(log: &GatewayLog) -> PurgeTable {
        let mut table = PurgeTable::default();
        table.follow(log, &Bans::default());
        table
    }

    /// C1.
    #[test]
    fn what_began_before_a_purge_of_its_tag_is_not_served_after_it() {
        let log = purge(&GatewayLog::new(1), [7]);
        let mut table = table(&log);
        let before = table.ticket().unwrap();
        table.follow(&purge(&log, [8]), &Bans::default());
        assert!(!table.is_valid(before, &[7, 8]));
        assert!(table.is_valid(before, &[7]));
        assert!(table.is_valid(table.ticket().unwrap(), &[8]));
    }

    #[test]
    fn a_worker_that_fell_behind_the_ring_drops_what_it_cannot_judge() {
        let log = GatewayLog::new(1);
        let mut table = table(&log);
        let old = table.ticket().unwrap();
        let log = purge(&purge(&log, [7]), 1000..2000);
        table.follow(&log, &Bans::default());
        assert!(!table.is_valid(old, &[7]) && !table.is_valid(old, &[5]));
    }

    #[test]
    fn a_new_worker_trusts_only_what_the_ring_covers() {
        let log = purge(&GatewayLog::new(1), 0..2000);
        let table = table(&log);
        assert!(!table.is_valid(Ticket { era: 1, position: 10 }, &[9999]));
        assert!(table.is_valid(Ticket { era: 1, position: 1999 }, &[9999]));
    }

    #[test]
    fn another_era_voids_everything() {
        let log = GatewayLog::new(1);
        let mut table = table(&log);
        let before = table.ticket().unwrap();
        table.follow(&GatewayLog { seq: 1, ..GatewayLog::new(2) }, &Bans::default());
        assert!(!table.is_valid(before, &[]));
    }

    /// I8: what the group is made to bring back is as old as its seal says.
    #[test]
    fn what_was_sealed_before_a_purge_that_the_gateway_heard_of_is_void() {
        let group = |seq| GroupPosition { ms: 5, seq, unique: 1 };
        let heard = |log: &GatewayLog, tag, group, soft| {
            let records = vec![Record { tag: Some(tag), group, soft }];
            match log.apply(&Change { records, ..Change::default() }, 2) {
                Applied::Changed(log) => log,
                other => panic!("{other:?}"),
            }
        };
        let log = heard(&GatewayLog::new(1), 6, Some(group(1)), None);
        let log = heard(&log, 7, None, None); // the gateway's own, on its way
        let log = heard(&log, 8, Some(group(2)), None);
        // Acknowledged after a later one came by the feed.
        let log = heard(&heard(&log, 9, Some(group(4)), None), 7, Some(group(3)), None);
        let known = table(&log);
        let valid = |at, tag| known.is_valid(known.as_of(group(at)).unwrap(), &[tag]);
        for (at, void) in [(0, &[6, 7, 8, 9][..]), (1, &[7, 8, 9]), (2, &[7, 9]), (3, &[7, 9]), (4, &[])] {
            for tag in [5, 6, 7, 8, 9] {
                assert_eq!(valid(at, tag), !void.contains(&tag), "sealed at {at}, tag {tag}");
            }
        }
        // One that fell behind says as much as it can.
        let behind = table(&purge(&log, 1000..2000));
        assert_eq!(behind.as_of(group(0)).unwrap().position, behind.ticket().unwrap().position);
    }

    #[test]
    fn a_pending_purge_keeps_its_tags_from_the_group() {
        let pend = Pending { operation: 1, tags: vec!["a".into()], sent_ms: 0 };
        let Applied::Changed(log) = GatewayLog::new(1).apply(&Change { pend: Some(pend), ..Change::default() }, 2)
        else {
            panic!()
        };
        let table = table(&log);
        assert!(table.is_pending(&[crate::key::tag_hash("a")]) && !table.is_pending(&[crate::key::tag_hash("b")]));
    }

    fn soften(log: &GatewayLog, tag: u64, at_ms: u64) -> GatewayLog {
        let records = vec![Record { tag: Some(tag), group: None, soft: Some(at_ms) }];
        match log.apply(&Change { records, ..Change::default() }, 2) {
            Applied::Changed(log) => GatewayLog::decode(&log.encode()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn entry(ticket: Ticket, tags: &[&str]) -> Entry {
        Entry::new(&parts(ticket, tags)).unwrap()
    }

    fn parts<'a>(ticket: Ticket, tags: &'a [&'a str]) -> crate::entry::Parts<'a> {
        crate::entry::Parts {
            ticket,
            received_ms: 0,
            freshness: crate::entry::Freshness { lifetime_ms: 60_000, ..Default::default() },
            fingerprint: 0,
            status: 200,
            key: "k",
            tags,
            header: &[],
            body: b"",
        }
    }

    #[test]
    fn a_soft_purge_leaves_an_entry_valid_and_says_when_it_went_stale_first() {
        let log = GatewayLog::new(1);
        let mut table = table(&log);
        let entry = entry(table.ticket().unwrap(), &["7", "8"]);
        assert_eq!(table.softened_ms(&entry), None);
        let log = soften(&soften(&soften(&log, tag("9"), 100), tag("8"), 200), tag("7"), 300);
        table.follow(&log, &Bans::default());
        assert!(table.admits(&entry));
        assert_eq!(table.softened_ms(&entry), Some(200));
        let later = self::entry(table.ticket().unwrap(), &["7", "8"]);
        assert_eq!(table.softened_ms(&later), None);
        table.follow(&purge(&log, [tag("7")]), &Bans::default());
        assert!(!table.admits(&entry), "a purge voids it all the same");
    }

    /// I29: a VM of an older filter skips records without a tag, and takes the next for a purge.
    #[test]
    fn in_the_ring_a_soft_purge_is_a_purge_behind_a_record_without_tag() {
        let log = soften(&GatewayLog::new(1), tag("7"), 100);
        let tags: Vec<Option<u64>> = log.ring.iter().map(|record| record.tag).collect();
        assert_eq!((log.seq, tags), (2, vec![None, Some(tag("7"))]));
    }

    /// What says that a purge is soft counts for that one purge.
    #[test]
    fn a_purge_that_another_one_follows_or_whose_mark_is_gone_is_no_soft_one() {
        let log = soften(&GatewayLog::new(1), tag("7"), 100);
        for broken in [
            VecDeque::from([log.ring[1]]),
            VecDeque::from([log.ring[0], Record { tag: Some(tag("8")), ..log.ring[1] }, log.ring[1]]),
        ] {
            let before = Ticket { era: 1, position: 0 };
            let seq = broken.len() as u64;
            let table = table(&GatewayLog { ring: broken, seq, ..GatewayLog::new(1) });
            assert!(!table.admits(&entry(before, &["7"])));
        }
    }

    #[test]
    fn soft_purges_are_bounded_too_and_what_is_forgotten_counts_as_purged() {
        let (mut log, mut table) = (GatewayLog::new(1), PurgeTable::default());
        table.follow(&log, &Bans::default());
        let old = entry(table.ticket().unwrap(), &["7"]);
        for at_ms in 0..10_000 {
            log = soften(&log, tag("7"), at_ms);
            table.follow(&log, &Bans::default());
        }
        assert!(table.softs <= SOFTS_MAX && !table.admits(&old));
    }

    /// As the bridge has it, without its stars in the middle.
    fn looks(text: &str, pattern: &str) -> bool {
        pattern.strip_suffix('*').map_or(text == pattern, |start| text.starts_with(start))
    }

    fn named(ticket: Ticket, key: &str, tags: &[&str]) -> Entry {
        let parts = crate::entry::Parts { key, ..parts(ticket, tags) };
        Entry::new(&parts).unwrap()
    }

    /// A purge by patterns, as the feed brings it.
    fn banned(log: &GatewayLog, bans: &mut Bans, patterns: &[(bool, &str)]) -> GatewayLog {
        let mut ban = Ban::default();
        patterns.iter().for_each(|(by_tag, pattern)| ban.add(*by_tag, pattern));
        assert!(bans.add(&ban));
        let at = GroupPosition { ms: log.seq, seq: 0, unique: log.seq ^ 0xabc };
        let records = Record::banning(ban.name(), at).to_vec();
        let feed = Some((log.cursor, at));
        match log.apply(&Change { records, feed, ..Change::default() }, 2) {
            Applied::Changed(log) => GatewayLog::decode(&log.encode()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn keys(pattern: &str) -> (bool, &str) {
        (false, pattern)
    }

    #[test]
    fn a_ban_voids_what_its_patterns_mean_of_what_was_filled_before_it_and_nothing_else() {
        let (mut bans, mut table) = (Bans::default(), PurgeTable::new(looks));
        let log = GatewayLog::new(1);
        table.follow(&log, &bans);
        let before = table.ticket().unwrap();
        let entries = |ticket| {
            [("menu 1", "dish:1"), ("cart 1", "user:1"), ("cart 2", "dish:10")]
                .map(|(key, tag)| named(ticket, key, &[tag, TAG_ALL]))
        };
        let held = entries(before);
        let log = banned(&log, &mut bans, &[keys("menu*"), (true, "dish:1")]);
        table.follow(&log, &bans);
        let admitted = |table: &PurgeTable, entries: &[Entry; 3]| entries.each_ref().map(|entry| table.admits(entry));
        assert_eq!(admitted(&table, &held), [false, true, true]);
        assert_eq!(admitted(&table, &entries(table.ticket().unwrap())), [true; 3], "what was filled since");
        // The same ban again, and another one.
        let log = banned(&log, &mut bans, &[keys("menu*"), (true, "dish:1")]);
        let log = banned(&log, &mut bans, &[(true, "dish:*")]);
        table.follow(&log, &bans);
        assert_eq!(admitted(&table, &held), [false, true, false]);
        table.follow(&purge(&log, [tag(TAG_ALL)]), &bans);
        assert_eq!(admitted(&table, &held), [false; 3], "a purge of everything is one");
    }

    #[test]
    fn an_entry_is_compared_once_with_each_ban() {
        thread_local!(static COMPARED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
        let count = |text: &str, pattern: &str| {
            COMPARED.set(COMPARED.get() + 1);
            text == pattern
        };
        let (mut bans, mut table) = (Bans::default(), PurgeTable::new(count));
        let mut log = GatewayLog::new(1);
        table.follow(&log, &bans);
        let entry = named(table.ticket().unwrap(), "k", &[]);
        for ban in 1..5 {
            log = banned(&log, &mut bans, &[keys("x")]);
            table.follow(&log, &bans);
            (0..3).for_each(|_| assert!(table.admits(&entry)));
            assert_eq!(COMPARED.get(), ban);
        }
        table.follow(&purge(&log, [1]), &bans);
        assert!(table.admits(&named(table.ticket().unwrap(), "k", &[])));
        assert_eq!(COMPARED.get(), 4, "what is younger isn't compared at all");
    }

    /// What isn't known purges too much: patterns that aren't found, half of a ban, a table that can't compare.
    #[test]
    fn a_ban_that_cannot_be_judged_purges_everything() {
        let mut bans = Bans::default();
        let log = banned(&GatewayLog::new(1), &mut bans, &[keys("x")]);
        let admits = |log: &GatewayLog, bans: &Bans, mut table: PurgeTable| {
            table.follow(&GatewayLog::new(1), bans);
            let entry = named(table.ticket().unwrap(), "k", &[TAG_ALL]);
            table.follow(log, bans);
            table.admits(&entry)
        };
        assert!(admits(&log, &bans, PurgeTable::new(looks)));
        assert!(!admits(&log, &Bans::default(), PurgeTable::new(looks)), "not found");
        assert!(!admits(&log, &bans, PurgeTable::default()), "not comparable");
        let with = |ring: &[Record]| GatewayLog {
            ring: ring.iter().copied().collect(),
            seq: ring.len() as u64,
            ..log.clone()
        };
        let other = Record { group: Some(GroupPosition { ms: 9, seq: 9, unique: 9 }), ..log.ring[1] };
        for ring in [&[log.ring[1]][..], &[log.ring[0], other], &[log.ring[0], log.ring[0], other, log.ring[1]]] {
            assert!(!admits(&with(ring), &bans, PurgeTable::new(looks)), "{ring:?}");
        }
    }

    /// C13.
    #[test]
    fn bans_are_bounded_and_what_is_older_than_a_forgotten_one_counts_as_purged() {
        let (mut bans, mut table) = (Bans::default(), PurgeTable::new(looks));
        let mut log = GatewayLog::new(1);
        table.follow(&log, &bans);
        let old = named(table.ticket().unwrap(), "k", &[]);
        for number in 0..=BANS_MAX {
            assert!(table.admits(&old), "{number}");
            log = banned(&log, &mut bans, &[keys(&number.to_string())]);
            table.follow(&log, &bans);
        }
        assert_eq!(table.bans.len(), BANS_MAX);
        assert!(!table.admits(&old));
        let long = "x".repeat(BANS_BYTES_MAX - 5);
        let since = named(table.ticket().unwrap(), "k", &[]);
        log = banned(&log, &mut bans, &[keys(&long)]);
        table.follow(&log, &bans);
        assert!(table.bans.len() == 1 && table.admits(&since));
    }

    /// C13.
    #[test]
    fn the_table_is_bounded_and_forgetting_only_costs_misses() {
        let mut table = PurgeTable::default();
        let mut log = GatewayLog::new(1);
        for round in 0..200 {
            log = purge(&log, (0..500).map(|tag| round * 500 + tag));
            table.follow(&log, &Bans::default());
            assert!(table.last.len() <= TAGS_MAX);
        }
        assert!(!table.is_valid(Ticket { era: 1, position: 1 }, &[0]));
        assert!(table.is_valid(table.ticket().unwrap(), &[0]));
    }
}
