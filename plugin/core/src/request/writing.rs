//! What a write purges ([`Engine::purged_by`]).

use super::{Arrived, Asked, Bypass, Engine, words};
use crate::fields::Fields;
use crate::invalidation::{group_tags, on_same_origin};
use crate::json;
use crate::key::{self, Facts, TAG_ALL, TAG_BYTES_MAX, Target};
use crate::matching::{Match, normal_path};
use crate::policy::{Action, ResponsePart, WritePart};
use crate::recache::{Done, Each, READS_MAX, Read, Reads};
use crate::template::{Around, Template};

/// A write: a request that may make stored responses out of date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writing {
    /// What the purge rules that it meets say.
    tags: Vec<String>,
    /// Whether one of them purges for good.
    hard: bool,
    /// What they say of its bodies and its response.
    later: Vec<Later>,
    /// What is to be read again.
    recaches: Vec<Read>,
    /// The same for each of what its bodies or its tags name.
    lists: Vec<Reads>,
    scheme: &'static str,
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
    /// Why a cache rule that speaks of it doesn't answer it.
    bypass: Option<Bypass>,
}

/// Tags that are made of what a write's bodies or response say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Later {
    part: WritePart,
    /// The tags but for what is found.
    around: Option<Around>,
    /// What all of them begin with.
    start: String,
}

impl Writing {
    /// Whether a purge rule speaks of it.
    #[must_use]
    pub fn meets_rules(&self) -> bool {
        !self.tags.is_empty() || !self.later.is_empty()
    }

    /// Whether it makes what carries a tag that it purges stale, rather than void: all purge rules that it meets say so. What
    /// HTTP itself says that it changed is void all the same (RFC 9111 §4.4, RFC 9875 §3).
    #[must_use]
    pub fn softens(&self, tag: &str) -> bool {
        self.meets_rules() && !self.hard && !tag.starts_with("!url:") && !tag.starts_with("!group:")
    }

    /// Why a cache rule that speaks of it doesn't answer it.
    #[must_use]
    pub fn bypass(&self) -> Option<&Bypass> {
        self.bypass.as_ref()
    }

    /// Whether its client came by https.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// What is to be read again behind the writer, if it succeeds, by what is known of it when its response's header has come.
    #[must_use]
    pub fn recaches(&self, done: &Done<'_>) -> Vec<Read> {
        self.recaches.iter().cloned().chain(self.recaches_of_lists(done)).take(READS_MAX).collect()
    }

    /// Those of them that lists name, of which the body of the response may be one.
    #[must_use]
    pub fn recaches_of_lists(&self, done: &Done<'_>) -> Vec<Read> {
        self.lists.iter().flat_map(|reads| reads.of(done)).take(READS_MAX).collect()
    }

    /// Whether its own body says what it purges, or what is to be read again.
    #[must_use]
    pub fn reads_request_body(&self) -> bool {
        self.later.iter().any(|later| matches!(later.part, WritePart::Request(_)))
            || self.lists.iter().any(|reads| matches!(reads.each, Each::Request(_)))
    }

    /// Whether the body of its response does.
    #[must_use]
    pub fn reads_response_body(&self) -> bool {
        self.later.iter().any(|later| matches!(later.part, WritePart::Response(ResponsePart::Json(_))))
            || self.lists.iter().any(|reads| matches!(reads.each, Each::Response(_)))
    }
}

/// What became of a write, as far as that is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome<'a> {
    /// The final status and header. Without them, as after a broken connection, it may have succeeded.
    pub response: Option<(u16, &'a Fields<'a>)>,
    /// Its own body, if it was read as a whole.
    pub request_body: Option<&'a [u8]>,
}

