//! A filter in Zig, against the ABI itself: adds a header to every response.
const std = @import("std");

extern "env" fn proxy_add_header_map_value(
    map: u32,
    name: [*]const u8,
    name_size: usize,
    value: [*]const u8,
    value_size: usize,
) u32;

export fn proxy_abi_version_0_2_1() void {}

export fn proxy_on_memory_allocate(size: usize) ?[*]u8 {
    const bytes = std.heap.wasm_allocator.alloc(u8, size) catch return null;
    return bytes.ptr;
}

export fn proxy_on_response_headers(_: u32, _: u32, _: u32) u32 {
    const name = "x-from-zig";
    const value = "hello";
    _ = proxy_add_header_map_value(2, name, name.len, value, value.len);
    return 0;
}
