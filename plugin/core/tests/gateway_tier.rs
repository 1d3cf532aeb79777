//! The gateway tier over a model of shared data: values under keys that are never deleted, each with a number that a swap
//! compares. Writers and readers are cut into their host calls, so that others may come between any two.

use std::collections::{HashMap, VecDeque};

use routecache_core::entry::{Entry, Freshness, Parts, Ticket};
use routecache_core::gateway_tier::{Admission, Index, Layout, Slot, entry_in, may_overwrite, slot_bytes};
use routecache_core::key::hash_of;

/// Of an entry, beyond its body.
const ENTRY_BYTES_MAX: u64 = 1024;

fn layout() -> Layout {
    Layout { segments: 16, slots: 24, segment_bytes: 8 << 10 }
}

fn key(number: u64) -> String {
    format!("shop:v1 user http GET example.com user:{number} ")
}

fn entry(number: u64, body_bytes: usize) -> Entry {
    let parts = Parts {
        ticket: Ticket { era: 1, position: 1 },
        received_ms: 0,
        freshness: Freshness { lifetime_ms: 60_000, ..Freshness::default() },
        fingerprint: 7,
        status: 200,
        key: &key(number),
        tags: &["user:1", "!all"],
        header: &[(b"content-type", b"text/plain")],
        body: &vec![b'x'; body_bytes],
    };
    Entry::new(&parts).expect("an entry")
}

/// Numbers that look random; the seed repeats them.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn index(&mut self, sides: u64) -> usize {
        usize::try_from(self.roll(sides)).expect("small")
    }
}

/// A key of the table: an index, or one of its slots.
type Place = (u16, Option<u16>);

/// Shared data as Envoy keeps it.
#[derive(Default)]
struct Shared {
    values: HashMap<Place, (Vec<u8>, u32)>,
    bytes: u64,
}

impl Shared {
    fn laid_out(layout: Layout) -> Self {
        let mut shared = Self::default();
        for segment in 0..layout.segments {
            shared.values.insert((segment, None), (Vec::new(), 1));
            (0..layout.slots).for_each(|slot| drop(shared.values.insert((segment, Some(slot)), (Vec::new(), 1))));
        }
        shared
    }

    fn get(&self, place: Place) -> (Vec<u8>, u32) {
        self.values[&place].clone()
    }

    /// Whether nobody has swapped since.
    fn swap(&mut self, place: Place, value: Vec<u8>, seen: u32) -> bool {
        let (held, number) = self.values.get_mut(&place).expect("a key that was laid out");
        if *number != seen {
            return false;
        }
        self.bytes = self.bytes + value.len() as u64 - held.len() as u64;
        (*held, *number) = (value, *number + 1);
        true
    }
}

/// What a worker does, up to its next host call.
enum Doing {
    /// It reads the index, to keep an entry.
    Keep(u64, Entry),
    /// It swaps the index that it read in that state.
    Place(u64, Entry, Vec<u8>, u32),
    /// It reads a slot that it was assigned, or has to empty.
    ReadSlot(u16, VecDeque<(Slot, Option<Entry>)>),
    /// It writes the slot that it read in that state.
    WriteSlot(u16, VecDeque<(Slot, Option<Entry>)>, u32),
    /// It has found a key in an index, and reads the slot.
    Find(u64, Slot),
    Nothing,
}

/// One host call of a worker: what it does next, and the key that it found if it read one.
fn step(shared: &mut Shared, doing: Doing, now_ms: u64) -> (Doing, Option<u64>) {
    let layout = layout();
    let next = match doing {
        Doing::Keep(number, entry) => {
            let (index, seen) = shared.get((layout.segment(hash_of(entry.key())), None));
            Doing::Place(number, entry, index, seen)
        }
        Doing::Place(number, entry, index, seen) => {
            let hash = hash_of(entry.key());
            let segment = layout.segment(hash);
            let mut index = Index::decode(layout, &index, now_ms);
            match index.admit(hash, entry.ticket(), entry.bytes().len() as u64) {
                Admission::Refused => Doing::Nothing,
                Admission::Place { slot, emptied } if shared.swap((segment, None), index.encode(), seen) => {
                    let emptied = emptied.into_iter().map(|slot| (slot, None));
                    Doing::ReadSlot(segment, emptied.chain([(slot, Some(entry))]).collect())
                }
                Admission::Place { .. } => Doing::Keep(number, entry),
            }
        }
        Doing::ReadSlot(segment, mut slots) => match slots.front() {
            None => Doing::Nothing,
            Some((slot, _)) => {
                let (content, seen) = shared.get((segment, Some(slot.number)));
                if may_overwrite(slot, &content) {
                    Doing::WriteSlot(segment, slots, seen)
                } else {
                    slots.pop_front();
                    Doing::ReadSlot(segment, slots)
                }
            }
        },
        Doing::WriteSlot(segment, mut slots, seen) => {
            let done = slots.front().is_some_and(|(slot, entry)| {
                shared.swap((segment, Some(slot.number)), slot_bytes(slot, entry.as_ref()), seen)
            });
            if done {
                slots.pop_front();
            }
            Doing::ReadSlot(segment, slots)
        }
        Doing::Find(number, slot) => {
            let segment = layout.segment(hash_of(&key(number)));
            let found = entry_in(&slot, &shared.get((segment, Some(slot.number))).0);
            return (Doing::Nothing, found.map(|entry| assert_eq!(entry.key(), key(number))).map(|()| number));
        }
        Doing::Nothing => Doing::Nothing,
    };
    (next, None)
}

