//! The host functions of the Proxy-Wasm ABI, as `proxy-wasm-cpp-host` and Envoy answer them.

mod calls;
mod foreign;
mod grpc;
mod maps;
mod properties;
mod shared;
mod streams;
mod vm;

use wasmtime::Linker;

use crate::guest::{Fault, Guest};
use crate::vm::VmState;

/// What a host function comes to.
type Outcome = Result<(), Fault>;

/// Lists host functions: makes `OFFERED`, and `link` which gives them to a linker.
macro_rules! host_functions {
    ($($function:path as $name:literal),* $(,)?) => {
        const OFFERED: &[&str] = &[$($name),*];

        fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
            $(
                linker.func_wrap_async("env", $name, |caller, arguments| {
                    Box::new(async move {
                        let mut guest = Guest::enter(caller, $name).await?;
                        let outcome = match not_yet(&mut guest, $name) {
                            Err(fault) => Err(fault),
                            Ok(()) => $function(&mut guest, arguments).await,
                        };
                        guest.leave(outcome)
                    })
                })?;
            )*
            Ok(())
        }
    };
}

host_functions! {
    vm::log as "proxy_log",
    vm::get_log_level as "proxy_get_log_level",
    vm::get_current_time_nanoseconds as "proxy_get_current_time_nanoseconds",
    vm::set_tick_period_milliseconds as "proxy_set_tick_period_milliseconds",
    vm::set_effective_context as "proxy_set_effective_context",
    vm::done as "proxy_done",
    vm::get_configuration as "proxy_get_configuration",
    vm::get_status as "proxy_get_status",
    properties::get_property as "proxy_get_property",
    properties::set_property as "proxy_set_property",
    maps::get_header_map_value as "proxy_get_header_map_value",
    maps::get_header_map_pairs as "proxy_get_header_map_pairs",
    maps::get_header_map_size as "proxy_get_header_map_size",
    maps::set_header_map_pairs as "proxy_set_header_map_pairs",
    maps::add_header_map_value as "proxy_add_header_map_value",
    maps::replace_header_map_value as "proxy_replace_header_map_value",
    maps::remove_header_map_value as "proxy_remove_header_map_value",
    maps::get_buffer_bytes as "proxy_get_buffer_bytes",
    maps::get_buffer_status as "proxy_get_buffer_status",
    maps::set_buffer_bytes as "proxy_set_buffer_bytes",
    streams::continue_stream as "proxy_continue_stream",
    streams::close_stream as "proxy_close_stream",
    streams::continue_request as "proxy_continue_request",
    streams::continue_response as "proxy_continue_response",
    streams::clear_route_cache as "proxy_clear_route_cache",
    streams::send_local_response as "proxy_send_local_response",
    calls::http_call as "proxy_http_call",
    grpc::call as "proxy_grpc_call",
    grpc::stream as "proxy_grpc_stream",
    grpc::send as "proxy_grpc_send",
    grpc::close as "proxy_grpc_close",
    grpc::cancel as "proxy_grpc_cancel",
    shared::get_shared_data as "proxy_get_shared_data",
    shared::set_shared_data as "proxy_set_shared_data",
    shared::register_shared_queue as "proxy_register_shared_queue",
    shared::resolve_shared_queue as "proxy_resolve_shared_queue",
    shared::enqueue_shared_queue as "proxy_enqueue_shared_queue",
    shared::dequeue_shared_queue as "proxy_dequeue_shared_queue",
    shared::define_metric as "proxy_define_metric",
    shared::increment_metric as "proxy_increment_metric",
    shared::record_metric as "proxy_record_metric",
    shared::get_metric as "proxy_get_metric",
    foreign::call_foreign_function as "proxy_call_foreign_function",
}

pub(crate) use foreign::built_in as built_in_foreign_functions;

/// Functions of other kinds that compilers want from a host.
const OTHERS: &[&str] = &["pthread_equal", "emscripten_notify_memory_growth"];

/// Gives the host functions to a linker.
pub(crate) fn offer(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    link(linker)?;
    linker.func_wrap("env", "pthread_equal", |left: u32, right: u32| u32::from(left == right))?;
    linker.func_wrap("env", "emscripten_notify_memory_growth", |_: u32| ())?;
    Ok(())
}

/// Every function of this kind, in the order of the ABI.
pub(crate) fn offered() -> impl Iterator<Item = &'static str> {
    OFFERED.iter().chain(OTHERS).copied()
}

/// Whether a linker that got [`offer`] has this function.
pub(crate) fn offers(module: &str, name: &str) -> bool {
    module == "env" && (OFFERED.contains(&name) || OTHERS.contains(&name))
}

/// Refuses what may not be called yet, or what a test wants refused.
fn not_yet(guest: &mut Guest<'_>, name: &str) -> Outcome {
    if guest.vm().starting && name != "proxy_log" {
        let trap = wasmtime::Error::msg(format!("{name} may not be called before the VM has started"));
        return Err(Fault::Trap(trap));
    }
    guest.refusal().map_or(Ok(()), |status| Err(Fault::Status(status)))
}
