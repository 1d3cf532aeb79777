//! Resuming, closing and answering streams: all of it happens once the running callback has returned.

use super::Outcome;
use crate::abi::{Direction, Status, read_pairs};
use crate::faults::Site;
use crate::guest::Guest;
use crate::laws::Law;
use crate::stream::{LocalReply, LocalResponse};
use crate::vm::Deferred;

/// Request, response, downstream, upstream: the last two are TCP's.
fn direction(stream_type: u32) -> Result<Option<Direction>, Status> {
    match stream_type {
        0 => Ok(Some(Direction::Request)),
        1 => Ok(Some(Direction::Response)),
        2 | 3 => Ok(None),
        _ => Err(Status::BadArgument),
    }
}

pub(super) async fn continue_stream(guest: &mut Guest<'_>, (stream_type,): (u32,)) -> Outcome {
    match direction(stream_type)? {
        Some(direction) => resume(guest, direction),
        // There is no TCP stream here; Envoy can't go on with one upstream at all.
        None if stream_type == 3 => return Err(Status::Unimplemented.into()),
        None => {}
    }
    Ok(())
}

/// ABI 0.1.0.
pub(super) async fn continue_request(guest: &mut Guest<'_>, (): ()) -> Outcome {
    resume(guest, Direction::Request);
    Ok(())
}

/// ABI 0.1.0.
pub(super) async fn continue_response(guest: &mut Guest<'_>, (): ()) -> Outcome {
    resume(guest, Direction::Response);
    Ok(())
}

fn resume(guest: &mut Guest<'_>, direction: Direction) {
    let context = guest.vm().context();
    let Some(stream) = guest.state().streams.get_mut(&context) else { return };
    // Whichever half goes on, and though it goes on only later: the request's maps are out of reach from here on, the
    // response's never are again (seen in Envoy 1.40).
    stream.requesting.headers_visible = false;
    stream.requesting.trailers_visible = false;
    guest.state().deferred.push_back(Deferred::Resume(context, direction));
}

pub(super) async fn close_stream(guest: &mut Guest<'_>, (stream_type,): (u32,)) -> Outcome {
    let direction = direction(stream_type)?;
    let context = guest.vm().context();
    if let Some(stream) = guest.state().streams.get_mut(&context).filter(|_| direction.is_some()) {
        if stream.details.is_empty() {
            "wasm_close_stream".clone_into(&mut stream.details);
        }
        guest.state().deferred.push_back(Deferred::Reset(context));
    }
    Ok(())
}

/// ABI 0.1.0: there is one route here, so nothing to clear.
pub(super) async fn clear_route_cache(_: &mut Guest<'_>, (): ()) -> Outcome {
    Ok(())
}

type LocalResponseArguments = (u32, u32, u32, u32, u32, u32, u32, u32);

/// Answers the stream. A second answer from the same callback is ignored; one from the response callbacks of the first takes its
/// place (seen in Envoy 1.40).
pub(super) async fn send_local_response(guest: &mut Guest<'_>, arguments: LocalResponseArguments) -> Outcome {
    let (status, details, details_length, body, body_length, headers, headers_length, grpc_status) = arguments;
    let response = LocalResponse {
        status,
        details: String::from_utf8_lossy(&guest.bytes(details, details_length)?).into_owned(),
        body: guest.bytes(body, body_length)?,
        headers: read_pairs(&guest.bytes(headers, headers_length)?),
        grpc_status: (grpc_status <= 16).then_some(grpc_status),
    };
    let (context, place) = (guest.vm().context(), guest.place());
    if guest.commons().fault(Site::LocalReply).is_some() {
        return Err(Status::InternalFailure.into());
    }
    guest.state().stop_iteration = true;
    let Some(stream) = guest.state().streams.get_mut(&context) else { return Ok(()) };
    if stream.local_reply != LocalReply::None {
        let detail = format!("context {context} was answered twice");
        let ignored = stream.local_reply == LocalReply::Asked;
        guest.commons().violation(place, Law::OneLocalReply, detail);
        if ignored {
            return Ok(());
        }
    } else {
        stream.local_reply = LocalReply::Asked;
    }
    guest.state().deferred.push_back(Deferred::Reply(context, response));
    Ok(())
}
