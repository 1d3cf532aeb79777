//! What people and programs ask of the memory.

use bytes::Bytes;

use super::Memory;
use super::shelf::{Entry, Item, Name, Value};
use crate::limits::{KEEP_MS_MAX, LISTED_MAX};
use crate::people::{Deleted, Held, KeyCall, KeyReply, Listing};

impl Memory {
    /// What is held for a key, valid or not.
    pub fn held(&mut self, namespace: &str, key: &str, now_ms: u64) -> Option<Held> {
        let name = Name::Entry { namespace: namespace.to_owned(), key: key.to_owned() };
        let Some(Item::Entry(Entry { tags, ticket, since_ms, keep_ms, payload, .. })) = self.shelf.get(&name) else {
            return None;
        };
        let resident_ms = now_ms.saturating_sub(*since_ms);
        let remaining_ms = keep_ms.saturating_sub(resident_ms);
        (remaining_ms > 0).then(|| Held {
            key: key.to_owned(),
            tags: tags.clone(),
            ticket: *ticket,
            resident_ms,
            remaining_ms,
            payload: payload.clone(),
        })
    }

    /// Some of a namespace's entries.
    #[must_use]
    pub fn list(&self, namespace: &str, now_ms: u64) -> Listing {
        let max = usize::try_from(LISTED_MAX).unwrap_or(usize::MAX);
        let mut found = self.shelf.iter().filter_map(|(name, item)| match (name, item) {
            (Name::Entry { namespace: of, key }, Item::Entry(entry))
                if of == namespace && now_ms.saturating_sub(entry.since_ms) < entry.keep_ms =>
            {
                Some((key.clone(), entry.tags.clone()))
            }
            _ => None,
        });
        let entries = found.by_ref().take(max).collect();
        Listing { entries, complete: found.next().is_none() }
    }

    /// One call to a key of the applications' key space.
    pub fn key(&mut self, namespace: &str, key: &str, call: &KeyCall, now_ms: u64) -> KeyReply {
        let name = Name::Key { namespace: namespace.to_owned(), key: key.to_owned() };
        let held = match self.shelf.get(&name) {
            Some(Item::Value(value)) if value.until_ms > now_ms => Some(value.clone()),
            _ => None,
        };
        let found = |held: Option<Value>| {
            held.map_or(KeyReply::Absent, |held| KeyReply::Value(held.bytes, held.until_ms - now_ms))
        };
        match call {
            KeyCall::Get => found(held),
            KeyCall::Set { value, ttl_ms } => self.keep_value(name, value.clone(), now_ms, *ttl_ms),
            KeyCall::Add { .. } if held.is_some() => KeyReply::Present,
            KeyCall::Add { value, ttl_ms } => self.keep_value(name, value.clone(), now_ms, *ttl_ms),
            KeyCall::Delete | KeyCall::Pop => {
                self.shelf.remove(&name);
                match (call, held) {
                    (KeyCall::Delete, Some(_)) => KeyReply::Done,
                    (_, held) => found(held),
                }
            }
            KeyCall::Increment { by, ttl_ms } => {
                let (before, left_ms) = match held {
                    None => (Some(0), *ttl_ms),
                    Some(value) => (number(&value.bytes), value.until_ms - now_ms),
                };
                let Some(sum) = before.and_then(|before: i64| before.checked_add(*by)) else {
                    return KeyReply::NoNumber;
                };
                match self.keep_value(name, sum.to_string().into(), now_ms, left_ms) {
                    KeyReply::Done => KeyReply::Number(sum),
                    other => other,
                }
            }
        }
    }

    fn keep_value(&mut self, name: Name, bytes: Bytes, now_ms: u64, ttl_ms: u64) -> KeyReply {
        let until_ms = now_ms.saturating_add(ttl_ms.min(KEEP_MS_MAX));
        if self.shelf.put(name, Item::Value(Value { bytes, until_ms })) { KeyReply::Done } else { KeyReply::Full }
    }

    /// Deletes keys of that space by how they are written.
    pub fn delete_keys(&mut self, namespace: &str, glob: &str) -> Deleted {
        let meant = |(name, _): (&Name, &Item)| match name {
            Name::Key { namespace: of, key } if of == namespace && bridge_api::looks_like(key, glob) => {
                Some(name.clone())
            }
            _ => None,
        };
        let meant: Vec<Name> = self.shelf.iter().filter_map(meant).collect();
        meant.iter().for_each(|name| self.shelf.remove(name));
        Deleted { deleted: meant.len() as u64, complete: true }
    }
}

/// As Redis reads it: no sign but a minus, no zeros in front.
fn number(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}
