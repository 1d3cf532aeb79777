//! One spelling for one resource, before any filter looks at the path.
//!
//! As Envoy with `normalize_path`, `merge_slashes` and `path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT`, which is how it
//! should stand in front of a cache: otherwise `/users/7`, `//users/7` and `/x/../users/7` were stored apart, and a purge of one
//! left the others.

/// What becomes of a request for a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// It goes on under this path.
    Normal(String),
    /// The client is sent to this path.
    Redirect(String),
}

/// The normal form of a path with its query, which stays as it is.
pub(super) fn normal(path_and_query: &str) -> Path {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    if !path.starts_with('/') {
        // `*` of OPTIONS.
        return Path::Normal(path_and_query.to_owned());
    }
    let (path, had_slashes) = unescape(path);
    let mut normal = without_dots(&path);
    if let Some(query) = query {
        normal.push('?');
        normal.push_str(query);
    }
    if had_slashes { Path::Redirect(normal) } else { Path::Normal(normal) }
}

/// Decodes what RFC 3986 §2.3 calls unreserved, and slashes; tells whether there were slashes.
fn unescape(path: &str) -> (String, bool) {
    let mut out = String::with_capacity(path.len());
    let mut had_slashes = false;
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let octet = escape.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let octet = octet.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match octet {
            Some(octet @ (b'/' | b'\\')) => {
                had_slashes = true;
                out.push(char::from(octet));
            }
            Some(octet) if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) => out.push(char::from(octet)),
            Some(_) => out.push_str(&escape[..3]),
            None => {
                out.push('%');
                rest = &escape[1..];
                continue;
            }
        }
        rest = &escape[3..];
    }
    out.push_str(rest);
    (out, had_slashes)
}

/// Takes out `.`, `..` and empty segments; a path that ended in a slash, or in dots, still does.
fn without_dots(path: &str) -> String {
    let path = path.replace('\\', "/");
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let is_folder = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if is_folder || out.is_empty() {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Path, normal};

    #[test]
    fn spellings_of_one_path_become_one() {
        for (asked, got) in [
            ("/users/7", "/users/7"),
            ("//users///7", "/users/7"),
            ("/x/../users/./7", "/users/7"),
            ("/x/%2e%2E/users/%37", "/users/7"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/a/", "/a/"),
            ("/a\\b", "/a/b"),
            ("/caf%C3%A9", "/caf%C3%A9"),
            ("/a%zz%4", "/a%zz%4"),
            ("/a?b=//../%2f", "/a?b=//../%2f"),
            ("*", "*"),
        ] {
            assert_eq!(normal(asked), Path::Normal(got.to_owned()), "{asked}");
        }
    }

    #[test]
    fn a_path_with_escaped_slashes_is_sent_elsewhere() {
        for (asked, got) in [("/a%2fb?q", "/a/b?q"), ("/a%5Cb", "/a/b"), ("/a%2F..%2f", "/")] {
            assert_eq!(normal(asked), Path::Redirect(got.to_owned()), "{asked}");
        }
    }
}
