//! Whether a delivery comes from whom it says: a keyed digest of what was sent, made with a secret that both sides know.

use http::HeaderMap;
use ring::hmac;
use serde::Deserialize;

/// Bytes of a secret; fewer could be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// Secrets of one hook: the one in use, the next, and some to spare.
const SECRETS_MAX: usize = 8;

/// Signatures in one field that are looked at.
const SIGNATURES_MAX: usize = 16;

/// What a sender signs, and where it writes the signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// [Standard Webhooks](https://www.standardwebhooks.com): `webhook-id`, `webhook-timestamp`, and in `webhook-signature`
    /// `v1,<base64>` of `id.timestamp.body`.
    #[default]
    Standard,
    /// The body: `sha256=<hex>`, or base64, in a field such as `x-hub-signature-256`.
    Body,
    /// The body and when it was sent: `t=<seconds or milliseconds>,v1=<hex or base64>` of `t.body` in one field.
    Timestamped,
    /// Nothing: the field holds the secret itself.
    Secret,
}

/// How a hook's deliveries are told from forgeries.
pub struct Check {
    scheme: Scheme,
    /// Where the signature stands; of the first scheme, what its three fields begin with.
    field: String,
    /// How much older or newer than now a delivery may say that it is, in seconds.
    window_s: u64,
    keys: Vec<hmac::Key>,
}

/// A delivery that came from whom it says.
#[derive(Debug, PartialEq, Eq)]
pub struct Genuine {
    /// What tells it from all others of its sender, if that is signed.
    pub id: Option<String>,
}

/// Why a delivery isn't believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It carries no signature, or none of this kind.
    Unsigned,
    /// Its signature is that of another secret or of another delivery.
    Forged,
    /// It says that it was sent too long ago, or is yet to be sent.
    Stale,
}

impl Check {
    /// What these words of settings mean; `secrets` is text with a secret between white space each.
    ///
    /// # Errors
    ///
    /// What is wrong with them, without the secret.
    pub fn new(scheme: Scheme, field: Option<&str>, window_s: u64, secrets: &str) -> Result<Self, String> {
        let field = match (scheme, field) {
            (_, Some(field)) => field.to_ascii_lowercase(),
            (Scheme::Standard, None) => "webhook".to_owned(),
            (Scheme::Body, None) => "x-hub-signature-256".to_owned(),
            (Scheme::Timestamped | Scheme::Secret, None) => {
                return Err("`header` is missing: this kind of signature has no usual field".to_owned());
            }
        };
        if http::HeaderName::try_from(&field).is_err() {
            return Err(format!("`{}` is no field's name", field.escape_debug()));
        }
        let secrets: Vec<Vec<u8>> = secrets.split_ascii_whitespace().map(secret).collect::<Result<_, _>>()?;
        if secrets.is_empty() || secrets.len() > SECRETS_MAX {
            return Err(format!("there are {} secrets; one to {SECRETS_MAX} are taken", secrets.len()));
        }
        let keys = secrets.iter().map(|secret| key(secret)).collect();
        Ok(Self { scheme, field, window_s, keys })
    }

