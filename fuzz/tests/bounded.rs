//! What CI asks of each target: its seeds, and some thousand changes of them, the same each time.

use routecache_fuzz::{Target, targets};

const ROUNDS: u32 = 1500;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }
}

/// Some of a seed's bytes changed, doubled, cut out or put in.
fn changed(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    const ODD: [&[u8]; 12] = [
        b"\0",
        b"\xff\xff\xff\xff",
        b"{",
        b"}",
        b"\"",
        b"\\u0000",
        b"%",
        b"9999999999999999999999",
        b"-1",
        b"\n",
        b"*",
        b"\xc3\x28",
    ];
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(4) {
        let (at, to) = (dice.below(bytes.len() + 1), dice.below(bytes.len() + 1));
        let (from, to) = (at.min(to), at.max(to));
        match dice.below(6) {
            0 if !bytes.is_empty() => {
                let at = at.min(bytes.len() - 1);
                bytes[at] ^= 1 << dice.below(8);
            }
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(from..to.min(from + 8))),
            3 => {
                let part = bytes[from..to.min(from + 64)].to_vec();
                bytes.splice(at..at, part);
            }
            4 => drop(bytes.splice(at..at, ODD[dice.below(ODD.len())].iter().copied())),
            _ => {
                let random = dice.next().to_le_bytes();
                bytes.splice(at..at, random);
            }
        }
    }
    bytes
}

fn ask(target: &Target) {
    let mut dice = Dice(7);
    let seeds = (target.seeds)();
    let empty = vec![];
    seeds.iter().for_each(|seed| (target.run)(seed));
    for round in 0..ROUNDS {
        let seed = if seeds.is_empty() { &empty } else { &seeds[dice.below(seeds.len())] };
        let bytes = changed(seed, &mut dice);
        let outcome = std::panic::catch_unwind(|| (target.run)(&bytes));
        assert!(outcome.is_ok(), "{}, round {round}: {:?}", target.name, String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn no_decoder_panics_on_changed_seeds() {
    let targets = targets();
    assert!(targets.len() >= 20, "the test sees them");
    std::thread::scope(|scope| {
        for target in &targets {
            scope.spawn(|| ask(target));
        }
    });
}
