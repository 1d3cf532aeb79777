//! Path templates: `/users/{user_id}`, `/orders/{id:int}`, `/{lang:re([a-z]{2})}/news`, `/files/{*path}`.
//!
//! A capture takes one segment, or the part of one between two texts; `{*path}` takes the rest. Behind a colon stands what
//! its value must be: `int`, `hex`, `uuid`, `slug`, or a pattern in `re(…)` ([`crate::pattern`]). A value that isn't so
//! doesn't match, and the path may meet another rule.

use std::fmt;

use crate::pattern::{Pattern, PatternMistake};
use crate::template::{RESERVED, is_name};

/// The kinds of value that have a name.
const KINDS: [(&str, &str); 4] = [
    ("int", "[0-9]+"),
    ("hex", "[0-9A-Fa-f]+"),
    ("uuid", "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
    ("slug", "[a-z0-9]+(-[a-z0-9]+)*"),
];

/// Captures of a path, at most; `matchit` panics at its 26th.
const CAPTURES_MAX: usize = 25;

/// A parsed path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    source: String,
    pub(crate) segments: Vec<Segment>,
    pub(crate) captures: Vec<Capture>,
}

/// A segment; captures are told apart by their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(String),
    /// A capture, with what stands before and behind it in the segment.
    Capture(String, String),
    Rest,
}

/// A capture of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Its name in templates.
    pub name: String,
    /// What its value must be.
    pub pattern: Option<Pattern>,
}

/// What is wrong with a path template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    /// Byte offset in the template.
    pub at: usize,
    /// Bytes from there on that are meant; at least 1.
    pub len: usize,
    /// What it is.
    pub what: PathMistake,
}

/// The kinds of [`PathError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMistake {
    /// Not beginning with `/`.
    NotAbsolute,
    /// A `{` without `}` in its segment, or the other way round.
    Unbalanced,
    /// `{}` or `{a b}`.
    BadName(String),
    /// A name that means something else in templates.
    ReservedName(String),
    /// `{id:number}`.
    UnknownKind(String),
    /// A pattern that is none.
    BadPattern(String, PatternMistake),
    /// Two captures in one segment.
    TwoInOneSegment,
    /// `{*rest}` before the end, or with text beside it.
    RestNotLast,
    /// A name that comes twice.
    Twice(String),
    /// More captures than `CAPTURES_MAX`.
    TooManyCaptures,
    /// A query or fragment.
    NotPath(char),
    /// A character that a path never has as it stands.
    BadChar(char),
}

impl fmt::Display for PathMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbsolute => f.write_str("the path doesn't begin with `/`"),
            Self::Unbalanced => f.write_str("`{` and `}` don't pair up within one segment of the path"),
            Self::BadName(name) => write!(f, "`{{{name}}}` can't be the name of a capture"),
            Self::ReservedName(name) => {
                write!(f, "`{{{name}}}` can't be a capture, as templates read it as something else")
            }
            Self::UnknownKind(kind) => write!(f, "`{kind}` is no kind of value"),
            Self::BadPattern(pattern, mistake) => write!(f, "`{pattern}` can't be matched: {mistake}"),
            Self::TwoInOneSegment => f.write_str("there are two captures in one segment of the path"),
            Self::RestNotLast => f.write_str("`{*…}` must be the whole last segment of the path"),
            Self::Twice(name) => write!(f, "the path captures `{{{name}}}` twice"),
            Self::TooManyCaptures => write!(f, "the path has more than {CAPTURES_MAX} captures"),
            Self::NotPath(char) => write!(f, "`{char}` can't be part of a path"),
            Self::BadChar(char) => write!(f, "`{}` never stands in a path as it is", char.escape_debug()),
        }
    }
}

impl PathMistake {
    /// How to mend it.
    #[must_use]
    pub fn mend(&self) -> &'static str {
        match self {
            Self::NotAbsolute => "begin with `/`, such as `/users/{user_id}`",
            Self::Unbalanced => "write a capture as `{user_id}`; a path has no other braces",
            Self::BadName(_) => "use letters, digits and `_`, not beginning with a digit",
            Self::ReservedName(_) => "choose another name",
            Self::UnknownKind(_) => "the kinds are `int`, `hex`, `uuid`, `slug` and `re(…)`, such as `{id:int}`",
            Self::BadPattern(..) => "patterns have classes, groups, `|` and counts, such as `re([a-z]{2}(-[A-Z]{2})?)`",
            Self::TwoInOneSegment => "capture the whole segment under one name",
            Self::RestNotLast => "move it to the end, such as `/files/{*path}`, or use `{path}` for one segment",
            Self::Twice(_) => "give each capture a name of its own",
            Self::TooManyCaptures => "end it with `{*rest}`, and let the origin read what that takes",
            Self::NotPath(_) => "leave it out; `cache.query` says which parameters count",
            Self::BadChar(_) => "write it as requests do, percent-encoded, such as `%20`",
        }
    }
}

