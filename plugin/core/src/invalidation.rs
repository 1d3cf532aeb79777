//! What a successful write makes out of date, whatever the rules say of it (RFC 9111 §4.4, RFC 9875).

use crate::fields::Fields;
use crate::key::normal_authority;
use crate::matching::normal_path;
use crate::structured::{Member, list};
use crate::template::escape;

/// Groups that one field may name. RFC 9875 §2 asks for at least 32.
const GROUPS_MAX: usize = 64;

/// Whether a method asks for no change (RFC 9110 §9.2.1; the safe ones of IANA's registry). One that isn't known isn't
/// safe (RFC 9111 §4.4).
#[must_use]
pub fn is_safe(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "CONNECT" | "PRI" | "PROPFIND" | "QUERY" | "REPORT" | "SEARCH"
    )
}

/// Where a reference in a response (`Location`, `Content-Location`) leads on the origin of the request's own target: a
/// path, and what follows its `?`. `None` when it leads elsewhere: a server can't speak for another origin (§4.4).
///
/// References are resolved as RFC 3986 §5.2 says.
#[must_use]
pub fn on_same_origin(reference: &str, scheme: &str, authority: &str, path: &str) -> Option<(String, Option<String>)> {
    let reference = reference.split('#').next().unwrap_or_default();
    let local = match (reference.split_once("://"), reference.strip_prefix("//")) {
        (Some((given, rest)), _) if is_scheme(given) => {
            given.eq_ignore_ascii_case(scheme).then_some(())?;
            after_authority(rest, scheme, authority)?
        }
        (_, Some(rest)) => after_authority(rest, scheme, authority)?,
        _ => reference,
    };
    let (given, query) = local.split_once('?').map_or((local, None), |(path, query)| (path, Some(query.to_owned())));
    let given = match given {
        "" if local.len() == reference.len() => path.to_owned(), // the same document, or a query alone
        "" => "/".to_owned(),
        absolute if absolute.starts_with('/') => absolute.to_owned(),
        relative if is_scheme(relative.split(':').next().unwrap_or_default()) && relative.contains(':') => return None,
        relative => format!("{}/{relative}", path.rsplit_once('/').map_or("", |(folder, _)| folder)),
    };
    let dotted = given.contains("/.");
    Some((if dotted { normal_path(&given).into_owned() } else { given }, query))
}

/// What follows the authority, if that is the expected one.
fn after_authority<'a>(rest: &'a str, scheme: &str, authority: &str) -> Option<&'a str> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (given, local) = rest.split_at_checked(end)?;
    (normal_authority(given, scheme) == authority).then_some(local)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// The tags of the groups that a field names (`Cache-Groups`, `Cache-Group-Invalidation`): a List of Strings, of which
/// each origin has its own (RFC 9875 §2). What isn't one names nothing.
#[must_use]
pub fn group_tags(fields: &Fields<'_>, name: &str, scheme: &str, authority: &str) -> Vec<String> {
    let Some(value) = fields.joined(name) else { return Vec::new() };
    let tag = |member: Member| {
        let Member::Text(group) = member else { return None };
        let mut tag = format!("!group:{scheme}://{authority} ");
        escape(group.as_bytes(), b"", &mut tag);
        Some(tag)
    };
    list(&value).unwrap_or_default().into_iter().filter_map(tag).take(GROUPS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn methods_that_are_not_known_are_not_safe() {
        assert!(["GET", "HEAD", "OPTIONS", "TRACE", "SEARCH"].into_iter().all(is_safe));
        assert!(!["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "get", "FOO"].into_iter().any(is_safe));
    }

    /// RFC 9111 §4.4 and RFC 3986 §5.2.
    #[test]
    fn a_reference_is_followed_on_its_own_origin_only() {
        let here = |path: &str| Some((path.to_owned(), None));
        let with = |path: &str, query: &str| Some((path.to_owned(), Some(query.to_owned())));
        for (reference, expected) in [
            ("/orders/5", here("/orders/5")),
            ("/orders/5?x=1#top", with("/orders/5", "x=1")),
            ("5", here("/users/5")),
            ("../a", here("/a")),
            ("./5", here("/users/5")),
            ("", here("/users/7")),
            ("?page=2", with("/users/7", "page=2")),
            ("http://API.example/x", here("/x")),
            ("http://api.example:80", here("/")),
            ("//api.example/x?y", with("/x", "y")),
            ("https://api.example/x", None),
            ("http://other.example/x", None),
            ("http://api.example:8080/x", None),
            ("//other.example/x", None),
            ("http://api.example@other.example/x", None),
            ("mailto:a", None),
        ] {
            assert_eq!(on_same_origin(reference, "http", "api.example", "/users/7"), expected, "{reference}");
        }
    }

    /// RFC 9875 §2.
    #[test]
    fn groups_are_strings_of_one_origin() {
        let tags = |value: &str| {
            group_tags(&Fields::from_pairs(vec![(b"cache-groups", value.as_bytes())]), "cache-groups", "https", "h")
        };
        assert_eq!(tags("\"a\", \"B c\";x=1"), ["!group:https://h a", "!group:https://h B%20c"]);
        assert_eq!(tags("\"a\", b, 5, (\"c\")"), ["!group:https://h a"]);
        for broken in ["\"a\",", "\"a", "", "é"] {
            assert!(tags(broken).is_empty(), "{broken}");
        }
        let many = vec!["\"a\""; 200].join(",");
        assert_eq!(tags(&many).len(), GROUPS_MAX);
    }

    proptest! {
        #[test]
        fn no_reference_makes_the_resolver_panic(reference: String, path in "/[a-z/.]{0,9}") {
            let _ = on_same_origin(&reference, "http", "h", &path);
        }
    }
}
