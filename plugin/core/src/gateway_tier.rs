//! The gateway tier: a fixed table of slots in shared data, where keys can never be deleted.
//!
//! The table is cut into segments. A segment has one *index* value (which key is in which slot, with byte accounting and
//! the eviction policy's queues) and as many *slot* values as entries fit it at most. An index changes by
//! compare-and-swap; whoever won one then writes the slots that it assigned. Every assignment has a *generation*, larger
//! than all before it, which stands in the index and in the slot: a slot is only written over by a newer generation, so
//! two writers that meet leave what the index says, and a reader takes a slot's content only under the generation that
//! the index told it. The number of keys, and by the index's accounts their bytes, are fixed from the start (C13).

use crate::entry::{Entry, Ticket};
use crate::eviction::S3Fifo;
use crate::wire::{Reader, put_len};

const MARK: &[u8; 4] = b"rci1";
const HEADER_BYTES: usize = 4 + 8 + 8 + 4 + 4;
const RECORD_BYTES: usize = 8 + 8 + 8 + 8 + 4 + 2 + 1 + 1;
/// Where a record's count of uses stands in it.
const USES_AT: usize = RECORD_BYTES - 2;
/// What a slot's content begins with: its generation.
const GENERATION_BYTES: usize = 8;

/// How the table is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Number of segments; at least 1.
    pub segments: u16,
    /// Slots of each.
    pub slots: u16,
    /// Byte budget of each: entries, slots and index.
    pub segment_bytes: u64,
}

impl Layout {
    /// A table for a byte budget, in which a body of `body_bytes_max` fits a segment some times over.
    #[must_use]
    pub fn new(l1_bytes: u64, body_bytes_max: u64) -> Self {
        let largest = body_bytes_max.saturating_mul(4).max(256 << 10);
        let segments = (l1_bytes.checked_div(largest).unwrap_or_default()).clamp(1, 256);
        let segment_bytes = l1_bytes.checked_div(segments).unwrap_or_default();
        // As many slots as entries of 8 KiB; a segment of smaller entries is full when its slots are.
        let slots = (segment_bytes / 8192).clamp(16, 512);
        Self {
            segments: u16::try_from(segments).unwrap_or(1),
            slots: u16::try_from(slots).unwrap_or(16),
            segment_bytes,
        }
    }

    /// The segment of a key's hash.
    #[must_use]
    pub fn segment(&self, hash: u64) -> u16 {
        // The low bits choose within hash maps, so the high ones choose here.
        u16::try_from((hash >> 32).checked_rem(u64::from(self.segments)).unwrap_or_default()).unwrap_or_default()
    }

    /// The most keys that this table ever has in shared data: indexes and slots.
    #[must_use]
    pub fn keys_max(&self) -> u64 {
        u64::from(self.segments).saturating_mul(u64::from(self.slots).saturating_add(1))
    }

    /// What is left of a segment's budget for entries.
    fn entry_bytes(&self) -> u64 {
        let index = u64::from(self.slots)
            .saturating_mul(u64::try_from(RECORD_BYTES + 8 + GENERATION_BYTES).unwrap_or_default());
        self.segment_bytes.saturating_sub(index)
    }

    /// Told apart from another table's, so that a new configuration doesn't read an old index by its own rules.
    fn id(&self) -> u64 {
        u64::from(self.segments) << 48 | u64::from(self.slots) << 32 | (self.segment_bytes >> 10 & 0xffff_ffff)
    }
}

/// One slot, under one assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Number in its segment.
    pub number: u16,
    /// Of the assignment.
    pub generation: u64,
    /// Ticket of the entry in it.
    pub ticket: Ticket,
}

/// A segment's index.
#[derive(Debug)]
pub struct Index {
    layout: Layout,
    generation: u64,
    queues: S3Fifo<Slot>,
}

/// What [`Index::admit`] decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The entry goes into `slot`; the slots in `emptied` are no longer used (their generation is the new one).
    Place {
        /// Where it goes.
        slot: Slot,
        /// What made room.
        emptied: Vec<Slot>,
    },
    /// An entry of a newer ticket is there already, or it is larger than the segment.
    Refused,
}

