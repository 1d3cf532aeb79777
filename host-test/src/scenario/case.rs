//! Files and their cases.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::answers::Answer;
use super::expect::{CaseCheck, read_case_checks};
use super::mistake::{File, Mistakes, Span};
use super::steps::{Size, Step, Surroundings};
use super::subject::{Extension, Setting, Subject};
use super::trouble::Trouble;
use super::walk::{At, Fields, Notes, all, every};
use super::yaml;
use crate::{Dialect, FailurePolicy, LogLevel, WorldBuilder};

/// The cases of a scenario file.
pub struct Suite {
    /// In the order of the file; at least one.
    pub cases: Vec<Case>,
}

/// One case, which can be run any number of times.
pub struct Case {
    pub(super) file: Rc<File>,
    pub(super) span: Span,
    pub(super) name: String,
    pub(super) subject: Subject,
    pub(super) size: Size,
    pub(super) seed: u64,
    pub(super) trouble: Trouble,
    pub(super) settle: Duration,
    pub(super) settings: Vec<Setting>,
    pub(super) origin: Vec<Answer>,
    pub(super) clusters: BTreeMap<String, Vec<Answer>>,
    pub(super) steps: Vec<Step>,
    pub(super) checks: Vec<CaseCheck>,
}

/// What may stand in a case and, as a default for all, beside `cases`.
pub(super) const SHARED: &[&str] = &[
    "filter",
    "config",
    "config_file",
    "vm_config",
    "vm_id",
    "root_id",
    "plugin_name",
    "properties",
    "env",
    "log_level",
    "dialect",
    "failure_policy",
    "gateways",
    "workers",
    "seed",
    "date",
    "faults",
    "replay",
    "settle",
    "route_timeout",
    "buffer_limit",
    "bodies_while_held",
    "origin",
    "clusters",
];
pub(super) const OWN: &[&str] = &["name", "steps", "expect"];

impl Suite {
    /// Reads a scenario file. The path is for messages, and for the files that this one mentions.
    ///
    /// # Errors
    ///
    /// Every mistake in it, with its place and how to mend it.
    pub fn read(path: &Path, text: &str, extension: &dyn Extension) -> Result<Self, Mistakes> {
        // Editors on Windows begin files with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let file = Rc::new(File { path: path.to_owned(), text });
        let root = yaml::parse(&file.text).map_err(|mistake| Mistakes::new(Rc::clone(&file), vec![mistake]))?;
        let notes = Notes { file: Rc::clone(&file), mistakes: RefCell::default() };
        let cases = read_cases(At::root(&root, &notes), &file, extension);
        let mistakes = notes.mistakes.into_inner();
        match cases {
            Some(cases) if mistakes.is_empty() => Ok(Self { cases }),
            _ => Err(Mistakes::new(file, mistakes)),
        }
    }
}

impl Case {
    /// What the file calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The line of the file where it begins.
    pub fn line(&self) -> usize {
        self.span.line
    }

