//! What decides a rule's keys, tags and identity, as one number ([`Rule::fingerprint`]).

use xxhash_rust::xxh3::xxh3_64;

use crate::condition::{Condition, Glob, Subject, Test};
use crate::policy::{Action, CacheRule, Identity, ItemTag, NoVarySearch, QuerySelection, ResponsePart, Rule, Terms};
use crate::template::Template;

impl Rule {
    /// A number that changes with whatever decides which requests meet this rule, their keys, tags and identity. An entry
    /// that carries another one was stored under other rules, and is a miss.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut print = Print(Vec::new());
        print.add(&self.name);
        print.add(self.host.as_deref().unwrap_or_default());
        print.add(self.path.source());
        print.conditions(&self.conditions);
        if let Action::Cache(cache) = &self.action {
            cache.print(&mut print);
        }
        xxh3_64(&print.0)
    }
}

impl CacheRule {
    fn print(&self, print: &mut Print) {
        print.add(self.key.source());
        let (kind, globs) = match &self.query {
            QuerySelection::All => ("all", &[][..]),
            QuerySelection::Include(globs) => ("include", &globs[..]),
            QuerySelection::Exclude(globs) => ("exclude", &globs[..]),
        };
        print.add(if self.strip_query { "strip" } else { "" });
        print.list(kind, globs.iter().map(Glob::source));
        match &self.identity {
            None => print.add("identity"),
            Some(Identity::Header(name)) => print.list("identity header", [name.as_str()].into_iter()),
            Some(Identity::Cookie(name)) => print.list("identity cookie", [name.as_str()].into_iter()),
            Some(Identity::Claim { name, payload }) => {
                print.list("identity claim", [name.as_str(), payload].into_iter());
            }
        }
        print.list("tags", self.tags.iter().map(Template::source));
        for ItemTag { part, template } in &self.item_tags {
            let (kind, name) = match part {
                ResponsePart::Header(name) => ("tag header", name.as_str()),
                ResponsePart::Json(pointer) => ("tag json", pointer.source()),
            };
            print.list(kind, [name, template.source()].into_iter());
        }
        for ItemTag { part, template } in &self.request_tags {
            print.list("tag request", [part.source(), template.source()].into_iter());
        }
        print.conditions(&self.bypass);
        let Terms { origin, unheard, targeted, tag_fields, cookies, vary, normalize, .. } = &self.terms;
        for names in [targeted, tag_fields, vary, normalize] {
            print.list("list", names.iter().map(String::as_str));
        }
        // What was stored under laxer terms isn't reused under stricter ones.
        let terms = [*origin as u8, *cookies as u8, u8::from(unheard.private), u8::from(unheard.no_store)];
        print.0.extend(terms);
        // What was stored without it has another tag of its URL.
        if self.terms.no_vary_search == NoVarySearch::Respect {
            print.add("no-vary-search");
        }
    }
}

/// What becomes a fingerprint: texts with their lengths, so that none runs into the next.
struct Print(Vec<u8>);

impl Print {
    fn add(&mut self, text: &str) {
        self.0.extend(text.len().to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn list<'t>(&mut self, kind: &str, texts: impl Iterator<Item = &'t str>) {
        self.add(kind);
        texts.for_each(|text| self.add(text));
    }

    fn conditions(&mut self, conditions: &[Condition]) {
        for Condition { subject, test } in conditions {
            let (kind, name) = match subject {
                Subject::Header(name) => ("header", name.as_str()),
                Subject::Query(name) => ("query", name.as_str()),
                Subject::Cookie(name) => ("cookie", name.as_str()),
                Subject::Json(pointer) => ("json", pointer.source()),
            };
            self.list(kind, [name].into_iter());
            match test {
                Test::Present => self.add("present"),
                Test::Absent => self.add("absent"),
                Test::Is(globs) => self.list("is", globs.iter().map(Glob::source)),
            }
        }
    }
}
