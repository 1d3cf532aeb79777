//! The tree that every form of rules is read into, before anything in it is checked.

/// A value, and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// The value.
    pub(crate) kind: Kind,
    /// Where it stands; JSON and protobuf don't say.
    pub span: Option<Span>,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// `null`, or nothing after the colon in YAML.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number from 0 up.
    Integer(u64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// `[…]`.
    List(Vec<Node>),
    /// `{…}`, as written: a name may come twice.
    Map(Vec<Entry>),
}

/// One `name: value` of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// The name.
    pub name: String,
    /// Where the name stands.
    pub span: Option<Span>,
    /// The value.
    pub value: Node,
}

/// A place in a file. Lines and columns count from 1, columns and lengths in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The line on which it begins.
    pub line: usize,
    /// The column at which it begins.
    pub column: usize,
    /// How long it is; line ends count too.
    pub length: usize,
}

impl Node {
    /// A node without place.
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, span: None }
    }

    /// What it is, in a reader's words.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "empty",
            Kind::Bool(_) => "true or false",
            Kind::Integer(_) | Kind::Float(_) => "a number",
            Kind::Text(_) => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }

    /// A scalar as a person would write it; lists and maps are only hinted at.
    pub(crate) fn shown(&self) -> String {
        match &self.kind {
            Kind::Null => "null".to_owned(),
            Kind::Bool(value) => value.to_string(),
            Kind::Integer(value) => value.to_string(),
            Kind::Float(value) => decimal(*value),
            Kind::Text(text) => shorten(text),
            Kind::List(_) => "[…]".to_owned(),
            Kind::Map(_) => "{…}".to_owned(),
        }
    }
}

impl Span {
    /// The place of `len` bytes from `at` on, inside the scalar `text` that stands here. Where the text isn't written
    /// as it reads (escapes, several lines), it is the whole scalar's place.
    pub(crate) fn part(self, text: &str, at: usize, len: usize) -> Self {
        let quotes = self.length.checked_sub(text.chars().count());
        let (Some(quotes @ (0 | 2)), Some(before), Some(meant)) = (quotes, text.get(..at), text.get(at..)) else {
            return self;
        };
        let meant = meant.get(..len).unwrap_or(meant).chars().count();
        let column = self.column.saturating_add(quotes / 2).saturating_add(before.chars().count());
        Self { line: self.line, column, length: meant.max(1) }
    }
}

/// A number to six places; `std`'s own way is fifteen kilobytes in the filter.
fn decimal(value: f64) -> String {
    const EXACT_MAX: f64 = 1e12;
    if !value.is_finite() {
        return "no number".to_owned();
    }
    let (mut size, mut tens) = (value.abs(), 0_u16);
    while size >= EXACT_MAX {
        size = (size / 10.0).round();
        tens = tens.saturating_add(1);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "finite, not negative, below 10^19")]
    let millionths = (size * 1e6).round() as u64;
    let (whole, part) = (millionths / 1_000_000, millionths % 1_000_000);
    let part = format!("{part:06}");
    let mut text = format!("{}{whole}.{}", if value < 0.0 { "-" } else { "" }, part.trim_end_matches('0'));
    text.truncate(text.trim_end_matches('.').len());
    if tens > 0 {
        text.extend(["e", &tens.to_string()]);
    }
    text
}

/// Messages quote what was written, but not pages of it.
pub(crate) fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A message without what would move a terminal's cursor or forge a line of a log.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() { shown.extend(char.escape_default()) } else { shown.push(char) }
    }
    shown
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_shown_as_people_write_them() {
        for (number, shown) in [
            (0.0, "0"),
            (1.5, "1.5"),
            (-0.25, "-0.25"),
            (30.000_001, "30.000001"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (2.999_999_99, "3"),
            (1.5e300, "150000000000e289"),
            (f64::NAN, "no number"),
            (f64::NEG_INFINITY, "no number"),
        ] {
            assert_eq!(super::decimal(number), shown);
        }
    }
}
