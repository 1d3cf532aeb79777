//! Payloads are compressed before they are stored, where that saves enough. What they hold, and whether it is compressed
//! already, the bridge doesn't know: it tries a piece.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

/// From so many bytes on, the work is done where it holds nobody else up.
const LONG_BYTES: usize = 64 << 10;

/// Bytes of the piece that is tried of what is longer.
const PIECE_BYTES: usize = 4 << 10;

/// What must be saved: one byte in so many.
const SAVED: usize = 10;

/// Between the levels, 1 takes half the time of 3 and leaves a tenth more.
const ZSTD_LEVEL: i32 = 1;

/// How payloads are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// By what; nothing stores them as they are. Whatever was compressed by either is read.
    pub by: Option<Algorithm>,
    /// Bytes from which on it is tried.
    pub min_bytes: usize,
    /// Bytes of a payload; what says that it is longer is no entry.
    pub payload_bytes_max: usize,
}

impl Default for Packing {
    fn default() -> Self {
        Self { by: Some(Algorithm::Zstd), min_bytes: 4 << 10, payload_bytes_max: 8 << 20 }
    }
}

/// What compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Zstandard (RFC 8878), one frame.
    Zstd,
    /// One block of LZ4: faster, and larger.
    Lz4,
}

/// How a payload was compressed, and how long it is without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Packed {
    by: Algorithm,
    bytes: usize,
}

/// What compression came to since the start, in bytes.
#[derive(Default)]
pub(super) struct Tally {
    pub before: AtomicU64,
    pub after: AtomicU64,
}

impl Packing {
    /// The payload as it is to be stored.
    pub(super) async fn pack(self, payload: Bytes, tally: &Tally) -> (Option<Packed>, Bytes) {
        let Some(by) = self.by.filter(|_| payload.len() >= self.min_bytes) else { return (None, payload) };
        let kept = payload.clone();
        let Some(packed) = where_it_fits(kept.len(), move || by.pack_if_worth_it(&kept)).await.flatten() else {
            return (None, payload);
        };
        tally.before.fetch_add(payload.len() as u64, Ordering::Relaxed);
        tally.after.fetch_add(packed.len() as u64, Ordering::Relaxed);
        (Some(Packed { by, bytes: payload.len() }), packed.into())
    }

    /// The payload as it was; nothing if it isn't as long as it says, or longer than any may be.
    pub(super) async fn unpack(self, packed: Option<Packed>, stored: Bytes) -> Option<Bytes> {
        let Some(Packed { by, bytes }) = packed else { return Some(stored) };
        if bytes > self.payload_bytes_max {
            return None;
        }
        where_it_fits(bytes, move || by.unpack(&stored, bytes)).await?.map(Bytes::from)
    }
}

/// Here, or for long work on a thread that may be kept.
async fn where_it_fits<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if bytes < LONG_BYTES { Some(work()) } else { spawn_blocking(work).await.ok() }
}

impl Algorithm {
    fn pack_if_worth_it(self, payload: &[u8]) -> Option<Vec<u8>> {
        let is_worth_it = |packed: &Vec<u8>, bytes: usize| packed.len() <= bytes - bytes / SAVED;
        if let Some(rest) = payload.len().checked_sub(4 * PIECE_BYTES) {
            let piece = payload.get(rest / 2..)?.get(..PIECE_BYTES)?;
            self.pack(piece).ok().filter(|packed| is_worth_it(packed, piece.len()))?;
        }
        self.pack(payload).ok().filter(|packed| is_worth_it(packed, payload.len()))
    }

    fn pack(self, payload: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd => zstd::bulk::compress(payload, ZSTD_LEVEL),
            Self::Lz4 => Ok(lz4_flex::block::compress(payload)),
        }
    }

    /// Neither takes more memory than was said, whatever the bytes say.
    fn unpack(self, packed: &[u8], bytes: usize) -> Option<Vec<u8>> {
        let payload = match self {
            Self::Zstd => zstd::bulk::decompress(packed, bytes).ok()?,
            Self::Lz4 => lz4_flex::block::decompress(packed, bytes).ok()?,
        };
        (payload.len() == bytes).then_some(payload)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    const BOTH: [Algorithm; 2] = [Algorithm::Zstd, Algorithm::Lz4];

    fn noise(bytes: usize) -> Vec<u8> {
        let random = crate::random::Random::seeded(1);
        std::iter::repeat_with(|| random.next().to_le_bytes()).flatten().take(bytes).collect()
    }

    fn by(by: Algorithm) -> Packing {
        Packing { by: Some(by), ..Packing::default() }
    }

    #[tokio::test]
    async fn what_was_packed_is_unpacked_whatever_is_chosen_now() {
        for algorithm in BOTH {
            for bytes in [4 << 10, 60 << 10, 1 << 20] {
                let payload = Bytes::from(br#"{"id":7,"name":"soup"},"#.repeat(bytes / 23 + 1));
                let tally = Tally::default();
                let (packed, stored) = by(algorithm).pack(payload.clone(), &tally).await;
                assert!(stored.len() < payload.len() / 2);
                assert_eq!(tally.before.into_inner(), payload.len() as u64);
                assert_eq!(tally.after.into_inner(), stored.len() as u64);
                let off = Packing { by: None, ..Packing::default() };
                assert_eq!(off.unpack(packed, stored).await, Some(payload));
            }
        }
    }

    #[tokio::test]
    async fn what_is_short_or_would_not_shrink_is_stored_as_it_is() {
        let text = |bytes| Bytes::from(vec![b'x'; bytes]);
        let mut beginning = noise(64 << 10); // like a compressed body behind a header
        beginning[..4000].fill(b'h');
        for algorithm in BOTH {
            for payload in [text(0), text(4095), noise(5000).into(), beginning.clone().into()] {
                let (packed, stored) = by(algorithm).pack(payload.clone(), &Tally::default()).await;
                assert_eq!((packed, stored.len()), (None, payload.len()));
            }
            assert!(by(algorithm).pack(text(4096), &Tally::default()).await.0.is_some());
        }
    }

    /// A bomb: it says little and unpacks to much, or says more than any payload may have.
    #[tokio::test]
    async fn nothing_is_unpacked_beyond_what_it_says_or_what_is_allowed() {
        for algorithm in BOTH {
            let (packed, stored) = by(algorithm).pack(vec![0; 1 << 20].into(), &Tally::default()).await;
            let packed = packed.unwrap();
            let small = Packing { payload_bytes_max: (1 << 20) - 1, ..by(algorithm) };
            assert_eq!(small.unpack(Some(packed), stored.clone()).await, None);
            for bytes in [0, 1, (1 << 20) - 1, (1 << 20) + 1] {
                assert_eq!(by(algorithm).unpack(Some(Packed { bytes, ..packed }), stored.clone()).await, None);
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_unpacked_to_what_was_said_or_to_nothing(stored: Vec<u8>, bytes in 0..100_000_usize) {
            for algorithm in BOTH {
                let unpacked = algorithm.unpack(&stored, bytes);
                prop_assert!(unpacked.is_none_or(|payload| payload.len() == bytes));
            }
        }

        #[test]
        fn any_payload_comes_back(payload: Vec<u8>) {
            for algorithm in BOTH {
                let packed = algorithm.pack(&payload).unwrap();
                prop_assert_eq!(algorithm.unpack(&packed, payload.len()), Some(payload.clone()));
            }
        }
    }
}
