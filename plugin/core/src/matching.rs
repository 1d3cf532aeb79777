//! Which rules a request meets: [`Router`].
//!
//! A request is held against *every* rule: the most specific cache rule answers it, and all purge rules that match
//! apply, because a purge rule hidden behind a more specific one would mean stale data. `matchit` finds the template of a path
//! in a time that doesn't grow with their number, but only one, and some it refuses side by side (`/s/{x}`, `/s/{*r}`). So
//! each *shape* of template has a tree of its own: `/users/{id}` and `/carts/{id}` share one, `/users/me` stands in another.
//! Templates of one shape that differ can't fit the same path, so asking the tree of each shape finds all.

use std::borrow::Cow;
use std::cmp::Reverse;

use crate::order::sorted;
use crate::path::{Capture, PathTemplate, Segment};
use crate::policy::{Action, Rule};

/// Finds the rules for a request.
#[derive(Debug, Default)]
pub struct Router {
    /// By host, by `*.` and what stands behind it, and under no name for every host; in the order of those names.
    hosts: Vec<(String, Vec<Tree>)>,
}

/// The templates of one host that have one shape.
#[derive(Debug)]
struct Tree {
    shape: String,
    /// How many slashes a path has that fits; where its rest is captured, at least.
    slashes: usize,
    takes_rest: bool,
    templates: matchit::Router<Vec<Candidate>>,
}

#[derive(Debug)]
struct Candidate {
    index: usize,
    captures: Vec<Capture>,
    methods: Vec<String>,
    purges: bool,
    /// Smaller is more specific; unique, so that order only breaks ties.
    rank: usize,
}

/// A rule that a request meets, with the captured values as the request spells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<'r, 'p> {
    /// Index of the rule in the policy.
    pub rule: usize,
    captures: &'r [Capture],
    values: Vec<&'p str>,
}

impl<'p> Match<'_, 'p> {
    /// The value of a capture, percent-encoded as it came.
    #[must_use]
    pub fn capture(&self, name: &str) -> Option<&'p str> {
        self.captures.iter().zip(&self.values).find(|(known, _)| known.name == name).map(|(_, value)| *value)
    }
}

/// All rules that a request meets.
#[derive(Debug, Default)]
pub struct Matches<'r, 'p> {
    /// The most specific cache rule.
    pub cache: Option<Match<'r, 'p>>,
    /// Every purge rule.
    pub purges: Vec<Match<'r, 'p>>,
}

impl Router {
    /// Puts the rules' paths into trees.
    #[must_use]
    pub fn new(rules: &[Rule]) -> Self {
        let mut router = Self::default();
        for ((index, rule), rank) in rules.iter().enumerate().zip(ranks(rules)) {
            let Some(trees) = router.trees_of(rule.host.as_deref().unwrap_or_default()) else { continue };
            let candidate = || Candidate {
                index,
                captures: rule.path.captures.clone(),
                methods: rule.methods.clone(),
                purges: matches!(rule.action, Action::Purge(_)),
                rank,
            };
            let (shape, template) = (shape(&rule.path), template(&rule.path));
            let tree = trees.iter_mut().find(|tree| tree.shape == shape);
            // The first of its shape; or refused beside others, where both have text around a capture, and as right alone.
            if !tree.is_some_and(|tree| tree.insert(&template, &candidate)) {
                let mut tree = Tree {
                    slashes: rule.path.segments.len(),
                    takes_rest: rule.path.segments.last() == Some(&Segment::Rest),
                    shape,
                    templates: matchit::Router::new(),
                };
                tree.insert(&template, &candidate);
                trees.push(tree);
            }
        }
        router
    }

    fn place_of(&self, host: &str) -> Result<usize, usize> {
        self.hosts.binary_search_by(|(known, _)| known.as_str().cmp(host))
    }

    /// The trees of a host, none yet if it is new.
    fn trees_of(&mut self, host: &str) -> Option<&mut Vec<Tree>> {
        let place = match self.place_of(host) {
            Ok(place) => place,
            Err(place) => {
                self.hosts.insert(place, (host.to_owned(), Vec::new()));
                place
            }
        };
        self.hosts.get_mut(place).map(|(_, trees)| trees)
    }

