//! Why each rule is met or isn't. A rule is asked by itself, and then with one condition less, so that what keeps it from a request is
//! found out rather than worked out again.

use routecache_core::key::host_of;
use routecache_core::matching::Router;
use routecache_core::policy::{Action, Policy, Rule};
use routecache_core::request::{Engine, Plan};
use serde::Serialize;

use super::message::Asked;

/// What a rule has to do with the request.
#[derive(Serialize)]
pub struct Considered {
    pub name: String,
    /// `cache` or `purge`.
    pub kind: &'static str,
    pub outcome: Outcome,
    /// In a few words.
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The cache rule that answers.
    Answers,
    /// A purge rule that is met.
    Applies,
    /// A cache rule that is met, beside one that is more specific.
    LessSpecific,
    /// The path fits, and something else doesn't.
    Otherwise,
    /// The path doesn't fit.
    Path,
}

/// The index of the cache rule that answers: the router's choice among those that are met.
pub fn answering(policy: &Policy, asked: &Asked, authority: &str) -> Option<usize> {
    let router = Router::new(&policy.rules);
    let meets = |index: usize| policy.rules.get(index).is_some_and(|rule| is_met(policy, rule, asked));
    let target = asked.line(":path");
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    router.find(asked.line(":method"), host_of(authority), path, &meets).cache.map(|found| found.rule)
}

/// Every rule, in the order of the file.
pub fn consider(policy: &Policy, asked: &Asked, answering: Option<usize>) -> Vec<Considered> {
    let first = answering.and_then(|index| policy.rules.get(index)).map_or("", |rule| rule.name.as_str());
    let considered = policy.rules.iter().enumerate().map(|(index, rule)| {
        let kind = if caches(rule) { "cache" } else { "purge" };
        let (outcome, why) = if answering == Some(index) {
            (Outcome::Answers, "answers it".to_owned())
        } else if is_met(policy, rule, asked) {
            match caches(rule) {
                true => {
                    (Outcome::LessSpecific, format!("would answer it, but `{first}` is more specific, or stands first"))
                }
                false => (Outcome::Applies, "purges when it succeeds".to_owned()),
            }
        } else {
            missed(policy, rule, asked)
        };
        Considered { name: rule.name.clone(), kind, outcome, why }
    });
    considered.collect()
}

fn caches(rule: &Rule) -> bool {
    matches!(rule.action, Action::Cache(_))
}

/// Whether a rule is met, were it the only one.
fn is_met(policy: &Policy, rule: &Rule, asked: &Asked) -> bool {
    let engine = Engine::new(Policy { rules: vec![rule.clone()], ..policy.clone() });
    match asked.plan(&engine, &asked.fields(), &|path| asked.property(path)) {
        Plan::Ignore => false,
        Plan::Write(write) => write.meets_rules() || write.bypass().is_some(),
        Plan::Bypass(_) | Plan::ReadBody | Plan::Read(_) => true,
    }
}

/// What keeps a rule from a request that it doesn't meet.
fn missed(policy: &Policy, rule: &Rule, asked: &Asked) -> (Outcome, String) {
    // A request with another method, or a rule that asks for less.
    let other_method = asked.with_method(rule.methods.first().map_or("", String::as_str));
    let words = |which: &u8| match which {
        0 => format!("it is for {}", rule.methods.join(", ")),
        1 => format!("it is for the host {}", rule.host.as_deref().unwrap_or_default()),
        _ => "a condition of its `match` doesn't hold".to_owned(),
    };
    // The fewest things that stand in the way: every set of them, the small ones first.
    let mut sets: Vec<Vec<u8>> = (1..8_u8).map(|set| (0..3).filter(|bit| set >> bit & 1 == 1).collect()).collect();
    sets.sort_by_key(Vec::len);
    for set in sets {
        let mut relaxed = rule.clone();
        if set.contains(&1) {
            relaxed.host = None;
        }
        if set.contains(&2) {
            relaxed.conditions.clear();
        }
        if is_met(policy, &relaxed, if set.contains(&0) { &other_method } else { asked }) {
            return (Outcome::Otherwise, set.iter().map(words).collect::<Vec<_>>().join(", and "));
        }
    }
    (Outcome::Path, format!("its path is {}", rule.path.source()))
}
