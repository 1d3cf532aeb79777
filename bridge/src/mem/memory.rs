//! The purge protocol on plain data: no clock, no threads, so that a simulation can run it step by step.

use std::collections::HashMap;

use bridge_api::{
    Continuity, FeedRecord, FeedReply, FeedRequest, Holder, Lease, LeaseRequest, Listener, LookupReply, LookupRequest,
    Pattern, Position, PurgeReply, PurgeRequest, ReleaseReply, ReleaseRequest, StoreReply, StoreRequest, TAG_ALL,
    TAG_SOFT, Ticket, is_soft,
};
use bytes::Bytes;

use super::listeners::Listeners;
use super::log::{Log, id};
use super::shelf::{Entry, Epoch, Item, Leased, Name, Shelf};
use crate::limits::{
    BANS_MAX, FEED_BYTES_MAX, FEED_RECORDS_MAX, HOLD_MS_MAX, KEEP_MS_MAX, LEASE_MS_MAX, LOG_RECORDS_MAX, PASS_MS_MAX,
};
use crate::random::Random;
use crate::{LeaseLook, Reading};

/// How many groups have a log; of more, the one that was asked for longest ago loses its.
const GROUPS_MAX: usize = 256;

/// Entries, epochs and logs of all groups. Every call is handed the time: any clock that counts milliseconds and doesn't
/// step back, the same for all calls.
///
/// Requests are taken as they are; [`crate::Service`] is what holds them to the bounds.
///
/// A clone is a replica that lags from then on: see [`fail_over_to`](Self::fail_over_to).
#[derive(Debug)]
pub struct Memory {
    groups: HashMap<String, Group>,
    pub(super) shelf: Shelf,
    log_records_max: usize,
    log_bytes_max: usize,
    uses: u64,
    random: Random,
}

#[derive(Clone, Debug)]
struct Group {
    log: Log,
    listeners: Listeners,
    used: u64,
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        Self {
            groups: self.groups.clone(),
            shelf: self.shelf.clone(),
            log_records_max: self.log_records_max,
            log_bytes_max: self.log_bytes_max,
            uses: self.uses,
            random: Random::seeded(self.random.next()), // two copies must not give two records one number
        }
    }
}

impl Memory {
    /// An empty store of this many bytes, an eighth of them for logs. The seed decides its random numbers; two lives of
    /// one store must not have the same.
    #[must_use]
    pub fn new(bytes_max: usize, seed: u64) -> Self {
        Self::with_random(bytes_max, Random::seeded(seed))
    }

    pub(super) fn with_random(bytes_max: usize, random: Random) -> Self {
        let log_bytes_max = bytes_max / 8;
        Self {
            groups: HashMap::new(),
            shelf: Shelf::new(bytes_max - log_bytes_max),
            log_records_max: LOG_RECORDS_MAX,
            log_bytes_max,
            uses: 0,
            random,
        }
    }

    /// The same without what it held: every group gets a new era.
    pub(super) fn emptied(&self) -> Self {
        let empty = Self::with_random(0, Random::seeded(self.random.next()));
        Self {
            shelf: self.shelf.emptied(),
            log_records_max: self.log_records_max,
            log_bytes_max: self.log_bytes_max,
            ..empty
        }
    }

    /// Keeps fewer records per log than [`LOG_RECORDS_MAX`].
    #[must_use]
    pub fn with_log_records_max(mut self, records: usize) -> Self {
        self.log_records_max = records.max(1);
        self
    }

    /// Looks an entry up; the bytes are there for a hit only.
    pub fn lookup(&mut self, request: &LookupRequest, now_ms: u64) -> (LookupReply, Bytes) {
        let log = self.log(&request.namespace, now_ms);
        if request.known.is_some_and(|known| log.lost(known)) {
            return (LookupReply::Behind, Bytes::new());
        }
        let last = log.tail();
        let ticket = Ticket { at: last.position, era: last.era, seen_ms: Some(now_ms) };
        match self.valid(request, ticket, now_ms) {
            Some((entry, stale_ms)) => {
                let resident_ms = now_ms.saturating_sub(entry.since_ms);
                (LookupReply::Hit { ticket, tags: entry.tags, resident_ms, stale_ms }, entry.payload)
            }
            None => {
                let grant = |asked| self.grant(&request.namespace, &request.key, asked, now_ms);
                (LookupReply::Miss { ticket, lease: request.lease.map(grant) }, Bytes::new())
            }
        }
    }

