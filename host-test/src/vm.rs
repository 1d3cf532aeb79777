//! One VM: an instance of the filter with its contexts, and the way into it.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Func, Instance, Memory, Store, TypedFunc, Val, WasmCoreDump};

use crate::Headers;
use crate::abi::{AbiVersion, Direction, LogLevel, Status};
use crate::commons::{Effect, Failing, Place, SharedCommons};
use crate::dialect::{Dialect, FailurePolicy};
use crate::filter::Filter;
use crate::grpc::{Handle, Part, Tokens};
use crate::laws::Law;
use crate::memory::Bounds;
use crate::stream::{LocalResponse, Stream};
use crate::trace::{Callback, HostCall};
use crate::trap;
use crate::wasi::Exit;

/// Every function of a module that is ever called, in the order of its life.
pub(crate) const CALLED: &[&str] = &[
    "_initialize",
    "main",
    "_start",
    "proxy_on_context_create",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_queue_ready",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_http_call_response",
    "proxy_on_grpc_receive_initial_metadata",
    "proxy_on_grpc_receive",
    "proxy_on_grpc_receive_trailing_metadata",
    "proxy_on_grpc_close",
    "proxy_on_log",
    "proxy_on_done",
    "proxy_on_delete",
];

/// The callback of this name.
pub(crate) fn callback(name: &str) -> Option<&'static str> {
    CALLED.iter().copied().find(|one| *one == name && name.starts_with("proxy_on_"))
}

/// Names a VM of a world; one that replaces another has another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VmKey(pub(crate) u64);

/// How all VMs of a world are set up.
#[derive(Clone, Debug)]
pub(crate) struct VmOptions {
    pub(crate) vm_id: String,
    pub(crate) vm_configuration: Vec<u8>,
    pub(crate) root_id: String,
    pub(crate) plugin_name: String,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) log_level: LogLevel,
    /// What responses say in `server`.
    pub(crate) server_name: &'static str,
    /// What one callback may cost before it traps.
    pub(crate) fuel_max: u64,
    /// What one callback should cost at most, and what a VM's memory should grow to at most.
    pub(crate) fuel_budget: u64,
    pub(crate) memory_budget: usize,
    /// Statuses that break no law.
    pub(crate) expected_statuses: Vec<Status>,
    /// Where core dumps go, if they are wanted.
    pub(crate) core_dumps: Option<PathBuf>,
    /// What a VM's memory may grow to, in bytes.
    pub(crate) memory_max: usize,
    /// What a paused body may hold, in bytes.
    pub(crate) buffer_max: usize,
    pub(crate) interleave: bool,
    pub(crate) dialect: Dialect,
    pub(crate) failure_policy: FailurePolicy,
    /// Envoy's `allow_on_headers_stop_iteration`.
    pub(crate) body_callbacks_while_headers_paused: bool,
}

impl Default for VmOptions {
    fn default() -> Self {
        Self {
            vm_id: String::new(),
            vm_configuration: Vec::new(),
            root_id: String::new(),
            plugin_name: String::new(),
            environment: Vec::new(),
            properties: BTreeMap::new(),
            log_level: LogLevel::Info,
            server_name: "envoy",
            fuel_max: 10_000_000_000,
            fuel_budget: 1_000_000_000,
            memory_budget: 256 << 20,
            expected_statuses: Vec::new(),
            core_dumps: None,
            memory_max: 1 << 30,
            buffer_max: 1 << 20,
            interleave: false,
            dialect: Dialect::ENVOY,
            failure_policy: FailurePolicy::Closed,
            body_callbacks_while_headers_paused: false,
        }
    }
}

/// What a callout brought; `None` fields in an [`Outcome`](Option) mean that it was reset.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallResponse {
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Headers,
}

