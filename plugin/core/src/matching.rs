//! Which rules a request meets: [`Router`].
//!
//! A request is held against *every* rule: the most specific cache rule answers it, and all purge rules that match
//! apply, because a purge rule hidden behind a more specific one would mean stale data. A `matchit` tree gives one match,
//! the most specific; so templates that could both match one path go into different trees, and each tree is asked.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use crate::order::sorted;
use crate::policy::{Action, Rule};

/// Finds the rules for a request.
#[derive(Debug)]
pub struct Router {
    trees: Vec<matchit::Router<usize>>,
    shapes: Vec<Shape>,
}

/// Path templates that differ only in the names of their captures.
#[derive(Debug)]
struct Shape {
    rules: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    index: usize,
    /// Names of the captures, in the order of the path.
    captures: Vec<String>,
    methods: Vec<String>,
    host: Option<String>,
    purges: bool,
    /// Smaller is more specific; unique, so that order only breaks ties.
    rank: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Segment {
    Literal(String),
    /// A capture, with what stands before and behind it in the segment.
    Capture(String, String),
    CatchAll,
}

/// A path template that can't be matched, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMistake {
    /// It doesn't begin with `/`.
    NotAbsolute,
    /// A brace without its partner.
    Unbalanced,
    /// `{}`, or a name that isn't letters, digits and `_`.
    BadName(String),
    /// Two captures in one segment.
    TwoInOneSegment,
    /// Two captures with one name.
    Twice(String),
    /// `{*rest}` before the end.
    CatchAllInside,
    /// What `matchit` says of a template that passed all of the above.
    Refused(String),
}

impl fmt::Display for PathMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbsolute => f.write_str("the path doesn't begin with `/`"),
            Self::Unbalanced => f.write_str("a brace has no partner"),
            Self::BadName(name) => write!(f, "`{{{name}}}` is no capture: a name is letters, digits and `_`"),
            Self::TwoInOneSegment => f.write_str("a segment holds two captures"),
            Self::Twice(name) => write!(f, "the name `{name}` is given twice"),
            Self::CatchAllInside => f.write_str("`{*…}` takes the rest of the path, so nothing can follow it"),
            Self::Refused(why) => write!(f, "the path can't be matched: {why}"),
        }
    }
}

impl std::error::Error for PathMistake {}

/// A rule that a request meets, with the captured values as the request spells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<'r, 'p> {
    /// Index of the rule in the policy.
    pub rule: usize,
    names: &'r [String],
    values: Vec<&'p str>,
}

impl<'p> Match<'_, 'p> {
    /// The value of a capture, percent-encoded as it came.
    #[must_use]
    pub fn capture(&self, name: &str) -> Option<&'p str> {
        self.names.iter().zip(&self.values).find(|(known, _)| *known == name).map(|(_, value)| *value)
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
    ///
    /// # Errors
    ///
    /// The index of the first rule whose path can't be matched, and why.
    pub fn new(rules: &[Rule]) -> Result<Self, (usize, PathMistake)> {
        let mut paths = Vec::with_capacity(rules.len());
        for (index, rule) in rules.iter().enumerate() {
            paths.push(parse_path(&rule.path).map_err(|mistake| (index, mistake))?);
        }
        let ranks = ranks(rules, &paths);
        let mut router = Self { trees: Vec::new(), shapes: Vec::new() };
        let mut known: HashMap<Vec<Segment>, usize> = HashMap::new();
        let mut occupied: Vec<Occupied> = Vec::new(); // by each tree
        for ((index, rule), ((segments, captures), rank)) in rules.iter().enumerate().zip(paths.into_iter().zip(ranks))
        {
            let candidate = Candidate {
                index,
                captures,
                methods: rule.methods.clone(),
                host: rule.host.clone(),
                purges: matches!(rule.action, Action::Purge(_)),
                rank,
            };
            if let Some(shape) = known.get(&segments).and_then(|number| router.shapes.get_mut(*number)) {
                shape.rules.push(candidate);
                continue;
            }
            let place = occupied.iter().position(|tree| !tree.overlaps(&segments)).unwrap_or(occupied.len());
            if place == occupied.len() {
                occupied.push(Occupied::default());
                router.trees.push(matchit::Router::new());
            }
            let number = router.shapes.len();
            if let (Some(tree), Some(occupied)) = (router.trees.get_mut(place), occupied.get_mut(place)) {
                let inserted = tree.insert(matchit_path(&segments), number);
                inserted.map_err(|error| (index, PathMistake::Refused(error.to_string())))?;
                occupied.insert(&segments);
            }
            known.insert(segments, number);
            router.shapes.push(Shape { rules: vec![candidate] });
        }
        Ok(router)
    }

    /// The rules for a request; `host` is in lower case and without port, `path` without query.
    #[must_use]
    pub fn find<'r, 'p>(&'r self, method: &str, host: &str, path: &'p str) -> Matches<'r, 'p> {
        let mut found = Matches::default();
        let mut best = usize::MAX;
        for tree in &self.trees {
            let Ok(matched) = tree.at(path) else { continue };
            let Some(shape) = self.shapes.get(*matched.value) else { continue };
            for rule in &shape.rules {
                let elsewhere = rule.host.as_deref().is_some_and(|wanted| wanted != host);
                if elsewhere
                    || !rule.methods.iter().any(|wanted| wanted == method)
                    || (!rule.purges && rule.rank > best)
                {
                    continue;
                }
                let values = matched.params.iter().map(|(_, value)| value).collect();
                let found_rule = Match { rule: rule.index, names: &rule.captures, values };
                if rule.purges {
                    found.purges.push(found_rule);
                } else {
                    best = rule.rank;
                    found.cache = Some(found_rule);
                }
            }
        }
        found
    }
}

