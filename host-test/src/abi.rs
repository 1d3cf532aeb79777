//! The words of the Proxy-Wasm ABI: statuses, kinds of maps and buffers, and how a list of pairs is laid out in memory.
//!
//! Numbers are those of ABI 0.2.1 (`abi-versions/v0.2.1/README.md` of proxy-wasm/spec).

use std::fmt;

/// What a host function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// No such key, property, map, queue or metric.
    NotFound = 1,
    /// An argument is out of range, or the thing named doesn't exist in this phase.
    BadArgument = 2,
    /// Something given couldn't be serialised.
    SerializationFailure = 3,
    /// Something given couldn't be parsed.
    ParseFailure = 4,
    /// A pointer or length reaches outside the memory of the module.
    InvalidMemoryAccess = 6,
    /// A queue holds nothing.
    Empty = 7,
    /// Shared data has changed since it was read.
    CasMismatch = 8,
    /// The host tried and failed, such as a callout to a cluster without healthy hosts.
    InternalFailure = 10,
    /// The host leaves this function out.
    Unimplemented = 12,
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// How urgent a line of log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum LogLevel {
    /// Every step.
    Trace = 0,
    /// For whoever hunts a bug.
    Debug = 1,
    /// Worth knowing; also what the module prints on its standard output.
    Info = 2,
    /// Unexpected.
    Warn = 3,
    /// Failed; also what the module prints on its standard error.
    Error = 4,
    /// Cannot go on, such as a Rust panic.
    Critical = 5,
}

impl LogLevel {
    pub(crate) fn from_abi(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            5 => Self::Critical,
            _ => return None,
        })
    }
}

/// Which version of the ABI a module speaks, by the marker function that it exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AbiVersion {
    /// `proxy_abi_version_0_1_0`: headers callbacks don't hear of the end of the stream.
    V0_1_0,
    /// `proxy_abi_version_0_2_0`
    V0_2_0,
    /// `proxy_abi_version_0_2_1`
    V0_2_1,
}

impl AbiVersion {
    /// The marker functions that hosts look for, newest first.
    pub(crate) const MARKERS: [(&'static str, Self); 3] = [
        ("proxy_abi_version_0_2_1", Self::V0_2_1),
        ("proxy_abi_version_0_2_0", Self::V0_2_0),
        ("proxy_abi_version_0_1_0", Self::V0_1_0),
    ];
}

/// A map of header fields that a module can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapType {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    GrpcInitialMetadata,
    GrpcTrailingMetadata,
    CallHeaders,
    CallTrailers,
}

impl MapType {
    pub(crate) fn from_abi(number: u32) -> Result<Self, Status> {
        Ok(match number {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            4 => Self::GrpcInitialMetadata,
            5 => Self::GrpcTrailingMetadata,
            6 => Self::CallHeaders,
            7 => Self::CallTrailers,
            _ => return Err(Status::BadArgument),
        })
    }
}

/// A buffer of bytes that a module can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferType {
    RequestBody,
    ResponseBody,
    CallBody,
    GrpcMessage,
    VmConfiguration,
    PluginConfiguration,
    /// TCP data and data of foreign functions: never there for an HTTP filter.
    Other,
}

impl BufferType {
    pub(crate) fn from_abi(number: u32) -> Result<Self, Status> {
        Ok(match number {
            0 => Self::RequestBody,
            1 => Self::ResponseBody,
            4 => Self::CallBody,
            5 => Self::GrpcMessage,
            6 => Self::VmConfiguration,
            7 => Self::PluginConfiguration,
            2 | 3 | 8 => Self::Other,
            _ => return Err(Status::BadArgument),
        })
    }
}

/// One of the two halves of an HTTP exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the client towards the origin.
    Request,
    /// From the origin towards the client.
    Response,
}

/// Name and value, as they stand in memory.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// Lays out pairs as the ABI wants them: the count, all lengths, then every name and value with a zero byte behind each.
pub(crate) fn write_pairs(pairs: &[Pair]) -> Vec<u8> {
    let word = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut out =
        Vec::with_capacity(4 + pairs.iter().map(|(name, value)| name.len() + value.len() + 10).sum::<usize>());
    out.extend(word(pairs.len()));
    for (name, value) in pairs {
        out.extend(word(name.len()));
        out.extend(word(value.len()));
    }
    for (name, value) in pairs {
        for text in [name, value] {
            out.extend(text);
            out.push(0);
        }
    }
    out
}

/// Reads what [`write_pairs`] writes. Anything malformed, more than 1024 pairs or more than 1 MiB reads as an empty list,
/// as in proxy-wasm-cpp-host (`PairsUtil::toPairs`).
pub(crate) fn read_pairs(bytes: &[u8]) -> Vec<Pair> {
    const BYTES_MAX: usize = 1 << 20;
    const PAIRS_MAX: usize = 1024;
    if bytes.len() > BYTES_MAX {
        return Vec::new();
    }
    try_read_pairs(bytes, PAIRS_MAX).unwrap_or_default()
}

fn try_read_pairs(bytes: &[u8], pairs_max: usize) -> Option<Vec<Pair>> {
    let mut rest = bytes;
    let count = take_word(&mut rest)?;
    if count > pairs_max {
        return None;
    }
    let mut lengths = Vec::with_capacity(count);
    for _ in 0..count {
        lengths.push((take_word(&mut rest)?, take_word(&mut rest)?));
    }
    lengths.into_iter().map(|(name, value)| Some((take_text(&mut rest, name)?, take_text(&mut rest, value)?))).collect()
}

fn take_word(rest: &mut &[u8]) -> Option<usize> {
    let (word, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    usize::try_from(u32::from_le_bytes(*word)).ok()
}

fn take_text(rest: &mut &[u8], length: usize) -> Option<Vec<u8>> {
    let (text, tail) = rest.split_at_checked(length)?;
    *rest = tail.strip_prefix(&[0])?;
    Some(text.to_vec())
}

#[cfg(test)]
mod tests {
    use super::{read_pairs, write_pairs};

    #[test]
    fn pairs_read_back_as_they_were_written() {
        for pairs in [vec![], vec![(b"a".to_vec(), b"".to_vec()), (b"".to_vec(), vec![0xff, 0])]] {
            assert_eq!(read_pairs(&write_pairs(&pairs)), pairs);
        }
    }

    #[test]
    fn malformed_pairs_read_as_none_at_all() {
        let whole = write_pairs(&[(b"name".to_vec(), b"value".to_vec())]);
        for end in 0..whole.len() {
            assert_eq!(read_pairs(&whole[..end]), [], "cut after {end}");
        }
        assert_eq!(read_pairs(&u32::MAX.to_le_bytes()), []);
    }
}