/// A root context: one plugin configuration in this VM.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) configuration: Arc<[u8]>,
    /// Whether the configuration may be read now.
    pub(crate) configuring: bool,
    pub(crate) tick: Option<Duration>,
    /// What the callback that runs now is told about.
    pub(crate) call: Option<CallResponse>,
    /// The gRPC calls and streams that are open, by token, and what the running callback is told of one.
    pub(crate) grpc: BTreeMap<u32, Handle>,
    pub(crate) grpc_part: Option<Part>,
    /// What `proxy_get_status` tells while a callout's failure or a gRPC status is told: the number and the words.
    pub(crate) status: Option<(u32, String)>,
    /// Replaced by a newer configuration; deleted once its last stream has gone.
    pub(crate) retired: bool,
    /// `proxy_on_done` said "not yet".
    pub(crate) closing: bool,
}

/// What is done once the callback that asked for it has returned.
#[derive(Debug)]
pub(crate) enum Deferred {
    Resume(u32, Direction),
    Reset(u32),
    Reply(u32, LocalResponse),
    RootDone(u32),
}

/// What host functions work on.
pub(crate) struct VmState {
    pub(crate) key: VmKey,
    pub(crate) place: Place,
    pub(crate) options: Arc<VmOptions>,
    pub(crate) commons: SharedCommons,
    pub(crate) abi: AbiVersion,
    pub(crate) memory: Option<Memory>,
    pub(crate) malloc: Option<TypedFunc<u32, u32>>,
    pub(crate) roots: BTreeMap<u32, Root>,
    pub(crate) streams: BTreeMap<u32, Stream>,
    /// The callback that runs.
    pub(crate) callback: &'static str,
    /// Its context, and the one that it chose to act for.
    pub(crate) current: u32,
    pub(crate) effective: Option<u32>,
    pub(crate) deferred: VecDeque<Deferred>,
    /// Envoy's `stop_iteration_`: one flag for the VM, whichever stream was answered.
    pub(crate) stop_iteration: bool,
    /// Before the VM has started, only logs, clocks and the like may be called.
    pub(crate) starting: bool,
    /// Whether the gateway ends: what goes wrong then harms nobody.
    pub(crate) stopping: bool,
    pub(crate) host_calls: Vec<HostCall>,
    /// Bytes that went between host and module in the running callback.
    pub(crate) copied_bytes: usize,
    /// How many calls of the module's allocator are under way, each within another.
    pub(crate) allocating: usize,
    pub(crate) tokens: Tokens,
    /// Whether its memory was found too large.
    over_budget: bool,
    pub(crate) bounds: Bounds,
}

impl VmState {
    /// The context that a host function acts for.
    pub(crate) fn context(&self) -> u32 {
        self.effective.filter(|context| self.has(*context)).unwrap_or(self.current)
    }

    pub(crate) fn has(&self, context: u32) -> bool {
        self.streams.contains_key(&context) || self.roots.contains_key(&context)
    }

    /// The root context behind the one that a host function acts for.
    pub(crate) fn root_id(&self) -> u32 {
        let context = self.context();
        self.streams.get(&context).map_or(context, |stream| stream.root)
    }
}

/// What came of a call into the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    /// The module doesn't export such a function.
    Absent,
    /// The VM has failed, now or before.
    Failed,
    /// It returned this (0 if nothing), and a local reply to any stream was asked for (`stop`).
    Returned { value: u32, stop: bool },
}

pub(crate) struct Vm {
    pub(crate) store: Store<VmState>,
    instance: Instance,
    exports: BTreeMap<&'static str, Option<Func>>,
    /// The root context of new streams.
    pub(crate) root: u32,
    next_context: u32,
    pub(crate) failed: bool,
    /// Streams whose last callbacks are due.
    pub(crate) ending: VecDeque<u32>,
}