    /// The rules for a request; `host` is in lower case and without port, `path` without query. `meets` says whether it
    /// meets a rule's other conditions.
    pub fn find<'r, 'p>(
        &'r self,
        method: &str,
        host: &str,
        path: &'p str,
        meets: &dyn Fn(usize) -> bool,
    ) -> Matches<'r, 'p> {
        let mut found = Matches::default();
        let mut best = usize::MAX;
        self.each(method, host, path, &mut |rule, values| {
            if !rule.purges && rule.rank > best || !meets(rule.index) {
                return;
            }
            let matched = Match { rule: rule.index, captures: &rule.captures, values: values.to_vec() };
            if rule.purges {
                found.purges.push(matched);
            } else {
                best = rule.rank;
                found.cache = Some(matched);
            }
        });
        found
    }

    /// Every cache rule that may answer a request, whatever else it is.
    #[must_use]
    pub fn cache_rules(&self, method: &str, host: &str, path: &str) -> Vec<usize> {
        let mut rules = Vec::new();
        self.each(method, host, path, &mut |rule, _| {
            if !rule.purges {
                rules.push(rule.index);
            }
        });
        rules
    }

    fn each<'r, 'p>(
        &'r self,
        method: &str,
        host: &str,
        path: &'p str,
        visit: &mut dyn FnMut(&'r Candidate, &[&'p str]),
    ) {
        let mut visit = |rule: &'r Candidate, values: &[&'p str]| {
            let fits = |(capture, value): (&Capture, &&str)| {
                capture.pattern.as_ref().is_none_or(|pattern| pattern.matches(value.as_bytes()))
            };
            if rule.methods.iter().any(|wanted| wanted == method) && rule.captures.iter().zip(values).all(fits) {
                visit(rule, values);
            }
        };
        let slashes = path.bytes().filter(|byte| *byte == b'/').count();
        let mut walk = |host: &str| {
            let place = self.place_of(host).ok();
            for tree in place.and_then(|place| self.hosts.get(place)).into_iter().flat_map(|(_, trees)| trees) {
                let long_enough = tree.slashes == slashes || tree.takes_rest && tree.slashes < slashes;
                if let Some(found) = long_enough.then(|| tree.templates.at(path).ok()).flatten() {
                    let values: Vec<&str> = found.params.iter().map(|(_, value)| value).collect();
                    found.value.iter().for_each(|rule| visit(rule, &values));
                }
            }
        };
        walk("");
        walk(host);
        // `*.example.com`, `*.com`: from each dot on.
        for (dot, _) in host.match_indices('.') {
            walk(&format!("*{}", host.get(dot..).unwrap_or_default()));
        }
    }
}

impl Tree {
    /// Puts a rule under a template; false where `matchit` refuses it beside others.
    fn insert(&mut self, template: &str, rule: &dyn Fn() -> Candidate) -> bool {
        // A template, read as a path, fits itself and no other of its shape.
        match self.templates.at_mut(template) {
            Ok(found) => {
                found.value.push(rule());
                true
            }
            Err(_) => self.templates.insert(template, vec![rule()]).is_ok(),
        }
    }
}

/// A path as `matchit` writes it. Names of captures stay with the rules, so that paths that differ only there are one; its
/// texts have no braces.
fn template(path: &PathTemplate) -> String {
    let mut template = String::with_capacity(path.source().len());
    for segment in &path.segments {
        match segment {
            Segment::Literal(text) => template.extend(["/", text]),
            Segment::Capture(before, after) => template.extend(["/", before, "{x}", after]),
            Segment::Rest => template.push_str("/{*x}"),
        }
    }
    template
}

/// The kinds of a path's segments, with how long the texts beside captures are: of two that are equally long, and not the
/// same, a segment has one at most.
fn shape(path: &PathTemplate) -> String {
    let mut shape = String::new();
    for segment in &path.segments {
        match segment {
            Segment::Literal(_) => shape.push('/'),
            Segment::Capture(before, after) => {
                shape.extend(["/", &"-".repeat(before.len()), "{}", &"-".repeat(after.len())]);
            }
            Segment::Rest => shape.push_str("/{*}"),
        }
    }
    shape
}

