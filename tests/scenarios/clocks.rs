//! How old an entry is, whatever the clocks of the machines say that it has passed through.

use std::time::UNIX_EPOCH;

use proxy_wasm_host_test::{Answer, Call, Request, World};

use super::stage::{Versions, ms, rules, settle, status, world};

fn ask(world: &mut World, gateway: usize) -> Answer {
    world.fetch(Request::get("/users/7").gateway(gateway))
}

#[test]
fn a_store_that_was_long_on_its_way_makes_no_entry_younger() {
    let (builder, _, bridge) = world(&rules());
    bridge.takes_in_stores_after(ms(9_000));
    let mut world = builder.gateways(2).build().expect("a world");
    settle(&mut world);
    ask(&mut world, 0);
    world.advance(ms(20_000));
    let hit = ask(&mut world, 1);
    assert_eq!((status(&hit).as_str(), hit.header("age")), ("hit; detail=group", Some("20")));
    world.advance(ms(280_500));
    assert_eq!(status(&ask(&mut world, 1)), "fwd=stale; stored");
}

/// An origin that says when it answered, by the world's clock, unless it leaves that out.
fn dated(versions: &Versions, dates: bool) -> impl FnMut(&Call) -> proxy_wasm_host_test::Response + use<> {
    let versions = versions.clone();
    move |call| {
        let date = httpdate::fmt_http_date(UNIX_EPOCH + call.wall);
        let response = versions.answer(call);
        if dates { response.header("date", date) } else { response }
    }
}

#[test]
fn gateways_whose_clocks_are_minutes_apart_agree_on_the_age_of_what_they_share() {
    for (apart_s, dates) in [(300, true), (-300, true), (300, false), (-300, false)] {
        let (builder, versions, _) = world(&rules());
        let mut world = builder.gateways(2).origin(dated(&versions, dates)).build().expect("a world");
        let wall = world.wall().as_secs();
        world.set_wall_of(1, ms(wall.saturating_add_signed(apart_s) * 1000));
        settle(&mut world);
        ask(&mut world, 0);
        world.advance(ms(20_000));
        // The one that took it in, and the one that has it from there.
        for (gateway, tier) in [(0, "worker"), (1, "group")] {
            let hit = ask(&mut world, gateway);
            assert_eq!(status(&hit), format!("hit; detail={tier}"), "{apart_s} s");
            assert_eq!(hit.header("age"), Some("20"), "gateway {gateway}, {apart_s} s apart");
        }
        // Whatever they are set to later.
        world.set_wall_of(0, ms((wall + 7_200) * 1000));
        world.set_wall_of(1, ms((wall - 7_200) * 1000));
        world.advance(ms(270_000));
        for gateway in [0, 1] {
            let hit = ask(&mut world, gateway);
            let told = hit.header("cache-status").unwrap_or_default();
            assert!(told.contains("; ttl=9") || told.contains("; ttl=10"), "gateway {gateway}: {told}");
            assert_eq!(hit.header("age"), Some("290"), "gateway {gateway}, {apart_s} s apart");
        }
        world.advance(ms(10_500));
        assert_eq!(status(&ask(&mut world, 1)), "fwd=stale; stored", "{apart_s} s apart");
    }
}

/// RFC 9111 §4.2.3 takes the time since `Date` for an age, which a clock that is ahead makes longer; not the lifetime of a rule.
#[test]
fn a_gateway_whose_clock_is_wrong_keeps_what_it_fetches_for_as_long_as_the_rule_says() {
    for (apart_s, age) in [(300, "320"), (-300, "20")] {
        let (builder, versions, _) = world(&rules());
        let mut world = builder.gateways(2).origin(dated(&versions, true)).build().expect("a world");
        let wall = world.wall().as_secs();
        world.set_wall_of(1, ms(wall.saturating_add_signed(apart_s) * 1000));
        settle(&mut world);
        ask(&mut world, 1);
        world.advance(ms(20_000));
        for (gateway, tier) in [(1, "worker"), (0, "group")] {
            let hit = ask(&mut world, gateway);
            assert_eq!(status(&hit), format!("hit; detail={tier}"), "{apart_s} s");
            assert_eq!(hit.header("age"), Some(age), "gateway {gateway}, {apart_s} s apart");
        }
        world.advance(ms(279_000));
        assert_eq!(status(&ask(&mut world, 0)), "hit; detail=worker", "{apart_s} s apart");
        world.advance(ms(1_500));
        assert_eq!(status(&ask(&mut world, 0)), "fwd=stale; stored", "{apart_s} s apart");
    }
}
