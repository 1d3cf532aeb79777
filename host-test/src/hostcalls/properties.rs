//! Properties: what Envoy's attributes say about the stream, the plugin and the gateway.
//!
//! Numbers are eight bytes, least significant first; text is its bytes (`serializeValue`).

use super::Outcome;
use crate::abi::{Direction, Status};
use crate::faults::Site;
use crate::guest::Guest;
use crate::stream::Stream;
use crate::vm::VmState;

/// A property by its path, whose parts are separated by zero bytes.
pub(super) async fn get_property(
    guest: &mut Guest<'_>,
    (path, path_length, value_at, length_at): (u32, u32, u32, u32),
) -> Outcome {
    let path = guest.bytes(path, path_length)?;
    if guest.commons().fault(Site::Property).is_some() {
        return Err(Status::NotFound.into());
    }
    // Envoy finds everything there, and can't serialise it.
    let missing = if path.is_empty() { Status::SerializationFailure } else { Status::NotFound };
    let value = find(guest.vm(), &path).ok_or(missing)?;
    guest.give(&value, value_at, length_at).await
}

/// Writes filter state `wasm.<path>` of the stream.
pub(super) async fn set_property(
    guest: &mut Guest<'_>,
    (path, path_length, value, value_length): (u32, u32, u32, u32),
) -> Outcome {
    let (path, value) = (guest.bytes(path, path_length)?, guest.bytes(value, value_length)?);
    let context = guest.vm().context();
    let stream = guest.state().streams.get_mut(&context).ok_or(Status::NotFound)?;
    stream.filter_state.insert(path, value);
    Ok(())
}

fn find(vm: &VmState, path: &[u8]) -> Option<Vec<u8>> {
    if let Some(given) = vm.options.properties.get(path) {
        return Some(given.clone());
    }
    let stream = vm.streams.get(&vm.context());
    if let Some(kept) = stream.and_then(|stream| stream.filter_state.get(path)) {
        return Some(kept.clone());
    }
    let text = str::from_utf8(path).ok()?;
    let parts: Vec<&str> = text.split('\0').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["plugin_name"] => text_of(&vm.options.plugin_name),
        ["plugin_root_id"] => text_of(&vm.options.root_id),
        ["plugin_vm_id"] => text_of(&vm.options.vm_id),
        ["node", "id"] | ["xds", "node", "id"] => text_of(&format!("gateway-{}", vm.place.gateway)),
        // Unspecified, as for a listener that says nothing of it.
        ["listener_direction"] | ["xds", "listener_direction"] => number(0),
        ["filter_state", name] => stream?.filter_state.get(name.strip_prefix("wasm.")?.as_bytes()).cloned(),
        rest => {
            let stream = stream?;
            let attribute = stream.attributes.get(rest.join("\0").as_bytes());
            attribute.cloned().or_else(|| of_stream(stream, rest))
        }
    }
}

fn of_stream(stream: &Stream, parts: &[&str]) -> Option<Vec<u8>> {
    match parts {
        ["request", rest @ ..] => of_request(stream, rest),
        ["response", rest @ ..] => of_response(stream, rest),
        ["connection_id"] | ["connection", "id"] => number(stream.request.0),
        ["source", "address"] => text_of("127.0.0.1:40000"),
        ["source", "port"] => number(40_000),
        ["destination", "address"] => text_of("127.0.0.1:10000"),
        ["destination", "port"] => number(10_000),
        ["upstream", "address"] if stream.details == "via_upstream" => text_of("127.0.0.1:8080"),
        ["upstream", "port"] if stream.details == "via_upstream" => number(8080),
        ["xds", "cluster_name"] => text_of("origin"),
        ["xds", "route_name"] => text_of("default"),
        ["xds", "virtual_host_name"] => text_of("local"),
        _ => None,
    }
}

fn of_request(stream: &Stream, parts: &[&str]) -> Option<Vec<u8>> {
    match parts {
        ["time"] => return number(stream.started_wall),
        ["protocol"] => return text_of("HTTP/1.1"),
        // What it says of itself comes before what was counted.
        ["size"] => {
            let said =
                stream.requesting.headers.as_ref().and_then(|headers| headers.get("content-length")?.parse().ok());
            return number(said.unwrap_or(stream.requesting.body_bytes));
        }
        _ => {}
    }
    let headers = stream.visible_headers(Direction::Request)?;
    let field = |name: &str| headers.bytes(name).map(<[u8]>::to_vec);
    match parts {
        ["path"] => field(":path"),
        ["url_path"] => headers.get(":path").and_then(|path| text_of(path.split('?').next().unwrap_or_default())),
        ["query"] => headers.get(":path").and_then(|path| text_of(path.split_once('?').map_or("", |(_, query)| query))),
        ["host"] => field(":authority"),
        ["scheme"] => field(":scheme"),
        ["method"] => field(":method"),
        ["referer"] => field("referer"),
        ["useragent"] => field("user-agent"),
        ["id"] => field("x-request-id"),
        ["headers", name] => field(name),
        ["total_size"] => number(stream.requesting.body_bytes + headers.byte_size() as u64),
        _ => None,
    }
}

fn of_response(stream: &Stream, parts: &[&str]) -> Option<Vec<u8>> {
    let half = &stream.responding;
    match parts {
        ["code"] => number(half.headers.as_ref()?.status().into()),
        ["code_details"] if !stream.details.is_empty() => text_of(&stream.details),
        ["flags"] => number(stream.flags),
        ["size"] => number(half.body_bytes),
        ["headers", name] => stream.visible_headers(Direction::Response)?.bytes(name).map(<[u8]>::to_vec),
        ["trailers", name] => half.trailers.as_ref()?.bytes(name).map(<[u8]>::to_vec),
        _ => None,
    }
}

fn text_of(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

fn number(number: u64) -> Option<Vec<u8>> {
    Some(number.to_le_bytes().to_vec())
}
