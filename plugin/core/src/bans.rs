//! Purges by pattern: [`Bans`], kept beside the gateway's log for workers to learn from.
//!
//! The log says that a ban was made, and names it by a hash of its patterns ([`crate::gateway_log::Record::banning`]); what
//! it bans stands here. The two aren't changed at once, and this list is short: a ban that isn't found here purges everything.

use xxhash_rust::xxh3::xxh3_64;

use crate::entry::Entry;
use crate::wire::{Reader, put_text};

const MARK: &[u8; 4] = b"rcb1";

/// Bans that are kept, here and by each worker.
pub const BANS_MAX: usize = 32;

/// Bytes of them. An entry is compared with all bans since its fill, in one go.
pub const BANS_BYTES_MAX: usize = 8 << 10;

/// Whether a text looks as a pattern says. What patterns mean is the bridge's to say, so whoever follows the log brings it.
pub type Looks = fn(text: &str, pattern: &str) -> bool;

/// The patterns of one purge, as they are kept: whether each is compared with tags or with the key, and its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ban(Vec<u8>);

impl Ban {
    /// Adds a pattern: entries whose key looks like this, or one of whose tags does.
    pub fn add(&mut self, by_tag: bool, pattern: &str) {
        self.0.push(u8::from(by_tag));
        // What is too long to be written is an unreadable ban, which means everything.
        let _ = put_text(&mut self.0, pattern.as_bytes());
    }

    /// By what the log knows it.
    #[must_use]
    pub fn name(&self) -> u64 {
        xxh3_64(&self.0)
    }

    /// Whether one of the patterns means the entry.
    #[must_use]
    pub fn means(&self, entry: &Entry, looks: Looks) -> bool {
        let mut reader = Reader::new(&self.0);
        while reader.done().is_none() {
            let Some((by_tag, pattern)) = reader.u8().zip(reader.text()) else { return true };
            let Ok(pattern) = std::str::from_utf8(pattern) else { return true };
            let means = match by_tag {
                0 => looks(entry.key(), pattern),
                _ => entry.tag_texts().any(|tag| looks(tag, pattern)),
            };
            if means {
                return true;
            }
        }
        false
    }
}

/// See the module; the newest stands last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bans(Vec<Ban>);

impl Bans {
    /// Adds a ban; false if it is more than a list may hold.
    pub fn add(&mut self, ban: &Ban) -> bool {
        self.0.retain(|held| held != ban);
        self.0.push(ban.clone());
        let over = over(self.0.iter());
        self.0.drain(..over);
        self.0.last() == Some(ban)
    }

    /// The ban of that name.
    #[must_use]
    pub fn get(&self, name: u64) -> Option<&Ban> {
        self.0.iter().find(|ban| ban.name() == name)
    }

    /// The list as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MARK.to_vec();
        let bans = self.0.iter().try_for_each(|ban| put_text(&mut out, &ban.0));
        bans.map_or_else(Vec::new, |()| out)
    }

    /// Reads what [`Bans::encode`] wrote; other bytes are no bans.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let mut reader = Reader::new(bytes);
        let mut bans = Vec::new();
        if reader.take(MARK.len()).is_some_and(|mark| mark == MARK) {
            while let Some(ban) = reader.text() {
                bans.push(Ban(ban.to_vec()));
            }
        }
        Self(bans)
    }
}

/// How many of these bans, the oldest first, are too many.
pub(crate) fn over<'b>(bans: impl DoubleEndedIterator<Item = &'b Ban> + ExactSizeIterator) -> usize {
    let (mut over, mut bytes) = (bans.len(), 0_usize);
    for ban in bans.rev().take(BANS_MAX) {
        bytes = bytes.saturating_add(ban.0.len());
        if bytes > BANS_BYTES_MAX {
            break;
        }
        over = over.saturating_sub(1);
    }
    over
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ban(number: usize) -> Ban {
        let mut ban = Ban::default();
        ban.add(false, &format!("k{number}*"));
        ban.add(true, "t");
        ban
    }

    #[test]
    fn a_list_reads_back_as_it_was_written_and_a_ban_that_comes_again_is_the_newest() {
        let mut bans = Bans::default();
        assert!([1, 2, 1].into_iter().all(|number| bans.add(&ban(number))));
        assert_eq!(bans.0, [ban(2), ban(1)]);
        assert_eq!(Bans::decode(&bans.encode()), bans);
        assert_eq!((bans.get(ban(2).name()), bans.get(ban(3).name())), (Some(&ban(2)), None));
        for len in 0..bans.encode().len() {
            assert!(Bans::decode(&bans.encode()[..len]).0.len() < 2, "cut at {len}");
        }
    }

    /// C13.
    #[test]
    fn a_list_is_bounded_and_the_oldest_goes_first() {
        let mut bans = Bans::default();
        assert!((0..100).all(|number| bans.add(&ban(number))));
        assert_eq!(bans.0.len(), BANS_MAX);
        assert!(bans.get(ban(0).name()).is_none() && bans.get(ban(99).name()).is_some());
        let mut long = Ban::default();
        long.add(false, &"x".repeat(BANS_BYTES_MAX - 5));
        assert!(bans.add(&long) && bans.0 == [long.clone()]);
        long.add(true, "");
        assert!(!bans.add(&long));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes: Vec<u8>) {
            let _ = Bans::decode(&bytes);
            bytes.splice(0..0, *MARK);
            let _ = Bans::decode(&bytes);
        }
    }
}