    /// The entry, and for how long it has been stale if it was purged softly.
    fn valid(&mut self, request: &LookupRequest, now: Ticket, now_ms: u64) -> Option<(Entry, Option<u64>)> {
        let name = Name::Entry { namespace: request.namespace.clone(), key: request.key.clone() };
        let Some(Item::Entry(entry)) = self.shelf.get(&name) else { return None };
        let entry = entry.clone();
        if now_ms.saturating_sub(entry.since_ms) >= entry.keep_ms || entry.ticket.era != now.era {
            self.shelf.remove(&name);
            return None;
        }
        if self.log(&request.namespace, now_ms).bans(id(entry.ticket.at), &request.key, &entry.tags) {
            return None;
        }
        // The tags that the request names count too: it may know of one that the entry was stored without.
        let (mut softly, mut tags) = (false, entry.tags.iter().chain(&request.tags));
        let valid = tags.all(|tag| {
            self.epoch(&request.namespace, tag).is_some_and(|epoch| {
                softly |= epoch.soft.is_some_and(|soft| soft > id(entry.ticket.at));
                epoch.hard <= id(entry.ticket.at)
            })
        });
        if !valid || softly && !request.soft {
            return None;
        }
        if !softly {
            return Some((entry, None));
        }
        let tags = [&entry.tags[..], &request.tags].concat();
        let since_ms = self.log(&request.namespace, now_ms).softened_ms(entry.ticket.at, &tags)?;
        Some((entry, Some(now_ms.saturating_sub(since_ms))))
    }

    fn grant(&mut self, namespace: &str, key: &str, asked: LeaseRequest, now_ms: u64) -> Lease {
        match self.leased(namespace, key, now_ms) {
            Some(Leased { holder: None, until_ms }) => Lease::Pass { remaining_ms: until_ms - now_ms },
            Some(Leased { holder: Some(holder), until_ms }) if holder != asked.holder => {
                Lease::Held { remaining_ms: until_ms - now_ms }
            }
            _ => {
                let until_ms = now_ms.saturating_add(asked.ttl_ms.min(LEASE_MS_MAX));
                // One that doesn't fit is a second fetch.
                self.shelf.put(lease_of(namespace, key), Item::Lease(Leased { holder: Some(asked.holder), until_ms }));
                Lease::Granted
            }
        }
    }

    fn leased(&mut self, namespace: &str, key: &str, now_ms: u64) -> Option<Leased> {
        match self.shelf.get(&lease_of(namespace, key)) {
            Some(Item::Lease(leased)) if leased.until_ms > now_ms => Some(*leased),
            _ => None,
        }
    }

    /// Gives a lease back without an entry.
    pub fn release(&mut self, request: &ReleaseRequest, now_ms: u64) -> ReleaseReply {
        let ReleaseRequest { namespace, key, holder, pass_ms } = request;
        let held = self.leased(namespace, key, now_ms).and_then(|leased| leased.holder);
        if held.is_some_and(|held| held != *holder) {
            return ReleaseReply::HeldByAnother;
        }
        match pass_ms {
            Some(pass_ms) => {
                let until_ms = now_ms.saturating_add((*pass_ms).min(PASS_MS_MAX));
                self.shelf.put(lease_of(namespace, key), Item::Lease(Leased { holder: None, until_ms }));
            }
            None => self.end_lease(namespace, key, |leased| leased == Some(*holder)),
        }
        ReleaseReply::Released
    }