    /// The seed that it, or its replay, asks for; 0 if none does.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

fn read_cases(root: At<'_>, file: &Rc<File>, extension: &dyn Extension) -> Option<Vec<Case>> {
    let fields = root.fields(&[&["cases"], SHARED, extension.case_fields()])?;
    let Some(list) = fields.get("cases") else {
        root.wrong("there are no cases", "write `cases:` and a list of them");
        return None;
    };
    let items = list.items()?;
    if items.is_empty() {
        list.wrong("the list of cases is empty", "write `- name: what it shows` and `steps:`");
    }
    let mut names = Vec::new();
    let mut cases = Vec::new();
    for item in items {
        let Some(own) = item.fields(&[OWN, SHARED, extension.case_fields()]) else { continue };
        if let Some(name) = own.get("name") {
            let text = name.scalar().unwrap_or_default();
            if names.contains(&text) {
                name.wrong(format!("there are two cases `{text}`"), "give each a name of its own");
            }
            names.push(text);
        }
        cases.push(read_case(item, &own, &fields, file, extension));
    }
    cases.into_iter().collect()
}

fn read_case(
    at: At<'_>,
    own: &Fields<'_>,
    shared: &Fields<'_>,
    file: &Rc<File>,
    extension: &dyn Extension,
) -> Option<Case> {
    let case = own.clone().or(shared);
    // All parts are read before any is missed, so that all mistakes are told.
    let name = case.get("name").map(|name| name.text().map(str::to_owned)).unwrap_or_else(|| {
        at.wrong("the case has no name", "write `name:` and a sentence that it shows to be true");
        None
    });
    let subject = match case.get("filter") {
        Some(filter) => Subject::read(filter, &case),
        None => extension.subject(&case, at),
    };
    let settings = read_settings(&case);
    let (origin, clusters) = (read_origin(own, shared), read_clusters(own, shared));
    let size = (read_amount(&case, "gateways", 16), read_amount(&case, "workers", 64));
    // What names a gateway or cluster can't be judged without them.
    let (Some(gateways), Some(workers), Some(clusters)) = (size.0, size.1, clusters) else { return None };
    let size = Size { gateways, workers };
    let names: Vec<_> = clusters.keys().cloned().collect();
    let around = Surroundings { extension, case: &case, size, clusters: &names };
    let steps = case
        .get("steps")
        .map_or(Some(Vec::new()), |steps| all(steps.items()?.into_iter().map(|item| Step::read(item, &around))));
    let checks = case.get("expect").map_or(Some(Vec::new()), |at| read_case_checks(at, size));
    let seed = case.get("seed").map_or(Some(0), |seed| seed.number());
    let trouble = Trouble::read(&case);
    let settle = case.get("settle").map(|settle| settle.duration());
    let (subject, steps, checks, (trouble, replayed)) = (subject?, steps?, checks?, trouble?);
    if steps.is_empty() && checks.is_empty() {
        at.wrong("the case does nothing and expects nothing", "write `steps:` and a list of requests");
        return None;
    }
    Some(Case {
        file: Rc::clone(file),
        span: at.span(),
        name: name?,
        size,
        seed: replayed.unwrap_or(seed?),
        trouble,
        settle: settle.unwrap_or(Some(subject.settle))?,
        settings: settings?,
        origin: origin?,
        subject,
        clusters,
        steps,
        checks,
    })
}

/// How many there are, 1 if nothing is said.
fn read_amount(case: &Fields<'_>, name: &str, most: usize) -> Option<usize> {
    let Some(field) = case.get(name) else { return Some(1) };
    let count = field.count()?;
    let fits = (1..=most).contains(&count);
    if !fits {
        field.wrong(format!("`{name}` is {count}"), format!("write a number from 1 to {most}"));
    }
    fits.then_some(count)
}

/// Answers of the case come before those of the file, and the first that fits is given.
fn read_origin(own: &Fields<'_>, shared: &Fields<'_>) -> Option<Vec<Answer>> {
    let fields: Vec<_> = own.get("origin").into_iter().chain(shared.get("origin")).collect();
    if fields.is_empty() {
        return Some(vec![Answer::echo()]);
    }
    Some(all(fields.into_iter().map(Answer::read_list))?.concat())
}

/// The same for clusters, by their names.
fn read_clusters(own: &Fields<'_>, shared: &Fields<'_>) -> Option<BTreeMap<String, Vec<Answer>>> {
    let mut clusters: BTreeMap<String, Vec<Answer>> = BTreeMap::new();
    every(own.get("clusters").into_iter().chain(shared.get("clusters")), |field| {
        every(field.entries()?, |entry| {
            clusters.entry(entry.name().to_owned()).or_default().extend(Answer::read_list(entry)?);
            Some(())
        })
    })?;
    Some(clusters)
}

/// What is said to the builder as it is.
fn read_settings(case: &Fields<'_>) -> Option<Vec<Setting>> {
    let mut settings: Vec<Setting> = Vec::new();
    let mut set = |setting: Setting| settings.push(setting);
    every(case.iter(), |field| {
        match field.name() {
            "env" => {
                for entry in field.entries()? {
                    let (name, value) = (entry.name().to_owned(), entry.text()?.to_owned());
                    set(Box::new(move |builder| builder.env(&name, &value)));
                }
            }
            "vm_config" => {
                let text = if field.is_map() { field.json().to_string() } else { field.text()?.to_owned() };
                set(Box::new(move |builder| builder.vm_configuration(&text)));
            }
            "vm_id" => set(with_text(field.text()?, WorldBuilder::vm_id)),
            "root_id" => set(with_text(field.text()?, WorldBuilder::root_id)),
            "plugin_name" => set(with_text(field.text()?, WorldBuilder::plugin_name)),
            "properties" => {
                for entry in field.entries()? {
                    let (path, value) = (entry.name().to_owned(), entry.text()?.to_owned());
                    set(Box::new(move |builder| builder.property(&path, &value)));
                }
            }
            "log_level" => {
                let level = field.one_of(LOG_LEVELS)?;
                set(Box::new(move |builder| builder.log_level(level)));
            }
            "dialect" => {
                let dialect = field.one_of(&[("envoy", Dialect::ENVOY), ("nginx", Dialect::NGINX)])?;
                set(Box::new(move |builder| builder.dialect(dialect)));
            }
            "failure_policy" => {
                let words = [
                    ("closed", FailurePolicy::Closed),
                    ("open", FailurePolicy::Open),
                    ("reload", FailurePolicy::Reload),
                ];
                let policy = field.one_of(&words)?;
                set(Box::new(move |builder| builder.failure_policy(policy)));
            }
            "route_timeout" => {
                let timeout = field.duration()?;
                set(Box::new(move |builder| builder.route_timeout(Some(timeout).filter(|it| !it.is_zero()))));
            }
            "buffer_limit" => {
                let bytes = field.count()?;
                set(Box::new(move |builder| builder.buffer_limit(bytes)));
            }
            "date" => {
                let date = field.date()?;
                set(Box::new(move |builder| builder.wall(date)));
            }
            // Envoy's `allow_on_headers_stop_iteration`.
            "bodies_while_held" => {
                let shown = field.yes_or_no()?;
                set(Box::new(move |builder| builder.body_callbacks_while_headers_paused(shown)));
            }
            _ => {}
        }
        Some(())
    })?;
    Some(settings)
}

fn with_text(text: &str, set: fn(WorldBuilder, &str) -> WorldBuilder) -> Setting {
    let text = text.to_owned();
    Box::new(move |builder| set(builder, &text))
}

/// The words for levels of logs.
pub(super) const LOG_LEVELS: &[(&str, LogLevel)] = &[
    ("trace", LogLevel::Trace),
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("error", LogLevel::Error),
    ("critical", LogLevel::Critical),
];
