//! Secrets in the file, comments too. They are never shown.

use super::{Lint, Subject, Warning, entries, items};
use crate::tree::{Kind, Span};
use crate::walk::At;

/// See its `about`.
pub(super) const SECRET_IN_RULES: Lint = Lint {
    name: "secret-in-rules",
    about: "Something that looks like a password, a token or a private key.",
    why: "Rules are kept in version control and handed to gateways in the open. Keep secrets in the environment: `bridge.token_env` names \
          a variable, for example. The message never repeats what was found.",
    example: "
# store: redis://cache:hunter2@10.0.0.7
routes:
  - { name: menu, match: { path: /menu }, cache: {} }
",
    mended: "
# store: in the environment of the bridge
routes:
  - { name: menu, match: { path: /menu }, cache: {} }
",
};

/// How secrets of some kinds begin, and the fewest characters of the rest.
const BEGINNINGS: &[(&str, usize, &str)] = &[
    ("-----BEGIN ", 3, "a private key"),
    ("eyJ", 30, "a JSON web token"),
    ("AKIA", 16, "an access key of AWS"),
    ("ghp_", 20, "a token of GitHub"),
    ("github_pat_", 20, "a token of GitHub"),
    ("glpat-", 15, "a token of GitLab"),
    ("xoxb-", 10, "a token of Slack"),
    ("xoxp-", 10, "a token of Slack"),
    ("sk_live_", 10, "a key of Stripe"),
    ("AIza", 30, "a key of Google"),
    ("Bearer ", 12, "a bearer token"),
    ("Basic ", 12, "a password"),
];

/// Names of fields whose value is a secret if it is text of any length.
const NAMES: &[&str] =
    &["password", "passwd", "secret", "token", "api_key", "apikey", "authorization", "x-api-key", "x-auth-token"];

pub(super) fn look(subject: &Subject<'_>, text: &str, found: &mut Vec<Warning>) {
    for (number, line) in text.lines().enumerate() {
        if let Some((at, length, what)) = in_line(line) {
            let column = line.get(..at).unwrap_or_default().chars().count().saturating_add(1);
            let span = Span { line: number.saturating_add(1), column, length };
            push(Some(span), String::new(), what, found);
        }
    }
    named(&At::root(subject.root), found);
}

/// Where something in a line looks like a secret, and like which.
fn in_line(line: &str) -> Option<(usize, usize, &'static str)> {
    for (start, more, what) in BEGINNINGS {
        for (at, _) in line.match_indices(start) {
            let rest = line.get(at.saturating_add(start.len())..).unwrap_or_default();
            let before = line.get(..at).and_then(|before| before.chars().next_back());
            let length =
                rest.chars().take_while(|char| char.is_ascii_alphanumeric() || "._-+/=".contains(*char)).count();
            if length >= *more && !before.is_some_and(|char| char.is_ascii_alphanumeric()) {
                return Some((at, start.len().saturating_add(length), what));
            }
        }
    }
    // user:password@host behind a scheme.
    let (at, _) = line.match_indices("://").next()?;
    let rest = line.get(at.saturating_add(3)..)?;
    let authority = rest.split(['/', ' ', '"', '\'', '?']).next().unwrap_or_default();
    let (user, _) = authority.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    let plain = !password.is_empty() && !password.starts_with(['$', '{', '<', '*']);
    plain.then(|| (at.saturating_add(3), authority.chars().count(), "a password in a URL"))
}

/// Fields whose name says that their value is a secret.
fn named(at: &At<'_>, found: &mut Vec<Warning>) {
    for entry in entries(at) {
        let secret = NAMES.iter().any(|name| entry.name.eq_ignore_ascii_case(name));
        match &entry.node.kind {
            Kind::Text(text) if secret && text != "*" && text.chars().count() >= 8 => {
                let known =
                    found.iter().any(|known| known.span.map(|span| span.line) == entry.node.span.map(|span| span.line));
                if !known {
                    push(entry.node.span, entry.path.clone(), "a credential", found);
                }
            }
            _ => named(&entry, found),
        }
    }
    items(at).iter().for_each(|item| named(item, found));
}

fn push(span: Option<Span>, path: String, what: &str, found: &mut Vec<Warning>) {
    let message = format!("this looks like {what}");
    let mend = "take it out, and replace it wherever it is used: it has been written down".to_owned();
    found.push(Warning { lint: &SECRET_IN_RULES, path, rule: None, span, message, mend, allowed: false });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_what_only_looks_like_them() {
        for line in [
            "# redis://:hunter2@10.0.0.7:6379",
            "  key: AKIAIOSFODNN7EXAMPLE",
            "a: ghp_0123456789abcdefghij0123",
            "x: \"Bearer 0123456789abcdef\"",
            "-----BEGIN RSA PRIVATE KEY-----",
            "t: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        ] {
            assert!(in_line(line).is_some(), "{line}");
        }
        for line in [
            "# http://127.0.0.1:8080/users",
            "# redis://cache:$PASSWORD@store",
            "key: \"user:{user_id}@{host}\"",
            "path: /eyJ",
            "Bearer tokens are verified by the gateway",
            "# mail: ops@example.com",
            "# see https://example.com/a@b:c",
        ] {
            assert_eq!(in_line(line), None, "{line}");
        }
    }
}
