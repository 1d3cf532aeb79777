//! A compiled module, linked to the host functions, from which VMs are made.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use wasmtime::{
    Cache, CacheConfig, Config, Engine, Extern, ExternType, FuncType, Instance, InstancePre, Linker, Memory, Module,
    Ref, Store, Table, Val, ValType,
};

use crate::abi::{AbiVersion, Status};
#[cfg(unix)]
use crate::stacks::Stacks;
use crate::vm::VmState;
use crate::{BuildError, hostcalls, wasi};

/// Where compiled modules are kept between runs; the user's cache folder if unset. Empty: nowhere.
const CACHE_VARIABLE: &str = "PROXY_WASM_HOST_TEST_CACHE";

/// A filter that is ready to run.
#[derive(Clone)]
pub(crate) struct Filter {
    module: Module,
    linked: Linked,
    pub(crate) abi: AbiVersion,
    /// Imports that this host doesn't offer, as `module.name`; they answer `Unimplemented`.
    pub(crate) unoffered: Vec<String>,
}

/// A module with what it imports.
#[derive(Clone)]
enum Linked {
    Whole(InstancePre<VmState>),
    /// All but the memories and tables, which each VM gets of its own (as V8 gives them in Envoy).
    ButMemories(Linker<VmState>),
}

impl Filter {
    pub(crate) fn engine(&self) -> &Engine {
        self.module.engine()
    }

    /// What the module imports, as `module.name`; twice if it does so.
    #[cfg(feature = "serve")]
    pub(crate) fn imports(&self) -> impl Iterator<Item = String> {
        self.module.imports().map(|import| format!("{}.{}", import.module(), import.name()))
    }

    /// A new instance, and its memory, whether it exports or imports it.
    pub(crate) async fn instantiate(&self, store: &mut Store<VmState>) -> wasmtime::Result<(Instance, Option<Memory>)> {
        let mut imported = None;
        let instance = match &self.linked {
            Linked::Whole(instance) => instance.instantiate_async(&mut *store).await?,
            Linked::ButMemories(linker) => {
                let mut linker = linker.clone();
                for import in self.module.imports() {
                    let item: Extern = match import.ty() {
                        ExternType::Memory(kind) => {
                            let memory = Memory::new_async(&mut *store, kind).await?;
                            imported = Some(memory);
                            memory.into()
                        }
                        ExternType::Table(kind) => {
                            Table::new_async(&mut *store, kind.clone(), Ref::null(kind.element().heap_type()))
                                .await?
                                .into()
                        }
                        _ => continue,
                    };
                    linker.define(&*store, import.module(), import.name(), item)?;
                }
                linker.instantiate_async(&mut *store, &self.module).await?
            }
        };
        let memory = instance.get_memory(store, "memory").or(imported);
        Ok((instance, memory))
    }

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
        let abi = AbiVersion::MARKERS.into_iter().find_map(marker).ok_or_else(|| other_abi(&module))?;
        let is_wide = |kind: ExternType| matches!(kind, ExternType::Memory(memory) if memory.is_64());
        if module.exports().any(|export| is_wide(export.ty())) || module.imports().any(|import| is_wide(import.ty())) {
            return Err(BuildError::Memory64);
        }
        let mut linker = Linker::new(engine());
        // Some compilers import one function twice.
        linker.allow_shadowing(true);
        hostcalls::offer(&mut linker).and_then(|()| wasi::offer(&mut linker)).map_err(BuildError::Link)?;
        let mut unoffered = stand_in(&mut linker, &module).map_err(BuildError::Link)?;
        let own =
            |import: wasmtime::ImportType<'_>| matches!(import.ty(), ExternType::Memory(_) | ExternType::Table(_));
        let linked = if module.imports().any(own) {
            Linked::ButMemories(linker)
        } else {
            let instance = match linker.instantiate_pre(&module) {
                Ok(instance) => instance,
                Err(_) => {
                    unoffered.extend(stand_in_for_others(&mut linker, &module).map_err(BuildError::Link)?);
                    linker.instantiate_pre(&module).map_err(BuildError::Link)?
                }
            };
            Linked::Whole(instance)
        };
        Ok(Self { module, linked, abi, unoffered })
    }
}

fn other_abi(module: &Module) -> BuildError {
    let marker = module.exports().find(|export| export.name().starts_with("proxy_abi_version_"));
    marker.map_or(BuildError::NoAbi, |marker| BuildError::OtherAbi(marker.name().to_owned()))
}

/// Gives imports that nobody offers a function that says so.
fn stand_in(linker: &mut Linker<VmState>, module: &Module) -> wasmtime::Result<Vec<String>> {
    let mut unoffered = Vec::new();
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let ExternType::Func(kind) = import.ty() else { continue };
        if (from, name) == ("env", "abort") {
            abort(linker, kind)?;
        } else if !hostcalls::offers(from, name) && !wasi::offers(from, name) {
            say_unimplemented(linker, from, name, kind)?;
            unoffered.push(format!("{from}.{name}"));
        }
    }
    Ok(unoffered)
}

/// Gives imports that are offered with other parameters or results a function that says so.
fn stand_in_for_others(linker: &mut Linker<VmState>, module: &Module) -> wasmtime::Result<Vec<String>> {
    let mut unoffered = Vec::new();
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let ExternType::Func(kind) = import.ty() else { continue };
        let list = |word: &str, types: Vec<ValType>| -> String {
            types.iter().map(|kind| format!("({word} {kind})")).collect()
        };
        let (parameters, results) = (list("param", kind.params().collect()), list("result", kind.results().collect()));
        let alone = format!("(module (import {from:?} {name:?} (func {parameters} {results})))");
        if linker.instantiate_pre(&Module::new(engine(), alone)?).is_err() {
            say_unimplemented(linker, from, name, kind)?;
            unoffered.push(format!("{from}.{name}"));
        }
    }
    Ok(unoffered)
}

/// Ends the module: AssemblyScript gives pointers to a message and a file name (UTF-16), line and column, others give nothing.
fn abort(linker: &mut Linker<VmState>, kind: FuncType) -> wasmtime::Result<()> {
    linker.func_new("env", "abort", kind, |_, arguments, _| {
        let place: Vec<String> = arguments.iter().skip(2).filter_map(Val::i32).map(|word| word.to_string()).collect();
        let at = if place.is_empty() { String::new() } else { format!(" at {}", place.join(":")) };
        Err(wasmtime::Error::msg(format!("the module aborted{at}")))
    })?;
    Ok(())
}

fn say_unimplemented(linker: &mut Linker<VmState>, from: &str, name: &str, kind: FuncType) -> wasmtime::Result<()> {
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
    Ok(())
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.consume_fuel(true);
        config.coredump_on_trap(true);
        // Without a cache everything works, only slower.
        config.cache(cache());
        #[cfg(unix)]
        config.with_host_stack(std::sync::Arc::new(Stacks::default()));
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
