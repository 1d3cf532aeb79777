//! The explanation for people.

use std::fmt::{self, Display, Formatter};

use super::rules::Outcome as OfRule;
use super::verdict::{Counted, Explanation, Outcome, Stored, Ttl};
use crate::check::counted;

/// Rules whose path doesn't fit are listed up to so many; then they are counted.
const OTHERS_MAX: usize = 3;

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}\n", self.method, self.url)?;
        self.show_rules(f)?;
        match self.outcome {
            Outcome::Ignored => row(f, "so", "the filter is out of its way")?,
            Outcome::Bypass => {
                if let Some(reason) = &self.bypass {
                    row(f, "bypass", &format!("{} ({})", reason.sentence, reason.word))?;
                }
            }
            Outcome::Write if self.purges.is_empty() => row(f, "purges", "nothing")?,
            Outcome::Write => {
                let (stale, gone): (Vec<_>, Vec<_>) =
                    self.purges.iter().cloned().partition(|tag| self.soft.contains(tag));
                if !gone.is_empty() {
                    rows(f, "purges", &gone)?;
                }
                if !stale.is_empty() {
                    rows(f, "makes stale", &stale)?;
                }
            }
            Outcome::Read => {}
        }
        if let Some(key) = &self.key {
            row(f, "key", key)?;
        }
        show_counted(f, "query", &self.query)?;
        show_counted(f, "headers", &self.headers)?;
        if self.outcome != Outcome::Read {
            return Ok(());
        }
        // Every entry has the ones that begin so.
        let (implicit, own): (Vec<_>, Vec<_>) = self.tags.iter().cloned().partition(|tag| tag.starts_with('!'));
        rows(f, "tags", &own)?;
        row(f, "", &format!("{}, as every entry", implicit.join(" ")))?;
        match &self.response {
            None => {
                row(f, "ttl", &self.ttl.as_ref().map_or("what the response says".to_owned(), |ttl| ttl.to_string()))?;
                let says = "if the response says that it is for others too (`public`, `s-maxage`, `must-revalidate`)";
                row(f, "stored", if self.authorised { says } else { "if the response allows it; `--response` tells" })?;
            }
            Some(response) => show_response(f, response)?,
        }
        let mut writes: Vec<String> = Vec::new();
        for write in &self.purged_by {
            let only_if = write.only_if.as_ref().map_or(String::new(), |what| format!(", if {what}"));
            writes.push(format!("{} {} ({}: {}){only_if}", listed(&write.methods), write.path, write.rule, write.tag));
        }
        if self.purged_by_its_url {
            writes.push("any successful write to this URL".to_owned());
        }
        if writes.is_empty() { row(f, "purged by", "no write") } else { rows(f, "purged by", &writes) }
    }
}

impl Explanation {
    fn show_rules(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        let met = |outcome: OfRule| matches!(outcome, OfRule::Answers | OfRule::Applies);
        for rule in self.rules.iter().filter(|rule| met(rule.outcome)) {
            let why = if self.outcome == Outcome::Bypass { "speaks of it" } else { &rule.why };
            lines.push(format!("{} {why}", rule.name));
        }
        if lines.is_empty() {
            lines.push("none speaks of it".to_owned());
        }
        for rule in self.rules.iter().filter(|rule| matches!(rule.outcome, OfRule::LessSpecific | OfRule::Otherwise)) {
            let but = if rule.outcome == OfRule::Otherwise { "doesn't: " } else { "" };
            lines.push(format!("{} {but}{}", rule.name, rule.why));
        }
        let others: Vec<_> = self.rules.iter().filter(|rule| rule.outcome == OfRule::Path).collect();
        if others.len() > OTHERS_MAX {
            lines.push(format!("{} have other paths", counted(others.len(), "rule")));
        } else {
            lines.extend(others.iter().map(|rule| format!("{} doesn't: {}", rule.name, rule.why)));
        }
        rows(f, "rule", &lines)
    }
}

fn show_response(f: &mut Formatter<'_>, response: &Stored) -> fmt::Result {
    if let Some(reason) = &response.why_not {
        return row(f, "stored", &format!("no: {} ({})", reason.sentence, reason.word));
    }
    let verdict = match (response.body_decides, response.min_uses) {
        (true, _) => "if its body allows it, which wasn't given".to_owned(),
        (false, 0 | 1) => "yes".to_owned(),
        (false, uses) => format!("once a worker has been asked {uses} times"),
    };
    row(f, "stored", &verdict)?;
    let ttl = response.ttl.as_ref().filter(|_| !response.body_decides);
    row(f, "ttl", &ttl.map_or("what its body says".to_owned(), |ttl| ttl.to_string()))?;
    if response.jitter_percent > 0 {
        row(f, "", &format!("cut by chance, by up to {}%", response.jitter_percent))?;
    }
    if !response.vary.is_empty() {
        row(f, "vary", &response.vary.join(", "))?;
    }
    for (seconds, what) in [
        (response.stale_while_revalidate_seconds, "it is served while a new one is fetched"),
        (response.stale_if_error_seconds, "it stands in for a 500, 502, 503 or 504"),
    ] {
        if seconds > 0 {
            row(f, "stale", &format!("for {} {what}", duration(seconds)))?;
        }
    }
    Ok(())
}

impl Display for Ttl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}, from {}", duration(self.seconds), self.from)?;
        if self.origin_decides { f.write_str("; a lifetime from the origin would win") } else { Ok(()) }
    }
}

fn show_counted(f: &mut Formatter<'_>, name: &str, counted: &[Counted]) -> fmt::Result {
    let line = |one: &Counted| {
        let verdict = if one.counts { "counts" } else { "doesn't count" };
        let between = if name == "query" { "=" } else { ": " };
        format!("{}{between}{} {verdict}", one.name, one.value)
    };
    rows(f, name, &counted.iter().map(line).collect::<Vec<_>>())
}

fn row(f: &mut Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "{}", format!("{name:10}{text}").trim_end())
}

fn rows(f: &mut Formatter<'_>, name: &str, lines: &[String]) -> fmt::Result {
    lines.iter().enumerate().try_for_each(|(index, line)| row(f, if index == 0 { name } else { "" }, line))
}

fn listed(words: &[String]) -> String {
    match words.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => words.concat(),
    }
}

/// Seconds as people write them.
pub fn duration(seconds: u64) -> String {
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds > 0 && seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}
