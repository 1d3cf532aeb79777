//! What a value may be expected to be: texts and amounts.

use std::fmt;
use std::time::Duration;

use regex::Regex;

use super::walk::At;

/// The conditions for a text.
pub(super) const TEXT: &[&str] = &["is", "contains", "lacks", "matches", "absent", "present"];
/// The conditions for an amount.
pub(super) const RANGE: &[&str] = &["at_least", "at_most"];

/// What is said of a text. Everything that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct Text {
    is: Option<String>,
    lines: Option<Vec<String>>,
    contains: Vec<String>,
    lacks: Vec<String>,
    matches: Option<Regex>,
    /// Whether it must be there at all.
    present: Option<bool>,
}

impl Text {
    /// A text that it must be, or a map of conditions; with `lines`, a list of what each line must be.
    pub fn read(at: At<'_>) -> Option<Self> {
        if at.is_list() {
            let lines = at.items()?.into_iter().map(|item| item.text().map(str::to_owned)).collect::<Option<_>>()?;
            return Some(Self { lines: Some(lines), ..Self::default() });
        }
        if !at.is_map() {
            return Some(Self { is: Some(at.text()?.to_owned()), ..Self::default() });
        }
        Self::read_conditions(at, &[])
    }

    /// The map of conditions alone; `beside` are fields of the same map that others read.
    pub(super) fn read_conditions(at: At<'_>, beside: &[&str]) -> Option<Self> {
        let fields = at.fields(&[TEXT, beside])?;
        let texts = |name| match fields.get(name) {
            Some(field) => field.one_or_many().into_iter().map(|item| item.text().map(str::to_owned)).collect(),
            None => Some(Vec::new()),
        };
        let matches = match fields.get("matches") {
            Some(field) => Some(read_regex(field)?),
            None => None,
        };
        let present = match (fields.get("absent"), fields.get("present")) {
            (Some(absent), None) => Some(!absent.yes_or_no()?),
            (None, Some(present)) => Some(present.yes_or_no()?),
            (None, None) => None,
            (Some(_), Some(present)) => {
                present.wrong_name("`present` and `absent` say the same", "keep one of them");
                return None;
            }
        };
        let is = match fields.get("is") {
            Some(field) => Some(field.text()?.to_owned()),
            None => None,
        };
        Some(Self { is, lines: None, contains: texts("contains")?, lacks: texts("lacks")?, matches, present })
    }

    /// A text that must be contained.
    pub(super) fn containing(part: &str) -> Self {
        Self { contains: vec![part.to_owned()], ..Self::default() }
    }

    /// Whether what is there, a line each, is as expected.
    pub fn holds(&self, lines: &[String]) -> bool {
        let any = |holds: &dyn Fn(&String) -> bool| lines.iter().any(holds);
        self.present.is_none_or(|present| present != lines.is_empty())
            && self.is.as_ref().is_none_or(|is| !lines.is_empty() && lines.join(", ") == *is)
            && self.lines.as_ref().is_none_or(|expected| expected == lines)
            && self.contains.iter().all(|part| any(&|line| line.contains(part)))
            && !self.lacks.iter().any(|part| any(&|line| line.contains(part)))
            && self.matches.as_ref().is_none_or(|regex| any(&|line| regex.is_match(line)))
    }

    /// The whole text that it must be, if that is what is expected.
    pub(super) fn whole(&self) -> Option<&str> {
        self.is.as_deref()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said: Vec<String> = Vec::new();
        match self.present {
            Some(true) => said.push("present".to_owned()),
            Some(false) => said.push("absent".to_owned()),
            None => {}
        }
        said.extend(self.is.as_ref().map(|is| format!("`{is}`")));
        said.extend(self.lines.as_ref().map(|lines| format!("the lines {lines:?}")));
        said.extend(self.contains.iter().map(|part| format!("containing `{part}`")));
        said.extend(self.lacks.iter().map(|part| format!("without `{part}`")));
        said.extend(self.matches.iter().map(|regex| format!("matching `{regex}`")));
        f.write_str(&said.join(" and "))
    }
}

/// A regular expression, as the crate `regex` understands it.
fn read_regex(at: At<'_>) -> Option<Regex> {
    match Regex::new(at.text()?) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            at.wrong(
                format!("this is not a regular expression: {reason}"),
                "single quotes keep backslashes as they are",
            );
            None
        }
    }
}

/// What is said of an amount: from `low` to `high`, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range<T> {
    low: Option<T>,
    high: Option<T>,
}

impl<T: Copy + PartialOrd> Range<T> {
    /// An amount, or a map with `at_least` and `at_most`.
    pub(super) fn read<'a>(at: At<'a>, read: impl Fn(&At<'a>) -> Option<T>) -> Option<Self> {
        if !at.is_map() {
            return read(&at).map(Self::exactly);
        }
        Self::read_bounds(at, &[], read)
    }

    /// The map alone; `beside` are fields of the same map that others read.
    pub(super) fn read_bounds<'a>(at: At<'a>, beside: &[&str], read: impl Fn(&At<'a>) -> Option<T>) -> Option<Self> {
        let fields = at.fields(&[RANGE, beside])?;
        let bound = |name| match fields.get(name) {
            Some(field) => read(&field).map(Some),
            None => Some(None),
        };
        let (low, high) = (bound("at_least")?, bound("at_most")?);
        if low.is_none() && high.is_none() {
            at.wrong("no amount is given", "write `at_least`, `at_most` or both");
            return None;
        }
        Some(Self { low, high })
    }

    pub(super) fn exactly(amount: T) -> Self {
        Self { low: Some(amount), high: Some(amount) }
    }

    pub(super) fn at_least(amount: T) -> Self {
        Self { low: Some(amount), high: None }
    }

    pub(super) fn holds(&self, amount: T) -> bool {
        self.low.is_none_or(|low| amount >= low) && self.high.is_none_or(|high| amount <= high)
    }

    /// In words.
    pub(super) fn shown(&self, show: impl Fn(T) -> String) -> String {
        match (self.low, self.high) {
            (Some(low), Some(high)) if low == high => show(low),
            (Some(low), Some(high)) => format!("{} to {}", show(low), show(high)),
            (Some(low), None) => format!("at least {}", show(low)),
            (None, Some(high)) => format!("at most {}", show(high)),
            (None, None) => "anything".to_owned(),
        }
    }
}

/// A duration as a person would write it.
pub(super) fn shown_duration(duration: Duration) -> String {
    if duration.is_zero() { "0ms".to_owned() } else { format!("{duration:?}") }
}
