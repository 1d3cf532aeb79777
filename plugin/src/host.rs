//! The host's functions, as this filter uses them: no panic whatever the host answers, bytes instead of strings, and one
//! allocation where the SDK's wrappers make one for every header line. Only HTTP calls go through the SDK, which has to
//! know their tokens.
//!
//! All `unsafe` of the filter is here.
#![expect(unsafe_code, reason = "the one place where the ABI is spoken; the rest of the crate forbids it")]

use std::cell::Cell;
use std::time::Duration;

/// What a host function answers; 0 is success (proxy-wasm ABI 0.2.1, `proxy_status_t`).
type Status = i32;
const OK: Status = 0;
const CAS_MISMATCH: Status = 8;

/// `proxy_map_type_t`.
#[derive(Clone, Copy)]
pub enum Map {
    Request = 0,
    Response = 2,
    CallResponse = 6,
}

/// `proxy_buffer_type_t`.
#[derive(Clone, Copy)]
pub enum Buffer {
    RequestBody = 0,
    ResponseBody = 1,
    CallResponseBody = 4,
    PluginConfiguration = 7,
}

/// `proxy_stream_type_t`.
#[derive(Clone, Copy)]
pub enum Direction {
    Request = 0,
    Response = 1,
}

/// `proxy_log_level_t`.
#[derive(Clone, Copy)]
pub enum Level {
    Info = 2,
    Warn = 3,
    Error = 4,
}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: i32, text: *const u8, len: usize) -> Status;
    fn proxy_get_header_map_pairs(map: i32, data: *mut *mut u8, len: *mut usize) -> Status;
    fn proxy_add_header_map_value(
        map: i32,
        name: *const u8,
        name_len: usize,
        value: *const u8,
        value_len: usize,
    ) -> Status;
    fn proxy_replace_header_map_value(
        map: i32,
        name: *const u8,
        name_len: usize,
        value: *const u8,
        value_len: usize,
    ) -> Status;
    fn proxy_remove_header_map_value(map: i32, name: *const u8, name_len: usize) -> Status;
    fn proxy_set_header_map_pairs(map: i32, data: *const u8, len: usize) -> Status;
    fn proxy_set_buffer_bytes(buffer: i32, start: usize, max: usize, data: *const u8, len: usize) -> Status;
    fn proxy_get_buffer_bytes(buffer: i32, start: usize, max: usize, data: *mut *mut u8, len: *mut usize) -> Status;
    fn proxy_get_property(path: *const u8, path_len: usize, data: *mut *mut u8, len: *mut usize) -> Status;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_len: usize,
        body: *const u8,
        body_len: usize,
        header: *const u8,
        header_len: usize,
        grpc_status: i32,
    ) -> Status;
    fn proxy_continue_stream(direction: i32) -> Status;
    fn proxy_set_effective_context(context: u32) -> Status;
    fn proxy_set_tick_period_milliseconds(period: u32) -> Status;
    fn proxy_get_shared_data(
        key: *const u8,
        key_len: usize,
        data: *mut *mut u8,
        len: *mut usize,
        cas: *mut u32,
    ) -> Status;
    fn proxy_set_shared_data(key: *const u8, key_len: usize, data: *const u8, len: usize, cas: u32) -> Status;
    fn proxy_register_shared_queue(name: *const u8, name_len: usize, queue: *mut u32) -> Status;
    fn proxy_enqueue_shared_queue(queue: u32, data: *const u8, len: usize) -> Status;
    fn proxy_dequeue_shared_queue(queue: u32, data: *mut *mut u8, len: *mut usize) -> Status;
    fn proxy_define_metric(kind: i32, name: *const u8, name_len: usize, number: *mut u32) -> Status;
    fn proxy_increment_metric(number: u32, by: i64) -> Status;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u16;
}

/// Writes to the gateway's log.
pub fn log(level: Level, text: &str) {
    // SAFETY: the text outlives the call; the host only reads it.
    unsafe { proxy_log(level as i32, text.as_ptr(), text.len()) };
}

/// Milliseconds of the machine's monotonic clock: the same for all VMs of a gateway, unlike its start. 0 if the host has
/// none.
pub fn monotonic_ms() -> u64 {
    clock_ms(1)
}