impl PathTemplate {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// The first [`PathError`].
    pub fn parse(source: &str) -> Result<Self, PathError> {
        let error = |at, len: usize, what| PathError { at, len: len.max(1), what };
        if !source.starts_with('/') {
            let first = source.chars().next().map_or(1, char::len_utf8);
            return Err(error(0, first, PathMistake::NotAbsolute));
        }
        let mut path = Self { source: source.to_owned(), segments: Vec::new(), captures: Vec::new() };
        let mut start = 1_usize;
        loop {
            let rest = source.get(start..).unwrap_or_default();
            let segment = rest.get(..end_of_segment(rest)).unwrap_or_default();
            if path.segments.last() == Some(&Segment::Rest) {
                let last = source.rfind("{*").unwrap_or_default();
                return Err(error(last, start.saturating_sub(last).saturating_sub(1), PathMistake::RestNotLast));
            }
            let outside = |at: usize| start.saturating_add(at);
            path.push(segment).map_err(|(at, len, what)| error(outside(at), len, what))?;
            start = outside(segment.len());
            if start >= source.len() {
                return Ok(path);
            }
            start = start.saturating_add(1);
        }
    }

    /// The text that it was parsed from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its captures, in order.
    #[must_use]
    pub fn captures(&self) -> &[Capture] {
        &self.captures
    }

    /// The same path as a template for keys: captures without what their values must be.
    #[must_use]
    pub fn as_template(&self) -> String {
        let mut names = self.captures.iter().map(|capture| capture.name.as_str());
        let mut text = String::new();
        for segment in &self.segments {
            text.push('/');
            match segment {
                Segment::Literal(literal) => text.push_str(literal),
                Segment::Capture(before, after) => {
                    text.extend([before, "{", names.next().unwrap_or_default(), "}", after]);
                }
                Segment::Rest => text.extend(["{", names.next().unwrap_or_default(), "}"]),
            }
        }
        text
    }

    /// Adds a segment; what is wrong with it, and where in it.
    fn push(&mut self, segment: &str) -> Result<(), (usize, usize, PathMistake)> {
        let whole = |what| (0, segment.len(), what);
        let open = segment.find('{').unwrap_or(segment.len());
        let (before, rest) = segment.split_at_checked(open).unwrap_or_default();
        let inside = rest.get(..end_of_braces(rest)).unwrap_or_default();
        let after = rest.get(inside.len()..).unwrap_or_default();
        for (at, text) in [(0, before), (segment.len().saturating_sub(after.len()), after)] {
            let wrong = |char: &char| !char.is_ascii_graphic() || matches!(char, '?' | '#');
            if let Some((from, char)) = text.char_indices().find(|(_, char)| wrong(char)) {
                let what =
                    if char.is_ascii_graphic() { PathMistake::NotPath(char) } else { PathMistake::BadChar(char) };
                return Err((at.saturating_add(from), char.len_utf8(), what));
            }
        }
        if before.contains('}') {
            return Err(whole(PathMistake::Unbalanced));
        }
        if rest.is_empty() {
            self.segments.push(Segment::Literal(before.to_owned()));
            return Ok(());
        }
        let Some(inside) = inside.strip_prefix('{').and_then(|inside| inside.strip_suffix('}')) else {
            return Err(whole(PathMistake::Unbalanced));
        };
        if inside.starts_with('{') {
            return Err(whole(PathMistake::Unbalanced));
        }
        if let Some(second) = after.find('{') {
            let closed = after.get(second..).is_some_and(|after| after.contains('}'));
            return Err(whole(if closed { PathMistake::TwoInOneSegment } else { PathMistake::Unbalanced }));
        }
        if after.contains('}') {
            return Err(whole(PathMistake::Unbalanced));
        }
        let (name, kind) = inside.split_once(':').map_or((inside, None), |(name, kind)| (name, Some(kind)));
        let (name, is_rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
        let what = if !is_name(name) {
            Some(PathMistake::BadName(inside.to_owned()))
        } else if RESERVED.contains(&name) {
            Some(PathMistake::ReservedName(name.to_owned()))
        } else if self.captures.iter().any(|known| known.name == name) {
            Some(PathMistake::Twice(name.to_owned()))
        } else if is_rest && !(before.is_empty() && after.is_empty()) {
            Some(PathMistake::RestNotLast)
        } else if self.captures.len() >= CAPTURES_MAX {
            Some(PathMistake::TooManyCaptures)
        } else {
            None
        };
        if let Some(what) = what {
            return Err(whole(what));
        }
        let pattern = kind.map(pattern).transpose().map_err(whole)?;
        self.captures.push(Capture { name: name.to_owned(), pattern });
        self.segments.push(match is_rest {
            true => Segment::Rest,
            false => Segment::Capture(before.to_owned(), after.to_owned()),
        });
        Ok(())
    }
}

fn pattern(kind: &str) -> Result<Pattern, PathMistake> {
    let named = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, pattern)| *pattern);
    let written = || kind.strip_prefix("re(").and_then(|rest| rest.strip_suffix(')'));
    let source = named.or_else(written).ok_or_else(|| PathMistake::UnknownKind(kind.to_owned()))?;
    Pattern::new(source).map_err(|mistake| PathMistake::BadPattern(source.to_owned(), mistake))
}

