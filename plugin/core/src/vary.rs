//! Several responses for one key (RFC 9111 §4.1): [`Variants`], which stands under the key itself and says which fields
//! of a request select among them, and which there are.
//!
//! A variant's own key is the key with the values of the selecting fields behind it, so that comparing keys compares
//! selecting fields. Responses may name different fields: the fields are those that any has named, and a new one makes
//! all earlier variants unreachable. That asks too often, and never answers with what was made for another request.

use std::cmp::Reverse;

use crate::entry::Entry;
use crate::fields::Fields;
use crate::key::CacheKey;
use crate::order::sorted_set;
use crate::wire::{Reader, put_len, put_text};

/// Variants of one key that can be reached; of more, the oldest can't.
pub const VARIANTS_MAX: usize = 32;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variants {
    /// In lower case, sorted.
    names: Vec<Vec<u8>>,
    /// Hashes of the variants' keys, the oldest first.
    keys: Vec<u64>,
}

impl Variants {
    /// What an entry says of variants; `None` when it is a response itself.
    #[must_use]
    pub fn of(entry: &Entry) -> Option<Self> {
        if entry.status() != 0 {
            return None;
        }
        let mut reader = Reader::new(entry.body());
        let names = (0..reader.len()?).map(|_| reader.text().map(<[u8]>::to_vec)).collect::<Option<_>>()?;
        let keys = (0..reader.len()?).map(|_| reader.u64()).collect::<Option<_>>()?;
        Some(Self { names, keys })
    }

    /// Where the response that `request` selects is stored; `None` when there is none, or its key would be too long.
    #[must_use]
    pub fn select(&self, base: &CacheKey, request: &Fields<'_>, normalize: &[String]) -> Option<CacheKey> {
        self.key(base, request, normalize).filter(|key| self.keys.contains(&key.hash()))
    }

    /// Where the response that `request` selects is stored, if there is one; `None` when its key would be too long.
    #[must_use]
    pub fn key(&self, base: &CacheKey, request: &Fields<'_>, normalize: &[String]) -> Option<CacheKey> {
        base.with_values(self.names.iter().map(|name| {
            let name = std::str::from_utf8(name).unwrap_or_default();
            (name, selecting_value(request, name, normalize))
        }))
    }

    /// Where a new response is to be stored, and what then stands under the key itself; `None` when that is the response,
    /// since no field selects. The inner `None`: its key would be too long.
    #[must_use]
    pub fn with(
        known: Option<Self>,
        base: &CacheKey,
        request: &Fields<'_>,
        response: &Fields<'_>,
        normalize: &[String],
    ) -> Option<Option<(Self, CacheKey)>> {
        let mut variants = known.unwrap_or_default();
        let before = variants.names.len();
        variants.names.extend(response.list("vary").map(<[u8]>::to_ascii_lowercase));
        variants.names = sorted_set(variants.names);
        if variants.names.is_empty() {
            return None;
        }
        if variants.names.len() > before {
            variants.keys.clear();
        }
        Some(variants.key(base, request, normalize).map(|key| {
            variants.keys.retain(|known| *known != key.hash());
            variants.keys.push(key.hash());
            if variants.keys.len() > VARIANTS_MAX {
                variants.keys.remove(0);
            }
            (variants, key)
        }))
    }

    /// These variants and those that the group knows of; where the fields differ, those of the longer list: a list only
    /// ever grows.
    #[must_use]
    pub fn merged(self, mut group: Self) -> Self {
        if self.names != group.names {
            return if self.names.len() > group.names.len() { self } else { group };
        }
        group.keys.retain(|key| !self.keys.contains(key));
        group.keys.extend(self.keys);
        let excess = group.keys.len().saturating_sub(VARIANTS_MAX);
        group.keys.drain(..excess);
        group
    }

    /// As an entry's body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let written = put_len(&mut out, self.names.len())
            .and_then(|()| self.names.iter().try_for_each(|name| put_text(&mut out, name)))
            .and_then(|()| put_len(&mut out, self.keys.len()));
        self.keys.iter().for_each(|key| out.extend(key.to_le_bytes()));
        written.map_or_else(Vec::new, |()| out)
    }
}

