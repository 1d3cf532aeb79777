//! The tree that every form of rules is read into, before anything in it is checked.

/// A value, and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub kind: Kind,
    /// Where it stands; JSON and protobuf don't say.
    pub span: Option<Span>,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
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
pub struct Entry {
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
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { kind, span: None }
    }

    /// What it is, in a reader's words.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
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
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.kind {
            Kind::Null => "null".to_owned(),
            Kind::Bool(value) => value.to_string(),
            Kind::Integer(value) => value.to_string(),
            Kind::Float(value) => value.to_string(),
            Kind::Text(text) => shorten(text),
            Kind::List(_) => "[…]".to_owned(),
            Kind::Map(_) => "{…}".to_owned(),
        }
    }
}

impl Span {
    /// The place of `len` bytes from `at` on, inside the scalar `text` that stands here. Where the text isn't written
    /// as it reads (escapes, several lines), it is the whole scalar's place.
    #[must_use]
    pub fn part(self, text: &str, at: usize, len: usize) -> Self {
        let quotes = self.length.checked_sub(text.chars().count());
        let (Some(quotes @ (0 | 2)), Some(before), Some(meant)) = (quotes, text.get(..at), text.get(at..)) else {
            return self;
        };
        let meant = meant.get(..len).unwrap_or(meant).chars().count();
        let column = self.column.saturating_add(quotes / 2).saturating_add(before.chars().count());
        Self { line: self.line, column, length: meant.max(1) }
    }
}

/// Messages quote what was written, but not pages of it, and nothing that would move a terminal's cursor.
#[must_use]
pub fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut shown: String = text
        .chars()
        .take(CHARS_MAX)
        .flat_map(|char| {
            let escape = char.is_control().then(|| char.escape_default());
            let plain = (!char.is_control()).then_some(char);
            escape.into_iter().flatten().chain(plain)
        })
        .collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