/// Where the segment ends that begins here: at the next `/` outside of braces.
fn end_of_segment(text: &str) -> usize {
    let Some(slash) = text.find('/') else { return text.len() };
    match text.find('{').filter(|open| *open < slash) {
        None => slash,
        Some(open) => {
            let braces = text.get(open..).unwrap_or_default();
            let length = end_of_braces(braces);
            // A pattern may hold a slash; anything else between braces that does has no end in its segment.
            let is_pattern =
                braces.get(..length).is_some_and(|inside| inside.contains(":re(") && inside.ends_with(")}"));
            let from = if is_pattern { open.saturating_add(length) } else { open };
            text.get(from..).and_then(|rest| rest.find('/')).map_or(text.len(), |at| from.saturating_add(at))
        }
    }
}

/// How long the text in braces is that begins here: to the brace that closes the first one.
fn end_of_braces(text: &str) -> usize {
    let (mut depth, mut escaped) = (0_usize, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth = depth.saturating_add(1),
            b'}' if depth <= 1 => return at.saturating_add(1),
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn captures_come_in_order() {
        for (path, names) in [
            ("/", &[][..]),
            ("/users", &[]),
            ("/users/{user_id}/orders/{order_id}", &["user_id", "order_id"]),
            ("/files/{name}.json", &["name"]),
            ("/files/{*path}", &["path"]),
            ("/{lang:re([a-z]{2}|x/y)}/{id:int}", &["lang", "id"]),
        ] {
            let parsed = PathTemplate::parse(path).unwrap();
            assert_eq!(parsed.captures.iter().map(|capture| &*capture.name).collect::<Vec<_>>(), names, "{path}");
        }
        let path = PathTemplate::parse("/{lang:re([a-z]{2}|x/y)}/v{n:int}.x/{*rest:slug}").unwrap();
        assert_eq!(path.as_template(), "/{lang}/v{n}.x/{rest}");
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        for (path, at, len, mistake) in [
            ("", 0, 1, PathMistake::NotAbsolute),
            ("users", 0, 1, PathMistake::NotAbsolute),
            ("/a/{b", 3, 2, PathMistake::Unbalanced),
            ("/a/b}", 3, 2, PathMistake::Unbalanced),
            ("/a/{{b}}", 3, 5, PathMistake::Unbalanced),
            ("/a/{b/c}", 3, 2, PathMistake::Unbalanced),
            ("/{}", 1, 2, PathMistake::BadName(String::new())),
            ("/{1a}", 1, 4, PathMistake::BadName("1a".into())),
            ("/{host}", 1, 6, PathMistake::ReservedName("host".into())),
            ("/{id:number}", 1, 11, PathMistake::UnknownKind("number".into())),
            ("/{id:re([)}", 1, 10, PathMistake::BadPattern("[".into(), PatternMistake::Unbalanced)),
            ("/{a}-{b}", 1, 7, PathMistake::TwoInOneSegment),
            ("/{*a}/b", 1, 4, PathMistake::RestNotLast),
            ("/x{*a}", 1, 5, PathMistake::RestNotLast),
            ("/{a}/{a}", 5, 3, PathMistake::Twice("a".into())),
            ("/a?b=1", 2, 1, PathMistake::NotPath('?')),
            ("/a b", 2, 1, PathMistake::BadChar(' ')),
            ("/é", 1, 2, PathMistake::BadChar('é')),
        ] {
            assert_eq!(PathTemplate::parse(path), Err(PathError { at, len, what: mistake }), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(path in "[/a{}:*é?re().\\\\]{0,16}") {
            let _ = PathTemplate::parse(&path);
        }
    }
}