/// Splits a path template into segments and the names of its captures.
///
/// # Errors
///
/// The first [`PathMistake`].
fn parse_path(path: &str) -> Result<(Vec<Segment>, Vec<String>), PathMistake> {
    let rest = path.strip_prefix('/').ok_or(PathMistake::NotAbsolute)?;
    let mut captures: Vec<String> = Vec::new();
    let mut segments = Vec::new();
    for segment in rest.split('/') {
        if segments.last() == Some(&Segment::CatchAll) {
            return Err(PathMistake::CatchAllInside);
        }
        let Some((before, inside)) = segment.split_once('{') else {
            if segment.contains('}') {
                return Err(PathMistake::Unbalanced);
            }
            segments.push(Segment::Literal(segment.to_owned()));
            continue;
        };
        let (name, after) = inside.split_once('}').ok_or(PathMistake::Unbalanced)?;
        if after.contains('{') {
            return Err(PathMistake::TwoInOneSegment);
        }
        if before.contains('}') || after.contains('}') {
            return Err(PathMistake::Unbalanced);
        }
        let (name, catch_all) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
        if !crate::template::is_name(name) || catch_all && !(before.is_empty() && after.is_empty()) {
            return Err(PathMistake::BadName(name.to_owned()));
        }
        if captures.iter().any(|known| known == name) {
            return Err(PathMistake::Twice(name.to_owned()));
        }
        captures.push(name.to_owned());
        segments.push(match catch_all {
            true => Segment::CatchAll,
            false => Segment::Capture(before.to_owned(), after.to_owned()),
        });
    }
    Ok((segments, captures))
}

/// The names of a path template's captures, in order.
///
/// # Errors
///
/// Why the template can't be matched.
pub fn captures(path: &str) -> Result<Vec<String>, PathMistake> {
    parse_path(path).map(|(_, captures)| captures)
}

/// The template in matchit's words. Captures get neutral names, so that shapes can share a tree.
fn matchit_path(segments: &[Segment]) -> String {
    let mut path = String::new();
    for (number, segment) in segments.iter().enumerate() {
        path.push('/');
        match segment {
            Segment::Literal(text) => path.push_str(text),
            Segment::Capture(before, after) => path.push_str(&format!("{before}{{p{number}}}{after}")),
            Segment::CatchAll => path.push_str(&format!("{{*p{number}}}")),
        }
    }
    path
}

/// The templates in a tree, segment by segment, to find out whether another could match a path that one of them matches.
/// May say yes too often (the cost is one more tree), never no.
#[derive(Debug, Default)]
struct Occupied {
    literals: HashMap<String, Occupied>,
    captures: Option<Box<Occupied>>,
    catch_all: bool,
    end: bool,
}

impl Occupied {
    fn insert(&mut self, segments: &[Segment]) {
        match segments.split_first() {
            None => self.end = true,
            Some((Segment::CatchAll, _)) => self.catch_all = true,
            Some((Segment::Capture(..), rest)) => self.captures.get_or_insert_default().insert(rest),
            Some((Segment::Literal(text), rest)) => self.literals.entry(text.clone()).or_default().insert(rest),
        }
    }

    fn overlaps(&self, segments: &[Segment]) -> bool {
        let in_captures = |rest: &[Segment]| self.captures.as_ref().is_some_and(|node| node.overlaps(rest));
        self.catch_all
            || match segments.split_first() {
                None => self.end,
                Some((Segment::CatchAll, _)) => self.end || self.captures.is_some() || !self.literals.is_empty(),
                Some((Segment::Capture(..), rest)) => {
                    in_captures(rest) || self.literals.values().any(|node| node.overlaps(rest))
                }
                Some((Segment::Literal(text), rest)) => {
                    in_captures(rest) || self.literals.get(text).is_some_and(|node| node.overlaps(rest))
                }
            }
    }
}

