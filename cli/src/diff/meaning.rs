//! What differing rules mean for what is stored. The core is asked: fingerprints say whether entries stay, and requests that are made up
//! for each rule say who answers them and what they purge, before and after.

use std::collections::BTreeMap;

use routecache_config::{Loaded, load_json};
use routecache_core::key::normal_authority;
use routecache_core::policy::{Action, Policy, Rule};
use routecache_core::request::{Engine, Outcome, Plan};
use serde::Serialize;
use serde_json::Value;

use super::fields::{Field, differing, with};
use crate::explain::{Asked, answering};

/// One thing that changes.
#[derive(Debug, PartialEq, Serialize)]
pub struct Change {
    pub effect: Effect,
    pub rule: Option<String>,
    pub what: String,
    pub fields: Vec<Field>,
}

/// What it does, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Entries that were stored aren't found any more.
    Unreachable,
    /// A write leaves something alone that it purged before.
    PurgesLess,
    PurgesMore,
    /// Something is cached that wasn't.
    New,
    /// Entries stay, and what becomes of new ones changes.
    Terms,
    /// For the gateway as a whole.
    Settings,
}

impl Effect {
    pub const ALL: [Self; 6] =
        [Self::Unreachable, Self::PurgesLess, Self::PurgesMore, Self::New, Self::Terms, Self::Settings];

    pub fn heading(self) -> &'static str {
        match self {
            Self::Unreachable => "What is stored becomes unreachable:",
            Self::PurgesLess => "Writes purge less:",
            Self::PurgesMore => "Writes purge more:",
            Self::New => "Newly cached:",
            Self::Terms => "Entries stay, and new ones are stored on other terms:",
            Self::Settings => "Settings of the gateway:",
        }
    }
}

/// Everything that changes.
pub fn changes(old: &Loaded, new: &Loaded) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.policy.namespace != new.policy.namespace {
        let what = format!("everything: the namespace was {} and is {}", old.policy.namespace, new.policy.namespace);
        changes.push(Change { effect: Effect::Unreachable, rule: None, what, fields: Vec::new() });
    }
    rules(old, new, &mut changes);
    answers(&old.policy, &new.policy, &mut changes);
    purges(&old.policy, &new.policy, &mut changes);
    let settings = |loaded: &Loaded| {
        let mut settings = loaded.expanded.clone();
        settings.as_object_mut().map(|map| map.remove("routes"));
        settings
    };
    let fields = differing(&settings(old), &settings(new));
    if !fields.is_empty() {
        let what = format!("{} differ{}", fields.len(), if fields.len() == 1 { "s" } else { "" });
        changes.push(Change { effect: Effect::Settings, rule: None, what, fields });
    }
    changes
}

fn by_name(policy: &Policy) -> BTreeMap<&str, &Rule> {
    policy.rules.iter().map(|rule| (rule.name.as_str(), rule)).collect()
}

fn caches(rule: &Rule) -> bool {
    matches!(rule.action, Action::Cache(_))
}

