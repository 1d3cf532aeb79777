//! Regular expressions for captures (`{id:re([a-z0-9-]+)}`), small enough for the VM and in time that grows with the text
//! alone: all ways through the pattern are followed at once, so no text makes it slow.
//!
//! Bytes, not letters, and always the whole text: literals, `.`, `[a-z]`, `[^/]`, `\d`, `\w`, groups, `|`, and the counts
//! `*`, `+`, `?`, `{n}`, `{n,}`, `{n,m}`.

use std::fmt;

/// Most steps of a compiled pattern: counts copy what they count.
const STEPS_MAX: usize = 1024;

/// Deepest nesting of groups; the parser recurses.
const DEPTH_MAX: usize = 16;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    source: String,
    steps: Vec<Step>,
    start: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// One byte of the set, then the step of that number.
    Byte(Set, usize),
    /// Either of two steps.
    Either(usize, usize),
    /// The end of the pattern.
    End,
}

/// Which bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Set([u64; 4]);

impl Set {
    fn add(&mut self, from: u8, to: u8) {
        for byte in from..=to {
            if let Some(word) = self.0.get_mut(usize::from(byte >> 6)) {
                *word |= 1 << (byte & 63);
            }
        }
    }

    fn holds(self, byte: u8) -> bool {
        self.0.get(usize::from(byte >> 6)).is_some_and(|word| word >> (byte & 63) & 1 == 1)
    }

    fn or(self, other: Self) -> Self {
        let mut words = self.0;
        words.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
        Self(words)
    }

    fn not(self) -> Self {
        Self(self.0.map(|word| !word))
    }
}

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternMistake {
    /// A group or class that never ends, or an end without one.
    Unbalanced,
    /// `*`, `+`, `?` or `{n}` behind nothing.
    NothingToCount,
    /// A count that isn't `{n}`, `{n,}` or `{n,m}`.
    BadCount,
    /// An empty class, or a range whose end comes before its start.
    BadClass,
    /// A backslash before something that it gives no meaning to.
    BadEscape,
    /// `^`, `$`, look-around and the like.
    NotSupported,
    /// Not ASCII.
    NotAscii,
    /// More than the filter can follow at once.
    TooLarge,
}

impl fmt::Display for PatternMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unbalanced => "a bracket has no partner",
            Self::NothingToCount => "a count follows nothing that it could count",
            Self::BadCount => "a count is `{2}`, `{2,}` or `{2,5}`",
            Self::BadClass => "a class is empty, or a range in it runs backwards",
            Self::BadEscape => "a backslash stands before something that needs none",
            Self::NotSupported => "it holds something that these patterns don't have",
            Self::NotAscii => "it holds a character that isn't ASCII",
            Self::TooLarge => "it is too large",
        })
    }
}

/// The parsed form.
enum Node {
    Set(Set),
    All(Vec<Node>),
    OneOf(Vec<Node>),
    /// At least so many, at most so many.
    Count(Box<Node>, usize, Option<usize>),
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    ///
    /// The first [`PatternMistake`].
    pub fn new(source: &str) -> Result<Self, PatternMistake> {
        if !source.is_ascii() {
            return Err(PatternMistake::NotAscii);
        }
        let mut parser = Parser { rest: source.as_bytes() };
        let node = parser.one_of(0)?;
        if !parser.rest.is_empty() {
            return Err(PatternMistake::Unbalanced);
        }
        let mut pattern = Self { source: source.to_owned(), steps: vec![Step::End], start: 0 };
        pattern.start = pattern.compile(&node, 0)?;
        Ok(pattern)
    }

