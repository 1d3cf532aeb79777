//! Walking the tree: values are read as what they should be, and mistakes are noted where they are seen.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::mistake::{File, Mistake, Span};
use super::yaml::{Entry, Kind, Node};

/// The file being read, and the mistakes seen so far.
pub(super) struct Notes {
    pub(super) file: Rc<File>,
    pub(super) mistakes: RefCell<Vec<Mistake>>,
}

/// A value of a scenario file, and the way to say what is wrong with it.
///
/// The methods that read it note a mistake and give nothing where something else was written.
#[derive(Clone, Copy)]
pub struct At<'a> {
    node: &'a Node,
    /// The field that holds it; empty for items of lists.
    name: &'a str,
    name_span: Span,
    notes: &'a Notes,
}

/// What is wrong with it.
impl<'a> At<'a> {
    pub(super) fn root(node: &'a Node, notes: &'a Notes) -> Self {
        Self { node, name: "", name_span: node.span, notes }
    }

    /// The field that holds it; empty for items of lists.
    pub fn name(&self) -> &'a str {
        self.name
    }

    pub(super) fn span(&self) -> Span {
        self.node.span
    }

    /// Notes a mistake: what it is, and how to mend it.
    pub fn wrong(&self, what: impl Into<String>, mend: impl Into<String>) {
        self.note(self.node.span, what, mend);
    }

    /// Notes a mistake about the name of the field.
    pub(super) fn wrong_name(&self, what: impl Into<String>, mend: impl Into<String>) {
        self.note(self.name_span, what, mend);
    }

    /// Notes a mistake in something that is mentioned here; the message says by itself where and how.
    pub fn wrong_elsewhere(&self, message: impl Into<String>) {
        let mistake = Mistake::Elsewhere { span: self.node.span, message: message.into() };
        self.notes.mistakes.borrow_mut().push(mistake);
    }

    fn note(&self, span: Span, what: impl Into<String>, mend: impl Into<String>) {
        self.notes.mistakes.borrow_mut().push(Mistake::Here { span, what: what.into(), mend: mend.into() });
    }

    /// Notes that something else belongs here, such as "a number".
    fn wanted(&self, wanted: &str, example: &str) {
        let is = match &self.node.kind {
            _ if self.node.is_null() => "empty".to_owned(),
            Kind::Scalar { text, .. } => format!("`{}`", shorten(text)),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
        };
        let subject = if self.name.is_empty() { String::new() } else { format!("`{}` is ", self.name) };
        let wanted =
            if subject.is_empty() { format!("here is {is}, not {wanted}") } else { format!("{is}, not {wanted}") };
        self.wrong(format!("{subject}{wanted}"), format!("write {example}"));
    }
}

/// Reading it.
impl<'a> At<'a> {
    /// Whether a map, rather than a list or a scalar, stands here.
    pub fn is_map(&self) -> bool {
        matches!(self.node.kind, Kind::Map(_))
    }

    /// Whether a list stands here.
    pub fn is_list(&self) -> bool {
        matches!(self.node.kind, Kind::List(_))
    }

