//! Foreign functions: a registry by name, with `compress`, `uncompress` and `clear_route_cache` built in as in Envoy.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};

use super::Outcome;
use crate::abi::Status;
use crate::commons::ForeignFunction;
use crate::guest::Guest;

/// The functions that every world has.
pub(crate) fn built_in() -> BTreeMap<String, ForeignFunction> {
    let compress = |bytes: &[u8]| read(ZlibEncoder::new(bytes, Compression::default()));
    let uncompress = |bytes: &[u8]| read(ZlibDecoder::new(bytes));
    // There is one route here, so nothing to clear.
    let clear_route_cache = |_: &[u8]| Ok(Vec::new());
    let functions: [(&str, ForeignFunction); 3] = [
        ("compress", Box::new(compress)),
        ("uncompress", Box::new(uncompress)),
        ("clear_route_cache", Box::new(clear_route_cache)),
    ];
    functions.map(|(name, function)| (name.to_owned(), function)).into()
}

fn read(mut source: impl Read) -> Result<Vec<u8>, Status> {
    // A few bytes can stand for terabytes.
    const BYTES_MAX: u64 = 256 << 20;
    let mut out = Vec::new();
    source.by_ref().take(BYTES_MAX).read_to_end(&mut out).map_err(|_| Status::SerializationFailure)?;
    match source.read(&mut [0]) {
        Ok(0) => Ok(out),
        _ => Err(Status::InternalFailure),
    }
}

type ForeignArguments = (u32, u32, u32, u32, u32, u32);

/// Calls a function by name. A result is handed over only where the module has a place for it.
pub(super) async fn call_foreign_function(guest: &mut Guest<'_>, arguments: ForeignArguments) -> Outcome {
    let (name, name_length, argument, argument_length, result_at, length_at) = arguments;
    let name = String::from_utf8_lossy(&guest.bytes(name, name_length)?).into_owned();
    let argument = guest.bytes(argument, argument_length)?;
    let result = match guest.commons().foreign.get_mut(&name) {
        Some(function) => function(&argument)?,
        None => return Err(Status::NotFound.into()),
    };
    match (result_at, length_at) {
        (_, 0) => Ok(()),
        (0, length_at) => Ok(guest.write_u32(length_at, u32::try_from(result.len()).unwrap_or(u32::MAX))?),
        (result_at, length_at) => guest.give(&result, result_at, length_at).await,
    }
}