    /// The text that it was compiled from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it is the whole of the text.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let mut now = self.reach(vec![self.start]);
        for &byte in text {
            let next = self.steps.iter().zip(&now).filter_map(|(step, here)| match step {
                Step::Byte(set, next) if *here && set.holds(byte) => Some(*next),
                _ => None,
            });
            let next: Vec<usize> = next.collect();
            if next.is_empty() {
                return false;
            }
            now = self.reach(next);
        }
        now.first().copied().unwrap_or_default()
    }

    /// Which steps are reached from some without reading a byte.
    fn reach(&self, mut open: Vec<usize>) -> Vec<bool> {
        let mut reached = vec![false; self.steps.len()];
        while let Some(step) = open.pop() {
            match reached.get_mut(step) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            if let Some(Step::Either(one, other)) = self.steps.get(step) {
                open.extend([*one, *other]);
            }
        }
        reached
    }

    /// Adds the steps of a node that lead on to `next`; the number of the first of them.
    fn compile(&mut self, node: &Node, next: usize) -> Result<usize, PatternMistake> {
        match node {
            Node::Set(set) => self.push(Step::Byte(*set, next)),
            Node::All(nodes) => nodes.iter().rev().try_fold(next, |next, node| self.compile(node, next)),
            Node::OneOf(nodes) => {
                let mut starts = Vec::with_capacity(nodes.len());
                for node in nodes {
                    starts.push(self.compile(node, next)?);
                }
                let last = starts.pop().unwrap_or(next);
                starts.into_iter().rev().try_fold(last, |other, one| self.push(Step::Either(one, other)))
            }
            Node::Count(node, least, most) => {
                let mut next = next;
                match most {
                    None => {
                        let again = self.push(Step::Either(next, next))?;
                        let body = self.compile(node, again)?;
                        if let Some(Step::Either(one, _)) = self.steps.get_mut(again) {
                            *one = body;
                        }
                        next = again;
                    }
                    Some(most) => {
                        let end = next;
                        for _ in *least..*most {
                            let body = self.compile(node, next)?;
                            next = self.push(Step::Either(body, end))?;
                        }
                    }
                }
                (0..*least).try_fold(next, |next, _| self.compile(node, next))
            }
        }
    }

    fn push(&mut self, step: Step) -> Result<usize, PatternMistake> {
        let number = self.steps.len();
        if number >= STEPS_MAX {
            return Err(PatternMistake::TooLarge);
        }
        self.steps.push(step);
        Ok(number)
    }
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl Parser<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.rest.first() == Some(&byte);
        if there {
            self.next();
        }
        there
    }

    fn one_of(&mut self, depth: usize) -> Result<Node, PatternMistake> {
        if depth > DEPTH_MAX {
            return Err(PatternMistake::TooLarge);
        }
        let mut ways = vec![self.all(depth)?];
        while self.take(b'|') {
            ways.push(self.all(depth)?);
        }
        Ok(if ways.len() == 1 { ways.pop().unwrap_or(Node::All(Vec::new())) } else { Node::OneOf(ways) })
    }

    fn all(&mut self, depth: usize) -> Result<Node, PatternMistake> {
        let mut nodes: Vec<Node> = Vec::new();
        while let Some(&byte) = self.rest.first() {
            if matches!(byte, b'|' | b')') {
                break;
            }
            self.next();
            let node = match byte {
                b'*' | b'+' | b'?' | b'{' => {
                    let (least, most) = self.count(byte)?;
                    let counted = nodes.pop().filter(|node| !matches!(node, Node::Count(..)));
                    Node::Count(Box::new(counted.ok_or(PatternMistake::NothingToCount)?), least, most)
                }
                b'(' => {
                    if self.take(b'?') && !self.take(b':') {
                        return Err(PatternMistake::NotSupported);
                    }
                    let group = self.one_of(depth.saturating_add(1))?;
                    if !self.take(b')') {
                        return Err(PatternMistake::Unbalanced);
                    }
                    // One node, so that a count behind it counts the whole of it, and may follow one inside.
                    Node::All(vec![group])
                }
                b'[' => Node::Set(self.class()?),
                b'.' => Node::Set(Set::default().not()),
                b'\\' => Node::Set(self.escape()?),
                b']' | b'}' => return Err(PatternMistake::Unbalanced),
                b'^' | b'$' => return Err(PatternMistake::NotSupported),
                _ => Node::Set(single(byte)),
            };
            nodes.push(node);
        }
        Ok(Node::All(nodes))
    }

    fn count(&mut self, byte: u8) -> Result<(usize, Option<usize>), PatternMistake> {
        match byte {
            b'*' => return Ok((0, None)),
            b'+' => return Ok((1, None)),
            b'?' => return Ok((0, Some(1))),
            _ => {}
        }
        let least = self.number().ok_or(PatternMistake::BadCount)?;
        let most = if self.take(b',') { self.number() } else { Some(least) };
        if !self.take(b'}') || most.is_some_and(|most| most < least) {
            return Err(PatternMistake::BadCount);
        }
        Ok((least, most))
    }

    /// Digits; `None` where there are none, or where they count more than the pattern could hold.
    fn number(&mut self) -> Option<usize> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at_checked(digits)?;
        self.rest = rest;
        std::str::from_utf8(number).ok()?.parse().ok().filter(|number| *number <= STEPS_MAX)
    }

    fn class(&mut self) -> Result<Set, PatternMistake> {
        let negated = self.take(b'^');
        let mut set = Set::default();
        loop {
            let byte = self.next().ok_or(PatternMistake::Unbalanced)?;
            let from = match byte {
                b']' if set == Set::default() => return Err(PatternMistake::BadClass),
                b']' => return Ok(if negated { set.not() } else { set }),
                b'[' => return Err(PatternMistake::BadClass),
                b'\\' => {
                    set = set.or(self.escape()?);
                    continue;
                }
                byte => byte,
            };
            let is_range = self.rest.first() == Some(&b'-') && self.rest.get(1).is_some_and(|end| *end != b']');
            let to = if is_range && self.take(b'-') { self.next().unwrap_or(from) } else { from };
            if to < from || to == b'\\' {
                return Err(PatternMistake::BadClass);
            }
            set.add(from, to);
        }
    }

    fn escape(&mut self) -> Result<Set, PatternMistake> {
        let mut set = Set::default();
        match self.next().ok_or(PatternMistake::BadEscape)? {
            b'd' => set.add(b'0', b'9'),
            b'w' => {
                set.add(b'0', b'9');
                set.add(b'a', b'z');
                set.add(b'A', b'Z');
                set.add(b'_', b'_');
            }
            byte if byte.is_ascii_punctuation() => set.add(byte, byte),
            _ => return Err(PatternMistake::BadEscape),
        }
        Ok(set)
    }
}

