//! Sealing: what the group gives for a key was put there under this key by a gateway of the group ([`Seals`]).
//!
//! Otherwise whoever can write to the group's store can have a gateway serve anything. A sealed entry is
//!
//! ```text
//! "rcs1" id of the secret │ seal │ position era wall │ the entry's bytes
//! ```
//!
//! where the seal is HMAC-SHA-256 over namespace, key and tags, and over all that stands behind it. What the group says
//! besides can't be sealed by who stores; so the entry says itself under which position of the group's log it began, and
//! when it was sealed. Both can only make it older than the group says: see [`Made::resident_ms`] and
//! [`crate::purge_table::PurgeTable::as_of`].

use crate::gateway_log::GroupPosition;
use crate::hmac::{Hmac, same};
use crate::planted::planted;
use crate::wire::Reader;

/// The last byte is the version.
const MARK: &[u8; 4] = b"rcs1";

const ID_BYTES: usize = 8;
const SEAL_BYTES: usize = 32;

/// Where that begins which the seal vouches for.
const SEALED_AT: usize = MARK.len() + ID_BYTES + SEAL_BYTES;

/// What stands between the seal and the entry: five numbers.
const MADE_BYTES: usize = 40;

/// Bytes of a secret; fewer could be guessed.
const SECRET_BYTES_MIN: usize = 32;

/// How far the wall clocks of two gateways may differ, in milliseconds. An entry that is older by them seems older than it
/// is; one that somebody put back seems younger by this at most.
pub const CLOCKS_APART_MS: u64 = 5 * 60 * 1000;

/// The secrets of the rules: the first seals, any opens. None: nothing is sealed, and any seal is taken off unread.
#[derive(Default)]
pub struct Seals {
    secrets: Vec<Secret>,
    /// What isn't sealed is taken too: for as long as not every gateway seals.
    pub accept_unsealed: bool,
}

/// What seals.
pub struct Secret {
    id: [u8; ID_BYTES],
    hmac: Hmac,
}

/// Where an entry belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Prefix and version.
    pub namespace: &'a str,
    /// The whole cache key.
    pub key: &'a str,
    /// All its tags, in the order in which the group keeps them.
    pub tags: &'a [String],
}

/// Under what an entry was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// The position of the group's log under which its fill began.
    pub at: GroupPosition,
    /// The log's era.
    pub era: u64,
    /// When it was sealed, in milliseconds of the wall clock of the gateway that did.
    pub wall_ms: u64,
}

/// An entry out of its seal.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'p> {
    /// Its bytes.
    pub entry: &'p [u8],
    /// What the seal vouches for; none where nothing does.
    pub made: Option<Made>,
}

/// Why an entry isn't opened. It is a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It isn't sealed.
    Unsealed,
    /// It is sealed with a secret that these rules don't have.
    UnknownSecret,
    /// It isn't what was sealed, or was sealed for another place.
    Broken,
}

impl Secret {
    /// Reads at least 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut secret = Vec::new();
        for pair in text.as_bytes().chunks(2) {
            let [high, low] = pair else { return None };
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            secret.push(digit(*high)? << 4 | digit(*low)?);
        }
        (secret.len() >= SECRET_BYTES_MIN).then_some(())?;
        let hmac = Hmac::new(&secret);
        let name = hmac.of_parts(&[b"routecache secret"]);
        Some(Self { id: *name.first_chunk()?, hmac })
    }

    fn seal(&self, place: &Place<'_>, sealed: &[u8]) -> [u8; SEAL_BYTES] {
        let mut parts = vec![&b"routecache entry"[..], place.namespace.as_bytes(), place.key.as_bytes()];
        for tag in place.tags {
            parts.push(tag.as_bytes());
        }
        parts.push(sealed); // known to be the last, so that no tag passes for it
        self.hmac.of_parts(&parts)
    }
}

impl Made {
    /// How long ago it was sealed at least, in milliseconds, at `wall_ms` of this gateway's wall clock. The group says how
    /// long it has had the entry, and may be made to say less.
    #[must_use]
    pub fn resident_ms(&self, wall_ms: u64) -> u64 {
        wall_ms.saturating_sub(self.wall_ms).saturating_sub(CLOCKS_APART_MS)
    }
}

impl Seals {
    /// These secrets, of which the first seals.
    #[must_use]
    pub fn new(secrets: Vec<Secret>, accept_unsealed: bool) -> Self {
        Self { secrets, accept_unsealed }
    }