impl Index {
    /// An empty index. `now_ms` (monotonic) makes its generations larger than those of an index that was lost.
    #[must_use]
    pub fn new(layout: Layout, now_ms: u64) -> Self {
        Self { layout, generation: now_ms << 20, queues: S3Fifo::new(layout.entry_bytes()) }
    }

    /// Reads what [`Index::encode`] wrote; an index of another layout, or bytes that are none, count as lost.
    #[must_use]
    pub fn decode(layout: Layout, bytes: &[u8], now_ms: u64) -> Self {
        Self::read(layout, bytes).unwrap_or_else(|| Self::new(layout, now_ms))
    }

    fn read(layout: Layout, bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (generation, records, ghosts) = header(&mut reader, layout)?;
        let mut queues = S3Fifo::new(layout.entry_bytes());
        for _ in 0..records {
            let (hash, slot, bytes, uses, in_main) = record(&mut reader)?;
            (slot.number < layout.slots).then_some(())?;
            queues.restore(in_main, hash, slot, bytes, uses);
        }
        for _ in 0..ghosts {
            queues.remember(reader.u64()?, usize::from(layout.slots));
        }
        reader.done()?;
        Some(Self { layout, generation, queues })
    }

    /// The slot of a key's hash, read from an index's bytes without decoding all of it.
    #[must_use]
    pub fn find(layout: Layout, bytes: &[u8], hash: u64) -> Option<Slot> {
        let mut reader = Reader::new(bytes);
        let (_, records, _) = header(&mut reader, layout)?;
        let table = reader.take(records.checked_mul(RECORD_BYTES)?)?;
        let found = table.chunks_exact(RECORD_BYTES).find(|record| record.starts_with(&hash.to_le_bytes()))?;
        record(&mut Reader::new(found)).map(|(_, slot, ..)| slot)
    }

    /// Counts a use in an index's bytes, in place; false when there is nothing to write back.
    #[must_use]
    pub fn touch(layout: Layout, bytes: &mut [u8], hash: u64) -> bool {
        let records = header(&mut Reader::new(bytes), layout).map_or(0, |(_, records, _)| records);
        let Some(table) = bytes.get_mut(HEADER_BYTES..) else { return false };
        let mut rows = table.chunks_exact_mut(RECORD_BYTES).take(records);
        match rows.find(|record| record.starts_with(&hash.to_le_bytes())).and_then(|record| record.get_mut(USES_AT)) {
            Some(uses) if *uses < 3 => {
                *uses = uses.saturating_add(1);
                true
            }
            _ => false,
        }
    }

    /// Finds room for an entry of `bytes` bytes.
    pub fn admit(&mut self, hash: u64, ticket: Ticket, bytes: u64) -> Admission {
        let bytes = bytes.saturating_add(u64::try_from(GENERATION_BYTES).unwrap_or_default());
        let newer = |held: &Slot| held.ticket.era == ticket.era && held.ticket.position > ticket.position;
        if bytes > self.layout.entry_bytes() || self.queues.peek(hash).is_some_and(newer) {
            return Admission::Refused;
        }
        self.generation = self.generation.saturating_add(1);
        let generation = self.generation;
        let mut emptied: Vec<Slot> = self.queues.remove(hash).into_iter().collect();
        while self.queues.len() >= usize::from(self.layout.slots) {
            match self.queues.evict() {
                Some(slot) => emptied.push(slot),
                None => break,
            }
        }
        // The number is set once it is known which slots are free.
        let unplaced = Slot { number: u16::MAX, generation, ticket };
        emptied.extend(self.queues.insert(hash, unplaced, bytes).into_iter().filter(|slot| slot.number != u16::MAX));
        let number = emptied.pop().map(|slot| slot.number).or_else(|| self.free_slot());
        let Some((number, held)) = number.zip(self.queues.peek_mut(hash)) else { return Admission::Refused };
        held.number = number;
        let slot = *held;
        emptied.iter_mut().for_each(|slot| slot.generation = generation);
        Admission::Place { slot, emptied }
    }

