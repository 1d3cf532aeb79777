//! Values by number, in little code. The standard library's hash map is compiled anew for every type of value, a kilobyte or
//! two each, and a gateway compiles the whole filter before it serves: here one hash map tells where in a list each value
//! stands, and lists cost next to nothing.

use std::collections::HashMap;

/// See the module. Values come in the order in which they were put in, as long as none is taken out.
#[derive(Clone, Debug)]
pub struct Numbered<K, V> {
    places: HashMap<u64, usize>,
    values: Vec<(K, V)>,
}

impl<K, V> Default for Numbered<K, V> {
    fn default() -> Self {
        Self { places: HashMap::new(), values: Vec::new() }
    }
}

impl<K: Copy + Into<u64>, V> FromIterator<(K, V)> for Numbered<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(all: I) -> Self {
        let mut numbered = Self::default();
        for (number, value) in all {
            numbered.insert(number, value);
        }
        numbered
    }
}

impl<K: Copy + Into<u64>, V> Numbered<K, V> {
    /// The value of a number.
    #[must_use]
    pub fn get(&self, number: K) -> Option<&V> {
        let place = *self.places.get(&number.into())?;
        self.values.get(place).map(|(_, value)| value)
    }

    /// Likewise, to be changed.
    pub fn get_mut(&mut self, number: K) -> Option<&mut V> {
        let place = *self.places.get(&number.into())?;
        self.values.get_mut(place).map(|(_, value)| value)
    }

    /// Whether a number has a value.
    #[must_use]
    pub fn contains(&self, number: K) -> bool {
        self.places.contains_key(&number.into())
    }

    /// Gives a number a value; returns the one that it had.
    pub fn insert(&mut self, number: K, value: V) -> Option<V> {
        if let Some(held) = self.get_mut(number) {
            return Some(std::mem::replace(held, value));
        }
        self.places.insert(number.into(), self.values.len());
        self.values.push((number, value));
        None
    }

    /// Takes a number's value out.
    pub fn remove(&mut self, number: K) -> Option<V> {
        let place = self.places.remove(&number.into())?;
        let (_, value) = self.values.swap_remove(place);
        if let Some((moved, _)) = self.values.get(place) {
            self.places.insert((*moved).into(), place);
        }
        Some(value)
    }

    /// Keeps those that `keeps` says yes to.
    pub fn retain(&mut self, mut keeps: impl FnMut(K, &mut V) -> bool) {
        self.values.retain_mut(|(number, value)| keeps(*number, value));
        self.places.clear();
        for (place, (number, _)) in self.values.iter().enumerate() {
            self.places.insert((*number).into(), place);
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.values.iter().map(|(number, value)| (*number, value))
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.values.iter().map(|(_, value)| value)
    }

    /// Likewise, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.values.iter_mut().map(|(_, value)| value)
    }

    /// Takes all of them out.
    pub fn take(&mut self) -> Vec<(K, V)> {
        self.places.clear();
        std::mem::take(&mut self.values)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_map_of_the_standard_library_holds(steps in prop::collection::vec((0..4_u8, 0..12_u32, 0..9_u8), 0..80)) {
            let (mut numbered, mut map) = (Numbered::default(), BTreeMap::new());
            for (step, number, value) in steps {
                match step {
                    0 | 1 => prop_assert_eq!(numbered.insert(number, value), map.insert(number, value)),
                    2 => prop_assert_eq!(numbered.remove(number), map.remove(&number)),
                    _ => {
                        numbered.retain(|number, held| number % 2 == 0 || *held > value);
                        map.retain(|number, held| number % 2 == 0 || *held > value);
                    }
                }
                for number in 0..12 {
                    prop_assert_eq!(numbered.get(number), map.get(&number));
                    prop_assert_eq!(numbered.contains(number), map.contains_key(&number));
                }
                let mut all: Vec<_> = numbered.iter().map(|(number, value)| (number, *value)).collect();
                all.sort_unstable();
                prop_assert_eq!(all, map.iter().map(|(number, value)| (*number, *value)).collect::<Vec<_>>());
                prop_assert_eq!((numbered.len(), numbered.is_empty()), (map.len(), map.is_empty()));
            }
        }
    }
}
