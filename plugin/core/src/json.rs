//! Values in JSON bodies, found by pointers such as `/items/*/id`, without a tree: the text is read once for each pointer,
//! and only what it points to is copied.

use std::borrow::Cow;
use std::fmt;

/// Deepest nesting that is read; the reader recurses.
const DEPTH_MAX: usize = 64;

/// Most segments of a pointer.
const SEGMENTS_MAX: usize = 16;

/// A JSON pointer (RFC 6901) in which a segment `*` stands for every member of a list or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    source: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Named(String),
    Every,
}

/// Not a JSON pointer: it is empty, doesn't begin with `/`, or has too many segments or a `~` that isn't `~0` or `~1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPointer;

impl fmt::Display for NoPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is no JSON pointer")
    }
}

impl std::error::Error for NoPointer {}

impl Pointer {
    /// Reads a pointer.
    ///
    /// # Errors
    ///
    /// [`NoPointer`].
    pub fn parse(source: &str) -> Result<Self, NoPointer> {
        let rest = source.strip_prefix('/').ok_or(NoPointer)?;
        let mut segments = Vec::new();
        for segment in rest.split('/') {
            if segment.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
                return Err(NoPointer);
            }
            segments.push(match segment {
                "*" => Segment::Every,
                named => Segment::Named(named.replace("~1", "/").replace("~0", "~")),
            });
        }
        let fits = segments.len() <= SEGMENTS_MAX;
        fits.then(|| Self { source: source.to_owned(), segments }).ok_or(NoPointer)
    }

    /// The text that it was read from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Why a pointer's values can't be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The text isn't JSON, or is nested too deeply.
    NotJson,
    /// Something that the pointer names isn't there, or is no text, number or truth value.
    Missing,
}

/// Hands over each value that the pointer names, in the order of the text: texts without quotes and escapes, numbers and
/// truth values as they are written. A list or map without members has none, and that is no mistake. Of a name that comes
/// twice in a map, which readers understand differently, both values are meant.
///
/// # Errors
///
/// [`Unreadable`]; what was handed over before is then a part.
pub fn select(text: &[u8], pointer: &Pointer, found: &mut dyn FnMut(&[u8])) -> Result<(), Unreadable> {
    let mut scan = Scan { rest: text, found, missing: false };
    scan.value(Some(&pointer.segments), 0).ok_or(Unreadable::NotJson)?;
    scan.space();
    match (scan.rest.is_empty(), scan.missing) {
        (false, _) => Err(Unreadable::NotJson),
        (true, true) => Err(Unreadable::Missing),
        (true, false) => Ok(()),
    }
}

/// Most values that are told: each becomes a tag, and each tag is looked up for every hit.
pub const VALUES_MAX: usize = 128;

/// The values that a pointer names; `None` where they can't be told, or are too many.
#[must_use]
pub fn values(text: &[u8], pointer: &Pointer) -> Option<Vec<Vec<u8>>> {
    let mut values: Vec<Vec<u8>> = Vec::new();
    let mut add = |value: &[u8]| {
        if values.len() <= VALUES_MAX {
            values.push(value.to_vec());
        }
    };
    select(text, pointer, &mut add).ok()?;
    (values.len() <= VALUES_MAX).then_some(values)
}

struct Scan<'t, 'f> {
    rest: &'t [u8],
    found: &'f mut dyn FnMut(&[u8]),
    missing: bool,
}