    fn free_slot(&self) -> Option<u16> {
        let queues = self.queues.queues();
        let mut used = vec![false; usize::from(self.layout.slots)];
        for row in queues.small.iter().chain(&queues.main) {
            if let Some(place) = used.get_mut(usize::from(row.value.number)) {
                *place = true;
            }
        }
        used.iter().position(|used| !used).and_then(|number| u16::try_from(number).ok())
    }

    /// The index as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let queues = self.queues.queues();
        let mut out = MARK.to_vec();
        out.extend(self.layout.id().to_le_bytes());
        out.extend(self.generation.to_le_bytes());
        let records = queues.small.len().saturating_add(queues.main.len());
        let ghosts = queues.ghosts.len().min(usize::from(self.layout.slots));
        if put_len(&mut out, records).and_then(|()| put_len(&mut out, ghosts)).is_none() {
            return Vec::new(); // counts as lost
        }
        for (in_main, rows) in [(0, &queues.small), (1, &queues.main)] {
            for row in rows {
                let Slot { number, generation, ticket } = row.value;
                [row.hash, *generation, ticket.era, ticket.position]
                    .iter()
                    .for_each(|part| out.extend(part.to_le_bytes()));
                out.extend(u32::try_from(row.bytes).unwrap_or(u32::MAX).to_le_bytes());
                out.extend(number.to_le_bytes());
                out.extend([row.uses, in_main]);
            }
        }
        queues.ghosts.iter().rev().take(ghosts).rev().for_each(|hash| out.extend(hash.to_le_bytes()));
        out
    }
}

/// A slot's content: its generation, and the entry if it holds one.
#[must_use]
pub fn slot_bytes(slot: &Slot, entry: Option<&Entry>) -> Vec<u8> {
    let entry = entry.map(Entry::bytes).unwrap_or_default();
    let mut out = Vec::with_capacity(entry.len().saturating_add(GENERATION_BYTES));
    out.extend(slot.generation.to_le_bytes());
    out.extend_from_slice(entry);
    out
}

/// Whether a slot with this content may be written under `slot`'s assignment: only a newer generation may.
#[must_use]
pub fn may_overwrite(slot: &Slot, content: &[u8]) -> bool {
    content.first_chunk::<8>().is_none_or(|held| u64::from_le_bytes(*held) < slot.generation)
}

/// The entry in a slot's content, if it is what the index assigned.
#[must_use]
pub fn entry_in(slot: &Slot, content: &[u8]) -> Option<Entry> {
    let (generation, entry) = content.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*generation) == slot.generation).then_some(())?;
    Entry::decode(entry.to_vec()).ok()
}

fn header(reader: &mut Reader<'_>, layout: Layout) -> Option<(u64, usize, usize)> {
    (reader.take(4)? == MARK && reader.u64()? == layout.id()).then_some(())?;
    Some((reader.u64()?, reader.len()?, reader.len()?))
}

