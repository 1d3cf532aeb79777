//! YAML as a tree with places. JSON files are read here too: nearly all JSON is YAML.
//!
//! The parser's events are put together here rather than by its own loader, which keeps one value of a name that comes
//! twice, and stops at the first such name.

use std::borrow::Cow;
use std::collections::BTreeMap;

use saphyr::{Scalar, ScalarStyle, ScanError, Tag};
use saphyr_parser::{Event, Marker, Parser, Span as YamlSpan};

use crate::json::number;
use crate::mistake::{Mistake, Mistakes, What};
use crate::tree::{Entry, Kind, Node, Span};

/// As deep as rules ever get, several times over; the checker and the tree's own destruction recurse.
const DEPTH_MAX: usize = 64;

/// Aliases copy what they name, so a few lines could ask for more nodes than there is memory.
const ALIASED_NODES_MAX: usize = 100_000;

/// Reads a file with one document.
pub(crate) fn parse(text: &str) -> Result<Node, Mistakes> {
    let mut reading = Reading { chars: text.chars().collect(), ..Reading::default() };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| scan_mistake(&error))?;
        reading.event(event, span)?;
    }
    reading.root.ok_or_else(|| Mistake::new("", None, What::Nothing).into())
}

/// What has been read of the document.
#[derive(Default)]
struct Reading {
    /// The text; the parser counts in characters.
    chars: Vec<char>,
    /// The lists and maps around the next node, the innermost last.
    open: Vec<Open>,
    anchored: BTreeMap<usize, Node>,
    aliased_nodes: usize,
    root: Option<Node>,
}

/// A list or map whose end hasn't come.
struct Open {
    start: Marker,
    anchor: usize,
    what: Collection,
}

enum Collection {
    List(Vec<Node>),
    /// The entries, and the name whose value comes next.
    Map(Vec<Entry>, Option<(String, Option<Span>)>),
}

impl Reading {
    fn event(&mut self, event: Event<'_>, span: YamlSpan) -> Result<(), Mistakes> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(unusable(span, "a second document begins here; rules are a single one", "keep one of them"))
            }
            Event::DocumentStart(_) => Ok(()),
            Event::Scalar(text, style, anchor, tag) => {
                let kind = scalar(text, style, tag.as_ref())
                    .ok_or_else(|| unusable(span, "the value doesn't fit its tag", "leave the tag out"))?;
                self.node(Node { kind, span: Some(self.place(span.start, span.end)) }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.open(span, anchor, Collection::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.open(span, anchor, Collection::Map(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { start, anchor, what }) = self.open.pop() else { return Ok(()) };
                let kind = match what {
                    Collection::List(items) => Kind::List(items),
                    Collection::Map(entries, _) => Kind::Map(entries),
                };
                self.node(Node { kind, span: Some(self.place(start, span.end)) }, anchor)
            }
            Event::Alias(anchor) => {
                let named = self.anchored.get(&anchor);
                let mut node = named.cloned().ok_or_else(|| {
                    unusable(span, "the alias stands inside of what it names", "write out what you mean")
                })?;
                self.aliased_nodes = self.aliased_nodes.saturating_add(size(&node));
                if self.aliased_nodes > ALIASED_NODES_MAX {
                    return Err(unusable(span, "aliases copy too much", "write out what you mean"));
                }
                node.span = Some(self.place(span.start, span.end));
                self.node(node, 0)
            }
        }
    }

    /// The place of a node. The parser's marks may lie behind the white space that follows.
    fn place(&self, start: Marker, end: Marker) -> Span {
        let written = self.chars.get(start.index()..end.index()).unwrap_or_default();
        let blanks = written.iter().rev().take_while(|char| char.is_whitespace()).count();
        Span { length: written.len().saturating_sub(blanks), ..point(start) }
    }

    fn open(&mut self, span: YamlSpan, anchor: usize, what: Collection) -> Result<(), Mistakes> {
        if self.open.len() >= DEPTH_MAX {
            return Err(unusable(span, "this is nested too deeply", "no rule needs more than a few levels"));
        }
        self.open.push(Open { start: span.start, anchor, what });
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn node(&mut self, node: Node, anchor: usize) -> Result<(), Mistakes> {
        if anchor > 0 {
            self.anchored.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.what) {
            None => self.root = Some(node),
            Some(Collection::List(items)) => items.push(node),
            Some(Collection::Map(entries, name)) => match name.take() {
                Some((name, span)) => entries.push(Entry { name, span, value: node }),
                None if matches!(node.kind, Kind::List(_) | Kind::Map(_)) => {
                    let detail = "a list or map stands where a name belongs";
                    let mend = "put templates in quotes, such as `\"{user_id}\"`";
                    return Err(Mistake::new("", node.span, What::UnusableYaml { detail, mend }).into());
                }
                None => {
                    let text = if let Kind::Text(text) = node.kind { text } else { node.shown() };
                    *name = Some((text, node.span));
                }
            },
        }
        Ok(())
    }
}

/// The value of a scalar in YAML's core schema.
fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Cow<'_, Tag>>) -> Option<Kind> {
    Some(match Scalar::parse_from_cow_and_metadata(text, style, tag)? {
        Scalar::Null => Kind::Null,
        Scalar::Boolean(value) => Kind::Bool(value),
        #[expect(clippy::cast_precision_loss, reason = "a negative number is refused everywhere, whatever it is")]
        Scalar::Integer(value) => u64::try_from(value).map_or_else(|_| Kind::Float(value as f64), Kind::Integer),
        Scalar::FloatingPoint(value) => number(value.into_inner()),
        Scalar::String(text) => Kind::Text(text.into_owned()),
    })
}

/// How many nodes there are from here down.
fn size(node: &Node) -> usize {
    let below: usize = match &node.kind {
        Kind::List(items) => items.iter().map(size).sum(),
        Kind::Map(entries) => entries.iter().map(|entry| size(&entry.value)).sum(),
        _ => 0,
    };
    below.saturating_add(1)
}

/// A place without length.
fn point(at: Marker) -> Span {
    Span { line: at.line(), column: at.col().saturating_add(1), length: 1 }
}

fn unusable(span: YamlSpan, detail: &'static str, mend: &'static str) -> Mistakes {
    Mistake::new("", Some(point(span.start)), What::UnusableYaml { detail, mend }).into()
}

fn scan_mistake(error: &ScanError) -> Mistakes {
    Mistake::new("", Some(point(*error.marker())), What::NotYaml(error.info().to_owned())).into()
}
