//! Paths with captures: `/users/{id}`, `/files/{*rest}`.

use super::walk::At;

/// A path that requests are held against.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    segments: Vec<Segment>,
    /// Must be the same; `None` if any will do.
    query: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Segment {
    Is(String),
    One(String),
    Rest(String),
}

impl Pattern {
    /// Reads the path here. With a query it means requests with just that query, otherwise those with any or none.
    pub(super) fn read(at: At<'_>) -> Option<Self> {
        let text = at.text()?;
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query.to_owned())));
        let mut segments = Vec::new();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            segments.push(match name {
                None if part.contains(['{', '}', '*']) => {
                    let mend = "captures are whole segments, such as `/users/{id}` or, at the end, `/files/{*rest}`";
                    at.wrong(format!("`{part}` is neither text nor a capture"), mend);
                    return None;
                }
                None => Segment::Is(part.to_owned()),
                Some(name) => match name.strip_prefix('*') {
                    Some(rest) if parts.peek().is_none() => Segment::Rest(rest.to_owned()),
                    Some(_) => {
                        at.wrong(format!("`{part}` takes all that follows"), "move it to the end of the path");
                        return None;
                    }
                    None => Segment::One(name.to_owned()),
                },
            });
        }
        Some(Self { segments, query })
    }

    /// The names that it captures.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Is(_) => None,
            Segment::One(name) | Segment::Rest(name) => Some(name.as_str()),
        })
    }

    /// What a request's path holds at the captures, if it is meant at all.
    pub(super) fn captures(&self, target: &str) -> Option<Vec<(String, String)>> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if self.query.as_ref().is_some_and(|wanted| wanted != query) {
            return None;
        }
        let mut captured = Vec::new();
        let mut parts = path.split('/');
        for segment in &self.segments {
            match segment {
                Segment::Rest(name) => {
                    let rest: Vec<_> = parts.collect();
                    let there = !rest.is_empty();
                    captured.push((name.clone(), rest.join("/")));
                    return there.then_some(captured);
                }
                Segment::One(name) => {
                    captured.push((name.clone(), parts.next().filter(|part| !part.is_empty())?.to_owned()));
                }
                Segment::Is(text) => {
                    parts.next().filter(|part| part == text)?;
                }
            }
        }
        parts.next().is_none().then_some(captured)
    }
}