fn record(reader: &mut Reader<'_>) -> Option<(u64, Slot, u64, u8, bool)> {
    let (hash, generation) = (reader.u64()?, reader.u64()?);
    let ticket = Ticket { era: reader.u64()?, position: reader.u64()? };
    let bytes = u64::try_from(reader.len()?).ok()?;
    let number = reader.u16()?;
    Some((hash, Slot { number, generation, ticket }, bytes, reader.u8()?, reader.u8()? == 1))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn layout() -> Layout {
        Layout { segments: 1, slots: 8, segment_bytes: 10_000 + 8 * 56 }
    }

    fn ticket(position: u64) -> Ticket {
        Ticket { era: 1, position }
    }

    fn place(index: &mut Index, hash: u64, position: u64, bytes: u64) -> (Slot, Vec<Slot>) {
        match index.admit(hash, ticket(position), bytes) {
            Admission::Place { slot, emptied } => (slot, emptied),
            Admission::Refused => panic!("refused"),
        }
    }

    #[test]
    fn a_table_holds_its_budget_and_a_largest_body_some_times_over() {
        for (l1, body) in [(64 << 20, 1 << 20), (1 << 20, 256 << 10), (1 << 30, 1 << 20), (0, 0), (u64::MAX, 1)] {
            let layout = Layout::new(l1, body);
            assert!(u64::from(layout.segments) * layout.segment_bytes <= l1.max(1));
            assert!(layout.keys_max() <= 256 * 513);
        }
        let layout = Layout::new(64 << 20, 1 << 20);
        assert_eq!((layout.segments, layout.slots, layout.segment_bytes), (16, 512, 4 << 20));
    }

    #[test]
    fn what_was_admitted_is_found_and_an_older_ticket_does_not_replace_it() {
        let mut index = Index::new(layout(), 5);
        let (slot, _) = place(&mut index, 77, 9, 100);
        assert_eq!(Index::find(layout(), &index.encode(), 77), Some(slot));
        assert_eq!(Index::find(layout(), &index.encode(), 78), None);
        assert_eq!(index.admit(77, ticket(8), 100), Admission::Refused);
        let (newer, emptied) = place(&mut index, 77, 9, 200);
        assert!(newer.generation > slot.generation && newer.number == slot.number && emptied.is_empty());
    }

    #[test]
    fn an_index_of_another_layout_counts_as_lost_and_its_successor_overwrites_every_slot() {
        let mut index = Index::new(layout(), 5);
        let (old, _) = place(&mut index, 77, 9, 100);
        let other = Layout { slots: 9, ..layout() };
        assert_eq!(Index::find(other, &index.encode(), 77), None);
        let mut index = Index::decode(other, &index.encode(), 6);
        let (new, _) = place(&mut index, 77, 9, 100);
        assert!(may_overwrite(&new, &slot_bytes(&old, None)) && !may_overwrite(&old, &slot_bytes(&new, None)));
    }

    #[test]
    fn an_entry_larger_than_a_segment_is_refused() {
        assert_eq!(Index::new(layout(), 5).admit(1, ticket(1), 10_000), Admission::Refused);
    }

    proptest! {
        /// C13: slots and bytes stay within bounds, no slot is assigned twice, what left is emptied, and an index that
        /// went through its bytes goes on as before.
        #[test]
        fn the_table_is_bounded_under_any_traffic(steps in prop::collection::vec((0u64..30, 1u64..3000, any::<bool>()), 1..200)) {
            let mut index = Index::new(layout(), 5);
            let mut slots: HashMap<u16, (u64, u64)> = HashMap::new(); // what a faithful writer leaves in each slot
            for (hash, bytes, touch) in steps {
                if touch {
                    let mut written = index.encode();
                    let _ = Index::touch(layout(), &mut written, hash);
                    index = Index::decode(layout(), &written, 6);
                }
                let (slot, emptied) = place(&mut index, hash, 1, bytes);
                prop_assert!(slot.number < layout().slots);
                emptied.iter().for_each(|slot| { slots.remove(&slot.number); });
                slots.retain(|_, (held, _)| *held != hash);
                slots.insert(slot.number, (hash, bytes + 8));
                prop_assert!(slots.values().map(|(_, bytes)| bytes).sum::<u64>() <= 10_000);
                index = Index::decode(layout(), &index.encode(), 6);
                let encoded = index.encode();
                prop_assert!(encoded.len() <= HEADER_BYTES + 8 * (RECORD_BYTES + 8));
                for (number, (hash, _)) in &slots {
                    prop_assert_eq!(Index::find(layout(), &encoded, *hash).unwrap().number, *number);
                }
                prop_assert_eq!(index.queues.len(), slots.len());
            }
        }

        #[test]
        fn no_bytes_make_the_readers_panic(mut bytes: Vec<u8>, hash: u64) {
            let head = [&MARK[..], &layout().id().to_le_bytes(), &[0; 8]].concat();
            bytes.splice(0..0, head);
            let _ = Index::decode(layout(), &bytes, 1);
            let _ = Index::find(layout(), &bytes, hash);
            let _ = Index::touch(layout(), &mut bytes, hash);
        }
    }
}
