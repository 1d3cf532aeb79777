//! Who may do what: tokens with scopes, each bound to namespaces.
//!
//! One token per line (or between semicolons, in the environment): secret, scopes, namespaces, and a name for the log.
//!
//! ```text
//! # secret                           scopes      namespaces   name
//! 9f86d081884c7d659a2feaa0c55ad015   filter      shop:v1      gateways
//! 2c26b46b68ffc68ff99b453c1d304134   read,purge  shop:*       shop-admin
//! ```

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ring::hmac;
use ring::rand::SystemRandom;

use crate::Error;

/// Characters of a secret; fewer could be guessed.
const SECRET_CHARS_MIN: usize = 16;

/// Tokens of one bridge.
const TOKENS_MAX: usize = 1000;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// What gateways do: look up, store, purge, follow the log, wait.
    Filter,
    /// Inspecting entries and figures.
    Read,
    /// Reading and writing the key space of applications.
    Keys,
    /// Purging.
    Purge,
    /// Everything.
    Admin,
}

impl Scope {
    const ALL: [Self; 5] = [Self::Filter, Self::Read, Self::Keys, Self::Purge, Self::Admin];

    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Read => "read",
            Self::Keys => "keys",
            Self::Purge => "purge",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What somebody may do.
#[derive(Debug)]
pub struct Grant {
    /// For the log; never the secret.
    pub name: String,
    scopes: Vec<Scope>,
    namespaces: Vec<String>,
}

impl Grant {
    /// Everything, everywhere: for whoever reaches a bridge that has no tokens.
    fn everything() -> Self {
        Self { name: "anybody".into(), scopes: vec![Scope::Admin], namespaces: vec!["*".into()] }
    }

    /// Whether calls of this kind are allowed.
    pub(crate) fn allows(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|own| *own == scope || *own == Scope::Admin)
    }

    /// Refuses what is beyond its namespaces.
    pub(crate) fn check_namespace(&self, namespace: &str) -> Result<(), Error> {
        if self.covers(namespace) { Ok(()) } else { Err(Error::Forbidden(format!("namespace {namespace:?}"))) }
    }

    /// Whether they are allowed in this namespace.
    fn covers(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|own| match own.strip_suffix('*') {
            Some(prefix) => namespace.starts_with(prefix),
            None => own == namespace,
        })
    }
}

/// A line that is no token. Never quotes the secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct UnusableToken {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and how to mend it.
    pub what: String,
}

/// The tokens of a bridge. Secrets are kept as digests under a key of this process's own, and compared in constant time.
#[derive(Default)]
pub struct Tokens(Vec<Token>);

struct Token {
    key: hmac::Key,
    tag: hmac::Tag,
    grant: Arc<Grant>,
}

impl Tokens {
    /// Reads lines of tokens.
    ///
    /// # Errors
    ///
    /// The first line that is none.
    pub fn parse(text: &str) -> Result<Self, UnusableToken> {
        let failed = |line, what: &str| UnusableToken { line, what: what.to_owned() };
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| failed(0, "the system gives no random numbers"))?;
        let mut tokens = Vec::new();
        for (index, line) in text.split(['\n', ';']).enumerate() {
            let line = line.split_once('#').map_or(line, |(before, _)| before).trim();
            if line.is_empty() {
                continue;
            }
            let (secret, grant) = token(line, index + 1)?;
            tokens.push(Token { key: key.clone(), tag: hmac::sign(&key, secret.as_bytes()), grant: Arc::new(grant) });
            if tokens.len() > TOKENS_MAX {
                return Err(failed(index + 1, "there are more than 1000 tokens"));
            }
        }
        Ok(Self(tokens))
    }

    /// These too.
    pub fn add(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the bearer of this secret may do. Takes as long for a wrong secret as for a right one, wherever it is wrong.
    fn grant(&self, secret: &str) -> Option<Arc<Grant>> {
        let mut found = None;
        for Token { key, tag, grant } in &self.0 {
            if hmac::verify(key, secret.as_bytes(), tag.as_ref()).is_ok() {
                found = Some(Arc::clone(grant)); // and on to the end
            }
        }
        found
    }
}

