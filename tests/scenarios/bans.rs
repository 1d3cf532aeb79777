//! Purges by pattern: what the patterns mean is gone from every tier of every gateway, and nothing else is.

use bridge_api::Pattern;
use proxy_wasm_host_test::{Call, FailurePolicy, Request, World};

use super::stage::{Bridge, Versions, get, ms, rules, settle, status, world};

const PATHS: [&str; 4] = ["/users/7", "/users/7/orders", "/users/70", "/users/8/orders"];

fn keys(pattern: &str) -> Pattern {
    Pattern::Key(pattern.into())
}

fn tags(pattern: &str) -> Pattern {
    Pattern::Tag(pattern.into())
}

/// Two gateways of two workers, whose tiers all hold [`PATHS`].
fn warm() -> (World, Versions, Bridge) {
    let (builder, versions, bridge) = world(&rules());
    let mut world = builder.gateways(2).workers(2).failure_policy(FailurePolicy::Reload).build().expect("a world");
    settle(&mut world);
    read(&mut world);
    assert_eq!(read(&mut world), [""; 4]);
    (world, versions, bridge)
}

/// Reads everything everywhere, twice so that every worker holds it: which of [`PATHS`] didn't come from the gateway that was asked.
fn read(world: &mut World) -> [&'static str; 4] {
    PATHS.map(|path| {
        let mut missed = "";
        for (gateway, worker) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            let answer = world.fetch(Request::get(path).gateway(gateway).worker(worker));
            if !["hit; detail=worker", "hit; detail=gateway"].contains(&status(&answer).as_str()) {
                missed = path;
            }
        }
        missed
    })
}

#[test]
fn a_pattern_purges_what_it_means_in_every_tier_and_nothing_else() {
    for (named, patterns, gone) in [
        (&[][..], vec![tags("user:7")], ["/users/7", "/users/7/orders", "", ""]),
        (&[], vec![tags("user:7*")], ["/users/7", "/users/7/orders", "/users/70", ""]),
        (&[], vec![keys("*:8 ")], ["", "", "", "/users/8/orders"]),
        (&[], vec![keys("nothing"), tags("!rule:ord*")], ["", "/users/7/orders", "", "/users/8/orders"]),
        (&["user:70"], vec![keys("* user:7 ")], ["/users/7", "", "/users/70", ""]),
        (&["!all"], vec![keys("nothing")], PATHS),
        (&[], vec![tags("*")], PATHS),
    ] {
        let (mut world, _, bridge) = warm();
        bridge.ban(&world, named, &patterns);
        world.run_for(ms(300));
        assert_eq!(read(&mut world), gone, "{named:?} {patterns:?}");
        assert_eq!(read(&mut world), [""; 4], "what was filled since isn't meant: {patterns:?}");
    }
}

/// C1.
#[test]
fn a_fill_that_began_before_a_ban_is_never_served_after_it() {
    let (builder, versions, bridge) = world(&rules());
    let origin = move |call: &Call| versions.answer(call).after(ms(2000));
    let mut world = builder.workers(2).origin(origin).build().expect("a world");
    settle(&mut world);
    let early = PATHS.map(|path| world.send(Request::get(path)));
    world.run_for(ms(1000));
    bridge.ban(&world, &[], &[tags("user:7")]);
    world.run_until_idle();
    assert!(early.iter().all(|id| world.answer(*id).status == 200));
    let now = PATHS.map(|path| status(&get(&mut world, 0, path)).starts_with("hit"));
    assert_eq!(now, [false, false, true, true]);
}

/// The list of bans is kept beside the log, so a VM that starts later compares as well as the others do.
#[test]
fn a_vm_that_starts_after_a_ban_compares_what_the_gateway_holds() {
    let (mut world, _, bridge) = warm();
    bridge.ban(&world, &[], &[tags("user:7")]);
    world.run_for(ms(300));
    world.restart_worker(0);
    world.run_for(ms(600));
    let there = PATHS.map(|path| status(&get(&mut world, 0, path)));
    assert_eq!(there.map(|status| status == "hit; detail=gateway"), [false, false, true, true]);
}

/// What can't be compared purges everything: patterns that are too many for shared data, or more bans than it keeps before a
/// worker learns of them.
#[test]
fn bans_that_are_too_much_to_keep_purge_everything() {
    let (mut world, _, bridge) = warm();
    bridge.ban(&world, &[], &(0..32).map(|number| keys(&format!("{number}{}", "x".repeat(400)))).collect::<Vec<_>>());
    world.run_for(ms(300));
    assert_eq!(read(&mut world), PATHS);
    assert_eq!(read(&mut world), [""; 4]);
    for number in 0..40 {
        bridge.ban(&world, &[], &[keys(&number.to_string())]);
    }
    world.run_for(ms(600));
    assert_eq!(read(&mut world), PATHS);
    assert_eq!(read(&mut world), [""; 4]);
    for number in 0..20 {
        bridge.ban(&world, &[], &[keys(&number.to_string())]);
    }
    world.run_for(ms(600));
    assert_eq!(read(&mut world), [""; 4], "some are compared");
}
