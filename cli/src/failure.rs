//! Why a command didn't do what it was asked.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use routecache_config::Mistakes;

/// Shown on standard error.
#[derive(Debug)]
pub enum Failure {
    /// The rules of a file aren't right.
    Mistakes(Mistakes),
    /// Several files weren't right, or couldn't be read.
    Several(Vec<Failure>),
    /// A file couldn't be read.
    Unread(PathBuf, io::Error),
    /// Something that was given can't be used, and why.
    Unusable(String, String),
    /// A file, or standard output, couldn't be written.
    Unwritten(PathBuf, io::Error),
    /// An address for a bridge that the rules don't name.
    NoBridge(PathBuf),
    /// Stored responses become unreachable, or writes purge less, and that was told already.
    Changed,
    /// This command was built on its own.
    NoFilter,
    /// A gateway with these rules, or this filter, doesn't start.
    Serve(PathBuf, String),
    /// A scenario file isn't right.
    Scenarios(proxy_wasm_host_test::scenario::Mistakes),
    /// No case has such a name.
    NoCase(Vec<String>),
    /// A server doesn't answer: which, and why.
    NoAnswer(String, String),
    /// A server refuses, or has nothing: its words.
    Refused(String),
    /// Cases failed, or rules have mistakes, and that was told already.
    Told,
    /// So many warnings that are to be taken for mistakes.
    Denied(usize),
}

impl Failure {
    /// 1 for mistakes in rules and failed cases, 3 for changes that lose something (`diff --exit-code`), 2 for everything else.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Changed => ExitCode::from(3),
            failure if failure.is_mistake() => ExitCode::from(1),
            _ => ExitCode::from(2),
        }
    }

    fn is_mistake(&self) -> bool {
        match self {
            Self::Mistakes(_) | Self::Told | Self::Denied(_) => true,
            Self::Several(failures) => failures.iter().all(Self::is_mistake),
            _ => false,
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    /// With `{:#}` in colours for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mistakes(mistakes) => mistakes.fmt(f),
            Self::Several(failures) => {
                for (index, failure) in failures.iter().enumerate() {
                    let between = if index == 0 { "" } else { "\n\n" };
                    f.write_str(between)?;
                    failure.fmt(f)?;
                }
                Ok(())
            }
            Self::Unread(path, error) => write!(f, "{}: can't be read: {error}", path.display()),
            Self::Unusable(what, why) => write!(f, "{what}: {why}"),
            Self::Unwritten(path, error) => write!(f, "{}: can't be written: {error}", path.display()),
            Self::NoBridge(rules) => write!(
                f,
                "{}: the rules name no bridge, so `--bridge` has no meaning\n    \
                 leave it out, or add `bridge: {{ cluster: routecache-bridge }}` to the rules",
                rules.display()
            ),
            Self::Serve(name, why) => write!(f, "{}: {why}", name.display()),
            Self::Scenarios(mistakes) => mistakes.fmt(f),
            Self::NoCase(names) => {
                write!(f, "no case has a name with `{}`\n    `--list` shows all of them", names.join("` or `"))
            }
            Self::NoAnswer(server, why) => write!(f, "{server}: no answer: {why}"),
            Self::Refused(words) => f.write_str(words),
            Self::Told | Self::Changed => Ok(()),
            Self::Denied(count) => {
                let (s, are) = if *count == 1 { ("", "is") } else { ("s", "are") };
                write!(f, "{count} warning{s} {are} denied")
            }
            Self::NoFilter => write!(
                f,
                "this `routecache` was built without the filter inside\n    \
                 `cargo xtask build` builds both; the filter is then `target/routecache.wasm`, too"
            ),
        }
    }
}
