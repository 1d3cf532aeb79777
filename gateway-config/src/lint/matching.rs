//! Whether each rule can be met. The router itself is asked, with requests made for the rules.

use routecache_core::matching::Router;
use routecache_core::policy::{Action, Policy, Rule};

use super::{Lint, RuleAt, Subject, Warning, child};

/// See its `about`.
pub(super) const SHADOWED_RULE: Lint = Lint {
    name: "shadowed-rule",
    about: "A cache rule that never answers, because others answer all its requests.",
    why: "A request is answered by the most specific rule, and by the first of equals. Nothing is left for this one. (All purge \
          rules that match a write apply, so none hides another.)",
    example: r#"
routes:
  - { name: user, match: { path: "/users/{id}" }, cache: {} }
  - { name: user-get, match: { methods: [GET], path: "/users/{user}" }, cache: { ttl: 1h } }
"#,
    mended: r#"
routes:
  - { name: user, match: { methods: [HEAD], path: "/users/{id}" }, cache: {} }
  - { name: user-get, match: { methods: [GET], path: "/users/{user}" }, cache: { ttl: 1h } }
"#,
};

/// See its `about`.
pub(super) const OVERLAPPING_RULES: Lint = Lint {
    name: "overlapping-rules",
    about: "Two cache rules meet some of the same requests, and neither is the special case of the other.",
    why: "Which of them answers follows from the order of specificity (segment by segment from the left), which readers may \
          not expect. `/users/me` beside `/users/{id}` is no such case: one is within the other.",
    example: r#"
routes:
  - { name: shop-section, match: { path: "/shop/{section}" }, cache: {} }
  - { name: news, match: { path: "/{site}/news" }, cache: {} }
"#,
    mended: r#"
routes:
  - { name: shop-section, match: { path: "/shop/{section}" }, cache: {} }
  - { name: news, match: { path: "/sites/{site}/news" }, cache: {} }
"#,
};

/// See its `about`.
pub(super) const LITERAL_PATTERN: Lint = Lint {
    name: "literal-pattern",
    about: "A path with something that other languages take for a pattern, and this one for text.",
    why: "`/users/:id`, `/users/<id>`, `/users/*` and `/users/(.*)` match just those letters here. A capture is `{id}`, the rest of a path \
          `{*rest}`.",
    example: r#"
routes:
  - { name: user, match: { path: "/users/:id" }, cache: {} }
"#,
    mended: r#"
routes:
  - { name: user, match: { path: "/users/{id}" }, cache: {} }
"#,
};

/// Values for captures: a number and a word, since a rule may want either.
const VALUES: [&str; 2] = ["1", "x-1"];

/// Overlaps are looked for pair by pair, and nobody reads thousands of them.
const RULES_MAX: usize = 2000;

pub(super) fn look(subject: &Subject<'_>, found: &mut Vec<Warning>) {
    subject.rules.iter().for_each(|rule| literal_pattern(rule, found));
    let all = All { policy: subject.policy, router: Router::new(&subject.policy.rules) };
    let cached: Vec<_> = subject
        .rules
        .iter()
        .filter_map(|rule| {
            let (index, checked) = by_name(subject.policy, rule.name)?;
            let alone = Router::new(std::slice::from_ref(checked));
            let caches = matches!(checked.action, Action::Cache(_));
            caches.then(|| Candidate {
                at: rule,
                index,
                rule: checked,
                segments: segments(checked.path.source()),
                alone,
            })
        })
        .collect();
    for rule in &cached {
        shadowed(rule, &cached, &all, found);
    }
    if cached.len() <= RULES_MAX {
        for (number, one) in cached.iter().enumerate() {
            for other in cached.iter().skip(number.saturating_add(1)) {
                overlapping(one, other, &all, found);
            }
        }
    }
}

