//! Small filters in WAT: callbacks are written out, imports and helpers are given.

use std::fmt::Write as _;

/// Every host function that a probe may call by its name without `proxy_`, and helpers:
///
/// * `$say text`: logs a line
/// * `$read map name`: logs a field's value, or `status N`
/// * `$note text number`: logs `text=number`
/// * `$dump map`: logs each line of a map
const PRELUDE: &str = r#"
    (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_value" (func $get_header (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_pairs" (func $get_headers (param i32 i32 i32) (result i32)))
    (import "env" "proxy_add_header_map_value" (func $add_header (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_replace_header_map_value" (func $set_header (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_header_map_pairs" (func $set_headers (param i32 i32 i32) (result i32)))
    (import "env" "proxy_remove_header_map_value" (func $remove_header (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_size" (func $size_of_headers (param i32 i32) (result i32)))
    (import "env" "proxy_get_buffer_status" (func $buffer_status (param i32 i32 i32) (result i32)))
    (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_record_metric" (func $record_metric (param i32 i64) (result i32)))
    (import "env" "proxy_get_metric" (func $get_metric (param i32 i32) (result i32)))
    (import "env" "proxy_resolve_shared_queue" (func $resolve_queue (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_buffer_bytes" (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_continue_stream" (func $resume (param i32) (result i32)))
    (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_http_call" (func $http_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_call"
        (func $grpc_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_stream" (func $grpc_stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_send" (func $grpc_send (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_close" (func $grpc_close (param i32) (result i32)))
    (import "env" "proxy_grpc_cancel" (func $grpc_cancel (param i32) (result i32)))
    (import "env" "proxy_get_status" (func $get_status (param i32 i32 i32) (result i32)))
    (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
    (import "env" "proxy_set_effective_context" (func $act_for (param i32) (result i32)))
    (import "env" "proxy_get_property" (func $get_property (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
    (import "env" "proxy_get_shared_data" (func $get_shared (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_shared_data" (func $set_shared (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_register_shared_queue" (func $register_queue (param i32 i32 i32) (result i32)))
    (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
    (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
    (import "env" "proxy_define_metric" (func $define_metric (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_increment_metric" (func $increment_metric (param i32 i64) (result i32)))
    (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_done" (func $done (result i32)))
    (import "env" "proxy_get_current_time_nanoseconds" (func $time (param i32) (result i32)))
    (import "env" "proxy_get_log_level" (func $log_level (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 16)
    (global $heap (mut i32) (i32.const 65536))
    (func (export "proxy_abi_version_0_2_1"))
    (func $malloc (export "proxy_on_memory_allocate") (param $size i32) (result i32)
        (local $at i32)
        (local.set $at (global.get $heap))
        (global.set $heap (i32.add (global.get $heap) (i32.and (i32.add (local.get $size) (i32.const 15)) (i32.const -8))))
        (if (i32.gt_u (global.get $heap) (i32.const 1000000)) (then (global.set $heap (i32.const 65536))))
        (local.get $at))
    ;; Out parameters: pointer at 0, length at 4, other words at 8.
    (func $say (param i32 i32) (drop (call $log (i32.const 2) (local.get 0) (local.get 1))))
    (func $tell (param $status i32)
        (if (local.get $status)
            (then (call $note "status" (local.get $status)))
            (else (call $say (i32.load (i32.const 0)) (i32.load (i32.const 4))))))
    (func $read (param i32 i32 i32)
        (call $tell (call $get_header (local.get 0) (local.get 1) (local.get 2) (i32.const 0) (i32.const 4))))
    (func $body (param $buffer i32)
        (i64.store (i32.const 0) (i64.const 0))
        (call $tell (call $get_buffer (local.get $buffer) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4))))
    (func $note (param $text i32) (param $length i32) (param $number i32)
        (local $at i32)
        (memory.copy (i32.const 512) (local.get $text) (local.get $length))
        (i32.store8 offset=512 (local.get $length) (i32.const 61))
        (local.set $at (i32.const 1024))
        (loop $digits
            (local.set $at (i32.sub (local.get $at) (i32.const 1)))
            (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
            (local.set $number (i32.div_u (local.get $number) (i32.const 10)))
            (br_if $digits (local.get $number)))
        (memory.copy (i32.add (i32.const 513) (local.get $length)) (local.get $at) (i32.sub (i32.const 1024) (local.get $at)))
        (call $say (i32.const 512) (i32.add (i32.add (local.get $length) (i32.const 1)) (i32.sub (i32.const 1024) (local.get $at)))))
    (func $dump (param $map i32)
        (local $status i32) (local $at i32) (local $count i32) (local $text i32) (local $name i32) (local $value i32)
        (local.set $status (call $get_headers (local.get $map) (i32.const 0) (i32.const 4)))
        (if (local.get $status) (then (call $note "status" (local.get $status)) (return)))
        (if (i32.eqz (i32.load (i32.const 4))) (then (call $say "no pairs") (return)))
        (local.set $at (i32.load (i32.const 0)))
        (local.set $count (i32.load (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 4)))
        (local.set $text (i32.add (local.get $at) (i32.mul (local.get $count) (i32.const 8))))
        (loop $lines
            (local.set $name (i32.load (local.get $at)))
            (local.set $value (i32.load offset=4 (local.get $at)))
            (memory.copy (i32.const 512) (local.get $text) (local.get $name))
            (i32.store8 offset=512 (local.get $name) (i32.const 58))
            (local.set $text (i32.add (local.get $text) (i32.add (local.get $name) (i32.const 1))))
            (memory.copy (i32.add (i32.const 513) (local.get $name)) (local.get $text) (local.get $value))
            (local.set $text (i32.add (local.get $text) (i32.add (local.get $value) (i32.const 1))))
            (call $say (i32.const 512) (i32.add (i32.add (local.get $name) (i32.const 1)) (local.get $value)))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (local.set $count (i32.sub (local.get $count) (i32.const 1)))
            (br_if $lines (local.get $count))))
    ;; A local reply of status 200 whose body is given.
    (func $answer (param i32 i32)
        (call $note "answered" (call $reply (i32.const 200) "probe" (local.get 0) (local.get 1)
            (i32.const 0) (i32.const 0) (i32.const -1))))
    ;; A callout to cluster `bridge` with a timeout of 50 ms.
    (func $call
        (call $note "call" (call $http_call "bridge" CALL_HEADERS "ask" (i32.const 0) (i32.const 0) (i32.const 50) (i32.const 8))))
"#;

const CALL_HEADERS: &[(&str, &str)] = &[(":method", "POST"), (":path", "/ask"), (":authority", "bridge")];

/// A module with these functions. A text in quotes among a call's arguments stands for its pointer and its length.
pub fn probe(functions: &str) -> Vec<u8> {
    let mut data = Data::default();
    let headers = data.place(&pairs(CALL_HEADERS));
    let source = format!("{PRELUDE}{functions}").replace("CALL_HEADERS", &headers);
    let mut out = String::from("(module");
    for line in source.lines() {
        let is_call = !line.contains("(import") && !line.contains("(export") && !line.trim_start().starts_with(";;");
        let mut parts = line.split('"');
        out.push_str(parts.next().unwrap_or_default());
        let mut inside = true;
        for part in parts {
            match (inside, is_call) {
                (true, true) => out.push_str(&data.place(part.replace("\\0", "\0").as_bytes())),
                (true, false) => write!(out, "\"{part}\"").unwrap(),
                (false, _) => out.push_str(part),
            }
            inside = !inside;
        }
        out.push('\n');
    }
    out.push_str(&data.segments);
    out.push(')');
    out.into_bytes()
}

#[derive(Default)]
struct Data {
    segments: String,
    used: usize,
}

impl Data {
    /// Puts bytes into the module's memory, and gives the constants that point there.
    fn place(&mut self, bytes: &[u8]) -> String {
        let at = 2048 + self.used;
        self.used += bytes.len();
        let text: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        writeln!(self.segments, "(data (i32.const {at}) \"{text}\")").unwrap();
        format!("(i32.const {at}) (i32.const {})", bytes.len())
    }
}

/// Pairs as the ABI lays them out.
fn pairs(pairs: &[(&str, &str)]) -> Vec<u8> {
    let word = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut out = word(pairs.len()).to_vec();
    for (name, value) in pairs {
        out.extend(word(name.len()));
        out.extend(word(value.len()));
    }
    for (name, value) in pairs {
        out.extend(format!("{name}\0{value}\0").bytes());
    }
    out
}

/// A callback that takes a context and two numbers and returns an action.
pub fn on(name: &str, body: &str) -> String {
    let parameters = match name {
        "request_headers" | "response_headers" | "request_body" | "response_body" => {
            "(param $context i32) (param $size i32) (param $end i32) (result i32)"
        }
        "request_trailers" | "response_trailers" => "(param $context i32) (param $size i32) (result i32)",
        "vm_start" | "configure" => "(param $context i32) (param $size i32) (result i32)",
        "context_create" => "(param $context i32) (param $parent i32)",
        "http_call_response" => {
            "(param $context i32) (param $token i32) (param $headers i32) (param $size i32) (param $trailers i32)"
        }
        "grpc_receive" | "grpc_close" | "grpc_receive_initial_metadata" | "grpc_receive_trailing_metadata" => {
            "(param $context i32) (param $token i32) (param $size i32)"
        }
        "queue_ready" => "(param $context i32) (param $token i32)",
        "done" => "(param $context i32) (result i32)",
        _ => "(param $context i32)",
    };
    format!("(func (export \"proxy_on_{name}\") {parameters}\n{body}\n)\n")
}