/// The value by which a request selects: its lines as one list, without the space around members (§4.1); for fields of
/// preferences that the rule names, the preferences in one order and spelling.
#[must_use]
pub fn selecting_value(request: &Fields<'_>, name: &str, normalize: &[String]) -> Option<Vec<u8>> {
    let value = request.joined(name)?;
    if normalize.iter().any(|known| known == name) {
        return Some(preferences(&value));
    }
    if value.contains(&b'"') {
        return Some(value); // a comma may be inside the quotes
    }
    let members: Vec<&[u8]> = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).collect();
    Some(members.join(&b','))
}

/// `de, EN;q=0.5, fr` as `de,fr,en;q=0.5`: what is liked equally has no order (RFC 9110 §12.4.2).
fn preferences(value: &[u8]) -> Vec<u8> {
    let lower = value.to_ascii_lowercase();
    let members: Vec<(Reverse<u32>, Vec<u8>)> = lower
        .split(|byte| *byte == b',')
        .filter_map(|member| {
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let range = parts.next().filter(|range| !range.is_empty())?;
            let weight = parts.find_map(|part| part.strip_prefix(b"q=")).map_or(1000, weight);
            let mut text = range.to_vec();
            if weight != 1000 {
                text.extend_from_slice(b";q=");
                text.extend_from_slice(weight.to_string().as_bytes());
            }
            Some((Reverse(weight), text))
        })
        .collect();
    sorted_set(members).into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(&b',')
}