/// The place of each rule in the order of specificity: by host (one, then `*.example.com` before `*.com`, then every host),
/// then segment by segment (text, part of a segment, whole segment, rest; where a value must be of a kind, before where it
/// may be any), then by the number of conditions, then by the order of the file.
fn ranks(rules: &[Rule]) -> Vec<usize> {
    let host = |rule: &Rule| match rule.host.as_deref() {
        Some(host) => (host.starts_with("*."), Reverse(host.len())),
        None => (true, Reverse(0)),
    };
    let weights = |path: &PathTemplate| {
        let mut captures = path.captures.iter();
        let weight = |segment: &Segment| {
            let (of_a_kind, any, capture) = match segment {
                Segment::Literal(_) => return 0,
                Segment::Capture(before, after) if before.is_empty() && after.is_empty() => (3, 4, captures.next()),
                Segment::Capture(..) => (1, 2, captures.next()),
                Segment::Rest => (5, 6, captures.next()),
            };
            if capture.is_some_and(|capture| capture.pattern.is_some()) { of_a_kind } else { any }
        };
        path.segments.iter().map(weight).collect::<Vec<u8>>()
    };
    let order = sorted(
        rules
            .iter()
            .enumerate()
            .map(|(index, rule)| (host(rule), weights(&rule.path), Reverse(rule.conditions.len()), index)),
    );
    let mut ranks = vec![0; rules.len()];
    for (rank, (.., index)) in order.into_iter().enumerate() {
        if let Some(place) = ranks.get_mut(index) {
            *place = rank;
        }
    }
    ranks
}