/// Looks a key up in its index, and counts the use as the adapter does.
fn find(shared: &mut Shared, number: u64) -> Option<Doing> {
    let hash = hash_of(&key(number));
    let place = (layout().segment(hash), None);
    let (mut index, seen) = shared.get(place);
    let slot = Index::find(layout(), &index, hash)?;
    if Index::touch(layout(), &mut index, hash) {
        shared.swap(place, index, seen);
    }
    Some(Doing::Find(number, slot))
}

fn to_end(shared: &mut Shared, mut doing: Doing) -> Option<u64> {
    loop {
        match step(shared, doing, 5) {
            (Doing::Nothing, found) => return found,
            (next, _) => doing = next,
        }
    }
}

/// What is left when nobody writes any more: each slot holds what its index says of it, and no index says what isn't there.
fn agree(shared: &Shared) {
    let layout = layout();
    let mut bytes = 0;
    for segment in 0..layout.segments {
        let (index, _) = shared.get((segment, None));
        let mut held = 0;
        for number in 0..layout.slots {
            let (content, _) = shared.get((segment, Some(number)));
            bytes += content.len() as u64;
            let Some(entry) = content.get(8..).and_then(|entry| Entry::decode(entry.to_vec()).ok()) else {
                assert!(content.len() <= 8, "a slot is an entry's or empty");
                continue;
            };
            let hash = hash_of(entry.key());
            let slot = Index::find(layout, &index, hash).expect("no slot holds what its index doesn't know");
            assert_eq!((slot.number, layout.segment(hash)), (number, segment));
            assert_eq!(entry_in(&slot, &content).as_ref(), Some(&entry), "under the index's generation");
            held += 1;
        }
        assert_eq!(records(&index), held, "no index knows what no slot holds");
        bytes += index.len() as u64;
    }
    assert_eq!(bytes, shared.bytes);
    assert!(bytes <= u64::from(layout.segments) * layout.segment_bytes, "{bytes}");
}

/// How many entries an index names: mark, layout and generation stand before their number.
fn records(index: &[u8]) -> usize {
    index.get(20..24).and_then(|count| count.try_into().ok()).map_or(0, |count| u32::from_le_bytes(count) as usize)
}

/// The table as one writer leaves it, who is never disturbed: what each slot holds, by hash and bytes.
struct Table {
    layout: Layout,
    indexes: Vec<Index>,
    slots: HashMap<(u16, u16), (u64, u64)>,
    bytes: u64,
    dice: Dice,
}

impl Table {
    fn new(layout: Layout) -> Self {
        let indexes = (0..layout.segments).map(|_| Index::new(layout, 5)).collect();
        Self { layout, indexes, slots: HashMap::new(), bytes: 0, dice: Dice(1) }
    }

    /// Whether a key is there; if not, it is put there.
    fn ask(&mut self, hash: u64, bytes: u64) -> bool {
        let segment = self.layout.segment(hash);
        let index = &mut self.indexes[usize::from(segment)];
        let mut written = index.encode();
        let found = Index::find(self.layout, &written, hash);
        assert_eq!(found.map(|slot| self.slots[&(segment, slot.number)].0), found.map(|_| hash));
        if Index::touch(self.layout, &mut written, hash) {
            *index = Index::decode(self.layout, &written, 6);
        }
        if found.is_none() {
            self.put(hash, bytes);
        }
        found.is_some()
    }

