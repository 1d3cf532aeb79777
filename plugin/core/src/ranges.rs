//! Parts of a stored body (RFC 9110 §14).

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_128;

/// Most ranges that one request may ask for; with more, or with more bytes than the whole has, it gets the whole
/// (§14.2 and §17.15 allow it, facts/attacks.md A20 asks for it).
const RANGES_MAX: usize = 16;

/// What a `Range` field selects of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The field doesn't count: the whole.
    Whole,
    /// Nothing of it is there: 416.
    Unsatisfiable,
    /// These parts, in the order asked for; never empty, each within the body and not empty.
    Parts(Vec<Range<usize>>),
}

/// Reads a `Range` field against a body of `len` bytes. Another unit than bytes, and what can't be read, doesn't count.
#[must_use]
pub fn select(field: &[u8], len: usize) -> Selection {
    let field = field.trim_ascii();
    let Some((unit, list)) = field.split_at_checked(6) else { return Selection::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return Selection::Whole;
    }
    let mut parts = Vec::new();
    let mut asked = 0_usize;
    for spec in list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty()) {
        asked = asked.saturating_add(1);
        match part(spec, len) {
            Some(Some(part)) => parts.push(part),
            Some(None) => {}
            None => return Selection::Whole,
        }
    }
    let bytes = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    match (asked, parts.is_empty()) {
        (0, _) => Selection::Whole,
        (_, true) => Selection::Unsatisfiable,
        _ if asked > RANGES_MAX || parts.len() > 1 && bytes > len => Selection::Whole,
        _ => Selection::Parts(parts),
    }
}

/// `2-5`, `2-` or `-5`. The inner `None`: nothing of it is there; the outer: it can't be read.
fn part(spec: &[u8], len: usize) -> Option<Option<Range<usize>>> {
    let dash = spec.iter().position(|byte| *byte == b'-')?;
    let (first, rest) = spec.split_at_checked(dash)?;
    let last = rest.get(1..)?;
    let range = match (first, last) {
        ([], []) => return None,
        ([], suffix) => len.saturating_sub(number(suffix)?)..len,
        (first, []) => number(first)?..len,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(len)
        }
    };
    Some((range.start < range.end).then_some(range))
}

/// Digits; what is too large is the largest.
fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(std::str::from_utf8(digits).ok()?.parse().unwrap_or(usize::MAX))
}

/// `Content-Range` of one part (§14.4).
#[must_use]
pub fn content_range(part: &Range<usize>, len: usize) -> String {
    format!("bytes {}-{}/{len}", part.start, part.end.saturating_sub(1))
}

/// Several parts as `multipart/byteranges` (§14.6): the content type, and the body.
#[must_use]
pub fn multipart(parts: &[Range<usize>], body: &[u8], content_type: Option<&[u8]>) -> (String, Vec<u8>) {
    // Depends on the whole body, so that no body can have been made to hold it.
    let boundary = format!("{:032x}", xxh3_128(body));
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        if let Some(content_type) = content_type {
            out.extend_from_slice(b"Content-Type: ");
            out.extend_from_slice(content_type);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("Content-Range: {}\r\n\r\n", content_range(part, body.len())).as_bytes());
        out.extend_from_slice(body.get(part.clone()).unwrap_or_default());
    }
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    (format!("multipart/byteranges; boundary={boundary}"), out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts<const N: usize>(ranges: [(usize, usize); N]) -> Selection {
        Selection::Parts(ranges.into_iter().map(|(start, end)| start..end).collect())
    }

    /// RFC 9110 §14.1.2 and §14.2.
    #[test]
    fn ranges_are_read_against_the_length() {
        for (field, expected) in [
            ("bytes=0-1", parts([(0, 2)])),
            ("Bytes=1-", parts([(1, 10)])),
            ("bytes=-3", parts([(7, 10)])),
            ("bytes=-99", parts([(0, 10)])),
            ("bytes=8-99999999999999999999999", parts([(8, 10)])),
            ("bytes=0-1, 4-5,,-1", parts([(0, 2), (4, 6), (9, 10)])),
            ("bytes=0-1,50-60", parts([(0, 2)])),
            ("bytes=10-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=50-60,70-", Selection::Unsatisfiable),
            ("bytes=5-2", Selection::Whole),
            ("bytes=", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=1", Selection::Whole),
            ("lines=0-1", Selection::Whole),
            ("", Selection::Whole),
            ("bytes=0-9,0-9", Selection::Whole),
        ] {
            assert_eq!(select(field.as_bytes(), 10), expected, "{field}");
        }
        assert_eq!(select(b"bytes=0-", 0), Selection::Unsatisfiable);
        let many = (0..17).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",");
        assert_eq!(select(format!("bytes={many}").as_bytes(), 100), Selection::Whole);
    }

    #[test]
    fn several_parts_are_told_apart_by_a_boundary() {
        let (content_type, body) = multipart(&[0..2, 8..10], b"0123456789", Some(b"text/plain"));
        let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let expected = format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
             \r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\
             \r\n--{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn parts_lie_within_the_body(field in "bytes=[0-9,\\- ]{0,20}", len in 0usize..50) {
            if let Selection::Parts(parts) = select(field.as_bytes(), len) {
                prop_assert!(!parts.is_empty());
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= len));
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(field: Vec<u8>, len: usize) {
            let _ = select(&field, len);
        }
    }
}
