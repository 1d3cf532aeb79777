//! Warnings: what is right as rules, and probably isn't meant.
//!
//! Each has a name, is told on a page with an example (docs/linting.md, which is made here), and can be allowed: by a comment,
//! `# routecache: allow(tag-never-purged)`, on the line, above it, or above a rule or any field, for all that is below.

mod allow;
mod matching;
mod page;
mod secrets;
mod tags;
mod terms;

use std::fmt;

use routecache_core::policy::Policy;

use crate::Environment;
use crate::files::{File, Place};
use crate::tree::{Kind, Node, Span, visible};
use crate::walk::{At, Found};

pub use page::markdown;
pub use terms::KEPT_SECONDS_MAX;

/// One kind of warning.
#[derive(Debug, PartialEq, Eq)]
pub struct Lint {
    /// Its name, by which it is allowed.
    pub name: &'static str,
    /// What it finds, in a line.
    pub about: &'static str,
    /// Why that matters, and what to do; Markdown.
    pub why: &'static str,
    /// Rules that it finds something in.
    pub example: &'static str,
    /// The same, mended.
    pub mended: &'static str,
}

/// Something that is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which kind.
    pub lint: &'static Lint,
    /// The way to it, such as `routes[1].cache.tags[0]`; empty for the whole.
    pub path: String,
    /// The rule that it belongs to, by name.
    pub rule: Option<String>,
    /// The place in the text, where there is one.
    pub span: Option<Span>,
    /// What it is, in a line.
    pub message: String,
    /// How to mend it, in a line.
    pub mend: String,
    /// Whether a comment allows it.
    pub allowed: bool,
}

/// What was found in a file: warnings in the order of the file, with which they are shown.
#[derive(Clone, Debug)]
pub struct Warnings {
    /// Those that comments allow, too.
    pub list: Vec<Warning>,
    file: File,
}

/// Every kind, in the order of the page.
pub const LINTS: [&Lint; 18] = [
    &tags::TAG_NEVER_PURGED,
    &tags::PURGE_TAG_UNREAD,
    &tags::TAG_NOT_IN_KEY,
    &tags::BARE_TAG,
    &matching::SHADOWED_RULE,
    &matching::OVERLAPPING_RULES,
    &matching::LITERAL_PATTERN,
    &terms::AUTHORIZATION_WITHOUT_IDENTITY,
    &terms::IDENTITY_WITHOUT_TAGS,
    &terms::PERSONAL_PATH_SHARED,
    &terms::PRIVATE_OVERRIDDEN,
    &secrets::SECRET_IN_RULES,
    &terms::TTL_BEYOND_EPOCH,
    &terms::LONG_LIVED_ERROR,
    &terms::NOTHING_STORED,
    &terms::MISSPELT_BUCKET,
    &terms::UNUSED_BUCKET,
    &allow::UNUSED_ALLOW,
];

/// The kind of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Lint> {
    LINTS.into_iter().find(|lint| lint.name == name)
}

/// What the checks look at.
struct Subject<'a> {
    root: &'a Node,
    policy: &'a Policy,
    env: Environment<'a>,
    rules: Vec<RuleAt<'a>>,
}

/// A rule as it was written.
struct RuleAt<'a> {
    name: &'a str,
    at: At<'a>,
}

/// Looks at rules that are right.
pub(crate) fn lint(root: &Node, file: &File, policy: &Policy, env: Environment<'_>) -> Warnings {
    let rules = child(&At::root(root), "routes").map(|at| items(&at)).unwrap_or_default();
    let rules = rules.into_iter().filter_map(|at| Some(RuleAt { name: text(&child(&at, "name")?)?, at }));
    let subject = Subject { root, policy, env, rules: rules.collect() };
    let mut list = Vec::new();
    tags::look(&subject, &mut list);
    matching::look(&subject, &mut list);
    terms::look(&subject, &mut list);
    secrets::look(&subject, file.text(), &mut list);
    allow::apply(root, file.text(), &mut list);
    list.sort_by_key(|warning| warning.span.map_or((usize::MAX, 0), |span| (span.line, span.column)));
    Warnings { list, file: file.clone() }
}

/// The value of a field, if it is there.
fn child<'a>(at: &At<'a>, name: &str) -> Option<At<'a>> {
    matches!(at.node.kind, Kind::Map(_))
        .then(|| at.entries(&mut Found::default()))??
        .into_iter()
        .find(|at| at.name == name)
}

/// The value at the end of a way such as `cache.query.include`.
fn below<'a>(at: &At<'a>, way: &str) -> Option<At<'a>> {
    way.split('.').try_fold(at.clone(), |at, name| child(&at, name))
}

/// The entries of a map; none of anything else.
fn entries<'a>(at: &At<'a>) -> Vec<At<'a>> {
    let is_map = matches!(at.node.kind, Kind::Map(_));
    is_map.then(|| at.entries(&mut Found::default())).flatten().unwrap_or_default()
}

/// The items of a list; none of anything else.
fn items<'a>(at: &At<'a>) -> Vec<At<'a>> {
    let is_list = matches!(at.node.kind, Kind::List(_));
    is_list.then(|| at.items(&mut Found::default())).flatten().unwrap_or_default()
}

fn text<'a>(at: &At<'a>) -> Option<&'a str> {
    match &at.node.kind {
        Kind::Text(text) => Some(text),
        _ => None,
    }
}

impl<'a> RuleAt<'a> {
    /// A field of the rule.
    fn get(&self, way: &str) -> Option<At<'a>> {
        below(&self.at, way)
    }

    /// The word that a field holds.
    fn word(&self, way: &str) -> Option<&'a str> {
        text(&self.get(way)?)
    }

    fn caches(&self) -> bool {
        self.get("cache").is_some()
    }

    fn warn(&self, lint: &'static Lint, at: &At<'_>, message: String, mend: impl Into<String>) -> Warning {
        Warning { rule: Some(self.name.to_owned()), ..warning(lint, at, message, mend) }
    }
}

fn warning(lint: &'static Lint, at: &At<'_>, message: String, mend: impl Into<String>) -> Warning {
    let (path, span) = (at.path.clone(), at.node.span);
    Warning { lint, path, rule: None, span, message, mend: mend.into(), allowed: false }
}

impl Warnings {
    /// Those that nothing allows.
    pub fn iter(&self) -> impl Iterator<Item = &Warning> {
        self.list.iter().filter(|warning| !warning.allowed)
    }

    /// Leaves out what `keep` doesn't want.
    pub fn retain(&mut self, keep: impl FnMut(&Warning) -> bool) {
        self.list.retain(keep);
    }
}

impl fmt::Display for Warnings {
    /// Each warning that nothing allows, with its place and mend; with `{:#}` in colours for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|warning| {
            let head = format!("warning: {warning} [{}]", warning.lint.name);
            // A secret isn't repeated in logs.
            let quotes = warning.lint.name != secrets::SECRET_IN_RULES.name;
            let place = Place { span: warning.span, path: &warning.path, quotes, is_warning: true };
            self.file.show(&place, &head, &visible(&warning.mend), f)
        })
    }
}

impl fmt::Display for Warning {
    /// The rule and what it is, in one line, without place and mend.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rule) = &self.rule {
            write!(f, "rule `{}`: ", visible(rule))?;
        }
        f.write_str(&visible(&self.message))
    }
}

#[cfg(test)]
mod tests;