    /// The scalar here, as it is written, if it is one.
    pub(super) fn scalar(&self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Scalar { text, .. } if !self.node.is_null() => Some(text),
            _ => None,
        }
    }

    /// The text here; numbers are text too.
    pub fn text(&self) -> Option<&'a str> {
        let text = self.scalar();
        if text.is_none() {
            self.wanted("text", "text, in quotes if it begins with `{` or `[`");
        }
        text
    }

    /// The path of a file here; a relative one begins beside the scenario file.
    pub fn path(&self) -> Option<PathBuf> {
        Some(self.notes.file.beside(self.text()?))
    }

    /// The bytes of the file whose path stands here.
    pub fn file(&self) -> Option<Vec<u8>> {
        let path = self.path()?;
        let read = std::fs::read(&path);
        if let Err(error) = &read {
            let mend = "a relative path begins in the folder of this file";
            self.wrong(format!("{} can't be read: {error}", path.display()), mend);
        }
        read.ok()
    }

    /// A whole number from 0 up.
    pub fn number(&self) -> Option<u64> {
        let number = self.scalar().and_then(|text| text.parse().ok());
        if number.is_none() {
            self.wanted("a whole number", "digits only");
        }
        number
    }

    /// A number that is an index or a count of things in memory.
    pub(super) fn count(&self) -> Option<usize> {
        self.number().and_then(|number| usize::try_from(number).ok())
    }

    /// A status of HTTP.
    pub(super) fn status(&self) -> Option<u16> {
        let status = self.scalar().and_then(|text| text.parse().ok()).filter(|status| (200..=599).contains(status));
        if status.is_none() {
            self.wanted("a final status", "a number from 200 to 599");
        }
        status
    }

    /// `true` or `false`.
    pub fn yes_or_no(&self) -> Option<bool> {
        self.one_of(&[("true", true), ("false", false)])
    }

    /// One of several words.
    pub fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let found = self.scalar().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let all: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            self.wanted("one of the words that belong here", &all.join(" or "));
        }
        found.map(|(_, value)| *value)
    }

    /// A number with its unit: `50ms`, `5s`, `10m`, `1h`, `1d`.
    pub fn duration(&self) -> Option<Duration> {
        let duration = self.scalar().and_then(parse_duration);
        if duration.is_none() {
            self.wanted("a duration", "the number and its unit together, such as `50ms`, `2s` or `5m`");
        }
        duration
    }

    /// A time of day, in UTC, since 1970: `2026-02-28T23:59:00Z`.
    pub(super) fn date(&self) -> Option<Duration> {
        let date = self.scalar().and_then(parse_date);
        if date.is_none() {
            self.wanted("a date and time", "both in UTC, such as `2026-02-28T23:59:00Z`");
        }
        date
    }

    /// The items of the list here.
    pub fn items(&self) -> Option<Vec<Self>> {
        let Kind::List(items) = &self.node.kind else {
            self.wanted("a list", "`[…]`, or lines that begin with `- `");
            return None;
        };
        Some(items.iter().map(|node| self.item(node)).collect())
    }

    /// The items of the list here, or the one thing that stands here instead.
    pub fn one_or_many(&self) -> Vec<Self> {
        match &self.node.kind {
            Kind::List(items) => items.iter().map(|node| self.item(node)).collect(),
            _ => vec![*self],
        }
    }

    fn item(&self, node: &'a Node) -> Self {
        Self { node, name: "", name_span: node.span, notes: self.notes }
    }

    /// The entries of the map here, whatever their names, each once.
    pub fn entries(&self) -> Option<Vec<Self>> {
        let Kind::Map(entries) = &self.node.kind else {
            self.wanted("a map", "`name: value` lines, or `{ name: value }`");
            return None;
        };
        let mut seen: Vec<Self> = Vec::new();
        for Entry { name, name_span, value } in entries {
            let entry = Self { node: value, name, name_span: *name_span, notes: self.notes };
            if seen.iter().any(|earlier| earlier.name == name) {
                entry.wrong_name(format!("`{name}` stands here twice"), "keep one of them");
            } else {
                seen.push(entry);
            }
        }
        Some(seen)
    }

    /// The fields of the map here; those whose names aren't among the known ones are noted and left out.
    pub fn fields(&self, known: &[&[&str]]) -> Option<Fields<'a>> {
        let mut entries = self.entries()?;
        entries.retain(|entry| {
            let names = || known.iter().copied().flatten().copied();
            let is_known = names().any(|name| name == entry.name);
            if !is_known {
                let near = names().map(|name| (strsim::damerau_levenshtein(name, entry.name), name)).min();
                let mend = match near {
                    Some((distance, name)) if distance <= entry.name.chars().count().div_ceil(3) => {
                        format!("did you mean `{name}`?")
                    }
                    _ => format!("known here: {}", names().collect::<Vec<_>>().join(", ")),
                };
                entry.wrong_name(format!("`{}` is unknown", shorten(entry.name)), mend);
            }
            is_known
        });
        Some(Fields { entries })
    }

    /// The same structure as JSON.
    pub fn json(&self) -> serde_json::Value {
        to_json(self.node)
    }

    /// The text of the file with all but this value blanked out, so that another reader of YAML finds this value alone,
    /// at its place.
    pub fn alone(&self) -> String {
        let meant = self.node.span.start..self.node.span.start + self.node.span.length;
        let keep = |(index, char): (usize, char)| if char == '\n' || meant.contains(&index) { char } else { ' ' };
        self.notes.file.text.chars().enumerate().map(keep).collect()
    }

    /// The name of the scenario file, as messages show it.
    pub fn file_name(&self) -> String {
        self.notes.file.path.display().to_string()
    }
}

