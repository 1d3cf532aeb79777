//! What a request may hold. Everything else that the bridge keeps is bounded by these and by the store's budget.

use crate::Error;

/// Bytes of a namespace.
pub const NAMESPACE_BYTES_MAX: usize = 128;
/// Bytes of a cache key.
pub const KEY_BYTES_MAX: usize = 8 << 10;
/// Bytes of a tag.
pub const TAG_BYTES_MAX: usize = 512;
/// Tags of one call.
pub const TAGS_MAX: usize = 256;
/// How long a feed call is held at most, in milliseconds; a longer wish is cut to it.
pub const HOLD_MS_MAX: u64 = 30_000;
/// How long a gateway may trust what it holds without hearing the feed, at most, in milliseconds; a longer time is cut.
pub const WINDOW_MS_MAX: u64 = 60_000;
/// Gateways of a group that purges may wait for. While there are more, they wait out a window.
pub const LISTENERS_MAX: usize = 512;
/// How long anything is kept at most, in milliseconds: a week. A longer wish is cut to it.
pub const KEEP_MS_MAX: u64 = 7 * 24 * 3600 * 1000;
/// How long a lease lasts at most, in milliseconds; a longer wish is cut to it.
pub const LEASE_MS_MAX: u64 = 5 * 60 * 1000;
/// How long it is remembered at most that a key's answers can't be stored, in milliseconds; a longer wish is cut to it.
pub const PASS_MS_MAX: u64 = 3600 * 1000;
/// Purges that one feed answer holds at most.
pub const FEED_RECORDS_MAX: usize = 512;
/// Bytes of tags that one feed answer holds at most, if it has more than one purge.
pub const FEED_BYTES_MAX: usize = 128 << 10;
/// Purges that a group's log keeps; a gateway that is further behind flushes.
pub const LOG_RECORDS_MAX: usize = 10_000;
/// Entries that a dry run looks at.
pub const LISTED_MAX: u64 = 10_000;
/// Bytes of a key of the applications' key space.
pub const NAME_BYTES_MAX: usize = 1024;
/// Purges by pattern that are remembered; what is older than a forgotten one counts as purged.
pub const BANS_MAX: usize = 256;
/// Patterns of one call.
pub const PATTERNS_MAX: usize = 32;
/// Bytes of a pattern.
pub const PATTERN_BYTES_MAX: usize = 512;
/// Purges after a ticket that a store call reads, to prove that an absent epoch may be as old as the ticket.
pub const PROOF_RECORDS_MAX: usize = 1000;

/// A namespace is part of Redis keys, where `{` and `}` choose the cluster slot, so it has neither.
pub(crate) fn check_namespace(namespace: &str) -> Result<(), Error> {
    if namespace.len() > NAMESPACE_BYTES_MAX {
        let message = format!("the namespace has {} bytes, at most {NAMESPACE_BYTES_MAX} are taken", namespace.len());
        return Err(Error::Malformed(message));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if namespace.is_empty() || !namespace.bytes().all(allowed) {
        let message = format!("namespace {namespace:?} has other characters than A-Z a-z 0-9 . _ : - or none at all");
        return Err(Error::Malformed(message));
    }
    Ok(())
}

pub(crate) fn check_key(key: &str) -> Result<(), Error> {
    if key.is_empty() {
        return Err(Error::Malformed("the key is empty".to_owned()));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(too_large("the key", key.len(), KEY_BYTES_MAX));
    }
    Ok(())
}

/// A key of the applications' key space, or a glob over them.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::Malformed("the key is empty".to_owned()));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(too_large("the key", name.len(), NAME_BYTES_MAX));
    }
    Ok(())
}

pub(crate) fn check_tags(tags: &[String]) -> Result<(), Error> {
    if tags.len() > TAGS_MAX {
        return Err(Error::TooLarge(format!(
            "{} tags are named, at most {TAGS_MAX} are taken in one call",
            tags.len()
        )));
    }
    match tags.iter().find(|tag| tag.len() > TAG_BYTES_MAX) {
        Some(tag) => Err(too_large("a tag", tag.len(), TAG_BYTES_MAX)),
        None => Ok(()),
    }
}

fn too_large(what: &str, bytes: usize, max: usize) -> Error {
    Error::TooLarge(format!("{what} has {bytes} bytes, at most {max} are taken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_can_not_choose_its_slot_or_another_namespaces_keys() {
        for good in ["shop:v3", "a", "A-b_c.9", &"x".repeat(NAMESPACE_BYTES_MAX)] {
            assert!(check_namespace(good).is_ok(), "{good}");
        }
        for bad in ["", "{a}", "a}b", "a b", "a*", "a/b", "a\n", "ä", &"x".repeat(NAMESPACE_BYTES_MAX + 1)] {
            assert!(check_namespace(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_bound_holds_to_the_byte() {
        assert!(check_key(&"k".repeat(KEY_BYTES_MAX)).is_ok());
        assert!(matches!(check_key(&"k".repeat(KEY_BYTES_MAX + 1)), Err(Error::TooLarge(_))));
        assert!(matches!(check_key(""), Err(Error::Malformed(_))));
        assert!(check_tags(&vec!["t".repeat(TAG_BYTES_MAX); TAGS_MAX]).is_ok());
        assert!(matches!(check_tags(&["t".repeat(TAG_BYTES_MAX + 1)]), Err(Error::TooLarge(_))));
        assert!(matches!(check_tags(&vec![String::new(); TAGS_MAX + 1]), Err(Error::TooLarge(_))));
    }
}
