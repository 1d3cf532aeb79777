//! `# routecache: allow(tag-never-purged)`: what is meant as it stands.

use super::{LINTS, Lint, Warning, entries, items, named};
use crate::suggest::nearest;
use crate::tree::{Node, Span, shorten};
use crate::walk::At;

/// See its `about`.
pub(super) const UNUSED_ALLOW: Lint = Lint {
    name: "unused-allow",
    about: "A comment that allows a warning which isn't there, or that doesn't exist.",
    why: "What it was for has been mended, or its name is wrong; either way the next reader is misled.",
    example: r#"
routes:
  # routecache: allow(tag-never-purged)
  - { name: menu, match: { path: /menu }, cache: {} }
"#,
    mended: r#"
routes:
  - { name: menu, match: { path: /menu }, cache: {} }
"#,
};

const MARK: &str = "# routecache: allow(";

/// A name in a comment.
struct Allow<'t> {
    lint: &'t str,
    span: Span,
    /// The line that it is about.
    about: usize,
}

/// Marks the warnings that comments allow, and tells of comments that allow none.
pub(super) fn apply(root: &Node, text: &str, warnings: &mut Vec<Warning>) {
    let mut unused = Vec::new();
    for allow in allows(text) {
        let mut paths = Vec::new();
        begun_on(allow.about, &At::root(root), &mut paths);
        let covers = |warning: &Warning| {
            let below = |path: &String| {
                warning
                    .path
                    .strip_prefix(path.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            warning.span.is_some_and(|span| span.line == allow.about) || paths.iter().any(below)
        };
        let mut used = false;
        for warning in warnings.iter_mut().filter(|warning| warning.lint.name == allow.lint && covers(warning)) {
            (warning.allowed, used) = (true, true);
        }
        if !used {
            unused.push(unused_by(&allow));
        }
    }
    warnings.append(&mut unused);
}

fn unused_by(allow: &Allow<'_>) -> Warning {
    let name = shorten(allow.lint);
    let (message, mend) = if named(allow.lint).is_some() {
        (format!("`{name}` is allowed here, and nothing warns of it"), "leave the comment out".to_owned())
    } else {
        let near = nearest(allow.lint, LINTS.into_iter().map(|lint| lint.name));
        let mend =
            near.map_or("see docs/linting.md for the names".to_owned(), |near| format!("did you mean `{near}`?"));
        (format!("there is no warning `{name}`"), mend)
    };
    Warning {
        lint: &UNUSED_ALLOW,
        path: String::new(),
        rule: None,
        span: Some(allow.span),
        message,
        mend,
        allowed: false,
    }
}

/// Every name in every such comment.
fn allows(text: &str) -> Vec<Allow<'_>> {
    let mut allows = Vec::new();
    let is_comment = |line: &str| line.trim_start().starts_with('#') || line.trim().is_empty();
    for (index, line) in text.lines().enumerate() {
        let Some((before, rest)) = line.split_once(MARK) else { continue };
        let Some((names, _)) = rest.split_once(')') else { continue };
        let number = index.saturating_add(1);
        // A comment of its own is about the next line that says something.
        let next = text.lines().skip(number).position(|line| !is_comment(line));
        let about = match next {
            Some(blank) if before.trim().is_empty() => number.saturating_add(blank).saturating_add(1),
            _ => number,
        };
        let mut column = before.chars().count().saturating_add(MARK.chars().count());
        for written in names.split(',') {
            let indent = written.chars().take_while(|char| char.is_whitespace()).count();
            let lint = written.trim();
            let span = Span {
                line: number,
                column: column.saturating_add(indent).saturating_add(1),
                length: lint.len().max(1),
            };
            allows.push(Allow { lint, span, about });
            column = column.saturating_add(written.chars().count()).saturating_add(1);
        }
    }
    allows
}

/// The ways to the outermost nodes that begin on a line.
fn begun_on(line: usize, at: &At<'_>, paths: &mut Vec<String>) {
    for below in entries(at).into_iter().chain(items(at)) {
        let begins = below.name_span().or(below.node.span).is_some_and(|span| span.line == line);
        if begins { paths.push(below.path) } else { begun_on(line, &below, paths) }
    }
}