    /// Whether anything is sealed.
    #[must_use]
    pub fn are_on(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// The entry as it is handed to the group: sealed, if anything is.
    #[must_use]
    pub fn close(&self, place: &Place<'_>, made: &Made, entry: Vec<u8>) -> Vec<u8> {
        let Some(secret) = self.secrets.first() else { return entry };
        let mut out = Vec::with_capacity(entry.len().saturating_add(SEALED_AT.saturating_add(MADE_BYTES)));
        out.extend_from_slice(MARK);
        out.extend_from_slice(&secret.id);
        out.extend_from_slice(&[0; SEAL_BYTES]);
        for number in [made.at.ms, made.at.seq, made.at.unique, made.era, made.wall_ms] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&entry);
        if let Some((head, sealed)) = out.split_at_mut_checked(SEALED_AT)
            && let Some(seal) = head.last_chunk_mut()
        {
            *seal = secret.seal(place, sealed);
        }
        out
    }

    /// The entry that the group has for a place.
    ///
    /// # Errors
    ///
    /// [`Unopened`].
    pub fn open<'p>(&self, place: &Place<'_>, payload: &'p [u8]) -> Result<Opened<'p>, Unopened> {
        let Some(sealed) = payload.strip_prefix(MARK) else {
            let taken = !self.are_on() || self.accept_unsealed || planted("seal_unverified");
            return if taken { Ok(Opened { entry: payload, made: None }) } else { Err(Unopened::Unsealed) };
        };
        let mut reader = Reader::new(sealed);
        self.read(place, &mut reader, sealed).unwrap_or(Err(Unopened::Broken))
    }

    /// `None` if it is cut short.
    fn read<'p>(
        &self,
        place: &Place<'_>,
        reader: &mut Reader<'_>,
        payload: &'p [u8],
    ) -> Option<Result<Opened<'p>, Unopened>> {
        let id = reader.take(ID_BYTES)?;
        let seal = reader.take(SEAL_BYTES)?;
        let sealed = payload.get(reader.at..)?;
        let at = GroupPosition { ms: reader.u64()?, seq: reader.u64()?, unique: reader.u64()? };
        let made = Made { at, era: reader.u64()?, wall_ms: reader.u64()? };
        let entry = payload.get(reader.at..)?;
        if !self.are_on() || planted("seal_unverified") {
            return Some(Ok(Opened { entry, made: None }));
        }
        let Some(secret) = self.secrets.iter().find(|secret| secret.id == id) else {
            return Some(Err(Unopened::UnknownSecret));
        };
        Some(match same(&secret.seal(place, sealed), seal) {
            true => Ok(Opened { entry, made: Some(made) }),
            false => Err(Unopened::Broken),
        })
    }
}

