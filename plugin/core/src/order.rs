//! Sorting in little code. The standard library's sort is compiled anew for every type of element, several kilobytes
//! each, and a gateway compiles the whole filter before it serves; a heap is a tenth of that, and still n log n.

use std::collections::BinaryHeap;

/// The items in order. Equal ones don't keep theirs.
#[must_use]
pub fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    items.into_iter().collect::<BinaryHeap<T>>().into_sorted_vec()
}

/// The items in order, each once.
#[must_use]
pub fn sorted_set<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items = sorted(items);
    items.dedup();
    items
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_sorts_as_the_standard_library_does(items: Vec<u8>) {
            let mut expected = items.clone();
            expected.sort_unstable();
            prop_assert_eq!(super::sorted(items.clone()), expected.clone());
            expected.dedup();
            prop_assert_eq!(super::sorted_set(items), expected);
        }
    }
}