    /// Whether a delivery is genuine, `now_s` seconds after 1970.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now_s: u64) -> Result<Genuine, Doubt> {
        match self.scheme {
            Scheme::Standard => {
                let of = |name| only(headers, &format!("{}-{name}", self.field)).ok_or(Doubt::Unsigned);
                let (id, sent, signatures) = (of("id")?, of("timestamp")?, of("signature")?);
                let signed = [id.as_bytes(), b".", sent.as_bytes(), b".", body].concat();
                self.verify_one(signatures.split(' ').filter_map(|one| one.strip_prefix("v1,")), &signed)?;
                self.in_time(sent, now_s)?;
                Ok(Genuine { id: Some(id.to_owned()) })
            }
            Scheme::Body => {
                let text = only(headers, &self.field).ok_or(Doubt::Unsigned)?;
                self.verify_one(std::iter::once(text.strip_prefix("sha256=").unwrap_or(text)), body)?;
                Ok(Genuine { id: None })
            }
            Scheme::Timestamped => {
                let text = only(headers, &self.field).ok_or(Doubt::Unsigned)?;
                let parts = || text.split(',').filter_map(|part| part.trim().split_once('='));
                let sent = parts().find_map(|(name, value)| (name == "t").then_some(value)).ok_or(Doubt::Unsigned)?;
                let signed = [sent.as_bytes(), b".", body].concat();
                self.verify_one(parts().filter_map(|(name, value)| (name == "v1").then_some(value)), &signed)?;
                self.in_time(sent, now_s)?;
                Ok(Genuine { id: None })
            }
            Scheme::Secret => {
                let text = only(headers, &self.field).ok_or(Doubt::Unsigned)?;
                // Two secrets are the same if they sign alike: so comparing them takes as long wherever they differ.
                let shown = hmac::sign(&key(text.strip_prefix("Bearer ").unwrap_or(text).as_bytes()), b"");
                let known = any(&self.keys, |key| hmac::verify(key, b"", shown.as_ref()).is_ok());
                if known { Ok(Genuine { id: None }) } else { Err(Doubt::Forged) }
            }
        }
    }

    /// One of the signatures, by one of the secrets. Comparing takes as long wherever they differ.
    fn verify_one<'t>(&self, signatures: impl Iterator<Item = &'t str>, signed: &[u8]) -> Result<(), Doubt> {
        let signatures: Vec<Vec<u8>> = signatures.take(SIGNATURES_MAX).filter_map(digest).collect();
        if signatures.is_empty() {
            return Err(Doubt::Unsigned);
        }
        let by = |key: &hmac::Key| any(&signatures, |signature| hmac::verify(key, signed, signature).is_ok());
        if any(&self.keys, by) { Ok(()) } else { Err(Doubt::Forged) }
    }

    /// Only asked of times that are signed.
    fn in_time(&self, sent: &str, now_s: u64) -> Result<(), Doubt> {
        /// From here on it must be milliseconds: as seconds it would be the year 5138.
        const MILLISECONDS: u64 = 100_000_000_000;
        let digits = sent.bytes().all(|byte| byte.is_ascii_digit());
        let sent: u64 = sent.parse().ok().filter(|_| digits).ok_or(Doubt::Stale)?;
        let sent_s = if sent >= MILLISECONDS { sent / 1000 } else { sent };
        if sent_s.abs_diff(now_s) <= self.window_s { Ok(()) } else { Err(Doubt::Stale) }
    }
}

/// Whether it holds for one of them; all are asked, so that time tells nothing.
fn any<T>(items: &[T], holds: impl Fn(&T) -> bool) -> bool {
    items.iter().filter(|item| holds(item)).count() > 0
}

/// The field, if it stands there once and is text.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut fields = headers.get_all(name).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    field.to_str().ok()
}

/// `whsec_<base64>`, or the text itself.
fn secret(text: &str) -> Result<Vec<u8>, String> {
    let bytes = match text.strip_prefix("whsec_") {
        Some(encoded) => base64(encoded).ok_or("what follows `whsec_` isn't base64")?,
        None => text.as_bytes().to_vec(),
    };
    if bytes.len() < SECRET_BYTES_MIN {
        return Err(format!("a secret has fewer than {SECRET_BYTES_MIN} bytes; make one with `openssl rand -hex 32`"));
    }
    Ok(bytes)
}

fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