fn token(line: &str, number: usize) -> Result<(&str, Grant), UnusableToken> {
    let failed = |what: String| UnusableToken { line: number, what };
    let mut words = line.split_ascii_whitespace();
    let (Some(secret), Some(scopes), Some(namespaces)) = (words.next(), words.next(), words.next()) else {
        return Err(failed("a token is `<secret> <scopes> <namespaces> [name]`, such as `… read,purge shop:*`".into()));
    };
    let name = words.next().map_or_else(|| format!("token {number}"), str::to_owned);
    if words.next().is_some() {
        return Err(failed("there are more than four words".into()));
    }
    if secret.len() < SECRET_CHARS_MIN || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(failed(format!(
            "the secret isn't at least {SECRET_CHARS_MIN} visible ASCII characters; make one with `openssl rand -hex 32`"
        )));
    }
    let scope = |word: &str| {
        let known = Scope::ALL.into_iter().find(|scope| scope.name() == word);
        known.ok_or_else(|| failed(format!("`{word}` is no scope; there are filter, read, keys, purge and admin")))
    };
    let scopes = scopes.split(',').map(scope).collect::<Result<_, _>>()?;
    let namespaces: Vec<String> = namespaces.split(',').map(str::to_owned).collect();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    let sound = |name: &String| !name.is_empty() && name.strip_suffix('*').unwrap_or(name).bytes().all(allowed);
    match namespaces.iter().find(|name| !sound(name)) {
        Some(bad) => Err(failed(format!("`{bad}` is no namespace; write `shop:v1`, `shop:*` or `*`"))),
        None => Ok((secret, Grant { name, scopes, namespaces })),
    }
}

/// The tokens that count now; replaced as a whole.
#[derive(Clone)]
pub struct Access(Arc<RwLock<Arc<Tokens>>>, Arc<Grant>);

impl Access {
    /// These tokens; with none, whoever reaches the bridge may do everything.
    #[must_use]
    pub fn new(tokens: Tokens) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(tokens))), Arc::new(Grant::everything()))
    }

    /// Whoever reaches the bridge may do everything.
    #[must_use]
    pub fn open() -> Self {
        Self::new(Tokens::default())
    }

    /// From now on these.
    pub fn replace(&self, tokens: Tokens) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
    }

    /// What the bearer of this secret may do; nothing if there are tokens and it is none of them.
    pub(crate) fn grant(&self, secret: Option<&str>) -> Option<Arc<Grant>> {
        let tokens = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        if tokens.is_empty() { Some(Arc::clone(&self.1)) } else { tokens.grant(secret?) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        # who        what        where
        aaaaaaaaaaaaaaaa filter shop:v1,shop:v2 gateways  # the name is for the log
        bbbbbbbbbbbbbbbb read,purge shop:*

        cccccccccccccccc admin *";

    fn grant(secret: &str) -> Option<Arc<Grant>> {
        Access::new(Tokens::parse(TEXT).unwrap()).grant(Some(secret))
    }

    #[test]
    fn a_token_allows_its_scopes_in_its_namespaces_and_nothing_else() {
        let gateways = grant("aaaaaaaaaaaaaaaa").unwrap();
        assert_eq!(gateways.name, "gateways");
        assert!(gateways.allows(Scope::Filter) && !gateways.allows(Scope::Purge) && !gateways.allows(Scope::Admin));
        assert!(gateways.covers("shop:v2") && !gateways.covers("shop:v21") && !gateways.covers("shop"));
        let people = grant("bbbbbbbbbbbbbbbb").unwrap();
        assert_eq!(people.name, "token 3");
        assert!(people.allows(Scope::Read) && people.allows(Scope::Purge) && !people.allows(Scope::Keys));
        assert!(people.covers("shop:v9") && !people.covers("stock:v1"));
        let admin = grant("cccccccccccccccc").unwrap();
        assert!(Scope::ALL.into_iter().all(|scope| admin.allows(scope)) && admin.covers("anything"));
        for wrong in ["", "aaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaa", "AAAAAAAAAAAAAAAA", "gateways"] {
            assert!(grant(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn without_tokens_everybody_may_do_everything_and_with_one_nobody_else_may() {
        let access = Access::new(Tokens::parse("").unwrap());
        assert!(access.grant(None).unwrap().allows(Scope::Admin));
        access.replace(Tokens::parse("aaaaaaaaaaaaaaaa read *").unwrap());
        assert!(access.grant(None).is_none());
        assert!(access.grant(Some("aaaaaaaaaaaaaaaa")).is_some());
    }

    #[test]
    fn a_line_that_is_no_token_is_refused_without_its_secret() {
        let cases = [
            ("hushhushhushhush", "is `<secret>"),
            ("hushhushhushhush read", "is `<secret>"),
            ("hush read *", "16 visible"),
            ("hushhushhushhush reed *", "`reed` is no scope"),
            ("hushhushhushhush read shop:{v1}", "`shop:{v1}` is no namespace"),
            ("hushhushhushhush read *:v1", "is no namespace"),
            ("hushhushhushhush read a,,b", "is no namespace"),
            ("hushhushhushhush read * a b", "more than four"),
        ];
        for (line, told) in cases {
            let Err(error) = Tokens::parse(&format!("\n{line}")) else { panic!("{line}") };
            assert!(error.line == 2 && error.what.contains(told) && !error.to_string().contains("hush"), "{error}");
        }
    }
}
