//! Header maps and buffers: readable and writable in their phase, or while the stream is paused in it.

use super::Outcome;
use crate::Headers;
use crate::abi::{AbiVersion, BufferType, Direction, MapType, Status, read_pairs, write_pairs};
use crate::grpc::Part;
use crate::guest::{Fault, Guest};
use crate::stream::set_buffer;
use crate::vm::VmState;

/// Which half of a stream a map belongs to, and whether it holds the trailers; `None` for maps that aren't a stream's.
fn part_of_stream(map: MapType) -> Option<(Direction, bool)> {
    match map {
        MapType::RequestHeaders => Some((Direction::Request, false)),
        MapType::RequestTrailers => Some((Direction::Request, true)),
        MapType::ResponseHeaders => Some((Direction::Response, false)),
        MapType::ResponseTrailers => Some((Direction::Response, true)),
        _ => None,
    }
}

/// The map to read.
///
/// # Errors
///
/// `BadArgument` outside its phase; `NotFound` in the access log's phase, where every map may be asked for, if the stream never had it.
fn readable(state: &VmState, map: MapType) -> Result<&Headers, Status> {
    let Some((direction, trailers)) = part_of_stream(map) else {
        let root = state.roots.get(&state.root_id()).ok_or(Status::BadArgument)?;
        return match (map, &root.call, &root.grpc_part) {
            (MapType::CallHeaders, Some(call), _) => Ok(&call.headers),
            (MapType::CallTrailers, Some(call), _) => Ok(&call.trailers),
            (MapType::GrpcInitialMetadata, _, Some(Part::InitialMetadata(headers)))
            | (MapType::GrpcTrailingMetadata, _, Some(Part::TrailingMetadata(headers))) => Ok(headers),
            _ => Err(Status::BadArgument),
        };
    };
    let stream = state.streams.get(&state.context()).ok_or(Status::BadArgument)?;
    let visible = if trailers { stream.visible_trailers(direction) } else { stream.visible_headers(direction) };
    visible.ok_or(if stream.logging { Status::NotFound } else { Status::BadArgument })
}

/// The map to change.
fn writable(state: &mut VmState, map: MapType) -> Result<&mut Headers, Status> {
    let (direction, trailers) = part_of_stream(map).ok_or(Status::BadArgument)?;
    let context = state.context();
    let half = state.streams.get_mut(&context).ok_or(Status::BadArgument)?.half_mut(direction);
    if !trailers {
        return half.headers.as_mut().filter(|_| half.headers_visible).ok_or(Status::BadArgument);
    }
    // Trailers can be made where there were none, while the last piece of body is being shown.
    if half.trailers_visible || (half.in_body && half.end_seen) {
        return Ok(half.trailers.get_or_insert_default());
    }
    Err(Status::BadArgument)
}

/// The first line of a field; ABI 0.1.0 reads an absent one as empty.
pub(super) async fn get_header_map_value(
    guest: &mut Guest<'_>,
    (map, name, name_length, value_at, length_at): (u32, u32, u32, u32, u32),
) -> Outcome {
    let map = MapType::from_abi(map)?;
    let name = guest.bytes(name, name_length)?;
    let found = match readable(guest.vm(), map) {
        Ok(headers) => headers.bytes(&name).map(<[u8]>::to_vec),
        Err(Status::NotFound) => None,
        Err(status) => return Err(status.into()),
    };
    let old = guest.vm().abi == AbiVersion::V0_1_0;
    let value = found.or(old.then(Vec::new)).ok_or(Status::NotFound)?;
    guest.give(&value, value_at, length_at).await
}

/// All lines; none where the map can't be read.
pub(super) async fn get_header_map_pairs(
    guest: &mut Guest<'_>,
    (map, pairs_at, length_at): (u32, u32, u32),
) -> Outcome {
    let map = MapType::from_abi(map)?;
    let pairs = readable(guest.vm(), map).map(Headers::pairs).unwrap_or_default();
    let bytes = if pairs.is_empty() { Vec::new() } else { write_pairs(pairs) };
    guest.give(&bytes, pairs_at, length_at).await
}

/// Bytes of all names and values. The access log's maps can be read, but not measured (seen in Envoy 1.40).
pub(super) async fn get_header_map_size(guest: &mut Guest<'_>, (map, size_at): (u32, u32)) -> Outcome {
    let state = guest.vm();
    if state.streams.get(&state.context()).is_some_and(|stream| stream.logging) {
        return Err(Status::BadArgument.into());
    }
    let size = readable(state, MapType::from_abi(map)?).map_err(|_| Status::BadArgument)?.byte_size();
    Ok(guest.write_u32(size_at, u32::try_from(size).unwrap_or(u32::MAX))?)
}

pub(super) async fn set_header_map_pairs(guest: &mut Guest<'_>, (map, pairs, length): (u32, u32, u32)) -> Outcome {
    let map = MapType::from_abi(map)?;
    let pairs = read_pairs(&guest.bytes(pairs, length)?);
    *writable(guest.state(), map)? = pairs.into_iter().collect();
    Ok(())
}