impl Engine {
    /// What a request purges that may change something.
    pub(super) fn writing(
        &self,
        asked: &Asked<'_>,
        purges: &[Match<'_, '_>],
        arrived: &Arrived<'_>,
        bypass: Option<Bypass>,
    ) -> Writing {
        let (path, query) = (asked.path.to_owned(), asked.query.map(str::to_owned));
        let (scheme, method, authority) = (asked.scheme, asked.method.to_owned(), asked.authority.clone());
        let (tags, later) = (Vec::new(), Vec::new());
        let (recaches, lists) = (Vec::new(), Vec::new());
        let mut write =
            Writing { tags, hard: false, later, recaches, lists, scheme, method, authority, path, query, bypass };
        let facts = asked.facts(arrived);
        self.add_purges(purges, &facts, &mut write);
        let normal = normal_path(asked.path);
        if normal != asked.path {
            let meets = |rule: usize| self.meets(rule, asked, arrived);
            let hidden = self.router.find(asked.method, key::host_of(&asked.authority), &normal, &meets);
            let target = Target { path: &normal, ..facts.target };
            self.add_purges(&hidden.purges, &Facts { target, ..facts }, &mut write);
        }
        write
    }

    /// The tags that a write purges once its final status and header are known: those of the purge rules that it met, and,
    /// whatever the rules say, those of its target, of what its response names as changed, and of the groups that the
    /// response invalidates (RFC 9111 §4.4, RFC 9875 §3). What the body of the response says comes later
    /// ([`Engine::purged_by_body`]).
    #[must_use]
    pub fn purged_by(&self, write: &Writing, outcome: &Outcome<'_>) -> Vec<String> {
        let Outcome { response, request_body } = *outcome;
        if response.is_some_and(|(status, _)| !write_purges(status)) {
            return Vec::new();
        }
        let mut tags = Tags(write.tags.clone());
        for later in &write.later {
            match &later.part {
                WritePart::Request(pointer) => {
                    tags.extend(self.found(later, request_body.and_then(|body| json::values(body, pointer))));
                }
                WritePart::Response(ResponsePart::Header(name)) => {
                    let words = response.map(|(_, fields)| words(fields, name).map(<[u8]>::to_vec).collect());
                    tags.extend(self.found(later, words));
                }
                WritePart::Response(ResponsePart::Json(_)) if response.is_none() => {
                    tags.extend(self.found(later, None));
                }
                WritePart::Response(ResponsePart::Json(_)) => {}
            }
        }
        let Writing { scheme, authority, path, query, .. } = write;
        self.url_tags(write, path, query.as_deref(), &mut tags);
        if let Some((_, fields)) = response {
            for value in fields.all("location").chain(fields.all("content-location")) {
                let target = std::str::from_utf8(value).ok();
                if let Some((path, query)) = target.and_then(|target| on_same_origin(target, scheme, authority, path)) {
                    self.url_tags(write, &path, query.as_deref(), &mut tags);
                }
            }
            tags.extend(group_tags(fields, "cache-group-invalidation", scheme, authority));
        }
        tags.0
    }

    /// The tags that a write purges for what the body of its response says; without one that could be read, all that they
    /// could mean.
    #[must_use]
    pub fn purged_by_body(&self, write: &Writing, body: Option<&[u8]>) -> Vec<String> {
        let mut tags = Tags::default();
        for later in &write.later {
            if let WritePart::Response(ResponsePart::Json(pointer)) = &later.part {
                tags.extend(self.found(later, body.and_then(|body| json::values(body, pointer))));
            }
        }
        tags.0
    }

    /// The tags of the values that were found; all that they could mean where the values can't be told.
    fn found(&self, later: &Later, values: Option<Vec<Vec<u8>>>) -> Vec<String> {
        let made = later.around.as_ref().zip(values).and_then(|(around, values)| {
            let tags: Option<Vec<String>> = values.iter().map(|value| around.text(value)).collect();
            tags.filter(|tags| tags.iter().all(|tag| tag.len() <= TAG_BYTES_MAX))
        });
        made.unwrap_or_else(|| self.may_mean(&later.start))
    }

