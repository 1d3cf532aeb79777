//! Purging by pattern: a record that lookups compare, never a scan, and never forgotten in silence.

use bridge_api::Pattern;

use crate::support::Rig;

fn keys(glob: &str) -> Pattern {
    Pattern::Key(glob.into())
}

fn tags(glob: &str) -> Pattern {
    Pattern::Tag(glob.into())
}

on_both_stores! {
    async fn a_pattern_purges_what_it_means_and_nothing_else(rig: Rig) {
        for (key, tag) in [("menu 1", "dish:1"), ("menu 2", "dish:2"), ("cart 1", "user:1")] {
            rig.fill(key, &[tag]).await;
        }
        rig.ban(&[], &[keys("menu *")]).await;
        assert!(!rig.hits("menu 1", &["dish:1"]).await && !rig.hits("menu 2", &["dish:2"]).await);
        assert!(rig.hits("cart 1", &["user:1"]).await);
        rig.fill("menu 1", &["dish:1"]).await;
        rig.ban(&[], &[tags("user:*"), keys("nothing")]).await;
        assert!(!rig.hits("cart 1", &["user:1"]).await);
        assert!(rig.hits("menu 1", &["dish:1"]).await, "what was stored since");
        rig.purge(&["unrelated"]).await;
        assert!(!rig.hits("cart 1", &["user:1"]).await, "nor does a later purge bring it back");
    }

    async fn a_fill_that_began_before_a_pattern_is_not_served_after_it(rig: Rig) {
        let ticket = rig.ticket().await;
        rig.ban(&[], &[keys("k*")]).await;
        rig.put("k", &["a"], ticket).await;
        rig.put("other", &["a"], ticket).await;
        assert!(!rig.hits("k", &["a"]).await);
        assert!(rig.hits("other", &["a"]).await);
    }

    async fn tags_and_patterns_of_one_purge_are_one_record_and_gateways_hear_both(rig: Rig) {
        let cursor = rig.cursor().await;
        rig.fill("k", &["a"]).await;
        rig.ban(&["a"], &[keys("x*"), tags("y*")]).await;
        assert!(!rig.hits("k", &["a"]).await);
        let reading = rig.poll(Some(cursor), None).await;
        assert_eq!(reading.records.len(), 1);
        assert_eq!(reading.records[0].tags, ["a", "!all"], "a gateway that doesn't know patterns drops everything");
        assert_eq!(reading.records[0].patterns, [keys("x*"), tags("y*")]);
    }

    async fn more_patterns_than_are_remembered_purge_too_much_rather_than_too_little(rig: Rig) {
        rig.fill("old", &["a"]).await;
        for number in 0..256 {
            rig.ban(&[], &[keys(&format!("unrelated {number}"))]).await;
        }
        assert!(rig.hits("old", &["a"]).await);
        rig.fill("new", &["a"]).await;
        rig.ban(&[], &[keys("unrelated")]).await;
        assert!(!rig.hits("old", &["a"]).await);
        assert!(rig.hits("new", &["a"]).await);
    }
}

/// C6.
#[tokio::test]
async fn patterns_that_were_evicted_purge_whatever_is_older() {
    let rig = Rig::redis();
    rig.fill("k", &["a"]).await;
    rig.ban(&[], &[keys("k")]).await;
    rig.fill("since", &["a"]).await;
    rig.forget_bans();
    assert!(!rig.hits("k", &["a"]).await);
    assert!(rig.hits("since", &["a"]).await);
    rig.ban(&[], &[keys("x")]).await;
    assert!(!rig.hits("k", &["a"]).await, "the chain is broken");
    assert!(rig.hits("since", &["a"]).await);
}
