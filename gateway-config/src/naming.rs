//! What names a response and what purges it: paths, keys and tags.

use routecache_core::json::Pointer;
use routecache_core::path::PathTemplate;
use routecache_core::policy::{ItemTag, ResponsePart, WritePart};
use routecache_core::template::{Source, Template, TemplateError};

use crate::conditions::pointer;
use crate::mistake::{Wanted, What, listed};
use crate::suggest::nearest;
use crate::terms::field_name;
use crate::tree::{Kind, shorten};
use crate::vocabulary::TAG;
use crate::walk::{At, Fields, Found};

/// Keys and tags are built for every request, and a tag is a field of shared tables.
const TEMPLATE_BYTES_MAX: usize = 1024;
/// Each tag is looked up for every hit.
const TAGS_MAX: usize = 32;

/// A path template that was read.
pub(crate) struct Path<'a> {
    pub(crate) at: At<'a>,
    pub(crate) template: PathTemplate,
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
        match PathTemplate::parse(text) {
            Ok(template) => Some(Self { at: at.clone(), template }),
            Err(error) => {
                found.add_part(at, text, error.at, error.len, What::Path(error.what));
                None
            }
        }
    }

    fn captures(&self) -> Vec<&str> {
        self.template.captures().iter().map(|capture| capture.name.as_str()).collect()
    }
}

/// The key, which must name every capture of the path.
pub(crate) fn key(at: &At<'_>, path: Option<&Path<'_>>, found: &mut Found) -> Option<Template> {
    let key = written_key(at, path, found)?;
    // Two paths that differ only in a capture which the key leaves out would share a response (C7).
    for name in path.map(Path::captures).unwrap_or_default() {
        let named = |source: &Source| matches!(source, Source::Capture(capture) if capture == name);
        if !key.placeholders().any(|placeholder| named(&placeholder.source)) {
            found.add(at, What::CaptureLeftOut { name: name.to_owned(), key: shorten(key.source()) });
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
    // Every capture is in it.
    let key = Template::parse(&path.template.as_template());
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

/// The tags of a cache rule.
#[derive(Default)]
pub(crate) struct CacheTags {
    pub(crate) templates: Vec<Template>,
    /// Response fields whose words are tags.
    pub(crate) fields: Vec<String>,
    /// Made of what the response says.
    pub(crate) items: Vec<ItemTag<ResponsePart>>,
    /// Made of what is posted.
    pub(crate) posted: Vec<ItemTag<Pointer>>,
}

/// Reads the tags of a cache rule.
pub(crate) fn tags_of_cache(at: &At<'_>, path: Option<&Path<'_>>, found: &mut Found) -> Option<CacheTags> {
    let mut tags = CacheTags::default();
    let templates = self::tags(at, path, found, |item, found| {
        let twice = match item_tag(item, path, found) {
            Some((WritePart::Response(ResponsePart::Header(name)), None)) => push(&mut tags.fields, Some(name)),
            Some((WritePart::Response(part), template)) => push(&mut tags.items, made(part, template)),
            Some((WritePart::Request(part), template)) => push(&mut tags.posted, made(part, template)),
            None => return,
        };
        if twice {
            found.add(item, What::Twice(item.said()));
        }
    });
    tags.templates = templates?;
    Some(tags)
}

/// Each value as it is, where nothing says what is made of it.
fn made<Part>(part: Part, template: Option<Template>) -> Option<ItemTag<Part>> {
    template.or_else(|| Template::parse_item("{}").ok()).map(|template| ItemTag { part, template })
}

/// Adds an item; whether it was there already.
fn push<T: PartialEq>(list: &mut Vec<T>, item: Option<T>) -> bool {
    let twice = item.as_ref().is_some_and(|item| list.contains(item));
    list.extend(item);
    twice
}

/// The tags of a purge rule.
pub(crate) fn tags_of_purge(
    at: &At<'_>,
    path: Option<&Path<'_>>,
    found: &mut Found,
) -> Option<(Vec<Template>, Vec<ItemTag<WritePart>>)> {
    let mut items = Vec::new();
    let templates = tags(at, path, found, |item, found| {
        let Some((part, template)) = item_tag(item, path, found) else { return };
        if push(&mut items, made(part, template)) {
            found.add(item, What::Twice(item.said()));
        }
    })?;
    Some((templates, items))
}

/// Where a tag's values are, and what is made of each: `{ json: "/items/*/id", as: "order:{}" }`.
fn item_tag(at: &At<'_>, path: Option<&Path<'_>>, found: &mut Found) -> Option<(WritePart, Option<Template>)> {
    const PARTS: &[&str] = &["header", "json", "request_json"];
    let fields = at.fields(&TAG, found)?;
    let given: Vec<&At<'_>> = PARTS.iter().filter_map(|name| fields.get(name)).collect();
    let [part] = given.as_slice() else {
        if !(fields.incomplete && given.is_empty()) {
            found.add(at, What::NotExactlyOne(PARTS));
        }
        return None;
    };
    let text = part.text(found);
    let part = match (part.name, text) {
        ("header", Some(text)) => {
            field_name(part, text, found).map(|name| WritePart::Response(ResponsePart::Header(name)))
        }
        ("json", Some(text)) => {
            pointer(part, text, found).map(|pointer| WritePart::Response(ResponsePart::Json(pointer)))
        }
        (_, Some(text)) => pointer(part, text, found).map(WritePart::Request),
        (_, None) => None,
    };
    let template = match fields.get("as") {
        Some(at) => Some(tag_with(at, path, Template::parse_item, found)?),
        None => None,
    };
    Some((part?, template))
}

fn tags(
    at: &At<'_>,
    path: Option<&Path<'_>>,
    found: &mut Found,
    mut map: impl FnMut(&At<'_>, &mut Found),
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
    tag_with(at, path, Template::parse, found)
}

fn tag_with(at: &At<'_>, path: Option<&Path<'_>>, parse: Parse, found: &mut Found) -> Option<Template> {
    let (tag, text) = template_with(at, path, parse, found)?;
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

/// A write names what it purges by what it shares with the reads; method and body it never shares.
fn may_be_in_tags(source: &Source) -> bool {
    !matches!(source, Source::Method | Source::Body)
}

/// How a template is read.
type Parse = fn(&str) -> Result<Template, TemplateError>;

/// A template whose captures the path has.
fn template<'a>(at: &At<'a>, path: Option<&Path<'_>>, found: &mut Found) -> Option<(Template, &'a str)> {
    template_with(at, path, Template::parse, found)
}

fn template_with<'a>(
    at: &At<'a>,
    path: Option<&Path<'_>>,
    parse: Parse,
    found: &mut Found,
) -> Option<(Template, &'a str)> {
    let text = at.text(found)?;
    if text.len() > TEMPLATE_BYTES_MAX {
        found.add(at, What::TooLong { field: "template", bytes_max: TEMPLATE_BYTES_MAX });
        return None;
    }
    let template = match parse(text) {
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
            let known = path.captures();
            if !known.contains(&name.as_str()) {
                let similar = nearest(name, known.iter().copied()).map(str::to_owned);
                let captures = listed(&known);
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