/// Rules by their names.
fn rules(old: &Loaded, new: &Loaded, changes: &mut Vec<Change>) {
    let (before, after) = (by_name(&old.policy), by_name(&new.policy));
    for (name, rule) in before.iter().filter(|(name, rule)| caches(rule) && !after.contains_key(*name)) {
        let same = |other: &&Rule| caches(other) && other.path == rule.path && other.action == rule.action;
        let renamed = after.values().find(|other| !before.contains_key(other.name.as_str()) && same(other));
        let what = match renamed {
            Some(other) => format!("it is named {} now, and a rule's name is part of its keys", other.name),
            None => "the rule is gone".to_owned(),
        };
        changes.push(Change { effect: Effect::Unreachable, rule: Some((*name).to_owned()), what, fields: Vec::new() });
    }
    for (name, rule) in after.iter().filter(|(name, rule)| caches(rule) && !before.contains_key(*name)) {
        let what = format!("{} {}", rule.methods.join(", "), rule.path.source());
        changes.push(Change { effect: Effect::New, rule: Some((*name).to_owned()), what, fields: Vec::new() });
    }
    for (name, (was, is)) in before.iter().filter_map(|(name, was)| Some((name, (was, after.get(name)?)))) {
        if !caches(was) || was == is {
            continue;
        }
        let (was_written, is_written) = (written(&old.expanded, name), written(&new.expanded, name));
        let mut fields = differing(&was_written, &is_written);
        let (effect, what) = if was.fingerprint() == is.fingerprint() {
            let through = if fields.is_empty() { ", through a bucket or a setting of the whole file" } else { "" };
            (Effect::Terms, format!("its keys and tags mean the same{through}"))
        } else if caches(is) {
            for field in &mut fields {
                field.decides = decides(&old.expanded, name, was, field);
            }
            fields.extend(examples((&old.policy, was), (&new.policy, is)));
            (Effect::Unreachable, "its keys, tags or identity mean something else".to_owned())
        } else {
            (Effect::Unreachable, "it caches nothing any more".to_owned())
        };
        changes.push(Change { effect, rule: Some((*name).to_owned()), what, fields });
    }
}

