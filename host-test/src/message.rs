//! What requests and responses have in common.

use std::time::Duration;

/// Bytes that travel together, and how long after the part before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) after: Duration,
    pub(crate) bytes: Vec<u8>,
}

/// Pieces of one byte each, as far as that makes sense, and the rest.
pub(crate) fn bytewise(chunks: Vec<Chunk>) -> Vec<Chunk> {
    const BYTES_ALONE: usize = 64;
    let mut pieces = Vec::new();
    for Chunk { mut after, bytes } in chunks {
        let alone = bytes.len().min(BYTES_ALONE.saturating_sub(pieces.len()));
        let (first, rest) = bytes.split_at(alone);
        let parts = first.chunks(1).chain([rest]).filter(|part| !part.is_empty());
        pieces.extend(parts.map(|part| Chunk { after: std::mem::take(&mut after), bytes: part.to_vec() }));
    }
    pieces
}

/// Builder methods for a type with the fields `headers`, `chunks` and `trailers`.
macro_rules! message_builders {
    () => {
        /// Adds a header line.
        #[must_use]
        pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
            self.headers.add(name, value);
            self
        }

        /// Gives a header field this one value, in place of any it had: a `content-length` that lies, for example.
        #[must_use]
        pub fn set(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
            self.headers.set(name, value);
            self
        }

        /// Sends a body in one piece, with its `content-length`.
        #[must_use]
        pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
            self.headers.set("content-length", body.as_ref().len().to_string());
            self.chunk(Duration::ZERO, body)
        }

        /// Sends a piece of body this long after the part before it; nothing if it is empty. No `content-length` is added.
        #[must_use]
        pub fn chunk(mut self, after: Duration, bytes: impl AsRef<[u8]>) -> Self {
            let bytes = bytes.as_ref().to_vec();
            if !bytes.is_empty() {
                self.chunks.push(Chunk { after, bytes });
            }
            self
        }

        /// Ends with a trailer line.
        #[must_use]
        pub fn trailer(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
            self.trailers.add(name, value);
            self
        }

        /// The same, with the beginning of its body byte by byte.
        pub(crate) fn bytewise(mut self) -> Self {
            self.chunks = crate::message::bytewise(std::mem::take(&mut self.chunks));
            self
        }

        /// The same, with header lines that are allowed and seldom met.
        pub(crate) fn with_odd_headers(self) -> Self {
            let huge = [b'h'; 8 << 10];
            let bytes = [0xff, 0xfe, b'b'];
            self.header("x-odd", "1")
                .header("x-odd", "2")
                .header("x-empty", "")
                .header("x-bytes", bytes)
                .header("x-huge", huge)
        }

        /// The same, with trailers.
        pub(crate) fn with_odd_trailers(self) -> Self {
            self.trailer("x-odd-trailer", [0xff, b't'])
        }
    };
}

pub(crate) use message_builders;
