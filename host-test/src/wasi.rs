//! WASI preview 1, as far as hosts offer it: clocks, chance, environment, arguments and output; no files.

use wasmtime::Linker;

use crate::abi::{LogLevel, Status};
use crate::guest::Guest;
use crate::vm::VmState;

/// Error numbers of WASI preview 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Errno {
    Success = 0,
    BadDescriptor = 8,
    Fault = 21,
    Invalid = 28,
    NotOffered = 52,
    NotSupported = 58,
}

impl From<Status> for Errno {
    /// Pointers are all that can be wrong on the way to the memory.
    fn from(_: Status) -> Self {
        Self::Fault
    }
}

type Outcome = Result<(), Errno>;

macro_rules! wasi_functions {
    ($($function:ident),* $(,)?) => {
        const OFFERED: &[&str] = &[$(stringify!($function)),*];

        fn link(linker: &mut Linker<VmState>, module: &str) -> wasmtime::Result<()> {
            $(
                linker.func_wrap_async(module, stringify!($function), |caller, arguments| {
                    Box::new(async move {
                        let mut guest = Guest::enter(caller, stringify!($function)).await?;
                        let answer = $function(&mut guest, arguments).err().unwrap_or(Errno::Success) as u32;
                        guest.note(answer);
                        wasmtime::Result::Ok(answer)
                    })
                })?;
            )*
            Ok(())
        }
    };
}

wasi_functions! {
    args_get, args_sizes_get, clock_res_get, clock_time_get, environ_get, environ_sizes_get, fd_close, fd_fdstat_get,
    fd_fdstat_set_flags, fd_filestat_get, fd_prestat_dir_name, fd_prestat_get, fd_read, fd_seek, fd_tell, fd_write, path_filestat_get,
    path_open, poll_oneoff, random_get, sched_yield,
}

const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// The module ends itself: a trap, but for a `_start` that says so that it has done its work.
#[derive(Debug, thiserror::Error)]
#[error("the module called proc_exit({0})")]
pub(crate) struct Exit(pub(crate) u32);

pub(crate) fn offer(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    for module in MODULES {
        link(linker, module)?;
        linker.func_wrap(module, "proc_exit", |code: u32| -> wasmtime::Result<()> { Err(Exit(code).into()) })?;
    }
    Ok(())
}

pub(crate) fn offered() -> impl Iterator<Item = &'static str> {
    OFFERED.iter().copied().chain(["proc_exit"])
}

pub(crate) fn offers(module: &str, name: &str) -> bool {
    MODULES.contains(&module) && (OFFERED.contains(&name) || name == "proc_exit")
}

fn args_get(_: &mut Guest<'_>, _: (u32, u32)) -> Outcome {
    Ok(())
}

fn args_sizes_get(guest: &mut Guest<'_>, (count_at, bytes_at): (u32, u32)) -> Outcome {
    guest.write_u32(count_at, 0)?;
    Ok(guest.write_u32(bytes_at, 0)?)
}

fn environ_get(guest: &mut Guest<'_>, (mut pointers_at, mut text_at): (u32, u32)) -> Outcome {
    let lines: Vec<String> =
        guest.vm().options.environment.iter().map(|(name, value)| format!("{name}={value}\0")).collect();
    for line in lines {
        guest.write_u32(pointers_at, text_at)?;
        guest.write(text_at, line.as_bytes())?;
        pointers_at = pointers_at.checked_add(4).ok_or(Errno::Fault)?;
        text_at = u32::try_from(line.len()).ok().and_then(|length| text_at.checked_add(length)).ok_or(Errno::Fault)?;
    }
    Ok(())
}

fn environ_sizes_get(guest: &mut Guest<'_>, (count_at, bytes_at): (u32, u32)) -> Outcome {
    let environment = &guest.vm().options.environment;
    let count = environment.len();
    let bytes: usize = environment.iter().map(|(name, value)| name.len() + value.len() + "=\0".len()).sum();
    guest.write_u32(count_at, u32::try_from(count).unwrap_or(u32::MAX))?;
    Ok(guest.write_u32(bytes_at, u32::try_from(bytes).unwrap_or(u32::MAX))?)
}

fn clock_time_get(guest: &mut Guest<'_>, (clock, _precision, time_at): (u32, u64, u32)) -> Outcome {
    let time = match clock {
        0 => guest.wall(),
        1 => guest.commons().monotonic(),
        _ => return Err(Errno::NotSupported),
    };
    Ok(guest.write_u64(time_at, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))?)
}