    /// Ends the key's lease, if it is of a kind: its holder, or none for a pass.
    fn end_lease(&mut self, namespace: &str, key: &str, ends: impl FnOnce(Option<Holder>) -> bool) {
        let name = lease_of(namespace, key);
        if let Some(Item::Lease(leased)) = self.shelf.get(&name)
            && ends(leased.holder)
        {
            self.shelf.remove(&name);
        }
    }

    /// How a key's lease and its entry are now, for whoever waits.
    pub fn look_at_lease(&mut self, namespace: &str, key: &str, now_ms: u64) -> LeaseLook {
        let leased = self.leased(namespace, key, now_ms);
        let entry = match self.shelf.get(&Name::Entry { namespace: namespace.to_owned(), key: key.to_owned() }) {
            Some(Item::Entry(entry)) => format!("{} {}", entry.ticket.at, entry.stored_ms),
            _ => String::new(),
        };
        LeaseLook {
            holder: leased.and_then(|leased| leased.holder),
            pass: leased.is_some_and(|leased| leased.holder.is_none()),
            remaining_ms: leased.map_or(0, |leased| leased.until_ms - now_ms),
            entry: entry.into_bytes(),
        }
    }

    /// Stores an entry.
    pub fn store(&mut self, request: &StoreRequest, payload: Bytes, now_ms: u64) -> StoreReply {
        let reply = self.keep(request, payload, now_ms);
        self.end_lease(&request.namespace, &request.key, |leased| match leased {
            Some(holder) => request.holder == Some(holder),
            None => reply == StoreReply::Stored, // what couldn't be stored can be
        });
        reply
    }

    fn keep(&mut self, request: &StoreRequest, payload: Bytes, now_ms: u64) -> StoreReply {
        let StoreRequest { namespace, key, tags, ticket, keep_ms, .. } = request;
        if !self.settle(namespace, tags, *ticket, now_ms) {
            return StoreReply::Void;
        }
        let name = Name::Entry { namespace: namespace.clone(), key: key.clone() };
        if let Some(Item::Entry(held)) = self.shelf.get(&name)
            && held.ticket.era == ticket.era
            && id(held.ticket.at) > id(ticket.at)
            && now_ms.saturating_sub(held.since_ms) < held.keep_ms
        {
            return StoreReply::Newer;
        }
        let keep_ms = (*keep_ms).min(KEEP_MS_MAX);
        let since_ms = ticket.seen_ms.map_or(now_ms, |seen_ms| seen_ms.min(now_ms));
        let entry = Entry { tags: tags.clone(), ticket: *ticket, stored_ms: now_ms, since_ms, keep_ms, payload };
        if self.shelf.put(name, Item::Entry(entry)) { StoreReply::Stored } else { StoreReply::Full }
    }

    /// Creates the epochs that are absent: as old as the ticket if the log proves that nothing purged the tag since, else
    /// as new as the log's tail, the safe side. Says whether an entry with these tags and this ticket can ever be valid.
    fn settle(&mut self, namespace: &str, tags: &[String], ticket: Ticket, now_ms: u64) -> bool {
        let log = self.log(namespace, now_ms);
        let tail = id(log.tail().position);
        if log.tail().era != ticket.era || log.lost(ticket.at) {
            return false;
        }
        // Tags since the ticket, if the log can tell. None of the records flushes: the era is still the ticket's.
        let proof = log.find(ticket.at).and_then(|_| log.named_after(ticket.at));
        let mut servable = true;
        for tag in tags {
            let epoch = self.epoch(namespace, tag).unwrap_or_else(|| {
                let proven = proof.as_ref().is_some_and(|purged| !purged.contains(tag));
                let epoch = Epoch::hard(if proven { id(ticket.at) } else { tail });
                self.set_epoch(namespace, tag, epoch);
                epoch
            });
            // What was purged softly meanwhile would only be stale.
            servable &= epoch.soft.unwrap_or(epoch.hard) <= id(ticket.at);
        }
        servable
    }

