//! Reading and writing little-endian numbers and counted texts, for everything that is kept as bytes.

use std::ops::Range;

/// Reads forward, and stops at the end of the bytes.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn len(&mut self) -> Option<usize> {
        usize::try_from(self.u32()?).ok()
    }

    /// Where a counted text stands.
    pub(crate) fn range(&mut self) -> Option<Range<usize>> {
        let len = self.len()?;
        let start = self.at;
        self.take(len)?;
        Some(start..self.at)
    }

    pub(crate) fn text(&mut self) -> Option<&'a [u8]> {
        let len = self.len()?;
        self.take(len)
    }

    /// Nothing is left.
    pub(crate) fn done(&self) -> Option<()> {
        (self.at == self.bytes.len()).then_some(())
    }
}

/// Writes a length; `None` beyond 32 bits.
pub(crate) fn put_len(out: &mut Vec<u8>, len: usize) -> Option<()> {
    out.extend(u32::try_from(len).ok()?.to_le_bytes());
    Some(())
}

/// Writes a counted text; `None` beyond 32 bits.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    put_len(out, text.len())?;
    out.extend_from_slice(text);
    Some(())
}
