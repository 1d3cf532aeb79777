//! Texts with places to fill in: `user {id} is at version {version}`.

use std::collections::BTreeMap;

use super::walk::At;

/// A text whose placeholders are known to be fillable.
#[derive(Clone, Debug, Default)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Place(String),
}

impl Template {
    /// A text without places.
    pub(super) fn literal(text: &str) -> Self {
        Self(vec![Part::Text(text.to_owned())])
    }

    /// `{method} {target}`
    pub(super) fn request_line() -> Self {
        Self(vec![Part::Place("method".to_owned()), Part::Text(" ".to_owned()), Part::Place("target".to_owned())])
    }

    /// Reads the text here. Its placeholders are names in braces, all of them among `known` or of the form `query.…` or
    /// `header.…`; other braces are themselves, so that JSON can be written as it is.
    pub(super) fn read(at: At<'_>, known: &[String]) -> Option<Self> {
        Self::parse(at, at.text()?, known)
    }

    /// The same for a text that was made of what stands here.
    pub(super) fn parse(at: At<'_>, text: &str, known: &[String]) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut from = 0;
        while let Some(open) = rest[from..].find('{').map(|index| from + index) {
            let name = rest[open + 1..].split_once('}').map_or("", |(name, _)| name);
            if !is_name(name) {
                from = open + 1;
                continue;
            }
            let fillable = known.iter().any(|known| known == name)
                || ["query.", "header."]
                    .iter()
                    .any(|kind| name.strip_prefix(kind).is_some_and(|name| !name.is_empty()));
            if !fillable {
                let known: Vec<_> = known.iter().map(|name| format!("{{{name}}}")).collect();
                at.wrong(
                    format!("nothing is known that could fill in `{{{name}}}`"),
                    format!("known here: {}, {{query.NAME}}, {{header.NAME}}", known.join(", ")),
                );
                return None;
            }
            parts.push(Part::Text(rest[..open].to_owned()));
            parts.push(Part::Place(name.to_owned()));
            rest = &rest[open + name.len() + 2..];
            from = 0;
        }
        parts.push(Part::Text(rest.to_owned()));
        Some(Self(parts))
    }

    /// The text with every place filled in; with nothing where there is no value.
    pub(super) fn fill(&self, values: &BTreeMap<String, String>) -> String {
        let filled = self.0.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Place(name) => values.get(name).map_or("", String::as_str),
        });
        filled.collect()
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|char: char| char.is_ascii_alphabetic())
        && text.chars().all(|char| char.is_ascii_alphanumeric() || "_-.".contains(char))
}
