//! Walking the tree: a node together with the way to it, so that a mistake can be noted wherever it is seen.

use crate::mistake::{Mistake, Wanted, What};
use crate::quantity::{NoQuantity, duration_ms, size_bytes};
use crate::suggest::nearest;
use crate::tree::{Entry, Kind, Node, Span, shorten};
use crate::vocabulary::Words;

/// The mistakes seen so far, and the rule being looked at.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) mistakes: Vec<Mistake>,
    pub(crate) rule: Option<String>,
}

impl Found {
    /// Notes a mistake about a node.
    pub(crate) fn add(&mut self, at: &At<'_>, what: What) {
        self.push(&at.path, at.node.span, what);
    }

    /// Notes a mistake about the name before a node.
    pub(crate) fn add_name(&mut self, at: &At<'_>, what: What) {
        self.push(&at.path, at.name_span, what);
    }

    /// Notes a mistake about `len` bytes from `from` on of the text that a node holds.
    pub(crate) fn add_part(&mut self, at: &At<'_>, text: &str, from: usize, len: usize, what: What) {
        self.push(&at.path, at.node.span.map(|span| span.part(text, from, len)), what);
    }

    /// Notes a mistake in the environment.
    pub(crate) fn add_environment(&mut self, what: What) {
        self.push("environment", None, what);
    }

    fn push(&mut self, path: &str, span: Option<Span>, what: What) {
        self.mistakes.push(Mistake { path: path.to_owned(), rule: self.rule.clone(), span, what });
    }
}

/// A node, and how it was reached.
#[derive(Clone)]
pub(crate) struct At<'a> {
    pub(crate) node: &'a Node,
    /// The field that holds it; empty for items of lists and the root.
    pub(crate) name: &'a str,
    name_span: Option<Span>,
    pub(crate) path: String,
}

