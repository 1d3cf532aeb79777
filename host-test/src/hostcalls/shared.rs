//! Shared data, shared queues and metrics.

use super::Outcome;
use crate::abi::Status;
use crate::commons::Effect;
use crate::faults::{Fault, Site};
use crate::guest::Guest;
use crate::shared::{Process, Registrant};

/// Works on what the VMs of this gateway share, under this VM's id.
fn shared<T>(guest: &Guest<'_>, work: impl FnOnce(&mut Process, &str) -> T) -> T {
    let vm = guest.vm();
    let process = guest.commons().processes[vm.place.gateway].clone();
    work(&mut process.lock(), &vm.options.vm_id)
}

pub(super) async fn get_shared_data(
    guest: &mut Guest<'_>,
    (key, key_length, value_at, length_at, cas_at): (u32, u32, u32, u32, u32),
) -> Outcome {
    let key = guest.bytes(key, key_length)?;
    let fault = guest.commons().fault(Site::SharedRead);
    let (value, cas) = shared(guest, |process, vm_id| match fault {
        Some(Fault::Absent) => Err(Status::NotFound),
        Some(Fault::Stale) => process.data.get_stale(vm_id, &key),
        Some(Fault::Alias) => process.data.get_alias(vm_id, &key),
        _ => process.data.get(vm_id, &key),
    })?;
    guest.give(&value, value_at, length_at).await?;
    Ok(guest.write_u32(cas_at, cas)?)
}

pub(super) async fn set_shared_data(
    guest: &mut Guest<'_>,
    (key, key_length, value, value_length, cas): (u32, u32, u32, u32, u32),
) -> Outcome {
    let dialect = guest.vm().options.dialect;
    let deletes = dialect.null_deletes && value == 0;
    let (key, value) = (guest.bytes(key, key_length)?, guest.bytes(value, value_length)?);
    match guest.commons().fault(Site::SharedWrite) {
        Some(Fault::CasMismatch) if cas != 0 => return Err(Status::CasMismatch.into()),
        Some(Fault::Full) => return Err(Status::InternalFailure.into()),
        _ => {}
    }
    Ok(shared(guest, |process, vm_id| match deletes {
        true => process.data.delete(vm_id, &key, cas, dialect.cas),
        false => process.data.set(vm_id, &key, &value, cas, dialect.cas),
    })?)
}

pub(super) async fn register_shared_queue(guest: &mut Guest<'_>, (name, length, token_at): (u32, u32, u32)) -> Outcome {
    let name = guest.bytes(name, length)?;
    let registrant = Registrant { vm: guest.vm().key, root: guest.vm().root_id() };
    let token = shared(guest, |process, vm_id| process.queues.register(vm_id, &name, registrant));
    Ok(guest.write_u32(token_at, token)?)
}

/// Finds another VM's queue; an empty id means this VM's.
pub(super) async fn resolve_shared_queue(
    guest: &mut Guest<'_>,
    (vm_id, vm_id_length, name, name_length, token_at): (u32, u32, u32, u32, u32),
) -> Outcome {
    let asked = String::from_utf8_lossy(&guest.bytes(vm_id, vm_id_length)?).into_owned();
    let name = guest.bytes(name, name_length)?;
    let token =
        shared(guest, |process, own| process.queues.resolve(if asked.is_empty() { own } else { &asked }, &name))?;
    Ok(guest.write_u32(token_at, token)?)
}

pub(super) async fn enqueue_shared_queue(guest: &mut Guest<'_>, (token, item, length): (u32, u32, u32)) -> Outcome {
    let item = guest.bytes(item, length)?;
    if guest.commons().fault(Site::Queue).is_some() {
        return Err(Status::InternalFailure.into());
    }
    let registrant = shared(guest, |process, _| process.queues.enqueue(token, item))?;
    if guest.vm().options.dialect.queue_ready {
        guest.commons().effects.push(Effect::QueueReady { registrant, token });
    }
    Ok(())
}

pub(super) async fn dequeue_shared_queue(
    guest: &mut Guest<'_>,
    (token, item_at, length_at): (u32, u32, u32),
) -> Outcome {
    let item = shared(guest, |process, _| process.queues.dequeue(token))?;
    guest.give(&item, item_at, length_at).await
}

pub(super) async fn define_metric(guest: &mut Guest<'_>, (kind, name, length, id_at): (u32, u32, u32, u32)) -> Outcome {
    let name = String::from_utf8_lossy(&guest.bytes(name, length)?).into_owned();
    let id = shared(guest, |process, _| process.metrics.define(kind, name))?;
    Ok(guest.write_u32(id_at, id)?)
}

pub(super) async fn increment_metric(guest: &mut Guest<'_>, (id, offset): (u32, i64)) -> Outcome {
    Ok(shared(guest, |process, _| process.metrics.increment(id, offset))?)
}

pub(super) async fn record_metric(guest: &mut Guest<'_>, (id, value): (u32, u64)) -> Outcome {
    Ok(shared(guest, |process, _| process.metrics.record(id, value))?)
}

pub(super) async fn get_metric(guest: &mut Guest<'_>, (id, value_at): (u32, u32)) -> Outcome {
    let value: Result<u64, Status> = shared(guest, |process, _| process.metrics.read(id));
    Ok(guest.write_u64(value_at, value?)?)
}