/// Milliseconds since 1970 by the wall clock. 0 if the host has none.
pub fn wall_ms() -> u64 {
    clock_ms(0)
}

fn clock_ms(clock: u32) -> u64 {
    let mut nanoseconds = 0;
    // SAFETY: the host writes one u64 to a place that outlives the call.
    unsafe { clock_time_get(clock, 1_000_000, &raw mut nanoseconds) };
    nanoseconds.checked_div(1_000_000).unwrap_or_default()
}

/// Calls a host function that returns bytes which it let this module allocate; `None` on any error.
fn returned(call: impl FnOnce(*mut *mut u8, *mut usize) -> Status) -> Option<Vec<u8>> {
    let (mut data, mut len) = (std::ptr::null_mut(), 0_usize);
    if call(&raw mut data, &raw mut len) != OK {
        return None;
    }
    if data.is_null() {
        return Some(Vec::new());
    }
    // SAFETY: the host got these bytes from `proxy_on_memory_allocate`, which makes a boxed slice of exactly `len` bytes,
    // and gives them up by returning them.
    Some(unsafe { Vec::from_raw_parts(data, len, len) })
}

/// A whole header map, as [`routecache_core::fields::Fields`] reads it; `None` outside its phase.
pub fn header_map(map: Map) -> Option<Vec<u8>> {
    // SAFETY: the host writes to the two places only.
    returned(|data, len| unsafe { proxy_get_header_map_pairs(map as i32, data, len) })
}

/// Adds a header line; does nothing outside the map's phase.
pub fn add_header(map: Map, name: &str, value: &str) {
    // SAFETY: both texts outlive the call; the host only reads them.
    unsafe { proxy_add_header_map_value(map as i32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// Makes a header field this one line, whatever it was; does nothing outside the map's phase.
pub fn replace_header(map: Map, name: &str, value: &[u8]) {
    // SAFETY: both texts outlive the call; the host only reads them.
    unsafe { proxy_replace_header_map_value(map as i32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// Removes every line of a header field; does nothing outside the map's phase.
pub fn remove_header(map: Map, name: &[u8]) {
    // SAFETY: the name outlives the call; the host only reads it.
    unsafe { proxy_remove_header_map_value(map as i32, name.as_ptr(), name.len()) };
}

/// Makes a header map this one, serialised as [`header_map`] gives it; false outside the map's phase.
pub fn set_header_map(map: Map, header: &[u8]) -> bool {
    // SAFETY: the header outlives the call; the host only reads it.
    unsafe { proxy_set_header_map_pairs(map as i32, header.as_ptr(), header.len()) == OK }
}

/// Puts these bytes in the place of all that a buffer holds.
pub fn set_buffer(buffer: Buffer, bytes: &[u8]) {
    // SAFETY: the bytes outlive the call; the host only reads them.
    unsafe { proxy_set_buffer_bytes(buffer as i32, 0, usize::MAX, bytes.as_ptr(), bytes.len()) };
}

/// The first `max` bytes of a buffer; `None` outside its phase.
pub fn buffer(buffer: Buffer, max: usize) -> Option<Vec<u8>> {
    // SAFETY: the host writes to the two places only.
    returned(|data, len| unsafe { proxy_get_buffer_bytes(buffer as i32, 0, max, data, len) })
}

/// A property; `None` where the host doesn't know it.
pub fn property(path: &[&str]) -> Option<Vec<u8>> {
    let path = path.join("\0");
    // SAFETY: the path outlives the call; the host writes to the two places only.
    returned(|data, len| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, len) })
}

/// Answers the current stream. `header` is a serialised map without pseudo-headers. False if the host refused.
pub fn send_response(status: u16, details: &str, header: &[u8], body: &[u8]) -> bool {
    // SAFETY: all texts outlive the call; the host only reads them.
    let answer = unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            header.as_ptr(),
            header.len(),
            -1,
        )
    };
    answer == OK
}

/// Lets the current stream go on in one direction.
pub fn resume(direction: Direction) {
    // SAFETY: no pointers.
    unsafe { proxy_continue_stream(direction as i32) };
}

/// Makes another stream of this VM the current one. False if it is gone.
pub fn become_context(context: u32) -> bool {
    // SAFETY: no pointers.
    unsafe { proxy_set_effective_context(context) == OK }
}

/// Has `on_tick` called so often; in milliseconds.
pub fn set_tick_period(period: Duration) {
    let period = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: no pointers.
    unsafe { proxy_set_tick_period_milliseconds(period) };
}

/// A value of shared data as it was read.
pub struct Shared {
    /// Empty and absent are the same: keys can't be deleted, so an empty value is how one is emptied.
    pub value: Vec<u8>,
    /// What [`shared_set`] must be given to change this very value.
    pub version: u32,
}

impl Shared {
    /// Whether there is such a key, if only with an empty value.
    pub fn exists(&self) -> bool {
        self.version != ABSENT
    }
}

/// A version that no value has. Where the key is absent, Envoy inserts it whatever the version, so that this is "insert
/// if absent"; hosts that compare exactly (ngx_wasm_module) take [`NEVER_WRITTEN`] for that (facts: hosts §1).
const ABSENT: u32 = u32::MAX;
const NEVER_WRITTEN: u32 = 0;

/// Whether this host compares versions exactly; found out once, by asking it to insert under [`ABSENT`].
fn compares_exactly() -> bool {
    const KEY: &str = "routecache/1/versions";
    thread_local!(static EXACTLY: Cell<Option<bool>> = const { Cell::new(None) });
    EXACTLY.with(|known| {
        known.get().unwrap_or_else(|| {
            // A refusal is this host's way, unless another VM was here before.
            let exactly = set_version(KEY, b"any", ABSENT) != Swap::Done && shared_get(KEY).value != b"any";
            known.set(Some(exactly));
            exactly
        })
    })
}

/// Reads shared data.
pub fn shared_get(key: &str) -> Shared {
    let mut version = 0;
    // SAFETY: the key outlives the call; the host writes to the three places only.
    let value =
        returned(|data, len| unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), data, len, &raw mut version) });
    match value {
        Some(value) if version != 0 => Shared { value, version },
        _ => Shared { value: Vec::new(), version: ABSENT },
    }
}

