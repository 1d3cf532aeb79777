//! Whether reads and writes agree on tags.

use super::{Lint, RuleAt, Subject, Warning, below, items, text};
use crate::pieces::{Piece, may_be_equal, pieces};
use crate::suggest::nearest;
use crate::tree::{Kind, shorten};
use crate::walk::At;

/// See its `about`.
pub(super) const TAG_NEVER_PURGED: Lint = Lint {
    name: "tag-never-purged",
    about: "A tag that reads carry and no write rule purges.",
    why: "The tag was written for something, and no rule of the file does it; often the two sides spell it in two ways. If it is \
          purged from outside (`routecache purge`, another service), allow it.",
    example: r#"
routes:
  - { name: orders, match: { path: /orders }, cache: { tags: [orders] } }
  - { name: order-write, match: { path: "/orders/{id}" }, purge: { tags: [order] } }
"#,
    mended: r#"
routes:
  - { name: orders, match: { path: /orders }, cache: { tags: [orders] } }
  - { name: order-write, match: { path: "/orders/{id}" }, purge: { tags: [orders] } }
"#,
};

/// See its `about`.
pub(super) const PURGE_TAG_UNREAD: Lint = Lint {
    name: "purge-tag-unread",
    about: "A tag that a write purges and no read carries.",
    why: "The purge reaches nothing of this file. With tags that responses name (`{ header: … }`) anything may carry it, so nothing \
          is said then.",
    example: r#"
routes:
  - { name: user, match: { path: "/users/{id}" }, cache: { tags: ["user:{id}"] } }
  - { name: user-write, match: { path: "/users/{id}" }, purge: { tags: ["user:{id}", "users:{id}"] } }
"#,
    mended: r#"
routes:
  - { name: user, match: { path: "/users/{id}" }, cache: { tags: ["user:{id}"] } }
  - { name: user-write, match: { path: "/users/{id}" }, purge: { tags: ["user:{id}"] } }
"#,
};

/// See its `about`.
pub(super) const TAG_NOT_IN_KEY: Lint = Lint {
    name: "tag-not-in-key",
    about: "A tag is made of something that the key doesn't hold.",
    why: "Requests with different values share one stored response, which carries the tag of whoever came first: a purge of \
          another value's tag doesn't reach it.",
    example: r#"
routes:
  - { name: list, match: { path: /list }, cache: { query: { include: [size] }, tags: ["page:{query.page}"] } }
  - { name: write, match: { path: /list }, purge: { tags: ["page:{query.page}"] } }
"#,
    mended: r#"
routes:
  - { name: list, match: { path: /list }, cache: { query: { include: [size, page] }, tags: ["page:{query.page}"] } }
  - { name: write, match: { path: /list }, purge: { tags: ["page:{query.page}"] } }
"#,
};

/// See its `about`.
pub(super) const BARE_TAG: Lint = Lint {
    name: "bare-tag",
    about: "A tag that is nothing but a value.",
    why: "User 7 and order 7 then carry one tag, `7`, and a purge of one takes the other along.",
    example: r#"
routes:
  - { name: user, match: { path: "/users/{id}" }, cache: { tags: ["{id}"] } }
  - { name: user-write, match: { path: "/users/{id}" }, purge: { tags: ["{id}"] } }
"#,
    mended: r#"
routes:
  - { name: user, match: { path: "/users/{id}" }, cache: { tags: ["user:{id}"] } }
  - { name: user-write, match: { path: "/users/{id}" }, purge: { tags: ["user:{id}"] } }
"#,
};

/// A tag of a rule.
struct Tag<'r, 'a> {
    rule: &'r RuleAt<'a>,
    at: At<'a>,
    /// `None`: only a message says it.
    pieces: Option<Vec<Piece<'a>>>,
    /// As it was written, for messages.
    written: &'a str,
}

pub(super) fn look(subject: &Subject<'_>, found: &mut Vec<Warning>) {
    let carried: Vec<_> = subject.rules.iter().flat_map(|rule| tags(rule, "cache.tags")).collect();
    let purged: Vec<_> = subject.rules.iter().flat_map(|rule| tags(rule, "purge.tags")).collect();
    let keys: Vec<_> = subject.rules.iter().filter(|rule| rule.caches() && rule.get("cache.tags").is_none()).collect();
    let keys: Vec<String> = keys.into_iter().map(key_of).collect();
    let names_of = |tags: &[Tag<'_, '_>]| tags.iter().map(|tag| tag.written.to_owned()).collect::<Vec<_>>();

    let carried_index =
        Index::new(carried.iter().map(|tag| tag.pieces.clone()).chain(keys.iter().map(|key| Some(pieces(key)))));
    let purged_index = Index::new(purged.iter().map(|tag| tag.pieces.clone()));
    for tag in carried.iter().filter(|tag| !purged_index.meets(tag)) {
        let message = format!("no write purges the tag `{}`", shorten(tag.written));
        let instead = "purge it in the rule of a write that changes the response, or leave it out";
        found.push(tag.rule.warn(&TAG_NEVER_PURGED, &tag.at, message, mend(tag.written, &names_of(&purged), instead)));
    }
    for tag in purged.iter().filter(|tag| !carried_index.meets(tag)) {
        let message = format!("no read carries the tag `{}`", shorten(tag.written));
        let mut names = names_of(&carried);
        names.extend(keys.iter().cloned());
        let instead = "give it to the reads that the write changes, or leave it out";
        found.push(tag.rule.warn(&PURGE_TAG_UNREAD, &tag.at, message, mend(tag.written, &names, instead)));
    }
    for tag in &carried {
        in_key(tag, found);
    }
    for tag in carried.iter().chain(&purged) {
        if let Some([Piece::Value(value)]) = tag.pieces.as_deref() {
            let message = format!("the tag `{{{value}}}` is nothing but a value, which other resources may share");
            found.push(tag.rule.warn(
                &BARE_TAG,
                &tag.at,
                message,
                format!("say of what it is, such as `user:{{{value}}}`"),
            ));
        }
    }
}