impl Vm {
    /// Makes an instance and runs `_initialize` (and `main`) or `_start`, whichever it has.
    pub(crate) async fn new(
        filter: Filter,
        key: VmKey,
        place: Place,
        options: Arc<VmOptions>,
        commons: SharedCommons,
    ) -> wasmtime::Result<Self> {
        let bounds = Bounds::new(options.memory_max, commons.clone());
        let state = VmState {
            key,
            place,
            options,
            commons,
            abi: filter.abi,
            memory: None,
            malloc: None,
            roots: BTreeMap::new(),
            streams: BTreeMap::new(),
            callback: "",
            current: 0,
            effective: None,
            deferred: VecDeque::new(),
            stop_iteration: false,
            starting: true,
            stopping: false,
            host_calls: Vec::new(),
            copied_bytes: 0,
            allocating: 0,
            tokens: Tokens::default(),
            over_budget: false,
            bounds,
        };
        let mut store = Store::new(filter.engine(), state);
        store.limiter(|state| &mut state.bounds);
        store.set_fuel(store.data().options.fuel_max)?;
        let (instance, memory) = filter.instantiate(&mut store).await?;
        store.data_mut().memory = memory;
        let malloc = ["malloc", "proxy_on_memory_allocate"]
            .into_iter()
            .find_map(|name| instance.get_typed_func::<u32, u32>(&mut store, name).ok());
        store.data_mut().malloc = malloc;
        let (exports, next_context) = (BTreeMap::new(), 1);
        let mut vm = Self { store, instance, exports, root: 0, next_context, failed: false, ending: VecDeque::new() };
        if vm.state().malloc.is_none() {
            vm.fail("the module exports neither malloc nor proxy_on_memory_allocate", false);
        }
        if vm.export("_initialize").is_some() {
            vm.call("_initialize", &[]).await;
            vm.call("main", &[0, 0]).await;
        } else {
            vm.call("_start", &[]).await;
        }
        vm.state().starting = false;
        Ok(vm)
    }

    pub(crate) fn state(&mut self) -> &mut VmState {
        self.store.data_mut()
    }

    pub(crate) fn stream(&mut self, context: u32) -> Option<&mut Stream> {
        self.state().streams.get_mut(&context)
    }