/// A rule as it was written.
fn written(rules: &Value, name: &str) -> Value {
    let routes = rules.get("routes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    routes.iter().find(|route| route["name"] == name).cloned().unwrap_or_default()
}

/// The key and tags of a request that meets a rule, before and after, where they differ.
fn examples((old, was): (&Policy, &Rule), (new, is): (&Policy, &Rule)) -> Vec<Field> {
    let Some(asked) = was.methods.first().and_then(|method| request_for(was, method, "1")) else { return Vec::new() };
    let alone = |policy: &Policy, rule: &Rule| Engine::new(Policy { rules: vec![rule.clone()], ..policy.clone() });
    let said = |engine: &Engine| match asked.plan(engine, &asked.fields(), &|_| None) {
        Plan::Read(reading) => {
            let mut tags = reading.tags().unwrap_or_default();
            tags.retain(|tag| !tag.starts_with('!'));
            Some((reading.wanted.key.as_str().trim_end().to_owned(), tags.join(", ")))
        }
        _ => None,
    };
    let (Some((key, tags)), Some((new_key, new_tags))) = (said(&alone(old, was)), said(&alone(new, is))) else {
        return Vec::new();
    };
    let line = format!("{} {}", asked.line(":method"), asked.line(":path"));
    let both = [("key", key, new_key), ("tags", tags, new_tags)].into_iter().filter(|(_, old, new)| old != new);
    let field = |(what, old, new): (&str, String, String)| Field {
        path: format!("{what} of {line}"),
        old: Some(Value::String(old)),
        new: Some(Value::String(new)),
        decides: None,
    };
    both.map(field).collect()
}

/// Whether a field alone gives its rule another fingerprint.
fn decides(rules: &Value, name: &str, was: &Rule, field: &Field) -> Option<bool> {
    let changed = with(&written(rules, name), field);
    let alone = serde_json::json!({ "routes": [changed], "ttl": rules.get("ttl").cloned().unwrap_or_else(|| serde_json::json!({})) });
    let policy = load_json(alone.to_string().as_bytes(), &|_| None).ok()?;
    policy.rules.first().map(|rule| rule.fingerprint() != was.fingerprint())
}

/// A request that meets a rule, as far as one can be made up.
fn request_for(rule: &Rule, method: &str, value: &str) -> Option<Asked> {
    let host = rule.host.as_deref().unwrap_or("example.com").replacen('*', "any", 1);
    let segment = |segment: &str| match segment.split_once('{') {
        Some((before, rest)) => format!("{before}{value}{}", rest.rsplit_once('}').map_or("", |(_, after)| after)),
        None => segment.to_owned(),
    };
    let path: Vec<_> = rule.path.source().split('/').map(segment).collect();
    Asked::new(method, &format!("https://{host}{}", path.join("/")), &[], None, &[]).ok()
}

/// Requests that met a rule before, and meet another or none now.
fn answers(old: &Policy, new: &Policy, changes: &mut Vec<Change>) {
    let name_of = |policy: &Policy, asked: &Asked| {
        let authority = normal_authority(asked.line(":authority"), "https");
        answering(policy, asked, &authority).and_then(|index| policy.rules.get(index)).map(|rule| rule.name.clone())
    };
    let after = by_name(new);
    for rule in old.rules.iter().filter(|rule| caches(rule)) {
        let Some(method) = rule.methods.first() else { continue };
        let asked = ["1", "x-1"].iter().filter_map(|value| request_for(rule, method, value));
        let taken = asked.into_iter().find_map(|asked| {
            let before = name_of(old, &asked).filter(|before| *before == rule.name)?;
            let now = name_of(new, &asked);
            (now.as_ref() != Some(&before)).then_some((asked, now))
        });
        // A rule that is gone has been told.
        let Some((asked, now)) = taken.filter(|_| after.get(rule.name.as_str()).is_some_and(|rule| caches(rule)))
        else {
            continue;
        };
        let what = format!(
            "{method} {} isn't answered by it any more, but by {}",
            asked.line(":path"),
            now.as_deref().unwrap_or("no rule")
        );
        changes.push(Change { effect: Effect::Unreachable, rule: Some(rule.name.clone()), what, fields: Vec::new() });
    }
}

/// What writes purge, before and after: those that either set of rules speaks of.
fn purges(old: &Policy, new: &Policy, changes: &mut Vec<Change>) {
    let (before, after) = (Engine::new(old.clone()), Engine::new(new.clone()));
    let mut seen = Vec::new();
    for rule in old.rules.iter().chain(&new.rules).filter(|rule| !caches(rule)) {
        // Methods that lose and gain the same are told together.
        let mut told: Vec<(Effect, String, Vec<&str>, String)> = Vec::new();
        for method in &rule.methods {
            let Some(asked) = request_for(rule, method, "1").filter(|asked| !seen.contains(&asked.lines)) else {
                continue;
            };
            let (was, is) = (purged(&before, &asked), purged(&after, &asked));
            for (effect, tags) in [(Effect::PurgesLess, missing(&was, &is)), (Effect::PurgesMore, missing(&is, &was))] {
                let path = asked.line(":path").to_owned();
                match told.iter_mut().find(|(of, to, _, known)| (*of, to, known) == (effect, &path, &tags)) {
                    Some((_, _, methods, _)) => methods.push(method),
                    None if tags.is_empty() => {}
                    None => told.push((effect, path, vec![method], tags)),
                }
            }
            seen.push(asked.lines);
        }
        for (effect, path, methods, tags) in told {
            let purge = if effect == Effect::PurgesMore { "purges" } else { "doesn't purge" };
            let what = format!("{} {path} {purge} {tags}", methods.join(", "));
            changes.push(Change { effect, rule: Some(rule.name.clone()), what, fields: Vec::new() });
        }
    }
}

/// What isn't among others, for people.
fn missing(tags: &[String], others: &[String]) -> String {
    let missing = tags.iter().filter(|tag| !others.contains(tag)).map(|tag| format!("`{tag}`"));
    missing.collect::<Vec<_>>().join(", ")
}

/// The tags of the rules that a write purges, without those of URLs, which follow from what is cached.
fn purged(engine: &Engine, asked: &Asked) -> Vec<String> {
    match asked.plan(engine, &asked.fields(), &|_| None) {
        Plan::Write(write) => {
            let mut tags = engine.purged_by(&write, &Outcome::default());
            tags.retain(|tag| !tag.starts_with("!url:"));
            tags
        }
        _ => Vec::new(),
    }
}
