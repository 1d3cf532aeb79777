//! HMAC-SHA-256 (RFC 2104): [`Hmac`], a key that vouches for bytes.

use sha2::{Digest as _, Sha256};

/// A key, with what is hashed of it before anything else.
#[derive(Clone)]
pub(crate) struct Hmac {
    inner: Sha256,
    outer: Sha256,
}

impl Hmac {
    /// How much SHA-256 takes at once, in bytes.
    const BLOCK: usize = 64;

    pub(crate) fn new(key: &[u8]) -> Self {
        let hashed = Sha256::digest(key);
        let key = if key.len() > Self::BLOCK { &hashed[..] } else { key };
        let padded = |pad: u8| {
            let mut block = [pad; Self::BLOCK];
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            Sha256::new_with_prefix(block)
        };
        Self { inner: padded(0x36), outer: padded(0x5c) }
    }

    /// Vouches for a list of parts, each with its length in front: no byte can move from one to the next.
    pub(crate) fn of_parts(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut inner = self.inner.clone();
        for part in parts {
            inner.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            inner.update(part);
        }
        self.end(inner)
    }

    fn end(&self, inner: Sha256) -> [u8; 32] {
        self.outer.clone().chain_update(inner.finalize()).finalize().into()
    }
}

/// Whether two are the same, in a time that doesn't tell how much of them is.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    let differing = one.iter().zip(other).fold(0, |differing, (a, b)| std::hint::black_box(differing | (a ^ b)));
    one.len() == other.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 4231 §4.2 to §4.8; the fifth shows only the beginning of its result.
    #[test]
    fn it_says_what_the_rfc_says() {
        let counted: Vec<u8> = (1..=25).collect();
        let cases: [(&[u8], &[u8], &str); 7] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            (&counted, &[0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
            (&[0x0c; 20], b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                &[0xaa; 131],
                b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be \
                  hashed before being used by the HMAC algorithm.",
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ];
        for (key, data, wanted) in cases {
            let hmac = Hmac::new(key);
            let wanted = hex(wanted);
            assert_eq!(hmac.end(hmac.inner.clone().chain_update(data))[..wanted.len()], wanted);
        }
    }

    #[test]
    fn parts_do_not_run_together() {
        let hmac = Hmac::new(b"key");
        assert_ne!(hmac.of_parts(&[b"ab", b"c"]), hmac.of_parts(&[b"a", b"bc"]));
        assert_ne!(hmac.of_parts(&[b"a"]), hmac.of_parts(&[b"a", b""]));
        assert_ne!(hmac.of_parts(&[b"a"]), Hmac::new(b"another").of_parts(&[b"a"]));
    }

    #[test]
    fn only_the_same_is_the_same() {
        assert!(same(b"", b"") && same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd") && !same(b"abc", b"ab") && !same(b"", b"a"));
    }
}
