//! Durations (`50ms`, `5m`) and sizes (`8MiB`) as people write them.

/// A written quantity in milliseconds or bytes, or why it is none.
pub(crate) type Quantity = Result<u64, NoQuantity>;

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoQuantity {
    /// Not digits and a unit.
    Unreadable,
    /// More than a u64 holds.
    TooLarge,
}

const DURATIONS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("", 1000)];

const SIZES: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
    ("", 1),
];

/// Milliseconds; a bare number is seconds.
pub(crate) fn duration_ms(text: &str) -> Quantity {
    quantity(text, DURATIONS)
}

/// Bytes; a bare number is bytes.
pub(crate) fn size_bytes(text: &str) -> Quantity {
    quantity(text, SIZES)
}

/// Digits and a unit, with nothing between or around them.
fn quantity(text: &str, units: &[(&str, u64)]) -> Quantity {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or_default();
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let (Some(factor), false) = (factor, number.is_empty()) else {
        return Err(NoQuantity::Unreadable);
    };
    // Only digits are left, so the one way to fail is being too long.
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or(NoQuantity::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        for (text, ms) in [
            ("50ms", 50),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("30", 30_000),
            ("0", 0),
        ] {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn sizes_know_both_kinds_of_thousand() {
        for (text, bytes) in
            [("8MiB", 8 << 20), ("64KiB", 64 << 10), ("1GiB", 1 << 30), ("500kB", 500_000), ("10B", 10), ("7", 7)]
        {
            assert_eq!(size_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_digits_and_a_unit_is_none() {
        for text in ["", "s", "ms", "5 min", "5min", "-1s", "+1s", "1.5s", "1h30m", " 5s", "5s ", "5S", "٣s", "5é"] {
            assert_eq!(duration_ms(text), Err(NoQuantity::Unreadable), "{text}");
        }
        for text in ["8mib", "8 MiB", "1.5MiB", "1KB", "-1", "MiB"] {
            assert_eq!(size_bytes(text), Err(NoQuantity::Unreadable), "{text}");
        }
        for text in ["99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(duration_ms(text), Err(NoQuantity::TooLarge), "{text}");
        }
    }
}