/// The place of each rule in the order of specificity: with a host before without, then segment by segment literal
/// before capture before catch-all, then the order of the file.
fn ranks(rules: &[Rule], paths: &[(Vec<Segment>, Vec<String>)]) -> Vec<usize> {
    let weight = |segment: &Segment| match segment {
        Segment::Literal(_) => 0,
        Segment::Capture(before, after) if before.len().saturating_add(after.len()) > 0 => 1,
        Segment::Capture(..) => 2,
        Segment::CatchAll => 3,
    };
    let order = sorted(rules.iter().zip(paths).enumerate().map(|(index, (rule, (segments, _)))| {
        let weights: Vec<u8> = segments.iter().map(weight).collect();
        (rule.host.is_none(), weights, index)
    }));
    let mut ranks = vec![0; rules.len()];
    for (rank, (_, _, index)) in order.into_iter().enumerate() {
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
    use super::*;
    use crate::policy::PurgeRule;

    fn purge(path: &str) -> Rule {
        rule(path, &["PUT"], None, Action::Purge(PurgeRule { tags: Vec::new() }))
    }

    fn cache(path: &str, host: Option<&str>) -> Rule {
        let key = crate::template::Template::parse("k").unwrap();
        let cache = crate::policy::CacheRule::new(key, crate::policy::DeltaSeconds::ZERO);
        rule(path, &["GET"], host, Action::Cache(Box::new(cache)))
    }

    fn rule(path: &str, methods: &[&str], host: Option<&str>, action: Action) -> Rule {
        let methods = methods.iter().map(|method| (*method).to_owned()).collect();
        Rule { name: path.to_owned(), methods, host: host.map(str::to_owned), path: path.to_owned(), action }
    }

    fn cache_rule(rules: &[Rule], host: &str, path: &str) -> Option<usize> {
        Router::new(rules).unwrap().find("GET", host, path).cache.map(|found| found.rule)
    }

    #[test]
    fn every_purge_rule_that_matches_applies() {
        let rules =
            [purge("/users/{id}"), purge("/users/me"), purge("/{*rest}"), purge("/users/{user}"), purge("/carts/{id}")];
        let router = Router::new(&rules).unwrap();
        let found = |path| {
            let mut rules: Vec<_> = router.find("PUT", "h", path).purges.iter().map(|found| found.rule).collect();
            rules.sort_unstable();
            rules
        };
        assert_eq!(found("/users/me"), [0, 1, 2, 3]);
        assert_eq!(found("/users/7"), [0, 2, 3]);
        assert_eq!(found("/carts/7"), [2, 4]);
        assert!(router.find("GET", "h", "/users/7").purges.is_empty());
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
    fn templates_that_one_tree_would_refuse_work_side_by_side() {
        let rules = [cache("/s/{x}", None), cache("/s/{*r}", None), cache("/s/v{n}", None), cache("/s/{a}.json", None)];
        assert_eq!(cache_rule(&rules, "h", "/s/1"), Some(0));
        assert_eq!(cache_rule(&rules, "h", "/s/1/2"), Some(1));
        assert!(matches!(cache_rule(&rules, "h", "/s/v1"), Some(2)));
        assert!(matches!(cache_rule(&rules, "h", "/s/a.json"), Some(3)));
    }

    #[test]
    fn ten_thousand_rules_share_few_trees_and_are_all_found() {
        let rules: Vec<Rule> =
            (0..10_000).map(|n| cache(&format!("/service-{}/things-{n}/{{id}}", n % 100), None)).collect();
        let router = Router::new(&rules).unwrap();
        assert_eq!(router.trees.len(), 1);
        for n in [0, 1, 4711, 9999] {
            let path = format!("/service-{}/things-{n}/7", n % 100);
            assert_eq!(router.find("GET", "h", &path).cache.map(|found| found.rule), Some(n));
        }
    }

    #[test]
    fn captures_are_the_bytes_as_forwarded() {
        let rules = [cache("/users/{id}/files/{*path}", None)];
        let router = Router::new(&rules).unwrap();
        let found = router.find("GET", "h", "/users/%37/files/a/b%2Fc").cache.unwrap();
        assert_eq!(
            (found.capture("id"), found.capture("path"), found.capture("x")),
            (Some("%37"), Some("a/b%2Fc"), None)
        );
    }

    #[test]
    fn paths_that_cannot_be_matched_say_why() {
        for (path, why) in [
            ("users", PathMistake::NotAbsolute),
            ("/{a", PathMistake::Unbalanced),
            ("/a}", PathMistake::Unbalanced),
            ("/{a}{b}", PathMistake::TwoInOneSegment),
            ("/{a}/{a}", PathMistake::Twice("a".into())),
            ("/{*a}/b", PathMistake::CatchAllInside),
            ("/{}", PathMistake::BadName(String::new())),
            ("/{a:int}", PathMistake::BadName("a:int".into())),
        ] {
            assert_eq!(captures(path).unwrap_err(), why, "{path}");
        }
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
