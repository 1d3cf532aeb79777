//! Rules, as files and as gateways hand them over.

use routecache_config::{load_json, load_yaml};

use crate::{Target, texts};

pub(crate) const TARGETS: &[Target] = &[
    Target::new("rules-json", json, || {
        vec![br#"{"version":1,"ttl":{"a":"5s"},"routes":[{"name":"r","match":{"path":"/{id}"},"cache":{"key":"{id}"}}]}"#.to_vec(), vec![0x0a, 0x10, 0x0a, 0x07, b'v', b'e', b'r', b's', b'i', b'o', b'n', 0x12, 0x05, 0x11, 0, 0, 0, 0]]
    }),
    Target::new("rules-yaml", yaml, || {
        texts(&[
            include_str!("../../gateway-config/examples/rest-shop.yaml"),
            include_str!("../../gateway-config/examples/users-and-orders.yaml"),
        ])
    }),
];

fn json(bytes: &[u8]) {
    let _ = load_json(bytes, &|_| None).map_err(|mistakes| mistakes.to_string());
}

fn yaml(bytes: &[u8]) {
    match load_yaml(&String::from_utf8_lossy(bytes), "rules.yaml", &|_| None) {
        Ok(loaded) => {
            let _ = (loaded.expanded(), loaded.lint(&|_| None));
        }
        Err(mistakes) => drop(mistakes.to_string()),
    }
}
