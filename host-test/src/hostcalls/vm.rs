//! Logs, time, timers, configuration, and whom a call is for.

use std::time::Duration;

use super::Outcome;
use crate::abi::{LogLevel, Status};
use crate::commons::Effect;
use crate::guest::Guest;
use crate::vm::Deferred;

pub(super) async fn log(guest: &mut Guest<'_>, (level, text, length): (u32, u32, u32)) -> Outcome {
    let level = LogLevel::from_abi(level).ok_or(Status::BadArgument)?;
    let text = guest.bytes(text, length)?;
    let (place, context) = (guest.place(), guest.vm().context());
    guest.commons().log(place, context, level, String::from_utf8_lossy(&text));
    Ok(())
}

pub(super) async fn get_log_level(guest: &mut Guest<'_>, (level_at,): (u32,)) -> Outcome {
    let said = guest.commons().log_level;
    let level = said.unwrap_or(guest.vm().options.log_level) as u32;
    Ok(guest.write_u32(level_at, level)?)
}

pub(super) async fn get_current_time_nanoseconds(guest: &mut Guest<'_>, (time_at,): (u32,)) -> Outcome {
    let time = u64::try_from(guest.wall().as_nanos()).unwrap_or(u64::MAX);
    Ok(guest.write_u64(time_at, time)?)
}

/// Sets the timer of the root context; 0 stops it.
pub(super) async fn set_tick_period_milliseconds(guest: &mut Guest<'_>, (period,): (u32,)) -> Outcome {
    let period = (period > 0).then(|| Duration::from_millis(period.into()));
    let (vm, root) = (guest.vm().key, guest.vm().root_id());
    if let Some(context) = guest.state().roots.get_mut(&root) {
        context.tick = period;
        guest.commons().effects.push(Effect::Tick { vm, root, period });
    }
    Ok(())
}

pub(super) async fn set_effective_context(guest: &mut Guest<'_>, (context,): (u32,)) -> Outcome {
    if !guest.vm().has(context) {
        return Err(Status::BadArgument.into());
    }
    guest.state().effective = Some(context);
    Ok(())
}

/// Says that a root context whose `proxy_on_done` returned false is done now.
pub(super) async fn done(guest: &mut Guest<'_>, (): ()) -> Outcome {
    let context = guest.vm().context();
    if guest.vm().roots.get(&context).is_none_or(|root| !root.closing) {
        return Err(Status::NotFound.into());
    }
    guest.state().deferred.push_back(Deferred::RootDone(context));
    Ok(())
}

/// ABI 0.1.0: the plugin's configuration while configuring, the VM's otherwise.
pub(super) async fn get_configuration(guest: &mut Guest<'_>, (bytes_at, length_at): (u32, u32)) -> Outcome {
    let root = guest.vm().roots.get(&guest.vm().root_id());
    let configuration = match root.filter(|root| root.configuring) {
        Some(root) => root.configuration.to_vec(),
        None => guest.vm().options.vm_configuration.clone(),
    };
    guest.give(&configuration, bytes_at, length_at).await
}

/// Why the callout failed that the running callback is about, `BrokenConnection` (11) and `reset`, or the gRPC status that it tells.
pub(super) async fn get_status(guest: &mut Guest<'_>, (code_at, text_at, length_at): (u32, u32, u32)) -> Outcome {
    let status = guest.vm().roots.get(&guest.vm().root_id()).and_then(|root| root.status.clone());
    let (code, text) = status.unwrap_or_default();
    guest.write_u32(code_at, code)?;
    guest.give(text.as_bytes(), text_at, length_at).await
}
