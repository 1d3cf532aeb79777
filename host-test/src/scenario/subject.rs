//! What is tested, and how a program adds words of its own to the language.

use std::time::Duration;

use super::steps::Action;
use super::walk::{At, Fields};
use crate::{FilterSource, WorldBuilder};

/// Words that a program adds to scenario files: another way to say what is tested, and events of its own.
///
/// Whoever implements this notes mistakes with [`At::wrong`] and answers `None`.
pub trait Extension {
    /// Fields of a case besides those of the language; like those, they may stand beside `cases` as defaults.
    fn case_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// What a case tests that has no `filter`.
    fn subject(&self, case: &Fields<'_>, at: At<'_>) -> Option<Subject> {
        let _ = case;
        at.wrong(
            "the case doesn't say what it tests",
            "write `filter:` and the path of a module, here or beside `cases`",
        );
        None
    }

    /// Fields of `reconfigure` besides `config`.
    fn configuration_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// A configuration that `reconfigure` gives in such fields.
    fn configuration(&self, fields: &Fields<'_>, at: At<'_>, case: &Fields<'_>) -> Option<Vec<u8>> {
        let _ = (fields, case);
        at.wrong("there is no new configuration", "write `config:` and what the filter shall get");
        None
    }

    /// Names of steps besides those of the language.
    fn step_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// What such a step does.
    fn step(&self, event: At<'_>, case: &Fields<'_>) -> Option<Action> {
        let _ = (event, case);
        None
    }
}

/// The language as it is.
pub struct NoExtension;

impl Extension for NoExtension {}

/// A filter, its configuration, and what it needs around it.
pub struct Subject {
    pub(super) filter: FilterSource,
    pub(super) configuration: Vec<u8>,
    pub(super) settle: Duration,
    pub(super) surroundings: Setting,
}

/// Something that is said to the builder of each run's world.
pub(super) type Setting = Box<dyn Fn(WorldBuilder) -> WorldBuilder>;

impl Subject {
    /// A filter with this plugin configuration.
    pub fn new(filter: impl Into<FilterSource>, configuration: impl Into<Vec<u8>>) -> Self {
        Self {
            filter: filter.into(),
            configuration: configuration.into(),
            settle: Duration::ZERO,
            surroundings: Box::new(|builder| builder),
        }
    }

    /// How long it needs from its start to the first request, where a case doesn't say.
    #[must_use]
    pub fn settle(self, settle: Duration) -> Self {
        Self { settle, ..self }
    }

    /// What it needs around it, such as clusters; made anew for each run.
    #[must_use]
    pub fn surroundings(self, surroundings: impl Fn(WorldBuilder) -> WorldBuilder + 'static) -> Self {
        Self { surroundings: Box::new(surroundings), ..self }
    }

    /// `filter` with `config` or `config_file`.
    pub(super) fn read(filter: At<'_>, case: &Fields<'_>) -> Option<Self> {
        let configuration = read_configuration(case)?.unwrap_or_default();
        let text = filter.text()?;
        if text.trim_start().starts_with('(') {
            return Some(Self::new(text.as_bytes(), configuration));
        }
        let path = filter.path()?;
        if !path.is_file() {
            let mend = "a relative path begins in the folder of this file";
            filter.wrong(format!("there is no file {}", path.display()), mend);
            return None;
        }
        Some(Self::new(path, configuration))
    }
}

/// `config`, as text or as a map that becomes JSON; or `config_file`, whose bytes are taken as they are.
pub(super) fn read_configuration(fields: &Fields<'_>) -> Option<Option<Vec<u8>>> {
    match (fields.get("config"), fields.get("config_file")) {
        (Some(_), Some(file)) => {
            file.wrong_name("there are two configurations", "keep `config` or `config_file`");
            None
        }
        (Some(config), None) if config.is_map() || config.is_list() => Some(Some(config.json().to_string().into())),
        (Some(config), None) => Some(Some(config.text()?.into())),
        (None, Some(file)) => Some(Some(file.file()?)),
        (None, None) => Some(None),
    }
}
