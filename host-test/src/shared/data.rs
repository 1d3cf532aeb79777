//! Shared data as proxy-wasm-cpp-host keeps it (`src/shared_data.cc`).

use std::collections::BTreeMap;

use crate::abi::Status;

/// Keys and values that all VMs with one VM id share.
///
/// A key can be overwritten, also with an empty value, but never deleted: the ABI has no call for it.
#[derive(Clone, Debug, Default)]
pub struct SharedData {
    entries: BTreeMap<(String, Vec<u8>), (Vec<u8>, u32)>,
    last_cas: u32,
}

impl SharedData {
    /// Keys and values of a VM id, in the order of the keys.
    pub fn of<'data>(&'data self, vm_id: &'data str) -> impl Iterator<Item = (&'data [u8], &'data [u8])> {
        let entries = self.entries.iter().filter(move |((owner, _), _)| owner == vm_id);
        entries.map(|((_, key), (value, _))| (key.as_slice(), value.as_slice()))
    }

    /// The value of a key, whatever its VM id.
    pub fn value(&self, key: impl AsRef<[u8]>) -> Option<&[u8]> {
        let found = self.entries.iter().find(|((_, there), _)| there == key.as_ref());
        found.map(|(_, (value, _))| value.as_slice())
    }

    /// How many keys there are, of all VM ids.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn byte_size(&self) -> usize {
        self.entries.iter().map(|((_, key), (value, _))| key.len() + value.len()).sum()
    }

    pub(crate) fn get(&self, vm_id: &str, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        self.entries.get(&(vm_id.to_owned(), key.to_vec())).cloned().ok_or(Status::NotFound)
    }

    /// Writes a value. A `cas` of 0 always writes, an absent key is written whatever the `cas`, and any other `cas` must be the
    /// one of the last write of this key.
    pub(crate) fn set(&mut self, vm_id: &str, key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        let key = (vm_id.to_owned(), key.to_vec());
        if self.entries.get(&key).is_some_and(|(_, stored)| cas != 0 && cas != *stored) {
            return Err(Status::CasMismatch);
        }
        // One counter for all keys; 0 is skipped, because it means "don't compare".
        self.last_cas = self.last_cas.checked_add(1).unwrap_or(1);
        self.entries.insert(key, (value.to_vec(), self.last_cas));
        Ok(())
    }

    /// Takes keys away behind the filters' backs, as a host that evicts would.
    pub(crate) fn forget(&mut self, mut which: impl FnMut(&[u8]) -> bool) {
        self.entries.retain(|(_, key), _| !which(key));
    }

    /// Overwrites or adds a value behind the filters' backs, with a new `cas`.
    pub(crate) fn plant(&mut self, vm_id: &str, key: &[u8], value: &[u8]) {
        // A `cas` of 0 never mismatches.
        let _ = self.set(vm_id, key, value, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{SharedData, Status};

    /// facts: cpp-host `SharedData::set`.
    #[test]
    fn only_a_stale_cas_on_a_key_that_is_there_mismatches() {
        let mut data = SharedData::default();
        assert_eq!(data.set("vm", b"k", b"1", u32::MAX), Ok(()), "absent: any cas");
        assert_eq!(data.set("vm", b"k", b"2", u32::MAX), Err(Status::CasMismatch));
        assert_eq!(data.set("vm", b"k", b"3", 0), Ok(()), "0 overwrites");
        let (value, cas) = data.get("vm", b"k").unwrap();
        assert_eq!(value, b"3");
        assert_eq!(data.set("vm", b"k", b"4", cas), Ok(()));
        assert_eq!(data.set("vm", b"k", b"5", cas), Err(Status::CasMismatch));
    }

    #[test]
    fn one_counter_serves_all_keys_and_skips_zero() {
        let mut data = SharedData { last_cas: u32::MAX - 1, ..SharedData::default() };
        for (key, cas) in [(b"a", u32::MAX), (b"b", 1)] {
            data.set("vm", key, b"", 0).unwrap();
            assert_eq!(data.get("vm", key), Ok((vec![], cas)));
        }
        assert_eq!(data.get("other", b"a"), Err(Status::NotFound), "VM ids don't see each other");
    }
}