fn clock_res_get(guest: &mut Guest<'_>, (clock, resolution_at): (u32, u32)) -> Outcome {
    if clock > 1 {
        return Err(Errno::NotSupported);
    }
    Ok(guest.write_u64(resolution_at, 1)?)
}

/// At most 64 KiB a call, as in proxy-wasm-cpp-host.
fn random_get(guest: &mut Guest<'_>, (bytes_at, length): (u32, u32)) -> Outcome {
    const BYTES_MAX: u32 = 64 * 1024;
    if length > BYTES_MAX {
        return Err(Errno::Invalid);
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| Errno::Invalid)?];
    guest.commons().chance.fill(&mut bytes);
    Ok(guest.write(bytes_at, &bytes)?)
}

/// Standard output and error become logs; a line break at the end is left out.
fn fd_write(guest: &mut Guest<'_>, (file, slices, count, written_at): (u32, u32, u32, u32)) -> Outcome {
    let level = match file {
        1 => LogLevel::Info,
        2 => LogLevel::Error,
        _ => return Err(Errno::BadDescriptor),
    };
    let table = guest.bytes(slices, count.checked_mul(8).ok_or(Errno::Fault)?)?;
    let mut text = Vec::new();
    for slice in table.chunks_exact(8) {
        let word = |at: usize| slice[at..].first_chunk::<4>().map_or(0, |word| u32::from_le_bytes(*word));
        text.extend(guest.bytes(word(0), word(4))?);
    }
    let written = u32::try_from(text.len()).unwrap_or(u32::MAX);
    if !text.is_empty() {
        let line = String::from_utf8_lossy(&text);
        let (place, context) = (guest.place(), guest.vm().context());
        guest.commons().log(place, context, level, line.strip_suffix('\n').unwrap_or(&line));
    }
    Ok(guest.write_u32(written_at, written)?)
}

fn fd_read(_: &mut Guest<'_>, _: (u32, u32, u32, u32)) -> Outcome {
    Err(Errno::NotOffered)
}

fn fd_seek(_: &mut Guest<'_>, _: (u32, i64, u32, u32)) -> Outcome {
    Ok(())
}

fn fd_tell(_: &mut Guest<'_>, _: (u32, u32)) -> Outcome {
    Err(Errno::NotOffered)
}

fn fd_close(_: &mut Guest<'_>, _: (u32,)) -> Outcome {
    Ok(())
}

/// Output may be written; nothing else is there.
fn fd_fdstat_get(guest: &mut Guest<'_>, (file, stat_at): (u32, u32)) -> Outcome {
    const RIGHTS_FD_WRITE: u64 = 64;
    if file != 1 && file != 2 {
        return Err(Errno::BadDescriptor);
    }
    let words = [0, RIGHTS_FD_WRITE, 0].map(u64::to_le_bytes);
    Ok(guest.write(stat_at, words.as_flattened())?)
}

fn fd_fdstat_set_flags(_: &mut Guest<'_>, _: (u32, u32)) -> Outcome {
    Err(Errno::NotOffered)
}

fn fd_filestat_get(_: &mut Guest<'_>, _: (u32, u32)) -> Outcome {
    Err(Errno::NotOffered)
}

/// There are no opened folders.
fn fd_prestat_get(_: &mut Guest<'_>, _: (u32, u32)) -> Outcome {
    Err(Errno::BadDescriptor)
}

fn fd_prestat_dir_name(_: &mut Guest<'_>, _: (u32, u32, u32)) -> Outcome {
    Err(Errno::NotOffered)
}

fn path_open(_: &mut Guest<'_>, _: (u32, u32, u32, u32, u32, u64, u64, u32, u32)) -> Outcome {
    Err(Errno::NotOffered)
}

fn path_filestat_get(_: &mut Guest<'_>, _: (u32, u32, u32, u32, u32)) -> Outcome {
    Err(Errno::NotOffered)
}

fn poll_oneoff(_: &mut Guest<'_>, _: (u32, u32, u32, u32)) -> Outcome {
    Err(Errno::NotOffered)
}

fn sched_yield(_: &mut Guest<'_>, (): ()) -> Outcome {
    Ok(())
}