fn mend(written: &str, others: &[String], instead: &str) -> String {
    // What the values are called doesn't make tags alike.
    let text = |tag: &str| {
        let pieces = pieces(tag);
        pieces
            .iter()
            .filter_map(|piece| if let Piece::Char(char) = piece { Some(*char) } else { None })
            .collect::<String>()
    };
    let texts: Vec<_> = others.iter().map(|other| text(other)).collect();
    let near = nearest(&text(written), texts.iter().map(String::as_str));
    let near = near.and_then(|near| others.iter().zip(&texts).find(|(_, text)| *text == near));
    match near {
        Some((near, _)) => format!("did you mean `{near}`?"),
        None => instead.to_owned(),
    }
}

/// A tag's query parameters and fields must be in the key too. Captures are, or the checker says so.
fn in_key(tag: &Tag<'_, '_>, found: &mut Vec<Warning>) {
    let key = key_of(tag.rule);
    let key: Vec<_> = pieces(&key);
    let listed = |way: &str, name: &str| {
        let items = tag.rule.get(way).map(|at| items(&at)).unwrap_or_default();
        items.iter().filter_map(text).any(|item| item.eq_ignore_ascii_case(name))
    };
    for piece in tag.pieces.iter().flatten() {
        let Piece::Value(value) = piece else { continue };
        let held = match value.split_once('.') {
            _ if key.contains(piece) => true,
            Some(("query", name)) => {
                let selects = tag.rule.get("cache.query.include").is_some();
                let excluded = || listed("cache.query.exclude", name);
                if selects { listed("cache.query.include", name) } else { !excluded() }
            }
            Some(("header", name)) => {
                listed("cache.vary", name) || tag.rule.word("cache.identity.header") == Some(name)
            }
            Some(("cookie", name)) => tag.rule.word("cache.identity.cookie") == Some(name),
            Some(("claim", name)) => tag.rule.word("cache.identity.claim") == Some(name),
            _ => true,
        };
        if !held {
            let message = format!("the tag `{}` holds `{{{value}}}`, and the key doesn't", shorten(tag.written));
            let mend = format!("add `{{{value}}}` to the key, or leave it out of the tag");
            found.push(tag.rule.warn(&TAG_NOT_IN_KEY, &tag.at, message, mend));
        }
    }
}

fn tags<'r, 'a>(rule: &'r RuleAt<'a>, way: &str) -> Vec<Tag<'r, 'a>> {
    let items = rule.get(way).map(|at| items(&at)).unwrap_or_default();
    let tag = |at: At<'a>| {
        let written = match at.node.kind {
            Kind::Map(_) => below(&at, "as").as_ref().and_then(text),
            _ => text(&at),
        };
        Tag { rule, at, pieces: written.map(pieces), written: written.unwrap_or_default() }
    };
    items.into_iter().map(tag).collect()
}

/// The template of a rule's key, which is its path where it has none.
fn key_of(rule: &RuleAt<'_>) -> String {
    match rule.get("cache.key") {
        Some(at) => {
            text(&at).map_or_else(|| items(&at).iter().filter_map(text).collect::<Vec<_>>().join(":"), str::to_owned)
        }
        None => rule.word("match.path").unwrap_or_default().replace("{*", "{"),
    }
}

/// Templates by the text before their first value, since many rules have many tags.
#[derive(Default)]
struct Index<'a> {
    templates: std::collections::BTreeMap<Vec<Option<char>>, Vec<Piece<'a>>>,
    /// Whether there are tags that only a message says.
    anything: bool,
}

impl<'a> Index<'a> {
    fn new(templates: impl Iterator<Item = Option<Vec<Piece<'a>>>>) -> Self {
        let mut index = Self::default();
        for template in templates {
            match template {
                Some(template) => drop(index.templates.insert(shape(&template), template)),
                None => index.anything = true,
            }
        }
        index
    }

    /// Whether some values make the tag equal to one of these.
    fn meets(&self, tag: &Tag<'_, '_>) -> bool {
        let Some(pieces) = &tag.pieces else { return true };
        self.anything
            || self.templates.contains_key(&shape(pieces))
            || self.templates.values().any(|other| may_be_equal(pieces, other))
    }
}

/// The template whatever its values are called.
fn shape(pieces: &[Piece<'_>]) -> Vec<Option<char>> {
    pieces.iter().map(|piece| if let Piece::Char(char) = piece { Some(*char) } else { None }).collect()
}
