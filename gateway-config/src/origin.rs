//! Fetches that go straight to a cluster, past the gateway's routes.

use routecache_core::policy::{CacheRule, Identity};
use routecache_core::template::Template;

use crate::check;
use crate::mistake::What;
use crate::tree::Kind;
use crate::vocabulary::ORIGIN;
use crate::walk::{At, Found};

/// The cluster of `origin: { cluster: orders, rewrites: none }`.
pub(crate) fn of_rule(at: &At<'_>, rule: &CacheRule, fetches: bool, found: &mut Found) -> Option<String> {
    let fields = at.fields(&ORIGIN, found)?;
    if !fetches {
        found.add_name(at, What::OriginWithoutBackground);
    }
    if let Some(name) = unknown(rule) {
        found.add_name(at, What::OriginUnknown(name));
    }
    let rewrites = fields.get("rewrites");
    let stated = rewrites.is_some_and(|at| matches!(&at.node.kind, Kind::Text(text) if text == "none"));
    if !stated && (rewrites.is_some() || !fields.incomplete) {
        found.add(rewrites.unwrap_or(at), What::OriginRewrites);
    }
    check::cluster(fields.need("cluster", "cluster: orders", found)?, found).filter(|_| stated)
}

/// Something of which a rule's key, tags or identity is made, and that only the gateway knows of a request; so not of a
/// fetch, which is none.
fn unknown(rule: &CacheRule) -> Option<String> {
    if let Some(Identity::Claim { name, .. }) = &rule.identity {
        return Some(format!("claim.{name}"));
    }
    let mut templates: Vec<&Template> = rule.tags.iter().collect();
    templates.push(&rule.key);
    templates.extend(rule.item_tags.iter().map(|tag| &tag.template));
    templates.extend(rule.request_tags.iter().map(|tag| &tag.template));
    let mut sources = templates.into_iter().flat_map(Template::placeholders).map(|placeholder| &placeholder.source);
    sources.find(|source| source.is_property()).map(ToString::to_string)
}