fn single(byte: u8) -> Set {
    let mut set = Set::default();
    set.add(byte, byte);
    set
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_is_the_whole_text() {
        for (pattern, matching, others) in [
            ("[0-9]+", &["0", "42"][..], &["", "4a", "a4", "-4"][..]),
            ("[a-z0-9-]+", &["a-b", "x9"], &["A", "a_b"]),
            ("v\\d+(\\.\\d+)*", &["v1", "v1.2.3"], &["v", "v1.", "1.2"]),
            ("de|en|fr-[A-Z]{2}", &["de", "fr-CH"], &["d", "fr-C", "deen"]),
            ("[^/]{2,3}", &["ab", "abc"], &["a", "abcd", "a/"]),
            ("a{2,}", &["aa", "aaaa"], &["a"]),
            ("(?:ab)?c", &["c", "abc"], &["ac"]),
            (".", &["x", "/"], &["", "xy"]),
            ("[]a]", &[], &[]),
            ("", &[""], &["a"]),
            ("(a*)*b", &["b", "aab"], &["a"]),
        ] {
            let Ok(compiled) = Pattern::new(pattern) else {
                assert!(matching.is_empty(), "{pattern}");
                continue;
            };
            assert!(matching.iter().all(|text| compiled.matches(text.as_bytes())), "{pattern}");
            assert!(!others.iter().any(|text| compiled.matches(text.as_bytes())), "{pattern}");
        }
    }

    #[test]
    fn mistakes_are_told_apart() {
        for (pattern, mistake) in [
            ("(a", PatternMistake::Unbalanced),
            ("a)", PatternMistake::Unbalanced),
            ("[a", PatternMistake::Unbalanced),
            ("*a", PatternMistake::NothingToCount),
            ("a**", PatternMistake::NothingToCount),
            ("a{2", PatternMistake::BadCount),
            ("a{3,2}", PatternMistake::BadCount),
            ("a{99999}", PatternMistake::BadCount),
            ("[z-a]", PatternMistake::BadClass),
            ("[]", PatternMistake::BadClass),
            ("\\q", PatternMistake::BadEscape),
            ("^a", PatternMistake::NotSupported),
            ("(?i)a", PatternMistake::NotSupported),
            ("é", PatternMistake::NotAscii),
            ("((a{100}){100}){100}", PatternMistake::TooLarge),
        ] {
            assert_eq!(Pattern::new(pattern), Err(mistake), "{pattern}");
        }
        assert_eq!(Pattern::new(&"(".repeat(1000)), Err(PatternMistake::TooLarge));
    }

    /// What would take other engines as long as the universe.
    #[test]
    fn no_text_makes_a_pattern_slow() {
        let pattern = Pattern::new("(a|a)*(a|a)*(a|a)*b").unwrap();
        assert!(!pattern.matches("a".repeat(10_000).as_bytes()));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(source in "[a-c0-3(){}\\[\\]|*+?,.^$\\\\-]{0,12}", text in "[a-c0-3]{0,6}") {
            if let Ok(pattern) = Pattern::new(&source) {
                let _ = pattern.matches(text.as_bytes());
            }
        }

        #[test]
        fn it_matches_what_the_regex_crate_matches(source in "([ab]|[ab]\\*|\\(a\\|b\\)\\+|\\[ab\\]\\{1,2\\}|b\\?|\\.){0,6}", text in "[ab]{0,8}") {
            let Ok(theirs) = regex::Regex::new(&format!("^(?:{source})$")) else { return Ok(()) };
            let Ok(ours) = Pattern::new(&source) else { return Ok(()) };
            prop_assert_eq!(ours.matches(text.as_bytes()), theirs.is_match(&text), "{}", source);
        }
    }
}
