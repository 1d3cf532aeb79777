//! What may be forgotten: entries, epochs and leases under one byte budget, least recently used out first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bridge_api::{Holder, Ticket};
use bytes::Bytes;

use super::log::Id;

/// Bytes that an item costs beside its text and payload: two table entries, allocations.
const OVERHEAD: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    Entry { namespace: String, key: String },
    Epoch { namespace: String, tag: String },
    Lease { namespace: String, key: String },
    Key { namespace: String, key: String },
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub tags: Vec<String>,
    pub ticket: Ticket,
    pub stored_ms: u64,
    /// When it was as old as its bytes say: before it was stored, by what the fill and the way took.
    pub since_ms: u64,
    pub keep_ms: u64,
    pub payload: Bytes,
}

#[derive(Clone, Debug)]
pub(super) enum Item {
    Entry(Entry),
    Epoch(Epoch),
    Lease(Leased),
    Value(Value),
}

/// When a tag was purged last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    pub hard: Id,
    /// Softly, if it was after that.
    pub soft: Option<Id>,
}

impl Epoch {
    pub(super) fn hard(hard: Id) -> Self {
        Self { hard, soft: None }
    }
}

/// What an application keeps under a key.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub bytes: Bytes,
    pub until_ms: u64,
}

/// Who fetches a key, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leased {
    /// None: everybody, since what came can't be stored.
    pub holder: Option<Holder>,
    pub until_ms: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    item: Item,
    bytes: usize,
    used: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Shelf {
    slots: HashMap<Arc<Name>, Slot>,
    by_use: BTreeMap<u64, Arc<Name>>,
    uses: u64,
    bytes: usize,
    bytes_max: usize,
}

impl Shelf {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { slots: HashMap::new(), by_use: BTreeMap::new(), uses: 0, bytes: 0, bytes_max }
    }

    pub(super) fn emptied(&self) -> Self {
        Self::new(self.bytes_max)
    }

    /// Finds an item and counts that as a use.
    pub(super) fn get(&mut self, name: &Name) -> Option<&Item> {
        let slot = self.slots.get_mut(name)?;
        let shared = self.by_use.remove(&slot.used)?;
        self.uses += 1;
        slot.used = self.uses;
        self.by_use.insert(self.uses, shared);
        Some(&slot.item)
    }

    /// Puts an item, and others out if need be. False if it is larger than a quarter of the whole: then nothing changes.
    pub(super) fn put(&mut self, name: Name, item: Item) -> bool {
        let bytes = cost(&name, &item);
        if bytes > self.bytes_max / 4 {
            return false;
        }
        self.remove(&name);
        while self.bytes + bytes > self.bytes_max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.bytes -= self.slots.remove(&oldest).map_or(0, |slot| slot.bytes);
        }
        self.uses += 1;
        self.bytes += bytes;
        let name = Arc::new(name);
        self.by_use.insert(self.uses, Arc::clone(&name));
        self.slots.insert(name, Slot { item, bytes, used: self.uses });
        true
    }

    /// All items, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, &Item)> {
        self.slots.iter().map(|(name, slot)| (&**name, &slot.item))
    }

    pub(super) fn remove(&mut self, name: &Name) {
        if let Some(slot) = self.slots.remove(name) {
            self.by_use.remove(&slot.used);
            self.bytes -= slot.bytes;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn cost(name: &Name, item: &Item) -> usize {
    let (Name::Entry { namespace, key: text }
    | Name::Epoch { namespace, tag: text }
    | Name::Lease { namespace, key: text }
    | Name::Key { namespace, key: text }) = name;
    let held = match item {
        Item::Entry(entry) => {
            entry.payload.len() + entry.tags.iter().map(|tag| size_of::<String>() + tag.len()).sum::<usize>()
        }
        Item::Value(value) => value.bytes.len(),
        Item::Epoch(_) | Item::Lease(_) => 0,
    };
    OVERHEAD + namespace.len() + text.len() + held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Name {
        Name::Epoch { namespace: "n".into(), tag: text.into() }
    }

    #[test]
    fn what_was_used_last_stays() {
        let mut shelf = Shelf::new(4 * (OVERHEAD + 2));
        for text in ["a", "b", "c", "d"] {
            assert!(shelf.put(tag(text), Item::Epoch(Epoch::hard((1, 0)))));
        }
        assert!(shelf.get(&tag("a")).is_some());
        shelf.put(tag("e"), Item::Epoch(Epoch::hard((1, 0))));
        assert!(shelf.get(&tag("b")).is_none());
        for text in ["a", "c", "d", "e"] {
            assert!(shelf.get(&tag(text)).is_some(), "{text}");
        }
    }

    #[test]
    fn the_budget_holds_whatever_is_put_replaced_and_removed() {
        let mut shelf = Shelf::new(64 << 10);
        for round in 0..20_000_usize {
            let name = tag(&(round * 7919 % 997).to_string());
            if round % 5 == 0 {
                shelf.remove(&name);
            } else {
                shelf.put(name, Item::Epoch(Epoch::hard((1, 0))));
            }
            let counted: usize = shelf.slots.values().map(|slot| slot.bytes).sum();
            assert!(round % 100 != 0 || (shelf.bytes == counted && shelf.slots.len() == shelf.by_use.len()));
            assert!(shelf.bytes() <= 64 << 10);
        }
    }
}