    /// Purges tags.
    pub fn purge(&mut self, request: &PurgeRequest, now_ms: u64) -> PurgeReply {
        self.purge_with(request, &[], now_ms)
    }

    /// Purges tags and patterns.
    pub fn purge_with(&mut self, request: &PurgeRequest, patterns: &[Pattern], now_ms: u64) -> PurgeReply {
        let PurgeRequest { namespace, tags, .. } = request;
        self.log(namespace, now_ms);
        let reply = self.append(namespace, now_ms, |log, random| {
            // A gateway that doesn't know patterns drops everything.
            let all = (!patterns.is_empty()).then(|| TAG_ALL.to_owned());
            let told = tags.iter().cloned().chain(all).collect();
            let record = log.append(told, patterns.to_vec(), now_ms, random);
            PurgeReply { position: record.position, era: record.era, unheard: false }
        });
        self.log(namespace, now_ms).trim_bans(BANS_MAX);
        let (soft, purged) = (is_soft(tags), id(reply.position));
        for tag in tags.iter().filter(|tag| *tag != TAG_SOFT) {
            match self.epoch(namespace, tag) {
                _ if !soft => self.set_epoch(namespace, tag, Epoch::hard(purged)),
                Some(Epoch { hard, .. }) => self.set_epoch(namespace, tag, Epoch { hard, soft: Some(purged) }),
                None => {} // a miss
            }
        }
        reply
    }

    /// Answers a poll that arrived at `arrived_ms`, or nothing as long as it should be held.
    pub fn poll(&mut self, request: &FeedRequest, arrived_ms: u64, now_ms: u64) -> Option<FeedReply> {
        let held_ms = now_ms.saturating_sub(arrived_ms);
        let reading = self.read_log(request, now_ms);
        (!reading.is_quiet() || held_ms >= request.hold_ms.min(HOLD_MS_MAX)).then(|| reading.into_reply(held_ms))
    }

    /// Reads the log after the request's cursor, and notes who asks.
    pub fn read_log(&mut self, request: &FeedRequest, now_ms: u64) -> Reading {
        let reading = self.read(request, now_ms);
        let joined = request.cursor.filter(|_| reading.continuity == Continuity::Joined);
        if let Some(gateway) = request.gateway {
            self.group(&request.namespace, now_ms).listeners.polls(gateway, joined.map(id), now_ms);
        }
        reading
    }

    /// See [`crate::Store::unheard`].
    pub fn unheard(&mut self, namespace: &str, purged: Position, asks: Option<Listener>, now_ms: u64) -> u64 {
        self.group(namespace, now_ms).listeners.unheard(id(purged), asks, now_ms)
    }

    fn read(&mut self, request: &FeedRequest, now_ms: u64) -> Reading {
        let log = self.log(&request.namespace, now_ms);
        let begin =
            |continuity, cursor| Reading { continuity, records: Vec::new(), cursor, complete: true, oldest_ms: None };
        let tail = log.tail().position;
        let Some(cursor) = request.cursor else { return begin(Continuity::First, tail) };
        if log.lost(cursor) || request.known.is_some_and(|known| log.lost(known)) {
            let flush = |log: &mut Log, random: &Random| log.flush(now_ms, random).position;
            return begin(Continuity::Lost, self.append(&request.namespace, now_ms, flush));
        }
        let Some(applied) = log.find(cursor) else { return begin(Continuity::Trimmed, tail) };
        if applied.era != log.tail().era {
            return begin(Continuity::NewEra, tail);
        }
        let mut reading = begin(Continuity::Joined, cursor);
        let mut bytes = 0;
        for record in log.after(cursor) {
            bytes += record.tags.iter().map(String::len).sum::<usize>();
            let full = reading.records.len() >= FEED_RECORDS_MAX || bytes > FEED_BYTES_MAX;
            if full && !reading.records.is_empty() {
                reading.complete = false;
                break;
            }
            reading.cursor = record.position;
            reading.oldest_ms.get_or_insert(now_ms.saturating_sub(record.position.ms));
            reading.records.push(FeedRecord {
                position: record.position,
                tags: record.tags.clone(),
                patterns: record.patterns.clone(),
            });
        }
        reading
    }