/// What became of a [`shared_set`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// The value is there.
    Done,
    /// Somebody else changed it since it was read.
    Raced,
    /// The host refused.
    Refused,
}

/// Changes shared data if it still has the version that was read.
pub fn shared_set(key: &str, value: &[u8], version: u32) -> Swap {
    let exactly = version == ABSENT && compares_exactly();
    set_version(key, value, if exactly { NEVER_WRITTEN } else { version })
}

fn set_version(key: &str, value: &[u8], version: u32) -> Swap {
    // SAFETY: both texts outlive the call; the host only reads them.
    match unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), version) } {
        OK => Swap::Done,
        CAS_MISMATCH => Swap::Raced,
        _ => Swap::Refused,
    }
}

/// Makes a key with an empty value, unless there is one.
pub fn shared_insert(key: &str) {
    shared_set(key, &[], ABSENT);
}

/// Registers a queue whose messages come to the current root context.
pub fn register_queue(name: &str) -> Option<u32> {
    let mut queue = 0;
    // SAFETY: the name outlives the call; the host writes to one place only.
    let answer = unsafe { proxy_register_shared_queue(name.as_ptr(), name.len(), &raw mut queue) };
    (answer == OK).then_some(queue)
}

/// Puts a message into a queue. False if the host refused.
pub fn ring(queue: u32, message: &[u8]) -> bool {
    // SAFETY: the message outlives the call; the host only reads it.
    unsafe { proxy_enqueue_shared_queue(queue, message.as_ptr(), message.len()) == OK }
}

/// Takes a message out of a queue; `None` when it is empty.
pub fn answer_ring(queue: u32) -> Option<Vec<u8>> {
    // SAFETY: the host writes to the two places only.
    returned(|data, len| unsafe { proxy_dequeue_shared_queue(queue, data, len) })
}

/// Defines a counter (`proxy_metric_type_t` 0); `None` where the host has no metrics.
pub fn define_counter(name: &str) -> Option<u32> {
    let mut number = 0;
    // SAFETY: the name outlives the call; the host writes to one place only.
    let answer = unsafe { proxy_define_metric(0, name.as_ptr(), name.len(), &raw mut number) };
    (answer == OK).then_some(number)
}

/// Counts one more.
pub fn count(counter: u32) {
    // SAFETY: no pointers.
    unsafe { proxy_increment_metric(counter, 1) };
}
