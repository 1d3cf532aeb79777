//! One group's log in memory.

use std::collections::{HashSet, VecDeque};

use bridge_api::{Era, Pattern, Position, is_soft};

use crate::limits::PROOF_RECORDS_MAX;
use crate::random::Random;

/// A purge, or the beginning of an era, which names no tag.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub position: Position,
    pub era: Era,
    pub tags: Vec<String>,
    pub patterns: Vec<Pattern>,
}

impl Record {
    fn bytes(&self) -> usize {
        let pattern = |pattern: &Pattern| match pattern {
            Pattern::Key(text) | Pattern::Tag(text) => 2 * (size_of::<Pattern>() + text.len()), // here and among the bans
        };
        size_of::<Self>()
            + self.tags.iter().map(|tag| size_of::<String>() + tag.len()).sum::<usize>()
            + self.patterns.iter().map(pattern).sum::<usize>()
    }
}

/// The part of a position that the store gave, by which records are ordered.
pub(super) type Id = (u64, u64);

pub(super) fn id(position: Position) -> Id {
    (position.ms, position.seq)
}

/// Never empty.
#[derive(Clone, Debug)]
pub(super) struct Log {
    first: Record,
    rest: VecDeque<Record>,
    bytes: usize,
    /// Patterns of this era, oldest first; each with the id of its record.
    bans: VecDeque<(Id, Vec<Pattern>)>,
    /// The newest one that has been forgotten: what is older may be meant by it.
    forgotten: Option<Id>,
}

impl Log {
    /// A log that knows nothing of what was before: its era is new.
    pub(super) fn begin(now_ms: u64, random: &Random) -> Self {
        let position = Position { ms: now_ms, seq: 0, unique: random.next() };
        let first = Record { position, era: random.era(), tags: Vec::new(), patterns: Vec::new() };
        Self { bytes: first.bytes(), first, rest: VecDeque::new(), bans: VecDeque::new(), forgotten: None }
    }

    /// Appends a purge.
    pub(super) fn append(
        &mut self,
        tags: Vec<String>,
        patterns: Vec<Pattern>,
        now_ms: u64,
        random: &Random,
    ) -> &Record {
        self.push(tags, patterns, self.tail().era, now_ms, random)
    }

    /// Begins a new era.
    pub(super) fn flush(&mut self, now_ms: u64, random: &Random) -> &Record {
        (self.bans, self.forgotten) = (VecDeque::new(), None);
        self.push(Vec::new(), Vec::new(), random.era(), now_ms, random)
    }

    fn push(&mut self, tags: Vec<String>, patterns: Vec<Pattern>, era: Era, now_ms: u64, random: &Random) -> &Record {
        let last = self.tail().position;
        // As a stream does: a clock that stands or steps back doesn't make ids smaller.
        let (ms, seq) = if now_ms > last.ms { (now_ms, 0) } else { (last.ms, last.seq.saturating_add(1)) };
        let record = Record { position: Position { ms, seq, unique: random.next() }, era, tags, patterns };
        if !record.patterns.is_empty() {
            self.bans.push_back(((ms, seq), record.patterns.clone()));
        }
        self.bytes += record.bytes();
        self.rest.push_back(record);
        self.tail()
    }

    /// Drops the oldest record, unless it is the only one. Says how many bytes that freed.
    pub(super) fn trim(&mut self) -> usize {
        let Some(second) = self.rest.pop_front() else { return 0 };
        let freed = std::mem::replace(&mut self.first, second).bytes();
        self.bytes -= freed;
        freed
    }

    /// Forgets all but so many patterns.
    pub(super) fn trim_bans(&mut self, records: usize) {
        while self.bans.len() > records {
            self.forgotten = self.bans.pop_front().map(|(id, _)| id);
        }
    }

    /// Whether a pattern since the ticket means the entry, or one may that has been forgotten.
    pub(super) fn bans(&self, ticket: Id, key: &str, tags: &[String]) -> bool {
        let means = |pattern: &Pattern| pattern.means(key, tags.iter().map(String::as_str));
        let since = self.bans.iter().rev().take_while(|(id, _)| *id > ticket);
        self.forgotten.is_some_and(|forgotten| forgotten > ticket)
            || since.flat_map(|(_, patterns)| patterns).any(means)
    }

    pub(super) fn len(&self) -> usize {
        1 + self.rest.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn tail(&self) -> &Record {
        self.rest.back().unwrap_or(&self.first)
    }

    pub(super) fn find(&self, position: Position) -> Option<&Record> {
        let record = if id(self.first.position) == id(position) {
            &self.first
        } else {
            let index = self.rest.binary_search_by_key(&id(position), |record| id(record.position)).ok()?;
            &self.rest[index]
        };
        (record.position == position).then_some(record)
    }

    /// Whether the log must have held this position and doesn't: history was lost. What is older than the first record
    /// may just have been trimmed.
    pub(super) fn lost(&self, position: Position) -> bool {
        self.find(position).is_none() && id(position) >= id(self.first.position)
    }

    pub(super) fn after(&self, position: Position) -> impl Iterator<Item = &Record> {
        let from = self.rest.partition_point(|record| id(record.position) <= id(position));
        let first = (id(self.first.position) > id(position)).then_some(&self.first);
        first.into_iter().chain(self.rest.range(from..))
    }

    /// When the first soft purge of one of the tags after a position was made, unless that can't be told.
    pub(super) fn softened_ms(&self, position: Position, tags: &[String]) -> Option<u64> {
        self.find(position)?;
        let mut after = self.after(position).take(PROOF_RECORDS_MAX);
        let softens = |record: &&Record| is_soft(&record.tags) && record.tags.iter().any(|tag| tags.contains(tag));
        after.find(softens).map(|record| record.position.ms)
    }

    /// The tags of the records after a position, or none if they are more than one call may read.
    pub(super) fn named_after(&self, position: Position) -> Option<HashSet<String>> {
        let mut after = self.after(position);
        let named = after.by_ref().take(PROOF_RECORDS_MAX).flat_map(|record| record.tags.iter().cloned()).collect();
        after.next().is_none().then_some(named)
    }
}