impl<'t> Scan<'t, '_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        (*first == byte).then(|| self.rest = rest)
    }

    /// Reads one value. `path` is what is left of the pointer, if it leads through here.
    fn value(&mut self, path: Option<&[Segment]>, depth: usize) -> Option<()> {
        (depth <= DEPTH_MAX).then_some(())?;
        self.space();
        let is_end = path.is_some_and(<[Segment]>::is_empty);
        match *self.rest.first()? {
            open @ (b'{' | b'[') => {
                self.missing |= is_end;
                return self.members(open == b'{', path.filter(|path| !path.is_empty()), depth);
            }
            b'"' => {
                let text = self.text()?;
                if is_end {
                    let text = unescaped(text)?;
                    (self.found)(&text);
                }
            }
            _ => {
                let word = self.word()?;
                match word {
                    b"null" => self.missing |= is_end,
                    b"true" | b"false" if is_end => (self.found)(word),
                    b"true" | b"false" => {}
                    number if is_number(number) => {
                        if is_end {
                            (self.found)(number);
                        }
                    }
                    _ => return None,
                }
            }
        }
        // The pointer goes on where the text doesn't.
        self.missing |= path.is_some() && !is_end;
        Some(())
    }

    fn members(&mut self, is_map: bool, path: Option<&[Segment]>, depth: usize) -> Option<()> {
        let close = if is_map { b'}' } else { b']' };
        self.take(if is_map { b'{' } else { b'[' })?;
        self.space();
        let (wanted, below) = match path.and_then(<[Segment]>::split_first) {
            Some((wanted, below)) => (Some(wanted), below),
            None => (None, &[][..]),
        };
        let mut met = !matches!(wanted, Some(Segment::Named(_)));
        if self.take(close).is_none() {
            let mut index = 0_usize;
            loop {
                let leads = match wanted {
                    None => false,
                    Some(Segment::Every) => true,
                    Some(Segment::Named(_)) if is_map => false, // told by the member's name
                    Some(Segment::Named(name)) => *name == index.to_string(),
                };
                let leads = if is_map {
                    self.space();
                    let name = self.text()?;
                    self.space();
                    self.take(b':')?;
                    let is_wanted = |wanted: &String| unescaped(name).is_some_and(|name| *name == *wanted.as_bytes());
                    leads || matches!(wanted, Some(Segment::Named(wanted)) if is_wanted(wanted))
                } else {
                    leads
                };
                met |= leads;
                self.value(leads.then_some(below), depth.saturating_add(1))?;
                self.space();
                if self.take(b',').is_none() {
                    self.take(close)?;
                    break;
                }
                index = index.saturating_add(1);
            }
        }
        self.missing |= !met;
        Some(())
    }

    /// What stands between two quotes, as it is written.
    fn text(&mut self) -> Option<&'t [u8]> {
        self.take(b'"')?;
        let start = self.rest;
        loop {
            let (byte, rest) = self.rest.split_first()?;
            let here = start.len().checked_sub(self.rest.len())?;
            self.rest = rest;
            match byte {
                b'"' => return start.get(..here),
                b'\\' => self.rest = rest.get(1..)?,
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn word(&mut self) -> Option<&'t [u8]> {
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let length = self.rest.iter().take_while(is_part).count();
        let (word, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(word)
    }
}

/// `-`, digits without needless zeros, a fraction, an exponent (RFC 8259 §6).
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    let (Some(zero), Some(mut rest)) = (text.first().map(|first| *first == b'0'), text.get(whole..)) else {
        return false;
    };
    if whole == 0 || zero && whole > 1 {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        rest = fraction.get(length..).filter(|_| length > 0).unwrap_or(b"?");
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let exponent = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let length = digits(exponent);
        rest = exponent.get(length..).filter(|_| length > 0).unwrap_or(b"?");
    }
    rest.is_empty()
}

/// The text that is meant; `None` where an escape has no meaning. A lone half of a surrogate pair becomes U+FFFD.
fn unescaped(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !text.contains(&b'\\') {
        return Some(Cow::Borrowed(text));
    }
    let mut meant = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            meant.push(*byte);
            continue;
        }
        let (escape, after) = rest.split_first()?;
        rest = after;
        meant.push(match escape {
            b'"' | b'\\' | b'/' => *escape,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let mut code = hex(&mut rest)?;
                if (0xD800..0xDC00).contains(&code) {
                    let mut after = rest.strip_prefix(b"\\u").unwrap_or_default();
                    if let Some(low) = hex(&mut after).filter(|low| (0xDC00..0xE000).contains(low)) {
                        code = 0x1_0000_u32.wrapping_add((code & 0x3FF) << 10).wrapping_add(low & 0x3FF);
                        rest = after;
                    }
                }
                let char = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                meant.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return None,
        });
    }
    Some(Cow::Owned(meant))
}

