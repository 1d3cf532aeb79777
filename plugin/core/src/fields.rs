//! Header fields as a host hands them over and takes them back: a list of name/value pairs, in order, repeats kept, any
//! bytes. Read in place; one allocation for a whole list.
//!
//! The serialised form is Proxy-Wasm's: the number of pairs, for each the lengths of name and value, then each name and
//! value with a zero byte behind it; numbers are 32-bit little-endian.

/// A header line: name and value.
pub type Line<'a> = (&'a [u8], &'a [u8]);

/// Header or trailer fields, borrowed from the bytes that the host returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a>(Vec<Line<'a>>);

impl<'a> Fields<'a> {
    /// Reads a serialised list; `None` when the bytes aren't one.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (count, mut lengths) = split_number(bytes)?;
        let table = count.checked_mul(8)?;
        let mut data = lengths.get(table..)?;
        let mut pairs = Vec::with_capacity(count);
        let mut text = |len: usize| {
            let (text, rest) = data.split_at_checked(len)?;
            data = rest.get(1..)?; // the zero byte
            Some(text)
        };
        for _ in 0..count {
            let (name_len, rest) = split_number(lengths)?;
            let (value_len, rest) = split_number(rest)?;
            lengths = rest;
            pairs.push((text(name_len)?, text(value_len)?));
        }
        Some(Self(pairs))
    }

    /// The fields of a list of pairs.
    #[must_use]
    pub fn from_pairs(pairs: Vec<Line<'a>>) -> Self {
        Self(pairs)
    }

    /// Every line, in order.
    pub fn iter(&self) -> impl Iterator<Item = Line<'a>> {
        self.0.iter().copied()
    }

    /// The values of every line with this name (given in lower case).
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        self.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The value of the first line with this name.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Whether there is a line with this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// The only line with this name; `None` if there is none, or more than one.
    #[must_use]
    pub fn only(&self, name: &str) -> Option<&'a [u8]> {
        let mut all = self.all(name);
        let first = all.next()?;
        all.next().is_none().then_some(first)
    }

    /// Every line's value with this name as one list, as if they had been sent in one line (RFC 9110 §5.3); `None` where
    /// there is no line.
    #[must_use]
    pub fn joined(&self, name: &str) -> Option<Vec<u8>> {
        let mut all = self.all(name);
        let mut joined = all.next()?.to_vec();
        for value in all {
            joined.extend_from_slice(b", ");
            joined.extend_from_slice(value);
        }
        Some(joined)
    }

    /// The members of a comma-separated list in every line with this name, without the space around them and without
    /// empty ones (RFC 9110 §5.6.1). For lists of tokens only: quotes aren't looked at.
    pub fn list<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|item| !item.is_empty())
    }
}

/// Serialises a list.
///
/// # Errors
///
/// None; lists whose parts don't fit 32 bits can't come from a host, and are cut to an empty list.
#[must_use]
pub fn encode(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(pairs, &mut bytes);
    bytes
}

/// [`encode`] into a buffer that is kept from call to call.
pub fn encode_into(pairs: &[(&[u8], &[u8])], bytes: &mut Vec<u8>) {
    bytes.clear();
    let fits = |pair: &(&[u8], &[u8])| u32::try_from(pair.0.len()).is_ok() && u32::try_from(pair.1.len()).is_ok();
    let pairs = if pairs.iter().all(fits) { pairs } else { &[] };
    let number = |len: usize| u32::try_from(len).unwrap_or_default().to_le_bytes();
    bytes.extend(number(pairs.len()));
    for (name, value) in pairs {
        bytes.extend(number(name.len()));
        bytes.extend(number(value.len()));
    }
    for (name, value) in pairs {
        for text in [name, value] {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
    }
}

fn split_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields<'a>(lines: &[(&'a str, &'a str)]) -> Fields<'a> {
        Fields::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect())
    }

    #[test]
    fn a_list_is_read_across_lines_and_without_empty_members() {
        let fields = fields(&[("Vary", "a, ,b"), ("x", "y"), ("vary", ",c ")]);
        assert_eq!(fields.list("vary").collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!(fields.joined("vary").unwrap(), b"a, ,b, ,c ");
        assert_eq!((fields.only("vary"), fields.only("x"), fields.first("z")), (None, Some(&b"y"[..]), None));
    }

    #[test]
    fn bytes_that_are_no_list_are_none() {
        let good = encode(&[(b"a", b"b")]);
        for len in 0..good.len() {
            assert_eq!(Fields::decode(&good[..len]), None, "cut at {len}");
        }
        assert_eq!(Fields::decode(&[255; 64]), None);
        assert_eq!(Fields::decode(&[255, 255, 255, 31, 0]), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(pairs: Vec<(Vec<u8>, Vec<u8>)>) {
            let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            let bytes = encode(&pairs);
            prop_assert_eq!(Fields::decode(&bytes).unwrap(), Fields::from_pairs(pairs));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = Fields::decode(&bytes);
        }
    }
}
