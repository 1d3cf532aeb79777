//! Targeted cache control (RFC 9213): `CDN-Cache-Control` and fields like it, which speak to some caches only and, where
//! they are there, in place of `Cache-Control` and `Expires`. And `Surrogate-Control`, their ancestor.

use crate::cache_control::{CacheControl, directives};
use crate::cache_status::CACHE_NAME;
use crate::fields::Fields;
use crate::structured::{Member, dictionary};

/// The field of the Edge Architecture Specification (W3C Note, 2001), for origins that still send it. It isn't a
/// structured field.
pub const SURROGATE_CONTROL: &str = "surrogate-control";

/// What the response says to this cache: the first of the `targeted` fields that is there and can be read, else none.
#[must_use]
pub fn control(fields: &Fields<'_>, targeted: &[String]) -> Option<CacheControl> {
    targeted.iter().find_map(|name| match name.as_str() {
        SURROGATE_CONTROL => surrogate(fields),
        name => structured(&fields.joined(name)?),
    })
}

/// RFC 9213 §2.1: a Dictionary whose keys are the cache directives. One that isn't a Dictionary, or that is empty, is
/// ignored as a whole (§2.2), and `Cache-Control` counts. What a directive was given counts if it is of its kind (§2.1).
fn structured(value: &[u8]) -> Option<CacheControl> {
    let directives = dictionary(value).filter(|directives| !directives.is_empty())?;
    let mut control = CacheControl { said: true, ..CacheControl::default() };
    for (name, argument) in &directives {
        let counts_seconds = matches!(*name, "max-age" | "s-maxage" | "stale-if-error" | "stale-while-revalidate");
        match argument {
            Member::Flag(true) if !counts_seconds => control.add(name.as_bytes(), None),
            // A negative count is no count of seconds, and reads as 0.
            Member::Integer(seconds) => control.add(name.as_bytes(), Some(seconds.to_string().as_bytes())),
            _ => {}
        }
    }
    Some(control)
}

/// `max-age=60+30;target, no-store`. A directive may be for one surrogate alone, which it names behind a semicolon; it is
/// ours if that is how we call ourselves in `Surrogate-Capability`.
fn surrogate(fields: &Fields<'_>) -> Option<CacheControl> {
    let mut control = CacheControl::default();
    for line in fields.all(SURROGATE_CONTROL) {
        for member in line.split(|byte| *byte == b',') {
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let directive = parts.next().unwrap_or_default();
            if parts.any(|target| !target.is_empty() && target != CACHE_NAME.as_bytes()) {
                continue;
            }
            for (name, argument) in directives(directive) {
                // What follows the `+` is how long it may be served stale, without a reason; we ask for one.
                let argument = argument.map(|argument| argument.split(|byte| *byte == b'+').next().unwrap_or_default());
                let lifetime = name.eq_ignore_ascii_case(b"max-age");
                if lifetime || name.eq_ignore_ascii_case(b"no-store") {
                    control.add(name, argument);
                }
            }
        }
    }
    control.said.then_some(control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::DeltaSeconds;

    fn read(lines: &[(&str, &str)], targeted: &[&str]) -> Option<CacheControl> {
        let pairs = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        control(&Fields::from_pairs(pairs), &targeted.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    fn max_age(value: &str) -> Option<u32> {
        read(&[("cdn-cache-control", value)], &["cdn-cache-control"])?.max_age.map(DeltaSeconds::as_secs)
    }

    /// RFC 9213 §2.1 and §2.2.
    #[test]
    fn a_targeted_field_is_read_as_a_structured_field_or_not_at_all() {
        for (value, seconds) in [
            ("max-age=60", Some(60)),
            ("foobar, max-age=60;x=1", Some(60)),
            ("max-age=60, max-age=5", Some(5)),
            ("max-age=2147483649", Some(1 << 31)),
            ("max-age=-1", Some(0)),
            ("max-age=60, &&&", None),
            ("max-age =60", None),
            ("max-age= 60", None),
            ("Max-Age=60", None),
            ("max-age=\"60\"", None),
            ("max-age=60.5", None),
            ("max-age", None),
            ("max-age=(1 2)", None),
            ("", None),
        ] {
            assert_eq!(max_age(value), seconds, "{value}");
        }
    }

    #[test]
    fn the_first_field_of_the_list_that_can_be_read_counts_over_all_its_lines() {
        let lines = [("cdn-cache-control", "no-store"), ("our-control", "private"), ("our-control", "max-age=5")];
        let found = read(&lines, &["our-control", "cdn-cache-control"]).unwrap();
        assert!(found.private && !found.no_store && found.max_age == Some(DeltaSeconds::saturating(5)));
        assert!(read(&lines, &["absent", "cdn-cache-control"]).unwrap().no_store);
        assert_eq!(read(&[("our-control", "=")], &["our-control"]), None);
        assert!(!read(&[("our-control", "no-store=?0, x")], &["our-control"]).unwrap().no_store);
    }

    #[test]
    fn surrogate_control_is_ours_unless_it_names_another() {
        for (value, seconds) in [
            ("max-age=60", Some(60)),
            ("MaX-aGe=60+30, content=\"ESI/1.0\"", Some(60)),
            ("max-age=60;routecache", Some(60)),
            ("max-age=60;other, max-age=5", Some(5)),
            ("max-age=60;other", None),
            ("no-store-remote", None),
        ] {
            let found = read(&[("surrogate-control", value)], &["surrogate-control"]);
            assert_eq!(found.and_then(|found| found.max_age).map(DeltaSeconds::as_secs), seconds, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(value: Vec<u8>) {
            let fields = Fields::from_pairs(vec![(b"surrogate-control", &value), (b"cdn-cache-control", &value)]);
            let names = ["surrogate-control".to_owned(), "cdn-cache-control".to_owned()];
            let _ = control(&fields, &names);
            let _ = control(&fields, &names[1..]);
        }
    }
}