/// A SHA-256 in hexadecimal or base64.
fn digest(text: &str) -> Option<Vec<u8>> {
    let bytes = if text.len() == 64 { hex(text) } else { base64(text) };
    bytes.filter(|bytes| bytes.len() == 32)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let nibble = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some(nibble(pair.first()?)? << 4 | nibble(pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect()
}

/// Either alphabet of RFC 4648, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let (mut held, mut bits, mut bytes) = (0_u32, 0, Vec::with_capacity(text.len() * 3 / 4));
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    (text.len() % 4 != 1).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const NOW_S: u64 = 1_614_265_330;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    /// The example of the specification.
    #[test]
    fn a_delivery_of_standard_webhooks_is_known_by_its_signature() {
        let check = |secrets: &str| Check::new(Scheme::Standard, None, 300, secrets).unwrap();
        let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let body = br#"{"test": 2432232314}"#;
        let id = ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek");
        let sent = ("webhook-timestamp", "1614265330");
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let genuine = Ok(Genuine { id: Some("msg_p5jXN8AQM9LWM0D4loKWxJek".into()) });
        let asked = |check: &Check, signature: &str, body: &[u8], now_s| {
            check.verify(&headers(&[id, sent, ("webhook-signature", signature)]), body, now_s)
        };
        assert_eq!(asked(&check(own), signature, body, NOW_S), genuine);
        assert_eq!(asked(&check(own), &format!("v1a,x v1,AAAA {signature}"), body, NOW_S), genuine, "one of several");
        assert_eq!(asked(&check(&format!("{}\n{own}\n", "x".repeat(16))), signature, body, NOW_S), genuine, "rotation");
        assert_eq!(asked(&check(own), signature, body, NOW_S + 300), genuine);
        assert_eq!(asked(&check(own), signature, body, NOW_S + 301), Err(Doubt::Stale));
        assert_eq!(asked(&check(own), signature, body, NOW_S - 301), Err(Doubt::Stale));
        assert_eq!(asked(&check(own), signature, b"{}", NOW_S), Err(Doubt::Forged));
        assert_eq!(asked(&check(&"x".repeat(16)), signature, body, NOW_S), Err(Doubt::Forged));
        for odd in ["", "v1,", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v1,????"] {
            assert_eq!(asked(&check(own), odd, body, NOW_S), Err(Doubt::Unsigned), "{odd}");
        }
        assert_eq!(check(own).verify(&headers(&[id, sent]), body, NOW_S), Err(Doubt::Unsigned));
        let later = headers(&[id, ("webhook-timestamp", "1614265331"), ("webhook-signature", signature)]);
        assert_eq!(check(own).verify(&later, body, NOW_S), Err(Doubt::Forged), "the time is signed too");
    }

    /// GitHub's example.
    #[test]
    fn a_signature_of_the_body_is_hexadecimal_or_base64_with_its_name_or_without() {
        let check = Check::new(Scheme::Body, None, 300, "It's-a-Secret-to-Everybody").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"It's-a-Secret-to-Everybody");
        let tag = hmac::sign(&key, b"Hello, World!");
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let asked = |value: &str, body: &[u8]| check.verify(&headers(&[("X-Hub-Signature-256", value)]), body, NOW_S);
        for good in [format!("sha256={hex}"), hex.clone(), hex.to_uppercase()] {
            assert_eq!(asked(&good, b"Hello, World!"), Ok(Genuine { id: None }), "{good}");
            assert_eq!(asked(&good, b"Hello, World"), Err(Doubt::Forged));
        }
        for odd in ["sha1=ff", "sha256=", &hex[1..], &hex.replace(|_: char| true, "g")] {
            assert_eq!(asked(odd, b"Hello, World!"), Err(Doubt::Unsigned), "{odd}");
        }
        let twice = headers(&[("x-hub-signature-256", &hex), ("x-hub-signature-256", &hex)]);
        assert_eq!(check.verify(&twice, b"Hello, World!", NOW_S), Err(Doubt::Unsigned));
    }

    #[test]
    fn a_signed_time_may_be_in_seconds_or_milliseconds() {
        let check = Check::new(Scheme::Timestamped, Some("Stripe-Signature"), 300, &"s".repeat(20)).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, "s".repeat(20).as_bytes());
        let asked = |sent: &str, now_s| {
            let tag = hmac::sign(&key, format!("{sent}.{{}}").as_bytes());
            let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            let field = format!("t={sent}, v0=00,v1={}, v1={hex}", "0".repeat(64));
            check.verify(&headers(&[("stripe-signature", &field)]), b"{}", now_s)
        };
        for sent in ["1614265330", "1614265330999"] {
            assert_eq!(asked(sent, NOW_S), Ok(Genuine { id: None }));
            assert_eq!(asked(sent, NOW_S + 301), Err(Doubt::Stale));
        }
        for odd in ["", "-1", "+1614265330", "99999999999999999999999", "soon"] {
            assert_eq!(asked(odd, NOW_S), Err(Doubt::Stale), "{odd}");
        }
    }

    #[test]
    fn a_field_may_hold_the_secret_itself() {
        let (old, new) = ("o".repeat(16), "n".repeat(16));
        let check = Check::new(Scheme::Secret, Some("authorization"), 300, &format!("{old} {new}")).unwrap();
        let asked = |value: &str| check.verify(&headers(&[("authorization", value)]), b"", NOW_S);
        for good in [&old, &new, &format!("Bearer {new}")] {
            assert_eq!(asked(good), Ok(Genuine { id: None }));
        }
        for odd in ["", "n", &"n".repeat(17), "Bearer"] {
            assert_eq!(asked(odd), Err(Doubt::Forged), "{odd}");
        }
    }

    #[test]
    fn secrets_that_could_be_guessed_are_refused_without_being_told() {
        let long = "x".repeat(16);
        for (scheme, field, secrets) in [
            (Scheme::Body, None, "hush"),
            (Scheme::Body, None, ""),
            (Scheme::Standard, None, "whsec_hush!"),
            (Scheme::Standard, None, "whsec_aHVzaA=="),
            (Scheme::Timestamped, None, &*long),
            (Scheme::Secret, None, &*long),
            (Scheme::Body, Some("x y"), &*long),
        ] {
            let Err(told) = Check::new(scheme, field, 300, secrets) else { panic!("{scheme:?} {secrets}") };
            assert!(!told.contains("hush"), "{told}");
        }
    }

    #[test]
    fn base64_is_read_in_both_alphabets() {
        assert_eq!(base64("-_-_").unwrap(), base64("+/+/").unwrap());
        assert_eq!(base64("aGk=").unwrap(), b"hi");
        assert_eq!(base64("aGk").unwrap(), b"hi");
        assert_eq!(base64("").unwrap(), b"");
        for odd in ["a", "aGk=a", "a b", "é"] {
            assert_eq!(base64(odd), None, "{odd}");
        }
    }
}