/// A range of milliseconds, bytes or numbers, with words for its ends.
pub(crate) struct Range {
    pub(crate) low: (u64, &'static str),
    pub(crate) high: (u64, &'static str),
}

impl<'a> At<'a> {
    pub(crate) fn root(node: &'a Node) -> Self {
        Self { node, name: "", name_span: None, path: String::new() }
    }

    /// Where the field's name stands.
    pub(crate) fn name_span(&self) -> Option<Span> {
        self.name_span
    }

    /// What was written here, for messages: `ttl: 5 min`, or the value alone in a list.
    pub(crate) fn said(&self) -> String {
        match (self.name, &self.node.kind) {
            ("", _) => self.node.shown(),
            (name, Kind::Null) => shorten(name),
            (name, _) => format!("{}: {}", shorten(name), self.node.shown()),
        }
    }

    /// Whether it says `off`.
    pub(crate) fn is_off(&self) -> bool {
        matches!(&self.node.kind, Kind::Bool(false)) || matches!(&self.node.kind, Kind::Text(text) if text == "off")
    }

    /// Notes that something else belongs here.
    pub(crate) fn wanted(&self, wanted: Wanted, found: &mut Found) {
        found.add(self, What::WrongKind { said: self.said(), is: self.node.kind_name(), wanted });
    }

    /// The text here.
    pub(crate) fn text(&self, found: &mut Found) -> Option<&'a str> {
        let Kind::Text(text) = &self.node.kind else {
            self.wanted(Wanted::Text, found);
            return None;
        };
        Some(text)
    }

    /// The items of the list here.
    pub(crate) fn items(&self, found: &mut Found) -> Option<Vec<Self>> {
        let Kind::List(items) = &self.node.kind else {
            self.wanted(Wanted::List, found);
            return None;
        };
        let item = |(index, node)| Self { node, name: "", name_span: None, path: format!("{}[{index}]", self.path) };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The texts of the list here, with their places; what is no text is noted and left out.
    pub(crate) fn texts(&self, found: &mut Found) -> Option<Vec<(Self, &'a str)>> {
        let items = self.items(found)?;
        Some(items.into_iter().filter_map(|item| item.text(found).map(|text| (item, text))).collect())
    }

    /// The entries of the map here, each name once.
    pub(crate) fn entries(&self, found: &mut Found) -> Option<Vec<Self>> {
        let Kind::Map(entries) = &self.node.kind else {
            self.wanted(Wanted::Map, found);
            return None;
        };
        let mut seen: Vec<Self> = Vec::with_capacity(entries.len());
        for Entry { name, span, value } in entries {
            let path = if self.path.is_empty() { name.clone() } else { [&self.path, ".", name].concat() };
            let entry = Self { node: value, name, name_span: *span, path };
            if seen.iter().any(|earlier| earlier.name == name) {
                found.add_name(&entry, What::Twice(name.clone()));
            } else {
                seen.push(entry);
            }
        }
        Some(seen)
    }

    /// The same by name: all forms of a file are one, and JSON has no order of names.
    pub(crate) fn entries_in_order(&self, found: &mut Found) -> Option<Vec<Self>> {
        let mut sorted: Vec<Self> = Vec::new();
        for entry in self.entries(found)? {
            sorted.insert(sorted.partition_point(|earlier| earlier.name < entry.name), entry);
        }
        Some(sorted)
    }

    /// The fields of the map here; those that don't exist are noted and left out.
    pub(crate) fn fields(&self, words: &'static Words, found: &mut Found) -> Option<Fields<'a>> {
        let mut entries = self.entries(found)?;
        let given = entries.len();
        entries.retain(|entry| {
            let name = entry.name;
            if words.own.contains(&name) {
                return true;
            }
            let below = words.place_of(name);
            let similar = nearest(name, words.own.iter().copied()).filter(|_| below.is_none());
            #[cfg(feature = "files")]
            let similar = similar.or_else(|| crate::suggest::synonym(name).filter(|ours| words.own.contains(ours)));
            found.add_name(entry, What::UnknownField { field: shorten(name), similar, below, known: words.own });
            false
        });
        let incomplete = entries.len() < given;
        Some(Fields { at: self.clone(), entries, incomplete })
    }

    /// The duration here in milliseconds.
    pub(crate) fn duration_ms(&self, range: &Range, found: &mut Found) -> Option<u32> {
        let quantity = match &self.node.kind {
            Kind::Integer(seconds) => seconds.checked_mul(1000).ok_or(NoQuantity::TooLarge),
            Kind::Text(text) => duration_ms(text),
            Kind::Float(_) => Err(NoQuantity::Unreadable),
            _ => {
                self.wanted(Wanted::Duration, found);
                return None;
            }
        };
        let ms = self.within(range, quantity, |said| What::NotADuration { said }, found)?;
        u32::try_from(ms).ok()
    }

    /// The size here in bytes.
    pub(crate) fn size_bytes(&self, range: &Range, found: &mut Found) -> Option<u64> {
        let quantity = match &self.node.kind {
            Kind::Integer(bytes) => Ok(*bytes),
            Kind::Text(text) => size_bytes(text),
            Kind::Float(_) => Err(NoQuantity::Unreadable),
            _ => {
                self.wanted(Wanted::Size, found);
                return None;
            }
        };
        self.within(range, quantity, |said| What::NotASize { said }, found)
    }

    /// The number here.
    pub(crate) fn number(&self, range: &Range, found: &mut Found) -> Option<u64> {
        let Kind::Integer(number) = self.node.kind else {
            self.wanted(Wanted::Number, found);
            return None;
        };
        self.within(range, Ok(number), |said| What::NotADuration { said }, found)
    }

    fn within(
        &self,
        range: &Range,
        quantity: Result<u64, NoQuantity>,
        unreadable: fn(String) -> What,
        found: &mut Found,
    ) -> Option<u64> {
        let what = match quantity {
            Ok(quantity) if (range.low.0..=range.high.0).contains(&quantity) => return Some(quantity),
            Ok(_) | Err(NoQuantity::TooLarge) => {
                What::OutOfRange { said: self.said(), low: range.low.1, high: range.high.1 }
            }
            Err(NoQuantity::Unreadable) => unreadable(self.said()),
        };
        found.add(self, what);
        None
    }
}

/// The fields of one map that work.
pub(crate) struct Fields<'a> {
    pub(crate) at: At<'a>,
    entries: Vec<At<'a>>,
    /// Whether fields that don't work were left out.
    pub(crate) incomplete: bool,
}

impl<'a> Fields<'a> {
    /// A field, if it was given.
    pub(crate) fn get(&self, name: &str) -> Option<&At<'a>> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// A field that must be given; noted as missing otherwise.
    pub(crate) fn need(&self, field: &'static str, example: &'static str, found: &mut Found) -> Option<&At<'a>> {
        let entry = self.get(field);
        if entry.is_none() {
            // The first line of the map is enough to find it.
            let span = self.at.node.span.map(|span| Span { length: 1, ..span });
            found.push(&self.at.path, span, What::Missing { field, example });
        }
        entry
    }
}