type NameAndValue = (u32, u32, u32, u32, u32);

pub(super) async fn add_header_map_value(guest: &mut Guest<'_>, arguments: NameAndValue) -> Outcome {
    let (map, name, value) = name_and_value(guest, arguments)?;
    writable(guest.state(), map)?.add(name, value);
    Ok(())
}

pub(super) async fn replace_header_map_value(guest: &mut Guest<'_>, arguments: NameAndValue) -> Outcome {
    let (map, name, value) = name_and_value(guest, arguments)?;
    writable(guest.state(), map)?.set(name, value);
    Ok(())
}

pub(super) async fn remove_header_map_value(guest: &mut Guest<'_>, (map, name, length): (u32, u32, u32)) -> Outcome {
    let map = MapType::from_abi(map)?;
    let name = guest.bytes(name, length)?;
    writable(guest.state(), map)?.remove(name);
    Ok(())
}

fn name_and_value(guest: &mut Guest<'_>, arguments: NameAndValue) -> Result<(MapType, Vec<u8>, Vec<u8>), Status> {
    let (map, name, name_length, value, value_length) = arguments;
    Ok((MapType::from_abi(map)?, guest.bytes(name, name_length)?, guest.bytes(value, value_length)?))
}

/// The buffer to read or change: `NotFound` for a configuration or a callout's body outside its phase, nothing (`None`) for all others.
fn with_buffer<T>(
    state: &mut VmState,
    buffer: BufferType,
    work: impl FnOnce(Option<&mut Vec<u8>>) -> Result<T, Status>,
) -> Result<T, Status> {
    let (context, root) = (state.context(), state.root_id());
    let root = state.roots.get_mut(&root);
    match buffer {
        BufferType::RequestBody | BufferType::ResponseBody => {
            let direction = direction_of(buffer);
            work(state.streams.get_mut(&context).and_then(|stream| stream.half_mut(direction).body()))
        }
        BufferType::CallBody => work(Some(&mut root.and_then(|root| root.call.as_mut()).ok_or(Status::NotFound)?.body)),
        BufferType::GrpcMessage => match root.and_then(|root| root.grpc_part.as_mut()) {
            Some(Part::Message(message)) => work(Some(message)),
            _ => work(None),
        },
        // Configurations can be read only: changes of the copy are refused below.
        BufferType::VmConfiguration => work(Some(&mut state.options.vm_configuration.clone())),
        BufferType::PluginConfiguration => {
            let root = root.filter(|root| root.configuring).ok_or(Status::NotFound)?;
            work(Some(&mut root.configuration.to_vec()))
        }
        BufferType::Other => work(None),
    }
}

fn direction_of(body: BufferType) -> Direction {
    if body == BufferType::RequestBody { Direction::Request } else { Direction::Response }
}

/// A slice of a buffer, cut where the buffer ends; nothing is written where the slice is empty, also past the end.
pub(super) async fn get_buffer_bytes(
    guest: &mut Guest<'_>,
    (buffer, start, length, bytes_at, length_at): (u32, u32, u32, u32, u32),
) -> Outcome {
    let buffer = BufferType::from_abi(buffer)?;
    let slice = with_buffer(guest.state(), buffer, |bytes| {
        let bytes = bytes.map(|bytes| bytes.as_slice()).unwrap_or_default();
        let place = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes[place(start)..place(start.saturating_add(length))].to_vec())
    })?;
    if slice.is_empty() {
        return Ok(());
    }
    guest.give(&slice, bytes_at, length_at).await
}

pub(super) async fn get_buffer_status(
    guest: &mut Guest<'_>,
    (buffer, length_at, flags_at): (u32, u32, u32),
) -> Outcome {
    let buffer = BufferType::from_abi(buffer)?;
    let length = with_buffer(guest.state(), buffer, |bytes| Ok(bytes.map_or(0, |bytes| bytes.len())))?;
    guest.write_u32(length_at, u32::try_from(length).unwrap_or(u32::MAX))?;
    Ok(guest.write_u32(flags_at, 0)?)
}

pub(super) async fn set_buffer_bytes(
    guest: &mut Guest<'_>,
    (buffer, start, length, data, data_length): (u32, u32, u32, u32, u32),
) -> Outcome {
    let buffer = BufferType::from_abi(buffer)?;
    let data = guest.bytes(data, data_length)?;
    if !matches!(buffer, BufferType::RequestBody | BufferType::ResponseBody) {
        // What can't be changed can still be missing.
        return with_buffer(guest.state(), buffer, |_| Err(Status::BadArgument)).map_err(Fault::Status);
    }
    let context = guest.vm().context();
    if let Some(stream) = guest.state().streams.get_mut(&context) {
        stream.half_mut(direction_of(buffer)).changed = true;
    }
    let outcome =
        with_buffer(guest.state(), buffer, |bytes| set_buffer(bytes.ok_or(Status::BadArgument)?, start, length, &data));
    Ok(outcome?)
}
