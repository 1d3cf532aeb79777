//! The host that a rule is for.

use crate::mistake::What;
use crate::tree::shorten;
use crate::walk::{At, Found};

/// The host in lower case; `*.example.com` is every host that ends so.
pub(crate) fn read(at: &At<'_>, found: &mut Found) -> Option<String> {
    let text = at.text(found)?;
    let read = match text.strip_prefix("*.") {
        Some(parent) => normalised(parent).map(|parent| format!("*.{parent}")),
        None => normalised(text),
    };
    read.map_err(|what| found.add(at, what)).ok()
}

/// The same of any host, such as a service's.
pub(crate) fn normalised(text: &str) -> Result<String, What> {
    if text.contains('*') {
        return Err(What::WildcardHost(shorten(text)));
    }
    let host = text.to_ascii_lowercase();
    let (name, port) = host
        .rsplit_once(':')
        .filter(|_| !host.ends_with(']'))
        .map_or((host.as_str(), None), |(name, port)| (name, Some(port)));
    if !is_host(name) {
        return Err(What::BadHost(shorten(text)));
    }
    match port {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(What::HostWithPort { host: text.to_owned(), mended: name.to_owned() })
        }
        Some(_) => Err(What::BadHost(shorten(text))),
        None => Ok(host),
    }
}

/// A DNS name without the last dot, an IPv4 address, or an IPv6 address in brackets.
fn is_host(name: &str) -> bool {
    const BYTES_MAX: usize = 253;
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= BYTES_MAX && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_in_lower_case() {
        for (text, host) in [
            ("API.example.com", "api.example.com"),
            ("localhost", "localhost"),
            ("[::1]", "[::1]"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(normalised(text), Ok(host.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_no_request_can_name_is_refused() {
        for text in [
            "",
            "https://api.example.com",
            "a b",
            "example.com.",
            ".com",
            "a..b",
            "é.com",
            "a/b",
            "[::1",
            "a:b:c",
            "[x]",
        ] {
            assert_eq!(normalised(text), Err(What::BadHost(text.to_owned())), "{text}");
        }
        for (text, mended) in [("api.example.com:443", "api.example.com"), ("[::1]:80", "[::1]")] {
            assert_eq!(
                normalised(text),
                Err(What::HostWithPort { host: text.into(), mended: mended.into() }),
                "{text}"
            );
        }
        assert_eq!(normalised("*.example.com"), Err(What::WildcardHost("*.example.com".into())));
    }
}