fn literal_pattern(rule: &RuleAt<'_>, found: &mut Vec<Warning>) {
    let Some(at) = rule.get("match.path") else { return };
    let Some(path) = super::text(&at) else { return };
    let mended = |segment: &str| -> Option<String> {
        if segment.contains('{') {
            return None;
        }
        let letters = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        match segment {
            "*" | "**" | "(.*)" | ".*" => Some("{*rest}` or `{name}".to_owned()),
            _ if segment.starts_with([':', '$']) && segment.len() > 1 => Some(format!("{{{}}}", letters(segment))),
            _ if segment.starts_with('<') && segment.ends_with('>') => Some(format!("{{{}}}", letters(segment))),
            _ if segment.contains(['*', '(', '^', '+', '\\']) => Some("{name}".to_owned()),
            _ => None,
        }
    };
    let segment = path.split('/').find_map(|segment| mended(segment).map(|mended| (segment, mended)));
    if let Some((segment, mended)) = segment {
        let message = format!("`{segment}` in its path is matched letter by letter");
        found.push(rule.warn(
            &LITERAL_PATTERN,
            &at,
            message,
            format!("write `{mended}` if it stands for something else"),
        ));
    }
}

struct Candidate<'s, 'a> {
    at: &'s RuleAt<'a>,
    index: usize,
    rule: &'s Rule,
    segments: Vec<Segment<'s>>,
    /// This rule and no other.
    alone: Router,
}

fn by_name<'p>(policy: &'p Policy, name: &str) -> Option<(usize, &'p Rule)> {
    policy.rules.iter().enumerate().find(|(_, rule)| rule.name == name)
}

/// A host that no rule names.
const ELSEWHERE: &str = "other.invalid";

impl Candidate<'_, '_> {
    fn host(&self) -> &str {
        self.rule.host.as_deref().unwrap_or(ELSEWHERE)
    }

    fn is_met(&self, method: &str, host: &str, path: &str) -> bool {
        self.alone.find(method, host, path, &|_| true).cache.is_some()
    }
}

/// All rules together.
struct All<'s> {
    policy: &'s Policy,
    router: Router,
}

impl All<'_> {
    /// The rule that answers a request which meets the conditions of one rule, and of no other that has any.
    fn answers(&self, rule: usize, method: &str, host: &str, path: &str) -> Option<usize> {
        let unconditional = |index| self.policy.rules.get(index).is_some_and(|rule: &Rule| rule.conditions.is_empty());
        let meets = |index| index == rule || unconditional(index);
        self.router.find(method, host, path, &meets).cache.map(|found| found.rule)
    }
}

fn shadowed(rule: &Candidate<'_, '_>, all: &[Candidate<'_, '_>], router: &All<'_>, found: &mut Vec<Warning>) {
    let mut by = None;
    for method in &rule.rule.methods {
        for value in VALUES {
            let path = path_with(&rule.segments, value);
            if !rule.is_met(method, rule.host(), &path) {
                continue; // The request isn't one of its own: the rule asks for more than can be made up here.
            }
            match router.answers(rule.index, method, rule.host(), &path) {
                Some(index) if index != rule.index => by = Some(index),
                _ => return,
            }
        }
    }
    let Some(by) = by.and_then(|by| all.iter().find(|other| other.index == by)) else { return };
    let message = format!("it never answers: `{}` answers all its requests", by.rule.name);
    let mend = "narrow the other rule, or leave this one out";
    let path = rule.at.get("match").and_then(|at| child(&at, "path")).unwrap_or_else(|| rule.at.at.clone());
    found.push(rule.at.warn(&SHADOWED_RULE, &path, message, mend));
}