/// The fields of a map that are known there.
#[derive(Clone)]
pub struct Fields<'a> {
    entries: Vec<At<'a>>,
}

impl<'a> Fields<'a> {
    /// A field, if it is given.
    pub fn get(&self, name: &str) -> Option<At<'a>> {
        self.entries.iter().find(|entry| entry.name == name).copied()
    }

    /// Those that are given, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = At<'a>> {
        self.entries.iter().copied()
    }

    /// These, and of the others those that aren't here.
    pub(super) fn or(mut self, others: &Self) -> Self {
        let more: Vec<_> = others.iter().filter(|other| self.get(other.name).is_none()).collect();
        self.entries.extend(more);
        self
    }
}

/// Does something with each. Every one is tried, so that every mistake is noted.
pub(super) fn every<T>(items: impl IntoIterator<Item = T>, mut work: impl FnMut(T) -> Option<()>) -> Option<()> {
    // Not `all`, which would stop at the first.
    let failed = items.into_iter().filter_map(|item| work(item).is_none().then_some(())).count();
    (failed == 0).then_some(())
}

/// All of them, if each could be read. Every one is tried, so that every mistake is noted.
pub(super) fn all<T>(read: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let tried: Vec<Option<T>> = read.collect();
    tried.into_iter().collect()
}

/// Digits and a unit, or 0.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == "0" => 0,
        _ => return None,
    };
    // A century is enough, and can be added to any other without overflow.
    let ms = number.parse::<u64>().ok()?.checked_mul(ms).filter(|ms| *ms < 36_525 * 86_400_000)?;
    Some(Duration::from_millis(ms))
}

/// RFC 3339, in UTC and without fractions, from 1970 on.
fn parse_date(text: &str) -> Option<Duration> {
    let digits = |range: std::ops::Range<usize>| {
        let digits = text.get(range).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse::<u64>().ok())
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if text.len() != 20 || marks.iter().any(|(at, mark)| text.as_bytes()[*at] != *mark) {
        return None;
    }
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    let leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *days.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if year < 1970 || !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let before = days.iter().take(usize::try_from(month - 1).ok()?).sum::<u64>();
    // Leap years before this one, less those before 1970.
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + before + day - 1;
    Some(Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

fn to_json(node: &Node) -> serde_json::Value {
    match &node.kind {
        Kind::Scalar { text, plain: false } => text.as_str().into(),
        Kind::Scalar { .. } if node.is_null() => serde_json::Value::Null,
        // What JSON would read as a number, `true` or `false` is that.
        Kind::Scalar { text, .. } => match serde_json::from_str(text) {
            Ok(value @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => value,
            _ => text.as_str().into(),
        },
        Kind::List(items) => items.iter().map(to_json).collect(),
        Kind::Map(entries) => entries.iter().map(|entry| (entry.name.clone(), to_json(&entry.value))).collect(),
    }
}

/// Messages quote what was written, but not pages of it.
pub(super) fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let line: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(CHARS_MAX).collect();
    if line.chars().count() < text.chars().count() { format!("{line}…") } else { line }
}

#[cfg(test)]
mod tests {
    use super::parse_date;

    #[test]
    fn dates_are_read_in_utc() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400)),
            ("2026-01-01T00:00:00Z", Some(1_767_225_600)),
            ("2026-12-31T23:59:59Z", Some(1_798_761_599)),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("1969-12-31T00:00:00Z", None),
            ("2026-01-01 00:00:00Z", None),
            ("2026-01-01", None),
        ] {
            assert_eq!(parse_date(text).map(|date| date.as_secs()), seconds, "{text}");
        }
    }
}