    /// The last record's id, if the group has a log.
    #[must_use]
    pub fn tail(&self, namespace: &str) -> Option<String> {
        let last = self.groups.get(namespace)?.log.tail().position;
        Some(format!("{}-{}", last.ms, last.seq))
    }

    /// Bytes held now; never more than the budget, but for one record per group.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shelf.bytes() + self.log_bytes()
    }

    /// Forgets a group's log, as an eviction would.
    pub fn forget_log(&mut self, namespace: &str) {
        self.groups.remove(namespace);
    }

    /// Forgets a tag's epoch, as an eviction would.
    pub fn forget_epoch(&mut self, namespace: &str, tag: &str) {
        self.shelf.remove(&Name::Epoch { namespace: namespace.to_owned(), tag: tag.to_owned() });
    }

    /// Forgets a key's lease, as an eviction would.
    pub fn forget_lease(&mut self, namespace: &str, key: &str) {
        self.shelf.remove(&lease_of(namespace, key));
    }

    /// Forgets an entry, as an eviction would.
    pub fn forget_entry(&mut self, namespace: &str, key: &str) {
        self.shelf.remove(&Name::Entry { namespace: namespace.to_owned(), key: key.to_owned() });
    }

    /// Becomes what the replica is: whatever came after it was cloned is lost.
    pub fn fail_over_to(&mut self, replica: &Self) {
        *self = replica.clone();
    }

    fn log(&mut self, namespace: &str, now_ms: u64) -> &mut Log {
        &mut self.group(namespace, now_ms).log
    }

    fn group(&mut self, namespace: &str, now_ms: u64) -> &mut Group {
        self.uses += 1;
        if !self.groups.contains_key(namespace) && self.groups.len() >= GROUPS_MAX {
            let oldest = self.groups.iter().min_by_key(|(_, group)| group.used).map(|(name, _)| name.clone());
            oldest.map(|name| self.groups.remove(&name));
        }
        let fresh = || Group { log: Log::begin(now_ms, &self.random), listeners: Listeners::begin(now_ms), used: 0 };
        let group = self.groups.entry(namespace.to_owned()).or_insert_with(fresh);
        group.used = self.uses;
        group
    }

    /// Appends to a log, and trims it to its number of records and to what its bytes may be.
    fn append<T>(&mut self, namespace: &str, now_ms: u64, add: impl FnOnce(&mut Log, &Random) -> T) -> T {
        let others = self.log_bytes() - self.groups.get(namespace).map_or(0, |group| group.log.bytes());
        self.log(namespace, now_ms);
        let Some(Group { log, .. }) = self.groups.get_mut(namespace) else { unreachable!("it was made just now") };
        let added = add(log, &self.random);
        while log.len() > self.log_records_max || others + log.bytes() > self.log_bytes_max {
            if log.trim() == 0 {
                break;
            }
        }
        added
    }

    fn log_bytes(&self) -> usize {
        self.groups.values().map(|group| group.log.bytes()).sum()
    }

    fn epoch(&mut self, namespace: &str, tag: &str) -> Option<Epoch> {
        let name = Name::Epoch { namespace: namespace.to_owned(), tag: tag.to_owned() };
        match self.shelf.get(&name) {
            Some(Item::Epoch(epoch)) => Some(*epoch),
            _ => None,
        }
    }

    fn set_epoch(&mut self, namespace: &str, tag: &str, epoch: Epoch) {
        // One that doesn't fit is absent, hence a miss.
        let name = Name::Epoch { namespace: namespace.to_owned(), tag: tag.to_owned() };
        if !self.shelf.put(name.clone(), Item::Epoch(epoch)) {
            self.shelf.remove(&name);
        }
    }
}

fn lease_of(namespace: &str, key: &str) -> Name {
    Name::Lease { namespace: namespace.to_owned(), key: key.to_owned() }
}