/// Takes four hexadecimal digits.
fn hex(rest: &mut &[u8]) -> Option<u32> {
    let (digits, after) = rest.split_at_checked(4)?;
    let value = digits.iter().try_fold(0_u32, |value, byte| Some(value << 4 | char::from(*byte).to_digit(16)?))?;
    *rest = after;
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(text: &str, pointer: &str) -> Result<Vec<String>, Unreadable> {
        let mut all = Vec::new();
        let mut add = |value: &[u8]| all.push(String::from_utf8_lossy(value).into_owned());
        select(text.as_bytes(), &Pointer::parse(pointer).unwrap(), &mut add).map(|()| all)
    }

    #[test]
    fn a_pointer_finds_what_it_names() {
        let text = r#" { "id": 7, "items": [ {"id": "a"}, {"id": "b\u00e9\n"} ], "by/x": {"~": true}, "none": [], "n": -1.5e3 } "#;
        for (pointer, values) in [
            ("/id", &["7"][..]),
            ("/items/*/id", &["a", "bé\n"]),
            ("/items/1/id", &["bé\n"]),
            ("/by~1x/~0", &["true"]),
            ("/none/*/id", &[]),
            ("/n", &["-1.5e3"]),
        ] {
            assert_eq!(find(text, pointer).unwrap(), values, "{pointer}");
        }
        assert_eq!(find(r#"{"a":{"x":1,"y":2}}"#, "/a/*").unwrap(), ["1", "2"]);
        assert_eq!(find(r#"["\ud83d\ude00", "\ud83d"]"#, "/*").unwrap(), ["😀", "\u{fffd}"]);
    }

    /// Readers differ about which of two equal names counts; a tag too many costs less than one too few.
    #[test]
    fn a_name_that_comes_twice_means_both() {
        assert_eq!(find(r#"{"id":1,"\u0069d":2}"#, "/id").unwrap(), ["1", "2"]);
    }

    #[test]
    fn what_is_not_there_is_missing_and_not_empty() {
        for (text, pointer) in [
            ("{}", "/id"),
            (r#"{"id":null}"#, "/id"),
            (r#"{"id":{}}"#, "/id"),
            (r#"{"id":[1]}"#, "/id"),
            (r#"{"items":[{"id":1},{}]}"#, "/items/*/id"),
            (r#"{"items":7}"#, "/items/*/id"),
            ("[1]", "/1"),
            ("7", "/id"),
        ] {
            assert_eq!(find(text, pointer), Err(Unreadable::Missing), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_says_nothing() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "{",
            "{]",
            "nul",
            "{\"a\":1,}",
            "[1,]",
            "{\"a\" 1}",
            "1 2",
            "01",
            "1.",
            "-",
            "1e",
            "+1",
            ".5",
            "NaN",
            "\"a",
            "\"\n\"",
            "{\"a\":1}}",
            "'a'",
            &deep,
        ] {
            assert_eq!(find(text, "/a"), Err(Unreadable::NotJson), "{text:.20}");
        }
        assert_eq!(find("[\"\\q\"]", "/0"), Err(Unreadable::NotJson));
    }

    #[test]
    fn pointers_begin_with_a_slash() {
        for text in ["", "id", "#/id", "/a~", "/a~2", &"/x".repeat(17)] {
            assert_eq!(Pointer::parse(text), Err(NoPointer), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}\",:a0-9eE+.\\\\u-]{0,40}", pointer in "(/[a*0~1]{0,2}){1,3}") {
            if let Ok(pointer) = Pointer::parse(&pointer) {
                let _ = select(text.as_bytes(), &pointer, &mut |_| ());
            }
        }

        /// It takes for JSON what serde_json takes for JSON.
        #[test]
        fn it_agrees_with_serde_json(text in "[\\[\\]{}\", :a01.e-]{0,16}") {
            let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            let ours = find(&text, "/a") != Err(Unreadable::NotJson);
            prop_assert_eq!(ours, theirs, "{}", text);
        }
    }
}
