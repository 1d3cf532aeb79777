//! `Cache-Status` of RFC 9211: what the cache next to the client says of itself.

use super::walk::At;

/// The conditions for it.
pub(super) const CACHE_STATUS: &[&str] = &["has", "lacks"];

/// What is said of the parameters that the last cache of the list gives.
#[derive(Clone, Debug, Default)]
pub(super) struct CacheStatus {
    has: Vec<String>,
    lacks: Vec<String>,
}

impl CacheStatus {
    /// Parameters with `;` between them, a list of them, or a map with `has` and `lacks`.
    pub(super) fn read(at: At<'_>) -> Option<Self> {
        if !at.is_map() {
            return Some(Self { has: read_parameters(at)?, lacks: Vec::new() });
        }
        let fields = at.fields(&[CACHE_STATUS])?;
        let part = |name| fields.get(name).map_or(Some(Vec::new()), read_parameters);
        Some(Self { has: part("has")?, lacks: part("lacks")? })
    }

    /// Where the answer came from: `origin`, or the `detail` of a hit.
    pub(super) fn read_tier(at: At<'_>) -> Option<Self> {
        Some(match at.text()? {
            "origin" => Self { has: vec!["fwd".to_owned()], lacks: vec!["hit".to_owned()] },
            tier => Self { has: vec!["hit".to_owned(), format!("detail={tier}")], lacks: Vec::new() },
        })
    }

    /// Whether the lines of the field are as expected. A parameter is meant with whatever value it has if none is given.
    pub(super) fn holds(&self, lines: &[String]) -> bool {
        let list = lines.join(", ");
        let members = split_outside_quotes(&list, ',');
        let given = split_outside_quotes(members.last().copied().unwrap_or_default(), ';');
        // The first part is the cache's name.
        let there = |part: &String| {
            given
                .iter()
                .skip(1)
                .any(|given| given == part || given.split_once('=').is_some_and(|(name, _)| name == part))
        };
        self.has.iter().all(there) && !self.lacks.iter().any(there)
    }
}

impl std::fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let has = (!self.has.is_empty()).then(|| format!("`{}`", self.has.join("; ")));
        let lacks = (!self.lacks.is_empty()).then(|| format!("no `{}`", self.lacks.join("` and no `")));
        f.write_str(&has.into_iter().chain(lacks).collect::<Vec<_>>().join(" and "))
    }
}

fn read_parameters(at: At<'_>) -> Option<Vec<String>> {
    let mut parameters = Vec::new();
    for item in at.one_or_many() {
        parameters.extend(split_outside_quotes(item.text()?, ';').into_iter().map(str::to_owned));
    }
    Some(parameters)
}

/// The parts of a structured field, without the blanks around them.
fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(|char| {
        let splits = char == separator && !quoted;
        match char {
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = char == '\\' && quoted && !escaped;
        splits
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::CacheStatus;

    fn holds(has: &[&str], lacks: &[&str], field: &str) -> bool {
        let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
        CacheStatus { has: owned(has), lacks: owned(lacks) }.holds(&[field.to_owned()])
    }

    #[test]
    fn the_cache_next_to_the_client_is_meant() {
        let field = r#"inner; hit; key="a, b; \"fwd=x\"", ours; fwd=uri-miss; stored"#;
        assert!(holds(&["fwd=uri-miss", "stored"], &["hit"], field));
        assert!(!holds(&["hit"], &[], field));
        assert!(holds(&["fwd"], &["detail"], field), "whatever its value");
        assert!(!holds(&["ours"], &[], field), "the name is no parameter");
        assert!(!holds(&["hit"], &[], ""));
    }

    #[test]
    fn quotes_keep_separators_together() {
        assert!(holds(&[r#"key="a; hit, b""#], &["hit"], r#"ours; key="a; hit, b"; fwd=miss"#));
    }
}
