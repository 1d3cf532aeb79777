//! YAML as a tree with places.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span as Marks, StrInput};

use super::mistake::{Mistake, Span};

/// A value, and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) span: Span,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Text, numbers, yes and no: what it means is for the reader to say. `plain`: without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    /// A name may come twice here.
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) name_span: Span,
    pub(super) value: Node,
}

impl Node {
    /// Whether nothing is written here, or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    fn size(&self) -> usize {
        match &self.kind {
            Kind::Scalar { .. } => 1,
            Kind::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Kind::Map(entries) => 1 + entries.iter().map(|entry| entry.value.size()).sum::<usize>(),
        }
    }
}

/// Reads the one document of a file.
pub(super) fn parse(text: &str) -> Result<Node, Mistake> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        chars: text.chars().collect(),
        anchored: BTreeMap::new(),
        aliased: 0,
    };
    let mut root = None;
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => break,
            (Event::StreamStart | Event::DocumentEnd | Event::Nothing, _) => {}
            (Event::DocumentStart(_), marks) if root.is_some() => {
                return Err(here(marks.start, "a second document begins here", "keep one of them"));
            }
            (Event::DocumentStart(_), _) => {
                let (event, marks) = reader.next()?;
                root = Some(reader.node(event, marks, 0)?);
            }
            (_, marks) => return Err(here(marks.start, "this belongs to no document", "leave it out")),
        }
    }
    root.filter(|root| !root.is_null()).ok_or_else(|| Mistake::Here {
        span: Span { line: 1, column: 1, start: 0, length: 1 },
        what: "the file is empty".to_owned(),
        mend: "write `cases:` and a list of cases".to_owned(),
    })
}

struct Reader<'text> {
    events: Parser<'text, StrInput<'text>>,
    /// The parser counts in characters.
    chars: Vec<char>,
    anchored: BTreeMap<usize, Node>,
    /// Nodes that came from aliases.
    aliased: usize,
}

impl<'text> Reader<'text> {
    fn next(&mut self) -> Result<(Event<'text>, Marks), Mistake> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let what = format!("this is not YAML: {}", error.info());
                Err(here(*error.marker(), &what, "look at the indentation and the quotes up to here"))
            }
            None => Ok((Event::StreamEnd, Marks::default())),
        }
    }

    fn node(&mut self, event: Event<'text>, marks: Marks, depth: usize) -> Result<Node, Mistake> {
        /// This recurses, as do all who walk the tree.
        const DEPTH_MAX: usize = 64;
        if depth > DEPTH_MAX {
            return Err(here(marks.start, "this is nested too deeply", "no scenario needs more than a few levels"));
        }
        let (kind, end, anchor) = match event {
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                return Err(here(marks.start, "tags mean nothing here", "leave the `!…` out"));
            }
            Event::Scalar(text, style, anchor, None) => {
                (Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }, marks.end, anchor)
            }
            Event::SequenceStart(anchor, None) => {
                let mut items = Vec::new();
                let end = loop {
                    match self.next()? {
                        (Event::SequenceEnd, marks) => break marks.end,
                        (event, marks) => items.push(self.node(event, marks, depth + 1)?),
                    }
                };
                (Kind::List(items), end, anchor)
            }
            Event::MappingStart(anchor, None) => {
                let mut entries = Vec::new();
                let end = loop {
                    let (event, marks) = self.next()?;
                    if event == Event::MappingEnd {
                        break marks.end;
                    }
                    entries.push(self.entry(event, marks, depth + 1)?);
                };
                (Kind::Map(entries), end, anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, marks),
            _ => return Err(here(marks.start, "a value is missing here", "write one")),
        };
        let node = Node { kind, span: self.span(marks.start, end) };
        if anchor > 0 {
            self.anchored.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn entry(&mut self, event: Event<'text>, marks: Marks, depth: usize) -> Result<Entry, Mistake> {
        let Node { kind: Kind::Scalar { text: name, .. }, span: name_span } = self.node(event, marks, depth)? else {
            let mend = "put text that begins with a brace or bracket in quotes";
            return Err(here(marks.start, "a list or map stands where a name belongs", mend));
        };
        let (event, marks) = self.next()?;
        Ok(Entry { name, name_span, value: self.node(event, marks, depth)? })
    }

    fn alias(&mut self, anchor: usize, marks: Marks) -> Result<Node, Mistake> {
        /// A few lines of aliases to aliases could ask for more nodes than there is memory.
        const NODES_MAX: usize = 100_000;
        let Some(node) = self.anchored.get(&anchor).cloned() else {
            return Err(here(marks.start, "the alias stands inside of what it names", "write out what you mean"));
        };
        self.aliased += node.size();
        if self.aliased > NODES_MAX {
            return Err(here(marks.start, "aliases copy too much", "write out what you mean"));
        }
        Ok(Node { span: self.span(marks.start, marks.end), ..node })
    }

    /// The parser's marks may lie behind the white space that follows.
    fn span(&self, start: Marker, end: Marker) -> Span {
        let written = self.chars.get(start.index()..end.index()).unwrap_or_default();
        let blank = written.iter().rev().take_while(|char| char.is_whitespace()).count();
        Span { length: written.len() - blank, ..point(start) }
    }
}

fn point(at: Marker) -> Span {
    Span { line: at.line(), column: at.col() + 1, start: at.index(), length: 1 }
}

fn here(at: Marker, what: &str, mend: &str) -> Mistake {
    Mistake::Here { span: point(at), what: what.to_owned(), mend: mend.to_owned() }
}
