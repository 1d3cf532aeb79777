//! Shared data as proxy-wasm-cpp-host keeps it (`src/shared_data.cc`).

use std::collections::HashMap;

use crate::abi::Status;
use crate::dialect::Cas;

/// A value and its `cas`.
type Entry = (Vec<u8>, u32);

/// Entries by VM id and key. In no order: a filter reads thousands of them, a test lists them now and then.
type Entries = HashMap<String, HashMap<Vec<u8>, Entry>>;

/// Keys and values that all VMs with one VM id share.
///
/// A key can be overwritten, also with an empty value, but never deleted: the ABI has no call for it.
#[derive(Clone, Debug, Default)]
pub struct SharedData {
    entries: Entries,
    last_cas: u32,
    /// What entries were before their last write, where that is remembered.
    before: Option<Entries>,
}

impl SharedData {
    /// Keys and values of a VM id, in the order of the keys.
    pub fn of(&self, vm_id: &str) -> impl Iterator<Item = (&[u8], &[u8])> {
        let of_vm = self.entries.get(vm_id).into_iter().flatten();
        let mut sorted: Vec<_> = of_vm.map(|(key, (value, _))| (key.as_slice(), value.as_slice())).collect();
        sorted.sort_unstable();
        sorted.into_iter()
    }

    /// The value of a key, whatever its VM id.
    pub fn value(&self, key: impl AsRef<[u8]>) -> Option<&[u8]> {
        let holders = self.entries.iter().filter(|(_, entries)| entries.contains_key(key.as_ref()));
        let (_, entries) = holders.min_by_key(|(vm_id, _)| *vm_id)?;
        entries.get(key.as_ref()).map(|(value, _)| value.as_slice())
    }

    /// How many keys there are, of all VM ids.
    pub fn len(&self) -> usize {
        self.entries.values().map(HashMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all keys and values.
    pub fn byte_size(&self) -> usize {
        self.entries.values().flatten().map(|(key, (value, _))| key.len() + value.len()).sum()
    }

    pub(crate) fn get(&self, vm_id: &str, key: &[u8]) -> Result<Entry, Status> {
        entry(&self.entries, vm_id, key).cloned().ok_or(Status::NotFound)
    }

    /// What a host reads that lags behind: the value before the last write.
    pub(crate) fn get_stale(&self, vm_id: &str, key: &[u8]) -> Result<Entry, Status> {
        let before = self.before.as_ref().and_then(|before| entry(before, vm_id, key).cloned());
        before.map_or_else(|| self.get(vm_id, key), Ok)
    }

    /// What a host reads that takes one key for another: the value of the next one.
    pub(crate) fn get_alias(&self, vm_id: &str, key: &[u8]) -> Result<Entry, Status> {
        let of_vm = || self.entries.get(vm_id).into_iter().flatten();
        let next = of_vm().filter(|(other, _)| other.as_slice() > key).min_by_key(|(other, _)| *other);
        let next = next.or_else(|| of_vm().min_by_key(|(other, _)| *other));
        next.map(|(_, entry)| entry.clone()).ok_or(Status::NotFound)
    }

    /// Remembers from now on what was there before each write.
    pub(crate) fn remember(&mut self) {
        self.before.get_or_insert_default();
    }

    /// Writes a value, if the `cas` allows it.
    pub(crate) fn set(&mut self, vm_id: &str, key: &[u8], value: &[u8], cas: u32, rule: Cas) -> Result<(), Status> {
        let stored = entry(&self.entries, vm_id, key).map(|(_, stored)| *stored);
        let matches = match rule {
            Cas::Lenient => cas == 0 || stored.is_none_or(|stored| stored == cas),
            Cas::Exact => stored.unwrap_or(0) == cas,
        };
        if !matches {
            return Err(Status::CasMismatch);
        }
        // One counter for all keys; 0 is skipped, because it means "don't compare".
        self.last_cas = self.last_cas.checked_add(1).unwrap_or(1);
        let was = put(&mut self.entries, vm_id, key, (value.to_vec(), self.last_cas));
        if let (Some(before), Some(was)) = (&mut self.before, was) {
            put(before, vm_id, key, was);
        }
        Ok(())
    }

    /// Takes keys away behind the filters' backs, as a host that evicts would.
    pub(crate) fn forget(&mut self, mut which: impl FnMut(&[u8]) -> bool) {
        self.entries.values_mut().for_each(|entries| entries.retain(|key, _| !which(key)));
    }

    /// Deletes a key as [`set`](Self::set) would overwrite it.
    pub(crate) fn delete(&mut self, vm_id: &str, key: &[u8], cas: u32, rule: Cas) -> Result<(), Status> {
        self.set(vm_id, key, &[], cas, rule)?;
        self.entries.get_mut(vm_id).map(|entries| entries.remove(key));
        Ok(())
    }

    /// Overwrites or adds a value behind the filters' backs, with a new `cas`.
    pub(crate) fn plant(&mut self, vm_id: &str, key: &[u8], value: &[u8]) {
        // A `cas` of 0 never mismatches.
        let _ = self.set(vm_id, key, value, 0, Cas::Lenient);
    }
}

fn entry<'data>(entries: &'data Entries, vm_id: &str, key: &[u8]) -> Option<&'data Entry> {
    entries.get(vm_id)?.get(key)
}