/// An entry's bytes, and whether they were sealed; nobody has looked at the seal. To be looked at, and never served.
#[must_use]
pub fn unsealed(payload: &[u8]) -> (&[u8], bool) {
    let entry = payload.strip_prefix(MARK).and_then(|_| payload.get(SEALED_AT.saturating_add(MADE_BYTES)..));
    (entry.unwrap_or(payload), entry.is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MADE: Made = Made { at: GroupPosition { ms: 5, seq: 1, unique: 9 }, era: 7, wall_ms: 1_000_000 };

    fn secret(digit: char) -> Secret {
        Secret::from_hex(&digit.to_string().repeat(64)).unwrap()
    }

    fn seals(digits: &str) -> Seals {
        Seals::new(digits.chars().map(secret).collect(), false)
    }

    fn tags(tags: &[&str]) -> Vec<String> {
        tags.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_entry_is_opened_where_it_was_sealed_for_and_says_under_what() {
        let tags = tags(&["user:7", "orders"]);
        let place = Place { namespace: "shop:v1", key: "k", tags: &tags };
        let sealed = seals("a").close(&place, &MADE, b"entry".to_vec());
        assert_eq!(seals("a").open(&place, &sealed), Ok(Opened { entry: b"entry", made: Some(MADE) }));
    }

    /// Gateways of two versions share a store (I29): whoever changes this changes the mark, too.
    #[test]
    fn an_entry_is_sealed_like_this() {
        let place = Place { namespace: "shop:v1", key: "k", tags: &tags(&["user:7"]) };
        let sealed = seals("a").close(&place, &MADE, b"entry".to_vec());
        let written = sealed.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let known = "\
            726373310a8465d5288dc2f47ef50db865973c4041d2463fad9e406e934050fa04eb3fe39238b75a37a7f6c805000000\
            0000000001000000000000000900000000000000070000000000000040420f0000000000656e747279";
        assert_eq!(written, known);
    }

    /// I12: another key's bytes, whole as they are, answer nothing.
    #[test]
    fn elsewhere_it_stays_closed() {
        let (ours, others) = (tags(&["user:7", "orders"]), tags(&["user:7"]));
        let (swapped, joined) = (tags(&["orders", "user:7"]), tags(&["user:7orders"]));
        let more = tags(&["user:7", "orders", "x"]);
        let place = Place { namespace: "shop:v1", key: "k", tags: &ours };
        let sealed = seals("a").close(&place, &MADE, b"entry".to_vec());
        for elsewhere in [
            Place { namespace: "shop:v2", ..place },
            Place { key: "l", ..place },
            Place { namespace: "shop:v1k", key: "", ..place },
            Place { tags: &others, ..place },
            Place { tags: &swapped, ..place },
            Place { tags: &joined, ..place },
            Place { tags: &more, ..place },
            Place { tags: &[], ..place },
        ] {
            assert_eq!(seals("a").open(&elsewhere, &sealed), Err(Unopened::Broken), "{elsewhere:?}");
        }
    }

    #[test]
    fn a_sealed_entry_with_any_bit_changed_or_its_end_missing_stays_closed() {
        let place = Place { namespace: "shop:v1", key: "k", tags: &[] };
        let sealed = seals("a").close(&place, &MADE, b"entry".to_vec());
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                let wanted = match at {
                    0..4 => Unopened::Unsealed,
                    4..12 => Unopened::UnknownSecret,
                    _ => Unopened::Broken,
                };
                assert_eq!(seals("a").open(&place, &changed), Err(wanted), "bit {bit} of {at}");
            }
            assert!(seals("a").open(&place, &sealed[..at]).is_err(), "cut at {at}");
        }
        assert!(seals("a").open(&place, &[&sealed[..], b"x"].concat()).is_err());
    }

    /// The steps of docs/sealing.md: at each, gateways of two neighbouring ones share a store.
    #[test]
    fn secrets_are_introduced_and_replaced_without_a_miss() {
        let place = Place { namespace: "shop:v1", key: "k", tags: &[] };
        let accepting = |digits: &str| Seals { accept_unsealed: true, ..seals(digits) };
        let steps =
            [seals(""), accepting("a"), seals("a"), seals("ab"), seals("ba"), seals("b"), accepting("b"), seals("")];
        for pair in steps.windows(2) {
            for (one, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                let stored = one.close(&place, &MADE, b"entry".to_vec());
                assert_eq!(other.open(&place, &stored).map(|opened| opened.entry), Ok(&b"entry"[..]));
            }
        }
        let stored = |seals: Seals| seals.close(&place, &MADE, b"entry".to_vec());
        assert_eq!(seals("a").open(&place, &stored(seals("b"))), Err(Unopened::UnknownSecret), "both at once");
        assert_eq!(seals("a").open(&place, &stored(seals(""))), Err(Unopened::Unsealed), "not accepted first");
    }

    #[test]
    fn without_secrets_nothing_is_sealed() {
        let place = Place { namespace: "shop:v1", key: "k", tags: &[] };
        assert_eq!(Seals::default().close(&place, &MADE, b"entry".to_vec()), b"entry");
        let sealed = seals("a").close(&place, &MADE, b"entry".to_vec());
        assert_eq!(Seals::default().open(&place, &sealed), Ok(Opened { entry: b"entry", made: None }));
        assert_eq!((unsealed(&sealed), unsealed(b"entry")), ((&b"entry"[..], true), (&b"entry"[..], false)));
        assert_eq!(unsealed(&sealed[..83]), (&sealed[..83], false));
    }

    #[test]
    fn a_secret_is_32_bytes_or_more_in_hexadecimal() {
        for (text, good) in [
            ("0".repeat(64), true),
            ("aF".repeat(40), true),
            ("0".repeat(62), false),
            ("0".repeat(65), false),
            ("g".repeat(64), false),
            ("é".repeat(64), false),
            (String::new(), false),
            (format!("{}\n", "0".repeat(64)), false),
            (format!("0x{}", "0".repeat(64)), false),
        ] {
            assert_eq!(Secret::from_hex(&text).is_some(), good, "{text:?}");
        }
    }

    /// I8: the group can't make an entry younger than it is by more than clocks may differ.
    #[test]
    fn a_seal_is_as_old_as_the_clock_says_but_for_what_clocks_may_differ() {
        for (later_ms, resident_ms) in [(0, 0), (CLOCKS_APART_MS, 0), (CLOCKS_APART_MS + 1, 1), (3_600_000, 3_300_000)]
        {
            assert_eq!(MADE.resident_ms(MADE.wall_ms + later_ms), resident_ms);
        }
        assert_eq!(MADE.resident_ms(0), 0, "a clock that is behind");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, marked: bool) {
            let place = Place { namespace: "shop:v1", key: "k", tags: &[] };
            let bytes = if marked { [&MARK[..], &bytes].concat() } else { bytes };
            prop_assert!(seals("a").open(&place, &bytes).is_err());
        }
    }
}
