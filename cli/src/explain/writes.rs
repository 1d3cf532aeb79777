//! Which writes purge an entry. For each purge rule a write is made up that should reach one of the entry's tags, and the core is asked
//! whether it does.

use routecache_config::values_in;
use routecache_core::fields::Fields;
use routecache_core::policy::{Action, Rule, WritePart};
use routecache_core::request::{Arrived, Engine, Outcome, Plan};
use serde::Serialize;

/// Writes that purge the entry.
#[derive(Serialize)]
pub struct PurgedBy {
    pub rule: String,
    pub methods: Vec<String>,
    /// With the values of this request; a capture that may be anything stays a capture.
    pub path: String,
    /// The entry's tag that it reaches.
    pub tag: String,
    /// What must be said besides, where only its body or its response tells what it purges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_if: Option<String>,
}

/// Every rule whose writes purge an entry with these tags.
pub fn purging(engine: &Engine, scheme: &str, authority: &str, tags: &[String]) -> Vec<PurgedBy> {
    let rules = engine.policy().rules.iter();
    rules.filter_map(|rule| tags.iter().find_map(|tag| reaches(engine, rule, (scheme, authority), tag))).collect()
}

fn reaches(engine: &Engine, rule: &Rule, (scheme, authority): (&str, &str), tag: &str) -> Option<PurgedBy> {
    let Action::Purge(purge) = &rule.action else { return None };
    let method = rule.methods.first()?;
    let by_request = purge.tags.iter().find_map(|template| {
        let values = values_in(template.source(), tag)?;
        let (path, shown) = (filled(rule.path.source(), &values, "x"), filled(rule.path.source(), &values, ""));
        let query: Vec<_> = values
            .iter()
            .filter_map(|(name, value)| Some(format!("{}={value}", name.strip_prefix("query.")?)))
            .collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let authority = rule.host.as_deref().unwrap_or(authority);
        is_purged(engine, method, (scheme, authority, &format!("{path}{query}")), tag).then(|| PurgedBy {
            rule: rule.name.clone(),
            methods: rule.methods.clone(),
            path: format!("{shown}{query}"),
            tag: tag.to_owned(),
            only_if: None,
        })
    });
    by_request.or_else(|| {
        purge.item_tags.iter().find_map(|item| {
            let values = values_in(item.template.source(), tag)?;
            let (_, found) = values.iter().find(|(name, _)| name.is_empty())?;
            let who = if matches!(item.part, WritePart::Request(_)) { "body" } else { "response" };
            Some(PurgedBy {
                rule: rule.name.clone(),
                methods: rule.methods.clone(),
                path: filled(rule.path.source(), &values, ""),
                tag: tag.to_owned(),
                only_if: Some(format!("its {who} names `{found}`")),
            })
        })
    })
}

/// Whether a write that succeeds purges a tag.
pub fn is_purged(engine: &Engine, method: &str, (scheme, authority, target): (&str, &str, &str), tag: &str) -> bool {
    let lines = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", target)];
    let fields = Fields::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect());
    match engine.plan(&Arrived::new(&fields, true, &|_| None)) {
        Plan::Write(write) => engine.purged_by(&write, &Outcome::default()).iter().any(|purged| purged == tag),
        _ => false,
    }
}

/// A path template with values for its captures; `other` stands for those without, which stay as they are if it is empty.
fn filled(path: &str, values: &[(&str, &str)], other: &str) -> String {
    let segment = |segment: &str| {
        let Some((before, rest)) = segment.split_once('{') else { return segment.to_owned() };
        let (name, after) = rest.split_once('}').unwrap_or((rest, ""));
        let name = name.trim_start_matches('*').split(':').next().unwrap_or_default();
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => format!("{before}{value}{after}"),
            None if other.is_empty() => segment.to_owned(),
            None => format!("{before}{other}{after}"),
        }
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}
