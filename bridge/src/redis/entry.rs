//! How an entry is written in Redis: a version byte, a checksum, then head and payload as on the wire.

use bridge_api::{Ticket, decode, encode};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

const VERSION: u8 = 1;
const SUM: std::ops::Range<usize> = 1..9;

/// What is kept beside the bytes. `put.lua` reads the ticket, so it comes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub ticket: Ticket,
    pub keep_ms: u64,
    pub tags: Vec<String>,
    pub key: String,
}

/// Where the entry of a key is. Two keys may meet there; the head says whose it is.
pub(super) fn name(namespace: &str, key: &str) -> String {
    format!("routecache:{namespace}:entry:{:032x}", xxh3_128(key.as_bytes()))
}

/// Where the lease of an entry's key is: in the entry's slot, since what stands in braces is what chooses it.
pub(super) fn lease(name: &str) -> String {
    format!("routecache:lease:{{{name}}}")
}

/// What tells one entry from the next: version and checksum. The scripts read as many bytes.
pub(super) fn mark(value: &Bytes) -> Bytes {
    value.slice(..value.len().min(SUM.end))
}

/// Bytes from the beginning of a value that hold the whole head, unless it has very many tags.
pub(super) const HEAD_BYTES: usize = 16 << 10;

/// Reads the head of a value of which only the beginning is there. Nothing vouches for it: good enough to count.
pub(super) fn head(beginning: &Bytes) -> Option<Head> {
    let body = beginning.get(SUM.end..)?;
    (*beginning.first()? == VERSION).then_some(())?;
    decode(body).ok().map(|(head, _)| head)
}

pub(super) fn write(head: &Head, payload: &[u8]) -> Vec<u8> {
    let body = encode(head, payload);
    let mut value = Vec::with_capacity(SUM.end + body.len());
    value.push(VERSION);
    value.extend_from_slice(&xxh3_64(&body).to_le_bytes());
    value.extend_from_slice(&body);
    value
}

/// Reads what [`write`] wrote; nothing for any other bytes.
pub(super) fn read(value: &Bytes) -> Option<(Head, Bytes)> {
    let body = value.get(SUM.end..)?;
    let sum = u64::from_le_bytes(value.get(SUM)?.try_into().ok()?);
    if *value.first()? != VERSION || xxh3_64(body) != sum {
        return None;
    }
    let (head, payload) = decode(body).ok()?;
    Some((head, value.slice_ref(payload)))
}

#[cfg(test)]
mod tests {
    use bridge_api::{Era, Position};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn head() -> Head {
        let ticket = Ticket { at: Position { ms: 5, seq: 1, unique: 255 }, era: Era(16) };
        Head { ticket, keep_ms: 9, tags: vec!["a\n".into()], key: "{\"".into() }
    }

    #[test]
    fn the_ticket_stands_where_the_script_looks_for_it() {
        assert!(write(&head(), b"x")[SUM.end..].starts_with(br#"{"ticket":{"at":"5-1-ff","era":"10"},"#));
    }

    proptest! {
        #[test]
        fn an_entry_reads_back_as_it_was_written(payload: Vec<u8>) {
            let read = read(&write(&head(), &payload).into());
            prop_assert_eq!(read, Some((head(), payload.into())));
        }

        #[test]
        fn a_value_with_any_one_byte_changed_or_its_end_missing_is_none_of_ours(
            payload: Vec<u8>, at in any::<proptest::sample::Index>(), flip in 1..=255_u8,
        ) {
            let value = write(&head(), &payload);
            let at = at.index(value.len());
            let mut changed = value.clone();
            changed[at] ^= flip;
            prop_assert!(read(&changed.into()).is_none());
            prop_assert!(read(&value[..at].to_vec().into()).is_none());
        }

        #[test]
        fn any_bytes_at_all_are_read_without_a_panic(value: Vec<u8>) {
            let _ = read(&value.into());
        }
    }
}
