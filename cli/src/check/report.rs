//! What `check` found, for people and for programs.

use std::path::Path;

use routecache_config::lint::{LINTS, Warning, Warnings};
use routecache_config::{Mistake, Mistakes, Span};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::rules::{shown_name, write};

/// A file that could be read.
pub struct Checked {
    name: String,
    outcome: Outcome,
}

enum Outcome {
    Right { rules: usize, warnings: Warnings },
    Wrong(Mistakes),
}

impl Checked {
    /// A file without mistakes.
    pub fn right(file: &Path, rules: usize, warnings: Warnings) -> Self {
        Self { name: shown_name(file), outcome: Outcome::Right { rules, warnings } }
    }

    /// A file with mistakes.
    pub fn wrong(file: &Path, mistakes: Mistakes) -> Self {
        Self { name: shown_name(file), outcome: Outcome::Wrong(mistakes) }
    }

    pub fn is_wrong(&self) -> bool {
        matches!(self.outcome, Outcome::Wrong(_))
    }

    /// Its warnings, without those that are allowed.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.all_warnings().iter().filter(|warning| !warning.allowed)
    }

    /// Whether something is told of it on standard error.
    pub fn has_findings(&self) -> bool {
        self.is_wrong() || self.warnings().next().is_some()
    }

    fn all_warnings(&self) -> &[Warning] {
        match &self.outcome {
            Outcome::Right { warnings, .. } => &warnings.list,
            Outcome::Wrong(_) => &[],
        }
    }

    fn mistakes(&self) -> &[Mistake] {
        match &self.outcome {
            Outcome::Right { .. } => &[],
            Outcome::Wrong(mistakes) => &mistakes.list,
        }
    }

    /// Mistakes and warnings go to standard error; that a file is right, to standard output.
    pub fn tell(&self) -> Result<(), Failure> {
        match &self.outcome {
            Outcome::Wrong(mistakes) => {
                anstream::eprintln!("{mistakes:#}");
                Ok(())
            }
            Outcome::Right { rules, warnings } => {
                anstream::eprint!("{warnings:#}");
                let verdict = match self.warnings().count() {
                    0 => "ok".to_owned(),
                    count => counted(count, "warning"),
                };
                let line = format!("{}: {}, {verdict}\n", self.name, counted(*rules, "rule"));
                write(Path::new("-"), line.as_bytes())
            }
        }
    }
}

/// `1 rule`, `2 rules`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// All files, with all that was found.
pub fn json(files: &[Checked]) -> Value {
    let place = |span: Option<Span>| {
        span.map(|span| json!({ "line": span.line, "column": span.column, "length": span.length }))
    };
    let file = |file: &Checked| {
        let mistakes = file.mistakes().iter().map(|mistake| {
            json!({
                "severity": "error",
                "code": mistake.what.code(),
                "rule": mistake.rule,
                "path": mistake.path,
                "place": place(mistake.span),
                "message": mistake.what.to_string(),
                "mend": mistake.mend(),
                "allowed": false,
            })
        });
        let warnings = file.all_warnings().iter().map(|warning| {
            json!({
                "severity": "warning",
                "code": warning.lint.name,
                "rule": warning.rule,
                "path": warning.path,
                "place": place(warning.span),
                "message": warning.message,
                "mend": warning.mend,
                "allowed": warning.allowed,
            })
        });
        let rules = match &file.outcome {
            Outcome::Right { rules, .. } => Some(*rules),
            Outcome::Wrong(_) => None,
        };
        json!({ "file": file.name, "rules": rules, "diagnostics": mistakes.chain(warnings).collect::<Vec<_>>() })
    };
    json!({
        "files": files.iter().map(file).collect::<Vec<_>>(),
        "errors": files.iter().map(|file| file.mistakes().len()).sum::<usize>(),
        "warnings": files.iter().map(|file| file.warnings().count()).sum::<usize>(),
    })
}

/// The same as SARIF 2.1.0 (OASIS), one run.
pub fn sarif(files: &[Checked], is_denied: impl Fn(&Warning) -> bool) -> Value {
    let mut codes: Vec<String> = files.iter().flat_map(Checked::mistakes).map(|mistake| mistake.what.code()).collect();
    codes.sort_unstable();
    codes.dedup();
    let rules = codes.iter().map(|code| json!({ "id": code, "defaultConfiguration": { "level": "error" } }));
    let lints = LINTS.iter().map(|lint| {
        json!({
            "id": lint.name,
            "shortDescription": { "text": lint.about },
            "fullDescription": { "text": lint.why },
            "help": { "text": lint.why, "markdown": lint.why },
            "defaultConfiguration": { "level": "warning" },
        })
    });
    let rules: Vec<Value> = rules.chain(lints).collect();
    let index = |code: &str| rules.iter().position(|rule| rule["id"] == code);
    let result = |file: &Checked, (code, level, span, text): (&str, &str, Option<Span>, String)| {
        let mut location = json!({ "artifactLocation": { "uri": uri(&file.name) } });
        if let Some(span) = span {
            let end = span.column + span.length;
            location["region"] = json!({ "startLine": span.line, "startColumn": span.column, "endColumn": end });
        }
        json!({
            "ruleId": code,
            "ruleIndex": index(code),
            "level": level,
            "message": { "text": text },
            "locations": [{ "physicalLocation": location }],
        })
    };
    let mut results = Vec::new();
    for file in files {
        for mistake in file.mistakes() {
            let (code, text) = (mistake.what.code(), format!("{mistake}: {}", mistake.mend()));
            results.push(result(file, (&code, "error", mistake.span, text)));
        }
        for warning in file.all_warnings() {
            let level = if is_denied(warning) { "error" } else { "warning" };
            let text = format!("{warning}: {}", warning.mend);
            let mut found = result(file, (warning.lint.name, level, warning.span, text));
            if warning.allowed {
                found["suppressions"] = json!([{ "kind": "inSource" }]);
            }
            results.push(found);
        }
    }
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "routecache", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

/// A file's name as a relative reference (RFC 3986 §4.2).
fn uri(name: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    name.bytes().map(|byte| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
