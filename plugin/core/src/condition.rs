//! Conditions on a request or response: whether a field, parameter or cookie is there, and what it says.

use crate::fields::Fields;
use crate::json::{self, Pointer};

/// A text in which `*` stands for any bytes, none too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Any text is one.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0
    }

    /// Whether it is the whole of `text`, by `same`: each piece between two stars stands where it first can, which leaves
    /// the most room for the next.
    #[must_use]
    pub fn matches(&self, text: &[u8], same: fn(&[u8], &[u8]) -> bool) -> bool {
        let mut pieces = self.0.as_bytes().split(|byte| *byte == b'*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = without_start(text, first, same) else { return false };
        let mut last: Option<&[u8]> = None;
        for piece in pieces {
            if let Some(middle) = last.replace(piece) {
                let Some(at) = find(rest, middle, same) else { return false };
                rest = rest.get(at.saturating_add(middle.len())..).unwrap_or_default();
            }
        }
        match last {
            None => rest.is_empty(),
            Some(end) => {
                rest.len().checked_sub(end.len()).and_then(|at| rest.get(at..)).is_some_and(|tail| same(tail, end))
            }
        }
    }
}

/// Byte for byte.
#[must_use]
pub fn exact(one: &[u8], other: &[u8]) -> bool {
    one == other
}

/// Whatever the case of ASCII letters.
#[must_use]
pub fn any_case(one: &[u8], other: &[u8]) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn without_start<'t>(text: &'t [u8], start: &[u8], same: fn(&[u8], &[u8]) -> bool) -> Option<&'t [u8]> {
    let (head, rest) = text.split_at_checked(start.len())?;
    same(head, start).then_some(rest)
}

fn find(text: &[u8], piece: &[u8], same: fn(&[u8], &[u8]) -> bool) -> Option<usize> {
    if piece.is_empty() {
        return Some(0);
    }
    text.windows(piece.len()).position(|window| same(window, piece))
}

/// What is asked of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// There is one.
    Present,
    /// There is none.
    Absent,
    /// There is one, and one of these says what it is.
    Is(Vec<Glob>),
}

impl Test {
    /// Whether it holds for the values that there are.
    pub fn holds<'v>(&self, mut values: impl Iterator<Item = &'v [u8]>) -> bool {
        match self {
            Self::Present => values.next().is_some(),
            Self::Absent => values.next().is_none(),
            Self::Is(globs) => values.any(|value| is_one_of(globs, value.trim_ascii())),
        }
    }
}

/// Whether one of the globs is the whole value.
#[must_use]
pub fn is_one_of(globs: &[Glob], value: &[u8]) -> bool {
    globs.iter().any(|glob| glob.matches(value, exact))
}

/// What a request's condition is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The lines of a header field; its name in lower case.
    Header(String),
    /// The values of a parameter of the query.
    Query(String),
    /// The values of a cookie.
    Cookie(String),
    /// The values that a pointer finds in the request's body.
    Json(Pointer),
}

/// A condition on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What it is about.
    pub subject: Subject,
    /// What is asked of it.
    pub test: Test,
}

impl Condition {
    /// Whether it is about the body.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        matches!(self.subject, Subject::Json(_))
    }

    /// Whether a request meets it; `None` where it is about a body that isn't there, or can't be read.
    #[must_use]
    pub fn holds(&self, fields: &Fields<'_>, query: Option<&str>, body: Option<&[u8]>) -> Option<bool> {
        Some(match &self.subject {
            Subject::Header(name) => self.test.holds(fields.all(name)),
            Subject::Query(name) => self.test.holds(
                crate::key::pairs(query.unwrap_or_default())
                    .filter(|(known, _)| crate::key::is_named(known, name))
                    .map(|(_, value)| value.as_bytes()),
            ),
            Subject::Cookie(name) => self.test.holds(cookies(fields, name)),
            Subject::Json(pointer) => return json_holds(body?, pointer, &self.test),
        })
    }
}

/// Whether the values that a pointer finds meet a test; `None` where the body isn't JSON. What isn't there is absent.
#[must_use]
pub fn json_holds(body: &[u8], pointer: &Pointer, test: &Test) -> Option<bool> {
    let mut values: Vec<Vec<u8>> = Vec::new();
    match json::select(body, pointer, &mut |value| values.push(value.to_vec())) {
        Err(json::Unreadable::NotJson) => None,
        Ok(()) | Err(json::Unreadable::Missing) => Some(test.holds(values.iter().map(Vec::as_slice))),
    }
}

/// The values of a cookie, in every `Cookie` line.
pub fn cookies<'f>(fields: &'f Fields<'_>, name: &'f str) -> impl Iterator<Item = &'f [u8]> {
    fields.all("cookie").flat_map(|line| line.split(|byte| *byte == b';')).filter_map(move |pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (known, value) = pair.split_at_checked(at)?;
        (known == name.as_bytes()).then(|| value.get(1..).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_bytes() {
        for (glob, matching, others) in [
            ("utm_*", &["utm_", "utm_source"][..], &["utm", "xutm_a"][..]),
            ("*", &["", "x"], &[]),
            ("a*b*c", &["abc", "aXbXc", "abbcc"], &["ab", "abcd", "acb"]),
            ("*mutation*", &["mutation", "  mutation {"], &["mutatio"]),
            ("a", &["a"], &["", "aa", "A"]),
            ("a*a", &["aa", "aba"], &["a"]),
        ] {
            let glob = Glob::new(glob);
            assert!(matching.iter().all(|text| glob.matches(text.as_bytes(), exact)), "{glob:?}");
            assert!(!others.iter().any(|text| glob.matches(text.as_bytes(), exact)), "{glob:?}");
        }
        assert!(Glob::new("UTM_*").matches(b"utm_x", any_case));
    }

    #[test]
    fn a_request_meets_its_conditions() {
        let fields = Fields::from_pairs(vec![
            (b"x-tenant", b" acme "),
            (b"x-tenant", b"other"),
            (b"cookie", b"a=1; session=abc==; b"),
            (b"Cookie", b"session=x"),
        ]);
        let holds = |subject: Subject, test: Test| {
            Condition { subject, test }.holds(&fields, Some("page=2&d%65bug&page=3"), Some(br#"{"a":[1,2]}"#)).unwrap()
        };
        let is = |text: &str| Test::Is(vec![Glob::new(text)]);
        for (name, test, expected) in [
            ("x-tenant", is("acme"), true),
            ("x-tenant", is("other"), true),
            ("x-tenant", is("ac"), false),
            ("x-none", Test::Absent, true),
            ("x-none", Test::Present, false),
            ("x-none", is("*"), false),
        ] {
            assert_eq!(holds(Subject::Header(name.into()), test.clone()), expected, "{name} {test:?}");
        }
        assert!(holds(Subject::Query("page".into()), is("3")));
        assert!(holds(Subject::Query("debug".into()), Test::Present));
        assert!(holds(Subject::Cookie("session".into()), is("abc==")));
        assert!(holds(Subject::Cookie("b".into()), Test::Absent), "it has no value");
        let json = |pointer: &str| Subject::Json(Pointer::parse(pointer).unwrap());
        assert!(holds(json("/a/*"), is("2")));
        assert!(holds(json("/b"), Test::Absent));
        let unread = Condition { subject: json("/b"), test: Test::Absent };
        for body in [None, Some(&b"no json"[..])] {
            assert_eq!(unread.holds(&fields, None, body), None);
        }
    }
}
