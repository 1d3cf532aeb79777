//! A compiled module, linked to the host functions, from which VMs are made.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use wasmtime::{Cache, CacheConfig, Config, Engine, ExternType, InstancePre, Linker, Module, Val, ValType};

use crate::abi::{AbiVersion, Status};
use crate::vm::VmState;
use crate::{BuildError, hostcalls, wasi};

/// Where compiled modules are kept between runs; the user's cache folder if unset. Empty: nowhere.
const CACHE_VARIABLE: &str = "PROXY_WASM_HOST_TEST_CACHE";

/// A filter that is ready to run.
#[derive(Clone)]
pub(crate) struct Filter {
    pub(crate) instance: InstancePre<VmState>,
    pub(crate) abi: AbiVersion,
    /// Imports that this host doesn't offer, as `module.name`; they answer `Unimplemented`.
    pub(crate) unoffered: Vec<String>,
}

impl Filter {
    /// Compiles and links; the same bytes are compiled once in a process, and once on a machine while they stay in the cache.
    pub(crate) fn load(bytes: &[u8]) -> Result<Self, BuildError> {
        static LOADED: OnceLock<Mutex<HashMap<Vec<u8>, Filter>>> = OnceLock::new();
        // Held while compiling, so that ten tests of one filter compile it once.
        let mut loaded = LOADED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = loaded.get(bytes) {
            return Ok(filter.clone());
        }
        let filter = Self::compile(bytes)?;
        loaded.insert(bytes.to_vec(), filter.clone());
        Ok(filter)
    }

    fn compile(bytes: &[u8]) -> Result<Self, BuildError> {
        let module = Module::new(engine(), bytes).map_err(BuildError::Compile)?;
        let marker = |(name, version): (&str, AbiVersion)| module.get_export(name).map(|_| version);
        let abi = AbiVersion::MARKERS.into_iter().find_map(marker).ok_or(BuildError::NoAbi)?;
        let mut linker = Linker::new(engine());
        // Some compilers import one function twice.
        linker.allow_shadowing(true);
        hostcalls::offer(&mut linker).and_then(|()| wasi::offer(&mut linker)).map_err(BuildError::Link)?;
        let unoffered = stand_in(&mut linker, &module).map_err(BuildError::Link)?;
        let instance = linker.instantiate_pre(&module).map_err(BuildError::Link)?;
        Ok(Self { instance, abi, unoffered })
    }
}

/// Gives imports that nobody offers a function that says so.
fn stand_in(linker: &mut Linker<VmState>, module: &Module) -> wasmtime::Result<Vec<String>> {
    let mut unoffered = Vec::new();
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let ExternType::Func(kind) = import.ty() else { continue };
        if hostcalls::offers(from, name) || wasi::offers(from, name) {
            continue;
        }
        const NOT_IMPLEMENTED_IN_WASI: i32 = 52;
        let answer = if from.starts_with("wasi") { NOT_IMPLEMENTED_IN_WASI } else { Status::Unimplemented as i32 };
        let results: Vec<ValType> = kind.results().collect();
        linker.func_new(from, name, kind, move |_, _, out| {
            for (place, result) in out.iter_mut().zip(&results) {
                *place = match result {
                    ValType::I32 => Val::I32(answer),
                    other => Val::default_for_ty(other).unwrap_or(Val::I32(answer)),
                };
            }
            Ok(())
        })?;
        unoffered.push(format!("{from}.{name}"));
    }
    Ok(unoffered)
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.consume_fuel(true);
        // Without a cache everything works, only slower.
        config.cache(cache());
        Engine::new(&config).expect("wasmtime runs on this machine with these options")
    })
}

fn cache() -> Option<Cache> {
    let mut config = CacheConfig::new();
    if let Some(folder) = std::env::var_os(CACHE_VARIABLE) {
        if folder.is_empty() {
            return None;
        }
        config.with_directory(PathBuf::from(folder));
    }
    Cache::new(config).ok()
}
