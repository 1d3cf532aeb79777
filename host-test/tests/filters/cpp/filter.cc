// A filter in C++, against the ABI itself: answers each request with its header fields, sorted.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>

extern "C" {
uint32_t proxy_get_header_map_pairs(uint32_t map, const char **at, size_t *size);
uint32_t proxy_send_local_response(uint32_t status, const char *details, size_t details_size, const char *body,
                                   size_t body_size, const char *headers, size_t headers_size, uint32_t grpc_status);
}

struct Context {
  virtual ~Context() = default;
  virtual uint32_t request() = 0;
};

struct Stream : Context {
  uint32_t request() override {
    const char *at = nullptr;
    size_t size = 0;
    if (proxy_get_header_map_pairs(0, &at, &size) != 0 || at == nullptr) {
      return 0;
    }
    auto words = reinterpret_cast<const uint32_t *>(at);
    const char *text = at + 4 + 8 * words[0];
    std::map<std::string, std::string> fields;
    auto take = [&text](uint32_t length) {
      std::string taken(text, length);
      text += length + 1;
      return taken;
    };
    for (uint32_t i = 0; i < words[0]; i++) {
      std::string name = take(words[1 + 2 * i]);
      fields[name] = take(words[2 + 2 * i]);
    }
    free(const_cast<char *>(at));
    std::string body;
    for (auto &[name, value] : fields) {
      body += name + "=" + value + ";";
    }
    std::printf("fields: %zu\n", fields.size());
    proxy_send_local_response(200, nullptr, 0, body.data(), body.size(), nullptr, 0, -1);
    return 1;
  }
};

static std::map<uint32_t, std::unique_ptr<Context>> contexts;

#define FILTER(name) extern "C" __attribute__((export_name(#name)))

FILTER(proxy_abi_version_0_2_0) void abi() {}
FILTER(proxy_on_context_create) void create(uint32_t id, uint32_t parent) {
  if (parent != 0) {
    contexts[id] = std::make_unique<Stream>();
  }
}
FILTER(proxy_on_request_headers) uint32_t request(uint32_t id, uint32_t, uint32_t) {
  return contexts.at(id)->request();
}
FILTER(proxy_on_delete) void forget(uint32_t id) { contexts.erase(id); }
