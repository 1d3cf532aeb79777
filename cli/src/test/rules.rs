//! What scenario files can say of rules: `rules`, `bridge`, and what befalls the bridge.

use std::path::PathBuf;
use std::time::Duration;

use proxy_wasm_host_test::FilterSource;
use proxy_wasm_host_test::scenario::{Action, At, Condition, Extension, Fields, Subject};
use routecache_config::{Loaded, load_yaml};

use super::bridge::Bridge;
use crate::filter;

/// Long enough for a gateway to hear the feed after its start.
const SETTLE: Duration = Duration::from_millis(600);

/// The extension of the language for rules.
pub struct Rules {
    /// In place of the filter inside.
    wasm: Option<PathBuf>,
    /// The bridge of the case that runs; each run begins with a new one.
    bridge: Bridge,
}

impl Rules {
    pub fn new(wasm: Option<PathBuf>) -> Self {
        Self { wasm, bridge: Bridge::default() }
    }

    fn filter(&self) -> Option<FilterSource> {
        match &self.wasm {
            Some(path) => Some(path.as_path().into()),
            None => filter::FILTER.map(FilterSource::from),
        }
    }
}

impl Extension for Rules {
    fn case_fields(&self) -> &'static [&'static str] {
        &["rules", "bridge"]
    }

    fn subject(&self, case: &Fields<'_>, at: At<'_>) -> Option<Subject> {
        let Some(rules) = case.get("rules") else {
            let mend = "write `rules:` and the path of a file, or `filter:` and the path of another module, here or beside \
                        `cases`";
            at.wrong("the case doesn't say what it tests", mend);
            return None;
        };
        if let Some(bridge) = case.get("bridge") {
            bridge.one_of(&[("mem://", ())])?;
        }
        let loaded = load(rules, case)?;
        let Some(filter) = self.filter() else {
            let mend = "name one with `--wasm`; `cargo xtask build` builds both, and puts it inside";
            rules.wrong("this `routecache` was built without the filter inside", mend);
            return None;
        };
        let subject = Subject::new(filter, loaded.json.to_string());
        let Some(cluster) = loaded.policy.bridge.map(|bridge| bridge.cluster) else { return Some(subject) };
        let bridge = self.bridge.clone();
        Some(subject.settle(SETTLE).surroundings(move |builder| {
            bridge.reset();
            builder.cluster(&cluster, bridge.clone())
        }))
    }

    fn configuration_fields(&self) -> &'static [&'static str] {
        &["rules"]
    }

    fn configuration(&self, fields: &Fields<'_>, at: At<'_>, case: &Fields<'_>) -> Option<Vec<u8>> {
        let Some(rules) = fields.get("rules") else {
            at.wrong("there are no new rules", "write `rules:`, or `config:` for what the filter shall get as it is");
            return None;
        };
        Some(load(rules, case)?.json.to_string().into())
    }

    fn step_fields(&self) -> &'static [&'static str] {
        &["bridge"]
    }

    fn step(&self, event: At<'_>, _case: &Fields<'_>) -> Option<Action> {
        let mut words: Vec<_> = Condition::WORDS.iter().map(|(word, condition)| (*word, Some(*condition))).collect();
        words.push(("restarts", None));
        let condition = event.one_of(&words)?;
        let bridge = self.bridge.clone();
        Some(Box::new(move |_| match condition {
            Some(condition) => bridge.fares(condition),
            None => bridge.restart(),
        }))
    }
}

/// Rules of a file beside the scenario file, or written out in it.
fn load(rules: At<'_>, case: &Fields<'_>) -> Option<Loaded> {
    let (name, text) = if rules.is_map() {
        (rules.file_name(), rules.alone())
    } else {
        let name = rules.path()?.display().to_string();
        (name, String::from_utf8_lossy(&rules.file()?).into_owned())
    };
    let variables = case.get("env").map_or(Some(Vec::new()), |env| env.entries())?;
    let variable = |asked: &str| {
        let found = variables.iter().find(|variable| variable.name() == asked)?;
        found.text().map(str::to_owned)
    };
    load_yaml(&text, &name, &variable).map_err(|mistakes| rules.wrong_elsewhere(mistakes.to_string())).ok()
}