    /// What the module's memory has grown to; it never shrinks.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.store.data().memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.state().commons.lock().effects.push(effect);
    }

    pub(crate) fn new_context(&mut self) -> u32 {
        let context = self.next_context;
        self.next_context += 1;
        context
    }

    fn export(&mut self, name: &'static str) -> Option<Func> {
        let (instance, store) = (&self.instance, &mut self.store);
        *self.exports.entry(name).or_insert_with(|| instance.get_func(store, name))
    }

    /// Calls an exported function, with as many of the arguments as it takes: older versions of the ABI have fewer.
    pub(crate) async fn call(&mut self, name: &'static str, arguments: &[u32]) -> Called {
        debug_assert!(CALLED.contains(&name), "{name} isn't listed");
        if self.failed {
            return Called::Failed;
        }
        self.note_context(name, arguments);
        let Some(function) = self.export(name) else { return Called::Absent };
        let place = self.state().place;
        let crash = self.state().commons.lock().crash(place, name);
        if crash == Some(Failing::Trap) {
            self.fail(&format!("{name} trapped, as the test wants it"), true);
            return Called::Failed;
        }
        let kind = function.ty(&self.store);
        let parameters: Vec<Val> =
            arguments.iter().take(kind.params().len()).map(|word| Val::I32(word.cast_signed())).collect();
        let mut results = vec![Val::I32(0); kind.results().len()];
        let no_fuel = crash == Some(Failing::NoFuel);
        let fuel_max = if no_fuel { 0 } else { self.state().options.fuel_max };
        let state = self.state();
        state.current = arguments.first().copied().unwrap_or(0);
        state.callback = name;
        state.effective = None;
        state.bounds.denied = false;
        state.host_calls.clear();
        state.copied_bytes = 0;
        state.allocating = 0;
        let at = state.commons.lock().clock.now();
        // Only engines without fuel refuse this.
        let _ = self.store.set_fuel(fuel_max);
        let outcome = function.call_async(&mut self.store, &parameters, &mut results).await;
        let fuel = fuel_max.saturating_sub(self.store.get_fuel().unwrap_or(0));
        let returned = outcome.as_ref().ok().and_then(|()| results.first()).and_then(Val::i32).map(i32::cast_unsigned);
        let state = self.state();
        let Place { gateway, thread } = state.place;
        let host_calls = std::mem::take(&mut state.host_calls);
        let arguments = arguments.to_vec();
        let callback = Callback { at, gateway, thread, name, arguments, returned, host_calls, fuel };
        state.commons.lock().trace.record(callback);
        let stop = std::mem::take(&mut state.stop_iteration);
        self.check_budgets(name, fuel);
        match outcome {
            Err(end) if self.state().starting && end.downcast_ref::<Exit>().is_some_and(|exit| exit.0 == 0) => {
                Called::Returned { value: 0, stop }
            }
            Ok(()) => Called::Returned { value: returned.unwrap_or(0), stop },
            Err(trap) => {
                self.dump_core(&trap);
                let state = self.state();
                let wanted = no_fuel || state.bounds.denied || state.stopping;
                self.fail(&format!("{name} {}", trap::words(&trap, fuel_max)), wanted);
                Called::Failed
            }
        }
    }

    /// Keeps the books for [`Law::ContextsDeletedOnce`].
    fn note_context(&mut self, name: &str, arguments: &[u32]) {
        let (place, vm) = (self.state().place, self.state().key);
        let Some(&context) = arguments.first() else { return };
        let mut commons = self.state().commons.lock();
        if name == "proxy_on_context_create" {
            let is_stream = arguments.get(1).is_some_and(|parent| *parent != 0);
            commons.contexts.insert((vm, context), is_stream);
        } else if name == "proxy_on_delete" && commons.contexts.remove(&(vm, context)).is_none() {
            commons.violation(place, Law::ContextsDeletedOnce, format!("context {context} was deleted twice"));
        }
    }

    /// A VM that has failed deletes nothing any more.
    fn forget_contexts(&mut self) {
        let vm = self.state().key;
        self.state().commons.lock().contexts.retain(|(of, _), _| *of != vm);
    }

    fn check_budgets(&mut self, name: &str, fuel: u64) {
        let bytes = self.memory_bytes();
        let state = self.state();
        let (fuel_budget, memory_budget) = (state.options.fuel_budget, state.options.memory_budget);
        let mut commons = state.commons.lock();
        if fuel > fuel_budget {
            let detail = format!("{name} took {fuel} fuel, with a budget of {fuel_budget}");
            commons.violation(state.place, Law::FuelWithinBudget, detail);
        }
        if bytes > memory_budget && !state.over_budget {
            state.over_budget = true;
            let detail = format!("after {name} the memory has {bytes} bytes, with a budget of {memory_budget}");
            commons.violation(state.place, Law::MemoryWithinBudget, detail);
        }
    }

    /// Writes what wasmtime kept of the trap, where that is wanted.
    fn dump_core(&mut self, trap: &wasmtime::Error) {
        let Some(folder) = self.state().options.core_dumps.clone() else { return };
        let Some(dump) = trap.downcast_ref::<WasmCoreDump>() else { return };
        let (place, key) = (self.state().place, self.state().key);
        let bytes = dump.serialize(&mut self.store, "filter");
        let file = folder.join(format!("core-{}-{}.wasm", place.gateway, key.0));
        let said = match std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, bytes)) {
            Ok(()) => format!("core dump: {}", file.display()),
            Err(cause) => format!("cannot write a core dump to {}: {cause}", file.display()),
        };
        self.state().commons.lock().log(place, 0, LogLevel::Critical, said);
    }

    /// Marks the VM as failed: nothing in it runs any more. It breaks a law unless a test `wanted` it.
    fn fail(&mut self, why: &str, wanted: bool) {
        self.failed = true;
        self.forget_contexts();
        let state = self.state();
        let (place, context) = (state.place, state.current);
        let mut commons = state.commons.lock();
        commons.log(place, context, LogLevel::Critical, why);
        if !wanted {
            // The log has the rest.
            commons.violation(place, Law::NoTrap, why.lines().next().unwrap_or_default());
        }
    }
}