    /// The tags that reach every entry which may carry a tag that begins so: those of the rules that make such tags, or of
    /// everything where no rule here does, and another gateway's must.
    fn may_mean(&self, start: &str) -> Vec<String> {
        let fits = |template: &Template| template.start().starts_with(start) || start.starts_with(template.start());
        let rules = self.policy.rules.iter().filter(|rule| match &rule.action {
            Action::Cache(cache) => {
                let made = cache.item_tags.iter().map(|tag| &tag.template);
                let posted = cache.request_tags.iter().map(|tag| &tag.template);
                cache.tags.iter().chain(made).chain(posted).any(fits) || !cache.terms.tag_fields.is_empty()
            }
            Action::Purge(_) => false,
        });
        let tags: Vec<String> = rules.map(key::rule_tag).collect();
        if tags.is_empty() { vec![TAG_ALL.to_owned()] } else { tags }
    }

    /// Adds the tags of a URL, in each spelling, of every cache rule that may answer it. What a POST reads at the write's own
    /// URL is left alone where a purge rule speaks of the write: to many of those, every request has one URL.
    fn url_tags(&self, write: &Writing, path: &str, query: Option<&str>, tags: &mut Tags) {
        let Writing { scheme, authority, .. } = write;
        let normal = normal_path(path);
        let spellings = [Some(path), (normal != path).then_some(&*normal)];
        for path in spellings.into_iter().flatten() {
            let host = key::host_of(authority);
            let mut rules = self.router.cache_rules("GET", host, path);
            if !write.meets_rules() {
                rules.extend(self.router.cache_rules(&write.method, host, path));
            }
            for cache in rules.into_iter().filter_map(|rule| self.cache_rule(rule)) {
                tags.extend([key::url_tag(&Target { scheme, method: "GET", authority, path, query }, cache)]);
            }
        }
    }

    fn add_purges(&self, found: &[Match<'_, '_>], facts: &Facts<'_>, write: &mut Writing) {
        for found in found {
            let Some(Action::Purge(purge)) = self.policy.rules.get(found.rule).map(|rule| &rule.action) else {
                continue;
            };
            write.hard |= !purge.soft;
            let mut tags = Tags(std::mem::take(&mut write.tags));
            for template in &purge.tags {
                let tag = key::tag(template, facts, found);
                tags.extend(tag.map_or_else(|_| self.may_mean(template.start()), |tag| vec![tag]));
            }
            write.tags = tags.0;
            for recache in &purge.recache {
                let Some(rule) = self.policy.rules.get(recache.rule) else { continue };
                let read = recache.read(&rule.path, rule.host.as_deref(), &facts.target, found);
                let Some(read) = read.filter(|_| write.recaches.len() < READS_MAX) else { continue };
                match recache.each.clone() {
                    Some(each) => add_once(&mut write.lists, Reads { each, read }),
                    None => add_once(&mut write.recaches, read),
                }
            }
            for tag in &purge.item_tags {
                let around = key::around(tag, facts, found).ok();
                let start = tag.template.start().to_owned();
                add_once(&mut write.later, Later { part: tag.part.clone(), around, start });
            }
        }
    }
}

fn add_once<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// Tags, each once.
#[derive(Default)]
struct Tags(Vec<String>);

impl Tags {
    fn extend(&mut self, tags: impl IntoIterator<Item = String>) {
        for tag in tags {
            if !self.0.contains(&tag) {
                self.0.push(tag);
            }
        }
    }
}

