//! What a gateway knows of a request beside its header: properties, in Envoy's words.

use crate::template::Source;

/// Looks up a property of the request by its path; `None` where the host doesn't know it.
pub type Properties<'a> = &'a dyn Fn(&[&str]) -> Option<Vec<u8>>;

/// Where Envoy's `jwt_authn` filter writes what it has verified, and nothing else writes.
const VERIFIED: &str = "envoy.filters.http.jwt_authn";

/// The field there that holds a token's claims, where a rule doesn't name another (`payload_in_metadata`).
pub const PAYLOAD: &str = "jwt_payload";

/// The value of a source that is a property.
#[must_use]
pub fn value(source: &Source, look_up: Properties<'_>) -> Option<Vec<u8>> {
    match source {
        Source::Client => look_up(&["source", "address"]).map(without_port),
        // Gateways of Envoy 1.33 and later group what the control plane says below `xds`.
        Source::Route => look_up(&["xds", "route_name"]).or_else(|| look_up(&["route_name"])),
        Source::Cluster => look_up(&["xds", "cluster_name"]).or_else(|| look_up(&["cluster_name"])),
        Source::Metadata(path) => {
            let mut names = vec!["xds", "route_metadata", "filter_metadata"];
            names.extend(path.split('/'));
            look_up(&names)
        }
        Source::Claim(name) => claim(PAYLOAD, name, look_up),
        _ => None,
    }
}

/// A claim of a token that the gateway has verified. Only text is one: a number arrives as eight raw bytes, which some
/// text could be as well.
#[must_use]
pub fn claim(payload: &str, name: &str, look_up: Properties<'_>) -> Option<Vec<u8>> {
    let value = look_up(&["metadata", "filter_metadata", VERIFIED, payload, name])?;
    let text = std::str::from_utf8(&value).ok()?;
    (!text.is_empty() && !text.contains(char::is_control)).then_some(value)
}

/// `10.0.0.1:4711` and `[::1]:4711` without the port.
fn without_port(mut address: Vec<u8>) -> Vec<u8> {
    if let Some(colon) = address.iter().rposition(|byte| *byte == b':') {
        let is_port = address.get(colon..).is_some_and(|port| port.iter().skip(1).all(u8::is_ascii_digit));
        if is_port {
            address.truncate(colon);
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_looked_up_where_gateways_keep_them() {
        let known = |path: &[&str]| {
            let value: &[u8] = match path.join(" ").as_str() {
                "source address" => b"[::1]:4711",
                "route_name" => b"old",
                "xds cluster_name" => b"orders",
                "xds route_metadata filter_metadata com.example tenant" => b"acme",
                "metadata filter_metadata envoy.filters.http.jwt_authn jwt_payload sub" => b"ada",
                "metadata filter_metadata envoy.filters.http.jwt_authn jwt_payload n" => b"\0\0\0\0\0\0\x1c@",
                _ => return None,
            };
            Some(value.to_vec())
        };
        for (source, expected) in [
            (Source::Client, Some(&b"[::1]"[..])),
            (Source::Route, Some(b"old")),
            (Source::Cluster, Some(b"orders")),
            (Source::Metadata("com.example/tenant".into()), Some(b"acme")),
            (Source::Metadata("com.example/none".into()), None),
            (Source::Claim("sub".into()), Some(b"ada")),
            (Source::Claim("n".into()), None),
        ] {
            assert_eq!(value(&source, &known).as_deref(), expected, "{source}");
        }
    }
}
