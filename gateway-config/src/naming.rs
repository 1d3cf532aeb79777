//! What names a response and what purges it: paths, keys and tags.

use routecache_core::template::{Source, Template};

use crate::mistake::{Wanted, What, listed};
use crate::path;
use crate::suggest::nearest;
use crate::terms::tag_field;
use crate::tree::{Kind, shorten};
use crate::vocabulary::{PURGE_TAG, TAG};
use crate::walk::{At, Fields, Found};

/// Keys and tags are built for every request, and a tag is a field of shared tables.
const TEMPLATE_BYTES_MAX: usize = 1024;
/// Each tag is looked up for every hit.
const TAGS_MAX: usize = 32;

/// A path template that was read.
pub(crate) struct Path<'a> {
    pub(crate) at: At<'a>,
    pub(crate) text: &'a str,
    captures: Vec<&'a str>,
}

impl<'a> Path<'a> {
    /// The `path` of a `match`.
    pub(crate) fn read(fields: &Fields<'a>, found: &mut Found) -> Option<Self> {
        let at = fields.need("path", "path: \"/users/{user_id}\"", found)?;
        let text = at.text(found)?;
        if text.len() > TEMPLATE_BYTES_MAX {
            found.add(at, What::TooLong { field: "path", bytes_max: TEMPLATE_BYTES_MAX });
            return None;
        }
        match path::captures(text) {
            Ok(captures) => Some(Self { at: at.clone(), text, captures }),
            Err((from, len, mistake)) => {
                found.add_part(at, text, from, len, What::Path(mistake));
                None
            }
        }
    }
}

/// The key, which must name every capture of the path.
pub(crate) fn key(at: &At<'_>, path: Option<&Path<'_>>, found: &mut Found) -> Option<Template> {
    let key = written_key(at, path, found)?;
    // Two paths that differ only in a capture which the key leaves out would share a response (C7).
    for name in path.map(|path| path.captures.as_slice()).unwrap_or_default() {
        let named = |source: &Source| matches!(source, Source::Capture(capture) if capture == name);
        if !key.placeholders().any(|placeholder| named(&placeholder.source)) {
            found.add(at, What::CaptureLeftOut { name: (*name).to_owned(), key: shorten(key.source()) });
        }
    }
    Some(key)
}

/// One template, or a list whose items are joined with `:`.
fn written_key(at: &At<'_>, path: Option<&Path<'_>>, found: &mut Found) -> Option<Template> {
    match &at.node.kind {
        Kind::Text(_) => template(at, path, found).map(|(template, _)| template),
        Kind::List(_) => {
            let items = at.items(found)?;
            if items.is_empty() {
                found.add(at, What::EmptyList("key"));
                return None;
            }
            let parts: Vec<_> = items.iter().map(|item| template(item, path, found)).collect();
            let parts: Option<Vec<_>> = parts.into_iter().collect();
            let joined = parts?.iter().map(|(part, _)| part.source()).collect::<Vec<_>>().join(":");
            if joined.len() > TEMPLATE_BYTES_MAX {
                found.add(at, What::TooLong { field: "key", bytes_max: TEMPLATE_BYTES_MAX });
            }
            let whole = Template::parse(&joined);
            whole
                .map_err(|error| found.add(at, What::Template { template: shorten(&joined), mistake: error.what }))
                .ok()
        }
        _ => {
            at.wanted(Wanted::TextOrList, found);
            None
        }
    }
}

/// Without a key, the path names the response.
pub(crate) fn path_as_key(path: &Path<'_>, found: &mut Found) -> Option<Template> {
    // A capture of the rest, `{*path}`, is `{path}` in templates. Every capture is in it, then.
    let key = Template::parse(&path.text.replace("{*", "{"));
    key.map_err(|error| found.add(&path.at, What::PathAsKey(error.what))).ok()
}

/// Without tags, the key names what a write purges, as in the framework whose decorators the rules replace.
pub(crate) fn key_as_tag(at: &At<'_>, key: &Template, found: &mut Found) -> Option<Template> {
    let untaggable = key.placeholders().find(|placeholder| !may_be_in_tags(&placeholder.source));
    if let Some(placeholder) = untaggable {
        found.add(at, What::KeyAsTag(placeholder.source.to_string()));
        return None;
    }
    if key.source().starts_with('!') {
        found.add(at, What::ReservedTag(shorten(key.source())));
        return None;
    }
    Some(key.clone())
}