/// A weight in thousandths (RFC 9110 §12.4.2); what can't be read is 1, as if it weren't there.
fn weight(text: &[u8]) -> u32 {
    let (whole, fraction) = match text {
        [whole @ (b'0' | b'1')] => (*whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', fraction @ ..] if fraction.len() <= 3 => (*whole, fraction),
        _ => return 1000,
    };
    if whole == b'1' || !fraction.iter().all(u8::is_ascii_digit) {
        return 1000;
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |byte| u32::from(byte.wrapping_sub(b'0')));
    digit(0).saturating_mul(100).saturating_add(digit(1).saturating_mul(10)).saturating_add(digit(2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields<'a>(lines: &[(&'a str, &'a str)]) -> Fields<'a> {
        Fields::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect())
    }

    fn base() -> CacheKey {
        CacheKey::for_tests("svc:v1 r http GET h k ")
    }

    fn add(known: Option<Variants>, request: &[(&str, &str)], vary: &str) -> (Variants, CacheKey) {
        Variants::with(known, &base(), &fields(request), &fields(&[("vary", vary)]), &[]).unwrap().unwrap()
    }

    #[test]
    fn a_response_without_vary_stands_under_the_key_itself() {
        assert_eq!(Variants::with(None, &base(), &fields(&[]), &fields(&[]), &[]), None);
    }

    /// RFC 9111 §4.1.
    #[test]
    fn each_request_selects_its_own_variant_and_an_absent_field_is_a_value_of_its_own() {
        let (variants, german) = add(None, &[("accept-language", "de")], "Accept-Language");
        let (variants, none) = add(Some(variants), &[], "accept-language");
        let select = |lines: &[(&str, &str)]| variants.select(&base(), &fields(lines), &[]);
        assert_eq!(select(&[("Accept-Language", "de"), ("x", "y")]), Some(german));
        assert_eq!(select(&[("x", "y")]), Some(none));
        assert_eq!(select(&[("accept-language", "fr")]), None);
        assert_eq!(select(&[("accept-language", "")]), None);
    }

    #[test]
    fn a_field_that_a_later_response_names_selects_among_all_of_them() {
        let (variants, _) = add(None, &[("a", "1"), ("b", "1")], "a");
        let (variants, key) = add(Some(variants), &[("a", "1"), ("b", "2")], "b");
        assert_eq!(variants.select(&base(), &fields(&[("a", "1"), ("b", "2")]), &[]), Some(key));
        assert_eq!(variants.select(&base(), &fields(&[("a", "1"), ("b", "1")]), &[]), None);
    }

    /// C13.
    #[test]
    fn the_oldest_of_too_many_variants_can_not_be_reached() {
        let mut variants = None;
        for number in 0..100 {
            variants = Some(add(variants, &[("a", &number.to_string())], "a").0);
        }
        let variants = variants.unwrap();
        let held = |number: usize| variants.select(&base(), &fields(&[("a", &number.to_string())]), &[]).is_some();
        assert_eq!((0..100).filter(|number| held(*number)).count(), VARIANTS_MAX);
        assert!(held(99) && !held(0));
        assert_eq!(variants.clone().merged(variants.clone()), variants);
    }

    #[test]
    fn what_two_gateways_know_of_variants_comes_together() {
        let (german, one) = add(None, &[("a", "de")], "a");
        let (french, two) = add(None, &[("a", "fr")], "a");
        let both = german.clone().merged(french);
        assert_eq!(both.select(&base(), &fields(&[("a", "de")]), &[]), Some(one));
        assert_eq!(both.select(&base(), &fields(&[("a", "fr")]), &[]), Some(two));
        let (wider, _) = add(None, &[("a", "de")], "a, b");
        assert_eq!(german.clone().merged(wider.clone()), wider);
        assert_eq!(wider.clone().merged(german), wider);
        assert_eq!(Variants::default().merged(wider.clone()), wider);
    }

    #[test]
    fn equal_lists_select_the_same() {
        let value = |name: &str, lines: &[(&str, &str)], normalize: &[String]| {
            String::from_utf8(selecting_value(&fields(lines), name, normalize).unwrap()).unwrap()
        };
        for (one, two) in [("1, 2", "1,2"), (" 1 ,2 ", "1,2")] {
            assert_eq!(value("foo", &[("foo", one)], &[]), value("foo", &[("foo", two)], &[]));
        }
        assert_eq!(value("foo", &[("foo", "1"), ("foo", "2")], &[]), "1,2");
        assert_eq!(value("foo", &[("foo", "\"a, b\"")], &[]), "\"a, b\"");
        let language = ["accept-language".to_owned()];
        let normal = |text| value("accept-language", &[("accept-language", text)], &language);
        for (text, normalised) in [
            ("en, de", "de,en"),
            ("DE,eN", "de,en"),
            ("en;q=0.5, de", "de,en;q=500"),
            ("de ; q=1.0, en;q=0.50", "de,en;q=500"),
            ("de, fr;q=0", "de,fr;q=0"),
            ("de,, de", "de"),
            ("de;q=x", "de"),
        ] {
            assert_eq!(normal(text), normalised, "{text}");
        }
        assert_ne!(value("accept-language", &[("accept-language", "en, de")], &[]), "de,en", "by option only");
    }

    proptest! {
        /// C7: no two sets of selecting values have one key.
        #[test]
        fn different_values_have_different_keys(
            one in prop::collection::vec(prop::option::of("[a-c=& %,]{0,4}"), 2),
            two in prop::collection::vec(prop::option::of("[a-c=& %,]{0,4}"), 2),
        ) {
            let key = |values: &[Option<String>]| {
                let lines: Vec<_> = ["a", "b"].iter().zip(values).filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
                let request = fields(&lines);
                let selecting = ["a", "b"].map(|name| selecting_value(&request, name, &[]));
                (selecting, add(None, &lines, "a, b").1)
            };
            let ((one, one_key), (two, two_key)) = (key(&one), key(&two));
            prop_assert_eq!(one == two, one_key == two_key);
        }

        #[test]
        fn no_bytes_make_the_readers_panic(value: Vec<u8>) {
            let normalize = ["a".to_owned()];
            let _ = selecting_value(&Fields::from_pairs(vec![(b"a", &value)]), "a", &normalize);
        }
    }
}
