//! Dates in fields (RFC 9110 §5.6.7).

/// Any of the three forms, as milliseconds since 1970; `None` for anything else, and for what lies before.
#[must_use]
pub fn http_date_ms(text: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_one_date_and_anything_else_is_none() {
        for text in ["Mon, 24 Nov 2025 16:00:00 GMT", "Monday, 24-Nov-25 16:00:00 GMT", "Mon Nov 24 16:00:00 2025"] {
            assert_eq!(http_date_ms(text.as_bytes()), Some(1_764_000_000_000), "{text}");
        }
        for text in ["", "0", "-1", "Mon, 24 Nov 2025 16:00:00 UTC", "Mon 24 Nov 2025 16:00:00 GMT", "\u{663}"] {
            assert_eq!(http_date_ms(text.as_bytes()), None, "{text}");
        }
    }
}
