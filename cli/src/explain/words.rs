//! The core's reasons, in sentences. A reason without one is told by its own word.

/// Why a request isn't answered from the cache.
pub fn of_bypass(word: &str) -> Option<&'static str> {
    Some(match word {
        "credentials" => {
            "it says who the client is (`Authorization`, `Cookie` or the like), and the rule doesn't say how that is part of the key"
        }
        "request-body" => "it has a body, which no key holds",
        "upgrade" => "it wants another protocol",
        "override-field" => "it carries a field that may change what the origin answers, and that no key holds",
        "precondition" => "it has a precondition that is for the origin to judge",
        "missing-value" => "a placeholder of the key or of a tag has no value",
        "key-too-long" => "its key or a tag would be too long",
        "bad-value" => "the value of a placeholder isn't what its formatters take",
        "no-identity" => "it doesn't say who the client is, and the rule's `identity` needs to know",
        "unreadable" => "its body doesn't hold what tags are made of",
        "rule" => "the rule's `bypass` is for it",
        "off" => "the rule is switched off (`mode`)",
        _ => return None,
    })
}

/// Why a response isn't stored.
pub fn of_not_stored(word: &str) -> Option<&'static str> {
    Some(match word {
        "status" => {
            "the rule gives no lifetime to responses of this status and neither does the origin, or it is a part of something"
        }
        "no-store" => "`no-store` forbids it",
        "private" => "`private` says that it is one client's own",
        "no-cache" => {
            "`no-cache` asks for validation, and it has nothing to validate it with (`ETag`, `Last-Modified`)"
        }
        "set-cookie" => "`Set-Cookie` makes it one client's own; see `cookies: share`",
        "credentials" => {
            "the request carries `Authorization`, and the response doesn't say that it is for others (`public`, `s-maxage`, `must-revalidate`)"
        }
        "vary" => "`Vary` is `*`, or names too many fields",
        "stale" => "it is fresh for no time at all",
        "incomplete" => "it has trailers, or says two lengths",
        "too-large" => "it is longer than `limits.body_bytes_max`",
        "endless" => "an event stream has no end",
        "unreadable" => "what the rule makes tags, a lifetime or a condition of can't be read in it",
        "condition" => "the rule's `when` or `unless` keeps it out",
        "min-uses" => "it hasn't been asked for often enough (`min_uses`)",
        "tags" => "it names too many tags, or one that is too long",
        _ => return None,
    })
}