/// Whether a write with this final status purges: any but an error (RFC 9111 §4.4).
#[must_use]
pub fn write_purges(status: u16) -> bool {
    (200..400).contains(&status)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{engine, fields};
    use super::*;
    use crate::policy::{CacheRule, DeltaSeconds};
    use crate::request::{Plan, response_tags};
    use crate::storing::NotStored;

    fn purged(method: &str, path: &str, response: Option<(u16, &[(&str, &str)])>) -> Vec<String> {
        let engine = engine();
        let Plan::Write(write) = engine.plan(&Arrived::new(&fields(method, path, &[]), false, &|_| None)) else {
            panic!("{method} {path}")
        };
        let lines = response.map(|(status, lines)| {
            (
                status,
                Fields::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()),
            )
        });
        let response = lines.as_ref().map(|(status, fields)| (*status, fields));
        engine.purged_by(&write, &Outcome { response, request_body: None })
    }

    /// The tags without those of URLs, which are hashes.
    fn named(tags: &[String]) -> Vec<&str> {
        tags.iter().map(String::as_str).filter(|tag| !tag.starts_with("!url:")).collect()
    }

    fn url(path: &str) -> String {
        let engine = engine();
        let target = Target { scheme: "http", method: "GET", authority: "h", path, query: None };
        key::url_tag(&target, engine.cache_rule(0).unwrap())
    }

    #[test]
    fn a_write_purges_the_tags_of_every_rule_that_it_meets_in_any_spelling() {
        for path in ["/users/7", "/users/7?x=1", "//%75sers/7"] {
            for response in [None, Some((204, &[][..]))] {
                assert_eq!(named(&purged("PUT", path, response)), ["user:7", "users"], "{path}");
            }
        }
    }

    #[test]
    fn a_write_that_cannot_say_what_it_changed_purges_everything() {
        assert_eq!(purged("PUT", "/vague", Some((200, &[]))), ["!all"]);
    }

    /// RFC 9111 §4.4.
    #[test]
    fn a_write_invalidates_its_target_though_no_rule_says_so_and_an_error_invalidates_nothing() {
        for method in ["POST", "DELETE", "PATCH", "M-SEARCH", "FOO"] {
            assert_eq!(purged(method, "/users/7", Some((200, &[]))), [url("/users/7")], "{method}");
            assert!(purged(method, "/users/7", Some((404, &[]))).is_empty(), "{method}");
            assert!(purged(method, "/elsewhere", Some((200, &[]))).is_empty(), "nothing is stored for it");
        }
        assert!(purged("POST", "//users/7", Some((200, &[]))).contains(&url("/users/7")));
    }

    /// RFC 9111 §4.4.
    #[test]
    fn a_write_invalidates_what_its_response_names_on_the_same_origin() {
        let lines =
            [("location", "/users/8"), ("content-location", "http://h/users/9"), ("location", "http://other/users/10")];
        assert_eq!(purged("POST", "/users", Some((201, &lines))), [url("/users/8"), url("/users/9")]);
    }

    /// RFC 9875 §3.
    #[test]
    fn a_write_invalidates_the_groups_that_its_response_names() {
        let lines = [("cache-group-invalidation", "\"a\", \"b\"")];
        assert_eq!(purged("POST", "/elsewhere", Some((200, &lines))), ["!group:http://h a", "!group:http://h b"]);
        let origin = ("http", "h".to_owned());
        let response =
            fields("GET", "/", &[("cache-groups", "\"b\""), ("surrogate-key", "x y"), ("cache-tag", "y,!z")]);
        let mut rule = CacheRule::new(Template::parse("k").unwrap(), DeltaSeconds::ZERO);
        rule.terms.tag_fields = vec!["surrogate-key".into(), "cache-tag".into()];
        assert_eq!(
            response_tags(&response, None, &rule, &[], &origin).unwrap(),
            ["!group:http://h b", "%21z", "x", "y"]
        );
        let many = (0..200).map(|tag| tag.to_string()).collect::<Vec<_>>().join(" ");
        let response = fields("GET", "/", &[("surrogate-key", &many)]);
        assert_eq!(response_tags(&response, None, &rule, &[], &origin), Err(NotStored::Tags));
    }

    #[test]
    fn only_errors_purge_nothing() {
        assert!([200, 201, 204, 302, 303, 399].into_iter().all(write_purges));
        assert!(![100, 199, 400, 404, 500, 503].into_iter().any(write_purges));
    }
}