    fn put(&mut self, hash: u64, bytes: u64) {
        let segment = self.layout.segment(hash);
        let index = &mut self.indexes[usize::from(segment)];
        // What stands in shared data between two changes is as good as what a worker has in its hands; now and then is enough.
        if self.dice.roll(32) == 0 {
            *index = Index::decode(self.layout, &index.encode(), 6);
        }
        let Admission::Place { slot, emptied } = index.admit(hash, Ticket { era: 1, position: 1 }, bytes) else {
            panic!("{bytes} bytes fit")
        };
        for number in emptied.iter().map(|slot| slot.number).chain([slot.number]) {
            self.bytes -= self.slots.remove(&(segment, number)).map_or(0, |(_, bytes)| bytes);
        }
        self.slots.insert((segment, slot.number), (hash, bytes + 8));
        self.bytes += bytes + 8;
    }

    /// Each index names what its slots hold, and nothing else.
    fn agree(&self) {
        let written: Vec<Vec<u8>> = self.indexes.iter().map(Index::encode).collect();
        let known = written.iter().map(|index| records(index)).sum::<usize>();
        assert_eq!(known, self.slots.len());
        for ((segment, number), (hash, _)) in &self.slots {
            let slot = Index::find(self.layout, &written[usize::from(*segment)], *hash);
            assert_eq!(slot.map(|slot| slot.number), Some(*number));
        }
        let bytes = written.iter().map(|index| index.len() as u64).sum::<u64>() + self.bytes;
        assert!(bytes <= u64::from(self.layout.segments) * self.layout.segment_bytes, "{bytes}");
    }
}

/// C13: scans of a million keys that are asked for once, beside some that are asked for all the time; in a table that is full
/// when its slots are, and in one that is full when its bytes are.
#[test]
fn a_million_keys_pass_and_neither_bounds_nor_what_is_hot_suffer() {
    const HOT: u64 = 64;
    const KEYS: u64 = 500_000;
    let few_slots = Layout::new(2 << 20, 32 << 10);
    for layout in [few_slots, Layout { segment_bytes: 16 << 10, ..few_slots }] {
        let mut table = Table::new(layout);
        let budget = u64::from(layout.segments) * layout.segment_bytes;
        // As hashes are: spread over all bits.
        let hash = |number: u64| hash_of(&number.to_string());
        for hot in (0..6).flat_map(|_| 0..HOT) {
            table.ask(hash(hot), 400);
        }
        let mut hits = 0;
        for number in 0..KEYS {
            table.put(hash(HOT + number), 300 + number % 700);
            assert!(table.bytes <= budget, "{} bytes after {number} keys", table.bytes);
            assert!(table.slots.len() as u64 <= layout.keys_max() - u64::from(layout.segments));
            if number % 50 == 0 {
                hits += u64::from(table.ask(hash(number / 50 % HOT), 400));
            }
            if number % 20_000 == 0 {
                table.agree();
            }
        }
        // Each is asked for again after 50 × 64 new ones, which is many times what the table holds.
        assert!(hits * 100 >= KEYS / 50 * 95, "{hits} hits of {} in {layout:?}", KEYS / 50);
        table.agree();
    }
}

/// Four workers at once, with anything of the others between any two host calls of one.
#[test]
fn whoever_meets_in_a_swap_leaves_what_the_index_says() {
    for seed in 0..40 {
        let (mut shared, mut dice) = (Shared::laid_out(layout()), Dice(seed));
        // While they write, each may have emptied nothing yet of what its entry is to replace.
        let budget = u64::from(layout().segments) * layout().segment_bytes + 4 * ENTRY_BYTES_MAX;
        let mut workers: Vec<Doing> = (0..4).map(|_| Doing::Nothing).collect();
        let mut hits = 0;
        for _ in 0..4_000 {
            let worker = dice.index(4);
            let doing = match std::mem::replace(&mut workers[worker], Doing::Nothing) {
                Doing::Nothing => {
                    let number = dice.roll(200);
                    let body = dice.index(700);
                    find(&mut shared, number).unwrap_or_else(|| Doing::Keep(number, entry(number, body)))
                }
                doing => doing,
            };
            let (next, found) = step(&mut shared, doing, 5);
            hits += u64::from(found.is_some());
            workers[worker] = next;
            assert!(shared.bytes <= budget, "seed {seed}: {} bytes", shared.bytes);
        }
        for doing in workers {
            to_end(&mut shared, doing);
        }
        assert!(hits > 0, "seed {seed}");
        agree(&shared);
    }
}
