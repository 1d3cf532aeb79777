//! How an entry is written in Redis: a version byte, a checksum, then head and payload as on the wire.
//!
//! | version | payload |
//! |---|---|
//! | 1 | as it came |
//! | 2 | compressed, as the head's `packed` says |
//!
//! A version that isn't known is a miss, and left alone: a newer bridge wrote it.

use std::io::Write;

use bridge_api::{Ticket, decode, encode};
use bytes::Bytes;
use redis::{RedisWrite, ToRedisArgs};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

use super::packing::Packed;

const PLAIN: u8 = 1;
const PACKED: u8 = 2;
const SUM: std::ops::Range<usize> = 1..9;

/// What is kept beside the bytes. `put.lua` reads the ticket, so it comes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub ticket: Ticket,
    /// Since when it lies there, by the group's clock; older bridges didn't write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    pub keep_ms: u64,
    pub tags: Vec<String>,
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<Packed>,
}

/// What stands in place of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A newer bridge wrote it.
    Newer,
    /// It is none of ours, or not as it was written.
    Broken,
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
    matches!(*beginning.first()?, PLAIN | PACKED).then_some(())?;
    decode(body).ok().map(|(head, _)| head)
}

fn version(head: &Head) -> u8 {
    if head.packed.is_some() { PACKED } else { PLAIN }
}

/// A value for Redis. Its payload is copied into the command only.
pub(super) struct Value {
    /// Version, checksum and head.
    begins: Vec<u8>,
    payload: Bytes,
}

pub(super) fn write(head: &Head, payload: Bytes) -> Value {
    let line = encode(head, b"");
    let mut begins = Vec::with_capacity(SUM.end + line.len() + 1);
    begins.push(version(head));
    begins.extend_from_slice(&[0; 8]);
    begins.extend_from_slice(&line);
    if !payload.is_empty() {
        begins.push(b'\n');
    }
    let mut sum = Xxh3::new();
    sum.update(&begins[SUM.end..]);
    sum.update(&payload);
    begins[SUM].copy_from_slice(&sum.digest().to_le_bytes());
    Value { begins, payload }
}

impl ToRedisArgs for Value {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        const NEXT: usize = 256; // what comes behind it shall not move it
        out.reserve_space_for_args([self.begins.len() + self.payload.len(), NEXT]);
        let mut argument = out.writer_for_next_arg();
        let _ = argument.write_all(&self.begins).and_then(|()| argument.write_all(&self.payload)); // memory never fails
    }
}

/// Reads what [`write`] wrote. The payload may still be packed.
pub(super) fn read(value: &Bytes) -> Result<(Head, Bytes), Unreadable> {
    let (version, body) = checked(value).ok_or(Unreadable::Broken)?;
    if version > PACKED {
        return Err(Unreadable::Newer);
    }
    let (head, payload) = decode::<Head>(body).map_err(|_| Unreadable::Broken)?;
    if version == self::version(&head) { Ok((head, value.slice_ref(payload))) } else { Err(Unreadable::Broken) }
}

/// Version and body, if the checksum is the body's: in that, newer versions will be like this.
fn checked(value: &Bytes) -> Option<(u8, &[u8])> {
    let body = value.get(SUM.end..)?;
    let sum = u64::from_le_bytes(value.get(SUM)?.try_into().ok()?);
    (xxh3_64(body) == sum).then_some((*value.first()?, body))
}

#[cfg(test)]
mod tests {
    use bridge_api::{Era, Position};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn head() -> Head {
        let ticket = Ticket { at: Position { ms: 5, seq: 1, unique: 255 }, era: Era(16), seen_ms: None };
        Head { ticket, since_ms: Some(7), keep_ms: 9, tags: vec!["a\n".into()], key: "{\"".into(), packed: None }
    }

    fn written(payload: &[u8]) -> Vec<u8> {
        write(&head(), Bytes::copy_from_slice(payload)).to_redis_args().concat()
    }

    #[test]
    fn the_ticket_stands_where_the_script_looks_for_it() {
        assert!(written(b"x")[SUM.end..].starts_with(br#"{"ticket":{"at":"5-1-ff","era":"10"},"#));
    }

    #[test]
    fn what_a_newer_bridge_wrote_is_told_from_what_is_broken() {
        let mut value = written(b"x");
        value[0] = 3;
        assert_eq!(read(&value.clone().into()), Err(Unreadable::Newer));
        for version in [0, PACKED] {
            value[0] = version;
            assert_eq!(read(&value.clone().into()), Err(Unreadable::Broken), "not what its head says");
        }
    }

    proptest! {
        #[test]
        fn an_entry_reads_back_as_it_was_written(payload: Vec<u8>) {
            let read = read(&written(&payload).into());
            prop_assert_eq!(read, Ok((head(), payload.into())));
        }

        #[test]
        fn a_value_with_any_one_byte_changed_or_its_end_missing_is_none_of_ours(
            payload: Vec<u8>, at in any::<proptest::sample::Index>(), flip in 1..=255_u8,
        ) {
            let value = written(&payload);
            let at = at.index(value.len());
            let mut changed = value.clone();
            changed[at] ^= flip;
            prop_assert!(read(&changed.into()).is_err());
            prop_assert_eq!(read(&value[..at].to_vec().into()), Err(Unreadable::Broken));
        }

        #[test]
        fn any_bytes_at_all_are_read_without_a_panic(value: Vec<u8>) {
            let _ = read(&value.into());
        }
    }
}
