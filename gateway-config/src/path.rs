//! Path templates: `/users/{user_id}`, `/files/{*path}`.

use std::fmt;

use routecache_core::template::is_name;

/// What is wrong with a path template.
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
    /// `{id:int}` and the like.
    Constraint(String),
    /// Two captures in one segment.
    TwoInOneSegment,
    /// `{*rest}` before the end, or with text beside it.
    RestNotLast,
    /// A name that comes twice.
    Twice(String),
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
            Self::Constraint(inside) => write!(f, "`{{{inside}}}`: a constraint on a capture is not supported yet"),
            Self::TwoInOneSegment => f.write_str("there are two captures in one segment of the path"),
            Self::RestNotLast => f.write_str("`{*…}` must be the whole last segment of the path"),
            Self::Twice(name) => write!(f, "the path captures `{{{name}}}` twice"),
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
            Self::Constraint(_) => "leave the constraint out, such as `{user_id}`",
            Self::TwoInOneSegment => "capture the whole segment under one name",
            Self::RestNotLast => "move it to the end, such as `/files/{*path}`, or use `{path}` for one segment",
            Self::Twice(_) => "give each capture a name of its own",
            Self::NotPath(_) => "leave it out; `cache.query` says which parameters count",
            Self::BadChar(_) => "write it as requests do, percent-encoded, such as `%20`",
        }
    }
}

/// Captures that would be taken for a source of [`routecache_core::template::Source`], built or not.
const RESERVED: &[&str] = &["host", "method", "body", "route", "cluster", "client"];

/// The names that a path template captures, in order, or the place (byte offset and length) of its first mistake.
pub(crate) fn captures(path: &str) -> Result<Vec<&str>, (usize, usize, PathMistake)> {
    if !path.starts_with('/') {
        return Err((0, path.chars().next().map_or(1, char::len_utf8), PathMistake::NotAbsolute));
    }
    if let Some((at, char)) =
        path.char_indices().find(|(_, char)| !char.is_ascii_graphic() || matches!(char, '?' | '#'))
    {
        let mistake = if matches!(char, '?' | '#') { PathMistake::NotPath(char) } else { PathMistake::BadChar(char) };
        return Err((at, char.len_utf8(), mistake));
    }
    let mut names = Vec::new();
    let mut start = 0_usize;
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        let wrong = |mistake| (start, segment.len().max(1), mistake);
        if let Some(inside) = capture(segment).map_err(wrong)? {
            let name = match inside.strip_prefix('*') {
                Some(_) if segments.peek().is_some() || inside.len().saturating_add(2) != segment.len() => {
                    return Err(wrong(PathMistake::RestNotLast));
                }
                Some(name) => name,
                None => inside,
            };
            if name.split_once(':').is_some_and(|(name, _)| is_name(name)) {
                return Err(wrong(PathMistake::Constraint(inside.to_owned())));
            }
            if !is_name(name) {
                return Err(wrong(PathMistake::BadName(inside.to_owned())));
            }
            if RESERVED.contains(&name) {
                return Err(wrong(PathMistake::ReservedName(name.to_owned())));
            }
            if names.contains(&name) {
                return Err(wrong(PathMistake::Twice(name.to_owned())));
            }
            names.push(name);
        }
        start = start.saturating_add(segment.len()).saturating_add(1);
    }
    Ok(names)
}

/// What stands between the braces of a segment.
fn capture(segment: &str) -> Result<Option<&str>, PathMistake> {
    let Some((before, rest)) = segment.split_once('{') else {
        return if segment.contains('}') { Err(PathMistake::Unbalanced) } else { Ok(None) };
    };
    let (inside, after) = rest.split_once('}').ok_or(PathMistake::Unbalanced)?;
    if before.contains('}') || inside.contains('{') {
        return Err(PathMistake::Unbalanced);
    }
    match capture(after)? {
        Some(_) => Err(PathMistake::TwoInOneSegment),
        None => Ok(Some(inside)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_come_in_order() {
        for (path, names) in [
            ("/", vec![]),
            ("/users", vec![]),
            ("/users/{user_id}/orders/{order_id}", vec!["user_id", "order_id"]),
            ("/files/{name}.json", vec!["name"]),
            ("/files/{*path}", vec!["path"]),
        ] {
            assert_eq!(captures(path), Ok(names), "{path}");
        }
    }

    #[test]
    fn each_mistake_is_told_with_its_segment() {
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
            ("/{id:int}", 1, 8, PathMistake::Constraint("id:int".into())),
            ("/{a}-{b}", 1, 7, PathMistake::TwoInOneSegment),
            ("/{*a}/b", 1, 4, PathMistake::RestNotLast),
            ("/x{*a}", 1, 5, PathMistake::RestNotLast),
            ("/{a}/{a}", 5, 3, PathMistake::Twice("a".into())),
            ("/a?b=1", 2, 1, PathMistake::NotPath('?')),
            ("/a b", 2, 1, PathMistake::BadChar(' ')),
            ("/é", 1, 2, PathMistake::BadChar('é')),
        ] {
            assert_eq!(captures(path), Err((at, len, mistake)), "{path}");
        }
    }
}
