// A filter in Go, against the ABI itself.
package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"time"
	"unsafe"
)

//go:wasmimport env proxy_add_header_map_value
func addHeader(mapType uint32, name unsafe.Pointer, nameSize uint32, value unsafe.Pointer, valueSize uint32) uint32

//go:wasmimport env proxy_get_header_map_value
func getHeader(mapType uint32, name unsafe.Pointer, nameSize uint32, value, size unsafe.Pointer) uint32

//go:wasmexport proxy_abi_version_0_2_1
func abi() {}

var kept = map[*byte][]byte{}

//go:wasmexport proxy_on_memory_allocate
func allocate(size uint32) unsafe.Pointer {
	bytes := make([]byte, size)
	kept[&bytes[0]] = bytes
	return unsafe.Pointer(&bytes[0])
}

//go:wasmexport proxy_on_vm_start
func vmStart(context, size uint32) uint32 { return 1 }

//go:wasmexport proxy_on_configure
func configure(context, size uint32) uint32 { return 1 }

//go:wasmexport proxy_on_response_headers
func responseHeaders(context, headers, end uint32) uint32 {
	name := []byte("content-length")
	var at *byte
	var size uint32
	status := getHeader(2, unsafe.Pointer(&name[0]), uint32(len(name)), unsafe.Pointer(&at), unsafe.Pointer(&size))
	length := "none"
	if status == 0 && at != nil {
		length = string(unsafe.Slice(at, size))
		delete(kept, at)
	}
	done := make(chan string)
	go func() { done <- fmt.Sprintf("context %d, length %s, year %d", context, length, time.Now().UTC().Year()) }()
	text := []byte(<-done)
	header := []byte("x-from-go")
	addHeader(2, unsafe.Pointer(&header[0]), uint32(len(header)), unsafe.Pointer(&text[0]), uint32(len(text)))
	fmt.Fprintln(os.Stderr, "dice:", rand.IntN(6) < 6)
	return 0
}

func main() {}