/// A path as an origin may understand it: percent-escapes of unreserved characters decoded, dot segments resolved,
/// slashes merged (RFC 3986 §6.2.2). Borrowed when it is so already.
///
/// Writes are held against the rules in this form too: `PUT /users/7` must not slip past a purge rule as
/// `PUT /%75sers/7`.
#[must_use]
pub fn normal_path(path: &str) -> Cow<'_, str> {
    if !path.contains('%') && !path.contains("//") && !path.contains("/.") {
        return Cow::Borrowed(path);
    }
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let decoded = crate::key::decode_escapes(path, unreserved);
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    let mut segments: Vec<&str> = Vec::new();
    let mut pieces = decoded.split('/').peekable();
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        match piece {
            ".." => {
                segments.pop();
            }
            "" | "." if !last => {}
            "." => {}
            _ if last || !piece.is_empty() => segments.push(piece),
            _ => {}
        }
        if last && matches!(piece, "." | "..") {
            segments.push("");
        }
    }
    Cow::Owned(format!("/{}", segments.join("/")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Mode, PurgeRule};

    fn purge(path: &str) -> Rule {
        rule(path, &["PUT"], None, Action::Purge(PurgeRule::default()))
    }

    fn cache(path: &str, host: Option<&str>) -> Rule {
        let key = crate::template::Template::parse("k").unwrap();
        let cache = crate::policy::CacheRule::new(key, crate::policy::DeltaSeconds::ZERO);
        rule(path, &["GET"], host, Action::Cache(Box::new(cache)))
    }

    fn rule(path: &str, methods: &[&str], host: Option<&str>, action: Action) -> Rule {
        let methods = methods.iter().map(|method| (*method).to_owned()).collect();
        let (name, host) = (path.to_owned(), host.map(str::to_owned));
        let path = PathTemplate::parse(path).unwrap();
        Rule { name, methods, host, path, conditions: Vec::new(), mode: Mode::On, action }
    }

    fn cache_rule(rules: &[Rule], host: &str, path: &str) -> Option<usize> {
        Router::new(rules).find("GET", host, path, &|_| true).cache.map(|found| found.rule)
    }

    #[test]
    fn every_purge_rule_that_matches_applies() {
        let rules =
            [purge("/users/{id}"), purge("/users/me"), purge("/{*rest}"), purge("/users/{user}"), purge("/carts/{id}")];
        let router = Router::new(&rules);
        let found = |path| {
            let mut rules: Vec<_> =
                router.find("PUT", "h", path, &|_| true).purges.iter().map(|found| found.rule).collect();
            rules.sort_unstable();
            rules
        };
        assert_eq!(found("/users/me"), [0, 1, 2, 3]);
        assert_eq!(found("/users/7"), [0, 2, 3]);
        assert_eq!(found("/carts/7"), [2, 4]);
        assert!(router.find("GET", "h", "/users/7", &|_| true).purges.is_empty());
    }

    #[test]
    fn the_most_specific_cache_rule_answers_whatever_the_order() {
        let rules =
            [cache("/{*rest}", None), cache("/a/{x}", None), cache("/a/b", None), cache("/a/{x}", Some("api.example"))];
        assert_eq!(cache_rule(&rules, "h", "/a/b"), Some(2));
        assert_eq!(cache_rule(&rules, "h", "/a/c"), Some(1));
        assert_eq!(cache_rule(&rules, "api.example", "/a/b"), Some(3));
        assert_eq!(cache_rule(&rules, "h", "/z"), Some(0));
        let reversed: Vec<_> = rules.iter().rev().cloned().collect();
        assert_eq!(cache_rule(&reversed, "h", "/a/b"), Some(1));
    }

    #[test]
    fn a_value_of_a_kind_is_more_specific_and_any_other_value_meets_the_next_rule() {
        let rules = [
            cache("/users/{id}", None),
            cache("/users/{id:int}", None),
            cache("/users/{name:re([a-z]+(-[a-z]+)?)}", None),
            cache("/{*rest:re([a-z/]+)}", None),
        ];
        for (path, rule) in [("/users/7", 1), ("/users/ada", 2), ("/users/a-b", 2), ("/users/X", 0), ("/a/b", 3)] {
            assert_eq!(cache_rule(&rules, "h", path), Some(rule), "{path}");
        }
        assert_eq!(cache_rule(&rules, "h", "/a/7"), None);
    }

    #[test]
    fn the_nearest_host_wins() {
        let rules = [
            cache("/{*rest}", None),
            cache("/{*rest}", Some("*.com")),
            cache("/{*rest}", Some("*.example.com")),
            cache("/{*rest}", Some("api.example.com")),
        ];
        for (host, rule) in
            [("api.example.com", 3), ("a.b.example.com", 2), ("example.com", 1), ("com", 0), ("xexample.com", 1)]
        {
            assert_eq!(cache_rule(&rules, host, "/a"), Some(rule), "{host}");
        }
    }

    #[test]
    fn more_conditions_are_more_specific_and_those_that_fail_leave_the_next_rule() {
        use crate::condition::{Condition, Subject, Test};
        let mut rules = [cache("/a", None), cache("/a", None), cache("/a", None)];
        let condition = Condition { subject: Subject::Header("x".into()), test: Test::Present };
        rules[1].conditions = vec![condition.clone(), condition.clone()];
        rules[2].conditions = vec![condition];
        let router = Router::new(&rules);
        let found = |meets: &dyn Fn(usize) -> bool| router.find("GET", "h", "/a", meets).cache.map(|found| found.rule);
        assert_eq!(found(&|_| true), Some(1));
        assert_eq!(found(&|rule| rule != 1), Some(2));
        assert_eq!(found(&|rule| rule == 0), Some(0));
    }

    #[test]
    fn templates_that_fit_one_path_work_side_by_side() {
        let rules = [cache("/s/{x}", None), cache("/s/{*r}", None), cache("/s/v{n}", None), cache("/s/{a}.json", None)];
        assert_eq!(cache_rule(&rules, "h", "/s/1"), Some(0));
        assert_eq!(cache_rule(&rules, "h", "/s/1/2"), Some(1));
        assert!(matches!(cache_rule(&rules, "h", "/s/v1"), Some(2)));
        assert!(matches!(cache_rule(&rules, "h", "/s/a.json"), Some(3)));
    }

    /// What grows with the number of rules is the memory, not the work: a request looks at the rules that its path fits.
    #[test]
    fn of_ten_thousand_rules_only_those_that_fit_the_path_are_looked_at() {
        let rules: Vec<Rule> = (0..10_000)
            .map(|n| match n % 3 {
                0 => cache(&format!("/service-{}/things-{n}/{{id}}", n % 100), None),
                1 => cache("/same/{id}", Some(&format!("tenant-{n}.example.com"))),
                _ => cache(&format!("/{{any}}/other-{n}"), None),
            })
            .collect();
        let router = Router::new(&rules);
        for n in [0, 1, 2, 4711, 4712, 9999] {
            let looked_at = std::cell::Cell::new(0);
            let meets = |_| {
                looked_at.set(looked_at.get() + 1);
                true
            };
            let (host, path) = match n % 3 {
                0 => ("h".to_owned(), format!("/service-{}/things-{n}/7", n % 100)),
                1 => (format!("tenant-{n}.example.com"), "/same/7".to_owned()),
                _ => ("h".to_owned(), format!("/service-2/other-{n}")),
            };
            assert_eq!(router.find("GET", &host, &path, &meets).cache.map(|found| found.rule), Some(n));
            assert_eq!(looked_at.get(), 1, "{n}");
        }
    }

    /// What the captures of a template take from a path, segment by segment.
    fn taken<'p>(template: &PathTemplate, path: &'p str) -> Option<Vec<&'p str>> {
        let (mut values, mut left) = (Vec::new(), path);
        for segment in &template.segments {
            left = left.strip_prefix('/')?;
            let (one, others) = left.split_at(left.find('/').unwrap_or(left.len()));
            let value = match segment {
                Segment::Literal(text) => {
                    left = others;
                    if text != one {
                        return None;
                    }
                    continue;
                }
                Segment::Capture(before, after) => {
                    left = others;
                    one.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?
                }
                Segment::Rest => std::mem::take(&mut left),
            };
            if value.is_empty() {
                return None;
            }
            values.push(value);
        }
        left.is_empty().then_some(values)
    }

    fn templates() -> impl Strategy<Value = String> {
        let texts = || prop::sample::select(vec!["", "", "a", "b", "ab", "ba", ".", "-a"]);
        let capture = (texts(), texts()).prop_map(|(before, after)| format!("{before}{{}}{after}"));
        let segment = prop_oneof![3 => texts().prop_map(str::to_owned), 4 => capture];
        (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(mut segments, takes_rest)| {
            if takes_rest || segments.is_empty() {
                segments.push("{*}".to_owned());
            }
            for (number, segment) in segments.iter_mut().enumerate() {
                *segment = segment.replace('}', &format!("c{number}}}"));
            }
            format!("/{}", segments.join("/"))
        })
    }

    proptest! {
        /// Whatever templates stand beside each other, and in whatever order they came.
        #[test]
        fn the_trees_find_what_a_look_at_every_rule_finds(
            templates in prop::collection::vec(templates(), 1..24),
            paths in prop::collection::vec("/?([ab.]{0,3}/){0,3}[ab.\\-é{}*]{0,4}", 1..24),
        ) {
            let rules: Vec<Rule> = templates.iter().map(|template| purge(template)).collect();
            let router = Router::new(&rules);
            for path in paths.iter().chain(&templates) {
                let mut found: Vec<_> =
                    router.find("PUT", "h", path, &|_| true).purges.into_iter().map(|one| (one.rule, one.values)).collect();
                found.sort_unstable();
                let fits = |(index, rule): (usize, &Rule)| Some((index, taken(&rule.path, path)?));
                let expected: Vec<_> = rules.iter().enumerate().filter_map(fits).collect();
                prop_assert_eq!(found, expected, "{} of {:?}", path, templates);
            }
        }
    }

    #[test]
    fn a_path_may_have_as_many_captures_as_are_allowed() {
        let path = |count: usize| (0..count).map(|number| format!("/{{c{number}}}")).collect::<String>();
        let rules = [purge(&path(25)), purge(&format!("{}/{{*rest}}", path(24)))];
        let found = Router::new(&rules).find("PUT", "h", &"/1".repeat(25), &|_| true).purges.len();
        assert_eq!(found, 2);
        let many = PathTemplate::parse(&path(26)).unwrap_err();
        assert_eq!(many.what, crate::path::PathMistake::TooManyCaptures);
    }

    #[test]
    fn captures_are_the_bytes_as_forwarded() {
        let rules = [cache("/users/{id}/files/{*path}", None)];
        let router = Router::new(&rules);
        let found = router.find("GET", "h", "/users/%37/files/a/b%2Fc", &|_| true).cache.unwrap();
        assert_eq!(
            (found.capture("id"), found.capture("path"), found.capture("x")),
            (Some("%37"), Some("a/b%2Fc"), None)
        );
    }

    #[test]
    fn a_write_cannot_hide_behind_another_spelling_of_its_path() {
        for (path, normal) in [
            ("/users/7", "/users/7"),
            ("/%75sers/7", "/users/7"),
            ("//users//7", "/users/7"),
            ("/a/../users/./7", "/users/7"),
            ("/users/7/.", "/users/7/"),
            ("/users/%2E%2e/x", "/x"),
            ("/a%2Fb/%zz/%", "/a%2Fb/%zz/%"),
            ("/../..", "/"),
            ("/users/", "/users/"),
        ] {
            assert_eq!(normal_path(path), normal, "{path}");
        }
    }
}
