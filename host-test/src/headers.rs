//! Header fields as Envoy keeps them: lower-case names in order of arrival, values of any bytes.

use std::fmt;

use crate::abi::Pair;

/// Fields of which Envoy keeps one line only: a second one is appended to the first with a comma and no space
/// (`HeaderMapImpl::appendToHeader`). All others stay separate lines.
const ONE_LINE: [&str; 42] = [
    "accept",
    "accept-encoding",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "access-control-request-headers",
    "access-control-request-method",
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "grpc-message",
    "grpc-status",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "last-modified",
    "location",
    "origin",
    "pragma",
    "proxy-connection",
    "server",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
];

/// Header or trailer fields, pseudo-headers such as `:status` among them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<Pair>);

impl Headers {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line; the name is made lower-case. A field that Envoy keeps on one line is appended to the one that is there.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let name = name.as_ref().to_ascii_lowercase();
        let value = value.as_ref();
        let one_line = name.starts_with(b":") || ONE_LINE.iter().any(|field| field.as_bytes() == name);
        match self.0.iter_mut().find(|(there, _)| one_line && *there == name) {
            Some((_, line)) if line.is_empty() => line.extend_from_slice(value),
            Some((_, line)) => {
                line.push(b',');
                line.extend_from_slice(value);
            }
            None => {
                // Pseudo-headers stand before all others.
                let pseudo = self.0.iter().take_while(|(there, _)| there.starts_with(b":")).count();
                let place = if name.starts_with(b":") { pseudo } else { self.0.len() };
                self.0.insert(place, (name, value.to_vec()));
            }
        }
    }

    /// Gives the field this one value: all its lines go, and a new one is added (`HeaderMapImpl::setCopy`).
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let name = name.as_ref().to_ascii_lowercase();
        self.0.retain(|(there, _)| *there != name);
        self.add(name, value);
    }

    /// Takes all lines of a field away.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) {
        let name = name.as_ref().to_ascii_lowercase();
        self.0.retain(|(there, _)| *there != name);
    }

    /// The field's first line as text: `None` where it is absent or not UTF-8 (see [`Self::bytes`]).
    pub fn get(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.bytes(name)?).ok()
    }

    /// The field's first line as it is.
    pub fn bytes(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let name = name.as_ref().to_ascii_lowercase();
        self.0.iter().find(|(there, _)| *there == name).map(|(_, value)| value.as_slice())
    }

    /// All lines of a field, in order; what isn't UTF-8 shows replacement characters.
    pub fn all(&self, name: &str) -> Vec<String> {
        let name = name.to_ascii_lowercase().into_bytes();
        let lines = self.0.iter().filter(|(there, _)| *there == name);
        lines.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// Whether the field is there.
    pub fn has(&self, name: &str) -> bool {
        self.bytes(name).is_some()
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all names and values.
    pub(crate) fn byte_size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    pub(crate) fn pairs(&self) -> &[Pair] {
        &self.0
    }

    /// `:status`, 0 where there is none.
    pub(crate) fn status(&self) -> u16 {
        self.get(":status").and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(lines: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in lines {
            headers.add(name, value);
        }
        headers
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        formatter
            .debug_list()
            .entries(self.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Headers;

    #[test]
    fn some_fields_are_joined_into_one_line_and_others_are_kept_apart() {
        let headers: Headers =
            [("Vary", "a"), ("set-cookie", "x=1"), ("vary", "b"), ("Set-Cookie", "y=2")].into_iter().collect();
        assert_eq!(headers.all("vary"), ["a,b"]);
        assert_eq!(headers.all("set-cookie"), ["x=1", "y=2"]);
    }

    #[test]
    fn a_value_that_is_not_text_is_found_as_bytes_only() {
        let headers: Headers = [("x", [0xff])].into_iter().collect();
        assert_eq!((headers.get("x"), headers.bytes("x")), (None, Some(&[0xff][..])));
    }
}
