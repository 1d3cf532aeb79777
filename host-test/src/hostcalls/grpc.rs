//! gRPC callouts and streams, which belong to the root context as HTTP callouts do.
//!
//! What arrives is told by the callbacks `proxy_on_grpc_*`; [`crate::grpc`] says in which order.

use std::time::Duration;

use super::Outcome;
use super::calls::dispatch;
use crate::Headers;
use crate::abi::{Status, read_pairs};
use crate::commons::{Dispatch, Effect};
use crate::grpc::{Handle, Kind};
use crate::guest::{Fault, Guest};

type CallArguments = (u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);

/// Calls a method with one message, and is told of one message or of a status.
pub(super) async fn call(guest: &mut Guest<'_>, arguments: CallArguments) -> Outcome {
    let (upstream, upstream_length, service, service_length, method, method_length, ..) = arguments;
    let (.., metadata, metadata_length, message, message_length, timeout, token_at) = arguments;
    let target = (upstream, upstream_length, service, service_length, method, method_length);
    let message = guest.bytes(message, message_length)?;
    let timeout = (timeout.cast_signed() > 0).then(|| Duration::from_millis(timeout.into()));
    begin(guest, Kind::Call, target, (metadata, metadata_length), message, timeout, token_at).await
}

type StreamArguments = (u32, u32, u32, u32, u32, u32, u32, u32, u32);

/// Opens a stream of messages both ways. It has no timeout.
pub(super) async fn stream(guest: &mut Guest<'_>, arguments: StreamArguments) -> Outcome {
    let (upstream, upstream_length, service, service_length, method, method_length, ..) = arguments;
    let (.., metadata, metadata_length, token_at) = arguments;
    let target = (upstream, upstream_length, service, service_length, method, method_length);
    begin(guest, Kind::Stream, target, (metadata, metadata_length), Vec::new(), None, token_at).await
}

async fn begin(
    guest: &mut Guest<'_>,
    kind: Kind,
    (upstream, upstream_length, service, service_length, method, method_length): (u32, u32, u32, u32, u32, u32),
    (metadata, metadata_length): (u32, u32),
    body: Vec<u8>,
    timeout: Option<Duration>,
    token_at: u32,
) -> Outcome {
    let upstream = guest.bytes(upstream, upstream_length)?;
    let service = guest.bytes(service, service_length)?;
    let method = guest.bytes(method, method_length)?;
    let metadata = read_pairs(&guest.bytes(metadata, metadata_length)?);
    guest.write_u32(token_at, 0)?;
    // A serialised `GrpcService`, or nothing but the cluster's name.
    let named = envoy_grpc_cluster(&upstream);
    let plain = named.is_none();
    let cluster = named.unwrap_or_else(|| String::from_utf8_lossy(&upstream).into_owned());
    let path = [b"/".as_slice(), &service, b"/", &method].concat();
    let mut headers: Headers = [(":method", "POST"), (":scheme", "http")].into_iter().collect();
    headers.add(":path", path);
    headers.add(":authority", &cluster);
    headers.add("te", "trailers");
    headers.add("content-type", "application/grpc");
    headers.add("x-envoy-internal", "true");
    if let Some(timeout) = timeout {
        headers.add("grpc-timeout", format!("{}m", timeout.as_millis()));
    }
    for (name, value) in metadata {
        headers.add(name, value);
    }
    let (vm, place, root) = (guest.vm().key, guest.place(), guest.vm().root_id());
    let token = guest.state().tokens.next(kind);
    let trailers = Headers::new();
    let outgoing = Dispatch { vm, place, root, token, kind, cluster, headers, body, trailers, timeout };
    match dispatch(guest, outgoing).await {
        // Envoy answers so for a name that isn't a cluster's.
        Err(Fault::Status(Status::BadArgument)) if plain => return Err(Status::ParseFailure.into()),
        outcome => outcome?,
    }
    if let Some(root) = guest.state().roots.get_mut(&root) {
        root.grpc.insert(token, Handle::default());
    }
    Ok(guest.write_u32(token_at, token)?)
}

/// Sends a message on a stream; `end` closes the filter's side.
pub(super) async fn send(guest: &mut Guest<'_>, (token, message, length, end): (u32, u32, u32, u32)) -> Outcome {
    let message = guest.bytes(message, length)?;
    if Kind::of(token) != Kind::Stream {
        return Err(Status::BadArgument.into());
    }
    let (vm, root) = (guest.vm().key, guest.vm().root_id());
    let handle = handle(guest, root, token)?;
    if !handle.local_closed && !handle.remote_closed {
        handle.local_closed = end != 0;
        guest.commons().effects.push(Effect::GrpcSend { vm, root, token, message: Some(message), end: end != 0 });
    }
    Ok(())
}

/// Closes the filter's side of a stream, whose other side may go on; a call is called off.
pub(super) async fn close(guest: &mut Guest<'_>, (token,): (u32,)) -> Outcome {
    if Kind::of(token) != Kind::Stream {
        return cancel(guest, (token,)).await;
    }
    let (vm, root) = (guest.vm().key, guest.vm().root_id());
    let handle = handle(guest, root, token)?;
    let (told, over) = (handle.local_closed, handle.remote_closed);
    handle.local_closed = true;
    if over {
        forget(guest, root, token);
    } else if !told {
        guest.commons().effects.push(Effect::GrpcSend { vm, root, token, message: None, end: true });
    }
    Ok(())
}

/// Calls a call or a stream off: no callback follows.
pub(super) async fn cancel(guest: &mut Guest<'_>, (token,): (u32,)) -> Outcome {
    if !matches!(Kind::of(token), Kind::Call | Kind::Stream) {
        return Err(Status::BadArgument.into());
    }
    let (vm, root) = (guest.vm().key, guest.vm().root_id());
    handle(guest, root, token)?;
    forget(guest, root, token);
    guest.commons().effects.push(Effect::GrpcCancel { vm, root, token });
    Ok(())
}

fn handle<'state>(guest: &'state mut Guest<'_>, root: u32, token: u32) -> Result<&'state mut Handle, Status> {
    guest.state().roots.get_mut(&root).and_then(|root| root.grpc.get_mut(&token)).ok_or(Status::NotFound)
}

fn forget(guest: &mut Guest<'_>, root: u32, token: u32) {
    if let Some(root) = guest.state().roots.get_mut(&root) {
        root.grpc.remove(&token);
    }
}

/// The cluster of a serialised `envoy.config.core.v3.GrpcService` that holds an `EnvoyGrpc` and nothing else.
fn envoy_grpc_cluster(bytes: &[u8]) -> Option<String> {
    fn first_field(bytes: &[u8]) -> Option<&[u8]> {
        let [0x0a, length, rest @ ..] = bytes else { return None };
        rest.get(..usize::from(*length)).filter(|_| *length < 0x80)
    }
    let envoy_grpc = first_field(bytes).filter(|field| field.len() + 2 == bytes.len())?;
    String::from_utf8(first_field(envoy_grpc)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::envoy_grpc_cluster;

    #[test]
    fn a_cluster_is_named_by_a_message_or_plainly() {
        assert_eq!(envoy_grpc_cluster(b"\x0a\x06\x0a\x04auth").as_deref(), Some("auth"));
        for plain in [b"auth".as_slice(), b"", b"\x0a", b"\x0a\x06\x0a\x04aut", b"\x0a\x06\x0a\x04auth!"] {
            assert_eq!(envoy_grpc_cluster(plain), None, "{plain:?}");
        }
    }
}