/// Returns what was there before.
fn put(entries: &mut Entries, vm_id: &str, key: &[u8], entry: Entry) -> Option<Entry> {
    if let Some(there) = entries.get_mut(vm_id).and_then(|entries| entries.get_mut(key)) {
        return Some(std::mem::replace(there, entry));
    }
    entries.entry(vm_id.to_owned()).or_default().insert(key.to_vec(), entry)
}

#[cfg(test)]
mod tests {
    use super::{Cas, SharedData, Status};

    /// facts: cpp-host `SharedData::set`.
    #[test]
    fn only_a_stale_cas_on_a_key_that_is_there_mismatches() {
        let mut data = SharedData::default();
        let set = |data: &mut SharedData, value, cas| data.set("vm", b"k", value, cas, Cas::Lenient);
        assert_eq!(set(&mut data, b"1", u32::MAX), Ok(()), "absent: any cas");
        assert_eq!(set(&mut data, b"2", u32::MAX), Err(Status::CasMismatch));
        assert_eq!(set(&mut data, b"3", 0), Ok(()), "0 overwrites");
        let (value, cas) = data.get("vm", b"k").unwrap();
        assert_eq!(value, b"3");
        assert_eq!(set(&mut data, b"4", cas), Ok(()));
        assert_eq!(set(&mut data, b"5", cas), Err(Status::CasMismatch));
    }

    /// facts: ngx_wasm_module.
    #[test]
    fn where_the_cas_must_be_exact_nothing_is_overwritten_unread() {
        let mut data = SharedData::default();
        let set = |data: &mut SharedData, cas| data.set("vm", b"k", b"v", cas, Cas::Exact);
        assert_eq!(set(&mut data, u32::MAX), Err(Status::CasMismatch));
        assert_eq!(set(&mut data, 0), Ok(()), "absent");
        assert_eq!(set(&mut data, 0), Err(Status::CasMismatch), "present");
        let (_, cas) = data.get("vm", b"k").unwrap();
        assert_eq!((data.delete("vm", b"k", cas, Cas::Exact), data.len()), (Ok(()), 0));
    }

    #[test]
    fn one_counter_serves_all_keys_and_skips_zero() {
        let mut data = SharedData { last_cas: u32::MAX - 1, ..SharedData::default() };
        for (key, cas) in [(b"a", u32::MAX), (b"b", 1)] {
            data.set("vm", key, b"", 0, Cas::Lenient).unwrap();
            assert_eq!(data.get("vm", key), Ok((vec![], cas)));
        }
        assert_eq!(data.get("other", b"a"), Err(Status::NotFound), "VM ids don't see each other");
    }
}
