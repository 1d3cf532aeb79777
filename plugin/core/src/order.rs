//! Sorting what is known to be short. The standard library's sort is compiled anew for every type of element, several
//! kilobytes each, and a gateway compiles the whole filter before it serves.

/// Sorts in place and drops repeats; equal elements keep their order. Takes time in the square of the length, which the
/// caller bounds.
pub(crate) fn sort_short<T: Ord>(items: &mut Vec<T>) {
    for sorted in 1..items.len() {
        let mut at = sorted;
        while let Some(before) = at.checked_sub(1)
            && items.get(before) > items.get(at)
        {
            items.swap(before, at);
            at = before;
        }
    }
    items.dedup();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_sorts_as_the_standard_library_does(mut items: Vec<u8>) {
            let mut expected = items.clone();
            expected.sort_unstable();
            expected.dedup();
            super::sort_short(&mut items);
            prop_assert_eq!(items, expected);
        }
    }
}