fn overlapping(one: &Candidate<'_, '_>, other: &Candidate<'_, '_>, router: &All<'_>, found: &mut Vec<Warning>) {
    if ![one, other].iter().all(|rule| rule.rule.conditions.is_empty()) {
        return; // Whether a request can meet both can't be told.
    }
    if within(&one.segments, &other.segments) || within(&other.segments, &one.segments) {
        return;
    }
    let Some(path) = both(&one.segments, &other.segments) else { return };
    let host = if one.rule.host.is_some() { one.host() } else { other.host() };
    let common = one.rule.methods.iter().find(|method| other.rule.methods.contains(method));
    let Some(method) = common.filter(|method| one.is_met(method, host, &path) && other.is_met(method, host, &path))
    else {
        return;
    };
    let Some(first) = router.answers(one.index, method, host, &path) else { return };
    // A third rule may answer what both meet.
    let (winner, loser) = if first == one.index {
        (one, other)
    } else if first == other.index {
        (other, one)
    } else {
        return;
    };
    let message = format!("`{method} {path}` meets this rule and `{}`, which answers it", winner.rule.name);
    let mend = "give what both meet a rule of its own, or make one path the special case of the other";
    let at = loser.at.get("match.path").unwrap_or_else(|| loser.at.at.clone());
    found.push(loser.at.warn(&OVERLAPPING_RULES, &at, message, mend));
}

/// A segment of a path template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment<'a> {
    Text(&'a str),
    /// A capture, with what stands before and behind it.
    Capture(&'a str, &'a str),
    Rest,
}

fn segments(path: &str) -> Vec<Segment<'_>> {
    let segment = |text| match str::split_once(text, '{') {
        Some((_, rest)) if rest.starts_with('*') => Segment::Rest,
        Some((before, rest)) => Segment::Capture(before, rest.split_once('}').map_or("", |(_, after)| after)),
        None => Segment::Text(text),
    };
    path.split('/').map(segment).collect()
}

/// A path that meets the template, with this value for each capture.
fn path_with(segments: &[Segment<'_>], value: &str) -> String {
    let segment = |segment: &Segment<'_>| match segment {
        Segment::Text(text) => (*text).to_owned(),
        Segment::Capture(before, after) => format!("{before}{value}{after}"),
        Segment::Rest => value.to_owned(),
    };
    segments.iter().map(segment).collect::<Vec<_>>().join("/")
}

/// Whether every path that `inner` matches is one that `outer` matches.
fn within(inner: &[Segment<'_>], outer: &[Segment<'_>]) -> bool {
    match (inner, outer) {
        ([], []) => true,
        ([_, ..], [Segment::Rest]) => true,
        ([Segment::Rest, ..], _) | (_, [Segment::Rest, ..]) => false,
        ([one, inner @ ..], [other, outer @ ..]) => {
            let fits = match (one, other) {
                (Segment::Text(text), Segment::Text(other)) => text == other,
                (Segment::Text(text), Segment::Capture(before, after)) => {
                    text.len() > before.len().saturating_add(after.len())
                        && text.starts_with(before)
                        && text.ends_with(after)
                }
                (Segment::Capture(before, after), Segment::Capture(start, end)) => {
                    before.starts_with(start) && after.ends_with(end)
                }
                _ => false,
            };
            fits && within(inner, outer)
        }
        _ => false,
    }
}

/// A path that both match, if there is one.
fn both(one: &[Segment<'_>], other: &[Segment<'_>]) -> Option<String> {
    let mut path = Vec::new();
    let (mut one, mut other) = (one, other);
    loop {
        let segment = match (one.split_first(), other.split_first()) {
            (None, None) => return Some(path.join("/")),
            (Some((Segment::Rest, _)), Some(_)) => {
                return Some(format!("{}/{}", path.join("/"), path_with(other, "1")));
            }
            (Some(_), Some((Segment::Rest, _))) => return Some(format!("{}/{}", path.join("/"), path_with(one, "1"))),
            (Some((a, rest)), Some((b, rest_of_other))) => {
                (one, other) = (rest, rest_of_other);
                match (a, b) {
                    (Segment::Text(text), Segment::Text(same)) if text != same => return None,
                    (Segment::Text(text), _) | (_, Segment::Text(text)) => (*text).to_owned(),
                    (Segment::Capture(before, after), Segment::Capture(start, end)) => {
                        let longer =
                            |a: &'_ str, b: &'_ str| if a.len() > b.len() { a.to_owned() } else { b.to_owned() };
                        format!("{}1{}", longer(before, start), longer(after, end))
                    }
                    (Segment::Rest, _) | (_, Segment::Rest) => return None,
                }
            }
            _ => return None,
        };
        path.push(segment);
    }
}