/// The tags of a cache rule: templates, and fields of the response whose words are tags.
pub(crate) fn tags_of_cache(
    at: &At<'_>,
    path: Option<&Path<'_>>,
    found: &mut Found,
) -> Option<(Vec<Template>, Vec<String>)> {
    let mut fields = Vec::new();
    let tags = tags(at, path, found, |item, found| {
        let name = item.fields(&TAG, found).and_then(|fields| tag_field(&fields, found))?;
        if fields.contains(&name) {
            found.add(item, What::Twice(name.clone()));
        }
        fields.push(name);
        Some(())
    });
    tags.map(|tags| (tags, fields))
}

/// The tags of a purge rule.
pub(crate) fn tags_of_purge(at: &At<'_>, path: Option<&Path<'_>>, found: &mut Found) -> Option<Vec<Template>> {
    tags(at, path, found, |item, found| item.fields(&PURGE_TAG, found).map(drop))
}

fn tags(
    at: &At<'_>,
    path: Option<&Path<'_>>,
    found: &mut Found,
    mut map: impl FnMut(&At<'_>, &mut Found) -> Option<()>,
) -> Option<Vec<Template>> {
    let items = at.items(found)?;
    if items.is_empty() {
        found.add(at, What::EmptyList("tags"));
    }
    if items.len() > TAGS_MAX {
        found.add(at, What::TooMany { field: "tags", max: TAGS_MAX });
    }
    let mut tags: Vec<Template> = Vec::with_capacity(items.len());
    for item in &items {
        if matches!(item.node.kind, Kind::Map(_)) {
            map(item, found);
            continue;
        }
        let Some(tag) = tag(item, path, found) else { continue };
        if tags.contains(&tag) {
            found.add(item, What::Twice(item.said()));
        }
        tags.push(tag);
    }
    Some(tags)
}

fn tag(at: &At<'_>, path: Option<&Path<'_>>, found: &mut Found) -> Option<Template> {
    let (tag, text) = template(at, path, found)?;
    if text.starts_with('!') {
        found.add_part(at, text, 0, 1, What::ReservedTag(shorten(text)));
    }
    for placeholder in tag.placeholders().filter(|placeholder| !may_be_in_tags(&placeholder.source)) {
        let name = placeholder.source.to_string();
        let (from, len) = place_of(&name, text);
        found.add_part(at, text, from, len, What::NotInTags(name));
    }
    Some(tag)
}

/// A write names what it purges by what it shares with the reads; the method it never shares.
fn may_be_in_tags(source: &Source) -> bool {
    match source {
        Source::Capture(_) | Source::Query(_) | Source::Host => true,
        Source::Method => false,
    }
}

/// A template whose captures the path has.
fn template<'a>(at: &At<'a>, path: Option<&Path<'_>>, found: &mut Found) -> Option<(Template, &'a str)> {
    let text = at.text(found)?;
    if text.len() > TEMPLATE_BYTES_MAX {
        found.add(at, What::TooLong { field: "template", bytes_max: TEMPLATE_BYTES_MAX });
        return None;
    }
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(error) => {
            let what = What::Template { template: shorten(text), mistake: error.what };
            found.add_part(at, text, error.at, error.len, what);
            return None;
        }
    };
    if let Some(path) = path {
        for placeholder in template.placeholders() {
            let Source::Capture(name) = &placeholder.source else { continue };
            if !path.captures.contains(&name.as_str()) {
                let similar = nearest(name, path.captures.iter().copied()).map(str::to_owned);
                let captures = listed(&path.captures);
                let (from, len) = place_of(name, text);
                found.add_part(at, text, from, len, What::NoSuchCapture { name: name.clone(), similar, captures });
            }
        }
    }
    Some((template, text))
}

/// Where a placeholder stands in its template, in bytes.
fn place_of(name: &str, text: &str) -> (usize, usize) {
    let from = text.find(&format!("{{{name}")).unwrap_or_default();
    let rest = text.get(from..).unwrap_or_default();
    (from, rest.find('}').map_or(rest.len(), |end| end.saturating_add(1)))
}
