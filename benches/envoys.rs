//! Envoys to measure ours next to.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// Envoy's own cache, in memory.
pub fn http_cache() -> Value {
    json!({
        "name": "envoy.filters.http.cache",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.cache.v3.CacheConfig",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.http.cache.simple_http_cache.v3.SimpleHttpCacheConfig" },
        },
    })
}

/// A route to the origin.
pub fn forward() -> Value {
    json!({ "match": { "prefix": "/" }, "route": { "cluster": "origin" } })
}

/// An Envoy with these filters in front of one route.
pub fn bootstrap(listen: SocketAddr, admin: SocketAddr, origin: SocketAddr, route: &Value, filters: &[Value]) -> Value {
    let socket =
        |at: SocketAddr| json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } });
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
    });
    let filters: Vec<&Value> = filters.iter().chain([&router]).collect();
    json!({
        "admin": { "address": socket(admin) },
        "static_resources": {
            "listeners": [{
                "address": socket(listen),
                "filter_chains": [{ "filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "bench",
                        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] },
                        "http_filters": filters,
                    },
                }] }],
            }],
            "clusters": [{
                "name": "origin",
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": "origin",
                    "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(origin) } }] }],
                },
            }],
        },
    })
}
