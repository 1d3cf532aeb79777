//! Callouts.

use std::time::Duration;

use super::Outcome;
use crate::Headers;
use crate::abi::{Status, read_pairs};
use crate::commons::{Dispatch, Effect};
use crate::grpc::Kind;
use crate::guest::{Fault, Guest, pause};

type HttpCallArguments = (u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);

/// Calls a cluster on behalf of the root context. The world answers at once whether the call is under way.
pub(super) async fn http_call(guest: &mut Guest<'_>, arguments: HttpCallArguments) -> Outcome {
    let (
        cluster,
        cluster_length,
        headers,
        headers_length,
        body,
        body_length,
        trailers,
        trailers_length,
        timeout,
        token_at,
    ) = arguments;
    let cluster = String::from_utf8_lossy(&guest.bytes(cluster, cluster_length)?).into_owned();
    let mut headers: Headers = read_pairs(&guest.bytes(headers, headers_length)?).into_iter().collect();
    let body = guest.bytes(body, body_length)?;
    let trailers = read_pairs(&guest.bytes(trailers, trailers_length)?).into_iter().collect();
    guest.write_u32(token_at, 0)?;
    let complete = [":method", ":path", ":authority"].iter().all(|name| headers.has(name));
    // The ABI's number of milliseconds is signed, and 0 means for ever.
    if !complete || timeout.cast_signed() < 0 {
        return Err(Status::BadArgument.into());
    }
    if !body.is_empty() {
        headers.set("content-length", body.len().to_string());
    }
    let timeout = (timeout > 0).then(|| Duration::from_millis(timeout.into()));
    let (vm, place, root) = (guest.vm().key, guest.place(), guest.vm().root_id());
    let token = guest.state().tokens.next(Kind::Http);
    let outgoing = Dispatch { vm, place, root, token, kind: Kind::Http, cluster, headers, body, trailers, timeout };
    dispatch(guest, outgoing).await?;
    Ok(guest.write_u32(token_at, token)?)
}

/// Waits for the world to say whether a callout is under way.
pub(super) async fn dispatch(guest: &mut Guest<'_>, dispatch: Dispatch) -> Outcome {
    let callback = guest.vm().callback;
    if !guest.vm().options.dialect.allows_callout_in(callback) {
        let trap = wasmtime::Error::msg(format!("this host allows no callout in {callback}"));
        return Err(Fault::Trap(trap));
    }
    let vm = dispatch.vm;
    guest.commons().effects.push(Effect::Dispatch(dispatch));
    loop {
        pause().await;
        let answer = guest.commons().dispatched.remove(&vm);
        if let Some(outcome) = answer {
            return Ok(outcome?);
        }
    }
}
