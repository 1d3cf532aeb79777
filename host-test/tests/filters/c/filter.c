// A filter in C, against the ABI itself: greets, counts in shared data, and logs with printf.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST(name) __attribute__((import_module("env"), import_name(#name)))
#define FILTER(name) __attribute__((export_name(#name)))

HOST(proxy_add_header_map_value)
uint32_t proxy_add_header_map_value(uint32_t map, const char *name, size_t name_size, const char *value, size_t value_size);
HOST(proxy_get_header_map_value)
uint32_t proxy_get_header_map_value(uint32_t map, const char *name, size_t name_size, char **value, size_t *value_size);
HOST(proxy_get_shared_data)
uint32_t proxy_get_shared_data(const char *key, size_t key_size, char **value, size_t *value_size, uint32_t *cas);
HOST(proxy_set_shared_data)
uint32_t proxy_set_shared_data(const char *key, size_t key_size, const char *value, size_t value_size, uint32_t cas);

FILTER(proxy_abi_version_0_2_1) void abi(void) {}
FILTER(malloc) void *allocate(size_t size) { return malloc(size); }
FILTER(proxy_on_vm_start) uint32_t start(uint32_t context, uint32_t size) { return 1; }
FILTER(proxy_on_configure) uint32_t configure(uint32_t context, uint32_t size) { return 1; }
FILTER(proxy_on_context_create) void create(uint32_t context, uint32_t parent) {}

static unsigned count(void) {
  char *stored = NULL;
  size_t size = 0;
  uint32_t cas = 0;
  unsigned seen = 0;
  if (proxy_get_shared_data("count", 5, &stored, &size, &cas) == 0 && stored != NULL) {
    char text[16] = {0};
    memcpy(text, stored, size < sizeof text - 1 ? size : sizeof text - 1);
    seen = (unsigned)strtoul(text, NULL, 10);
    free(stored);
  }
  char text[16];
  int length = snprintf(text, sizeof text, "%u", seen + 1);
  proxy_set_shared_data("count", 5, text, (size_t)length, cas);
  return seen + 1;
}

FILTER(proxy_on_response_headers) uint32_t respond(uint32_t context, uint32_t headers, uint32_t end) {
  char text[32];
  int length = snprintf(text, sizeof text, "greeting %u", count());
  proxy_add_header_map_value(2, "x-from-c", 8, text, (size_t)length);
  printf("context %u: %s\n", context, text);
  fflush(stdout);
  return 0;
}
