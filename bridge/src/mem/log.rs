//! One group's log in memory.

use std::collections::{HashSet, VecDeque};

use bridge_api::{Era, Position};

use crate::limits::PROOF_RECORDS_MAX;
use crate::random::Random;

/// A purge, or the beginning of an era, which names no tag.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub position: Position,
    pub era: Era,
    pub tags: Vec<String>,
}

impl Record {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.tags.iter().map(|tag| size_of::<String>() + tag.len()).sum::<usize>()
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
}

impl Log {
    /// A log that knows nothing of what was before: its era is new.
    pub(super) fn begin(now_ms: u64, random: &Random) -> Self {
        let position = Position { ms: now_ms, seq: 0, unique: random.next() };
        let first = Record { position, era: random.era(), tags: Vec::new() };
        Self { bytes: first.bytes(), first, rest: VecDeque::new() }
    }

    /// Appends a purge.
    pub(super) fn append(&mut self, tags: Vec<String>, now_ms: u64, random: &Random) -> &Record {
        self.push(tags, self.tail().era, now_ms, random)
    }

    /// Begins a new era.
    pub(super) fn flush(&mut self, now_ms: u64, random: &Random) -> &Record {
        self.push(Vec::new(), random.era(), now_ms, random)
    }

    fn push(&mut self, tags: Vec<String>, era: Era, now_ms: u64, random: &Random) -> &Record {
        let last = self.tail().position;
        // As a stream does: a clock that stands or steps back doesn't make ids smaller.
        let (ms, seq) = if now_ms > last.ms { (now_ms, 0) } else { (last.ms, last.seq.saturating_add(1)) };
        let record = Record { position: Position { ms, seq, unique: random.next() }, era, tags };
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

    /// The tags of the records after a position, or none if they are more than one call may read.
    pub(super) fn named_after(&self, position: Position) -> Option<HashSet<String>> {
        let mut after = self.after(position);
        let named = after.by_ref().take(PROOF_RECORDS_MAX).flat_map(|record| record.tags.iter().cloned()).collect();
        after.next().is_none().then_some(named)
    }
}
