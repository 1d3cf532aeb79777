//! The purge protocol, on both stores. Each test says which switch of protocol/model.py it keeps off, if one.

use bridge_api::{Continuity, LookupReply, StoreReply};

use crate::support::Rig;

on_both_stores! {
    async fn what_was_stored_is_found_with_its_tags_and_bytes(rig: Rig) {
        let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let ticket = rig.ticket().await;
        assert_eq!(rig.put_for(1_000_000, "k", &["a", "b"], ticket, &body).await, StoreReply::Stored);
        let (reply, found) = rig.ask("k", &["a"], None).await;
        let LookupReply::Hit { tags, ticket: now, .. } = reply else { panic!("{reply:?}") };
        assert_eq!((tags, now.at, now.era), (vec!["a".to_owned(), "b".to_owned()], ticket.at, ticket.era));
        assert!(now.seen_ms >= ticket.seen_ms && ticket.seen_ms.is_some(), "{ticket:?} {now:?}");
        assert_eq!(found, body);
    }

    async fn an_entry_without_tags_is_found_too(rig: Rig) {
        rig.fill("k", &[]).await;
        assert!(!rig.hits("another", &[]).await);
    }

    async fn a_hit_carries_the_ticket_of_now_and_not_of_its_store(rig: Rig) {
        rig.fill("k", &["a"]).await;
        let purged = rig.purge(&["other"]).await;
        let LookupReply::Hit { ticket, .. } = rig.lookup("k", &["a"]).await else { panic!() };
        assert_eq!(ticket.at, purged.position);
        assert_eq!(ticket.era, purged.era);
    }

    async fn an_entry_says_how_long_it_has_been_there(rig: Rig) {
        rig.fill("k", &["a"]).await;
        rig.pass(60).await;
        let LookupReply::Hit { resident_ms, .. } = rig.lookup("k", &["a"]).await else { panic!() };
        assert!((60..5_000).contains(&resident_ms), "{resident_ms}");
    }

    async fn an_entry_is_gone_when_it_need_not_be_kept_any_longer(rig: Rig) {
        let ticket = rig.ticket().await;
        assert_eq!(rig.put_for(80, "k", &["a"], ticket, b"x").await, StoreReply::Stored);
        assert!(rig.hits("k", &["a"]).await);
        rig.pass(120).await;
        assert!(!rig.hits("k", &["a"]).await);
    }

    async fn a_purge_of_any_of_its_tags_ends_an_entry_and_no_other(rig: Rig) {
        for purged in ["named", "response-only"] {
            rig.fill("k", &["named", "response-only"]).await;
            rig.fill("other", &["named-2"]).await;
            rig.purge(&["unrelated", purged]).await;
            assert!(!rig.hits("k", &["named"]).await, "{purged}");
            assert!(rig.hits("other", &["named-2"]).await, "{purged}");
        }
    }

    async fn a_purge_of_a_tag_that_the_request_names_counts_even_if_the_entry_lacks_it(rig: Rig) {
        rig.fill("k", &["a", "b"]).await;
        let ticket = rig.ticket().await;
        assert_eq!(rig.put("k", &["a"], ticket).await, StoreReply::Stored);
        rig.purge(&["b"]).await;
        assert!(!rig.hits("k", &["a", "b"]).await);
    }

    /// `store_without_ticket`, `del_purge`: what counts is when the fill began.
    async fn a_fill_that_began_before_a_purge_is_not_served_after_it(rig: Rig) {
        let ticket = rig.ticket().await;
        rig.purge(&["a"]).await;
        assert_eq!(rig.put("k", &["a"], ticket).await, StoreReply::Void);
        assert_eq!(rig.put("k", &["response-only", "a"], ticket).await, StoreReply::Void);
        assert!(!rig.hits("k", &["a"]).await);
        assert_eq!(rig.put("k", &["b"], ticket).await, StoreReply::Stored);
    }

    async fn an_older_ticket_does_not_overwrite_a_newer_one(rig: Rig) {
        rig.purge(&["a"]).await; // its epoch is older than both tickets
        let older = rig.ticket().await;
        rig.purge(&["other"]).await;
        let newer = rig.ticket().await;
        assert_eq!(rig.put_for(1_000, "k", &["a"], newer, b"newer").await, StoreReply::Stored);
        assert_eq!(rig.put_for(1_000, "k", &["a"], older, b"older").await, StoreReply::Newer);
        assert_eq!(rig.ask("k", &["a"], None).await.1, "newer");
        assert_eq!(rig.put_for(1_000, "k", &["a"], newer, b"again").await, StoreReply::Stored);
        assert_eq!(rig.ask("k", &["a"], None).await.1, "again");
    }

    /// C6.
    async fn an_absent_epoch_is_a_miss(rig: Rig) {
        for lost in ["named", "response-only"] {
            rig.fill("k", &["named", "response-only"]).await;
            rig.forget_epoch(lost);
            assert!(!rig.hits("k", &["named"]).await, "{lost}");
        }
    }

    /// `eq`, `create_at_store`, `accept_present`: epochs are compared by order, wherever they come from.
    async fn an_epoch_that_is_made_anew_does_not_bring_back_what_was_purged(rig: Rig) {
        let before = rig.ticket().await;
        rig.fill("old", &["a"]).await;
        rig.purge(&["a"]).await;
        rig.forget_epoch("a");
        rig.fill("new", &["a"]).await;
        assert!(!rig.hits("old", &["a"]).await);
        rig.forget_epoch("a");
        assert_eq!(rig.put("late", &["a"], before).await, StoreReply::Void);
        for key in ["old", "late"] {
            assert!(!rig.hits(key, &["a"]).await, "{key}");
        }
    }

    /// `create_unchecked`: the log is asked whether the tag was purged since.
    async fn an_absent_epoch_is_as_old_as_the_ticket_only_if_the_log_proves_it(rig: Rig) {
        let ticket = rig.ticket().await;
        rig.purge(&["a"]).await;
        rig.forget_epoch("a");
        assert_eq!(rig.put("k", &["a"], ticket).await, StoreReply::Void);
        assert!(!rig.hits("k", &["a"]).await);
        assert_eq!(rig.put("k", &["b"], ticket).await, StoreReply::Stored, "nothing purged b");
        assert!(rig.hits("k", &["b"]).await);
    }

    async fn first_of_all_a_gateway_gets_a_cursor_and_flushes(rig: Rig) {
        let purged = rig.purge(&["a"]).await;
        let reading = rig.poll(None, None).await;
        assert_eq!((reading.continuity, reading.cursor), (Continuity::First, purged.position));
        assert!(reading.records.is_empty() && reading.complete);
    }

    async fn the_feed_tells_each_purge_once_and_in_order(rig: Rig) {
        let cursor = rig.cursor().await;
        assert!(rig.poll(Some(cursor), None).await.is_quiet());
        let one = rig.purge(&["a", "b"]).await.position;
        let two = rig.purge(&["c"]).await.position;
        let reading = rig.poll(Some(cursor), Some(two)).await;
        let told: Vec<_> = reading.records.iter().map(|record| (record.position, record.tags.join(" "))).collect();
        assert_eq!(told, [(one, "a b".to_owned()), (two, "c".to_owned())]);
        assert_eq!((reading.continuity, reading.cursor, reading.complete), (Continuity::Joined, two, true));
        assert!(rig.poll(Some(two), Some(two)).await.is_quiet());
    }

    /// `heard_partial`: what is left out is said to be.
    async fn an_answer_that_would_be_too_large_is_cut_and_says_so(rig: Rig) {
        let mut cursor = rig.cursor().await;
        let long = "x".repeat(500);
        let mut purged = Vec::new();
        for index in 0..30 {
            let tags: Vec<String> = (0..20).map(|tag| format!("{long}{index}:{tag}")).collect();
            purged.push(rig.purge(&tags.iter().map(|tag| &**tag).collect::<Vec<_>>()).await.position);
        }
        let mut told = Vec::new();
        loop {
            let reading = rig.poll(Some(cursor), None).await;
            assert_eq!(reading.continuity, Continuity::Joined);
            assert!(reading.records.iter().flat_map(|record| &record.tags).map(String::len).sum::<usize>() <= 128 << 10);
            told.extend(reading.records.iter().map(|record| record.position));
            cursor = reading.cursor;
            if reading.complete {
                break;
            }
            assert!(told.len() < 30 && !reading.records.is_empty());
        }
        assert_eq!(told, purged);
    }

    /// `no_gap_check`: the cursor itself is looked for.
    async fn a_log_that_was_evicted_begins_a_new_era_and_voids_everything(rig: Rig) {
        rig.fill("k", &["a"]).await;
        let (ticket, cursor) = (rig.ticket().await, rig.cursor().await);
        rig.forget_log().await;
        assert!(!rig.hits("k", &["a"]).await);
        assert_eq!(rig.put("k", &["a"], ticket).await, StoreReply::Void);
        assert_ne!(rig.ticket().await.era, ticket.era);
        let reading = rig.poll(Some(cursor), None).await;
        assert_eq!(reading.continuity, Continuity::Trimmed, "or any but joined");
        assert!(rig.poll(Some(reading.cursor), None).await.is_quiet());
        rig.fill("k", &["a"]).await;
    }

    async fn a_purge_that_finds_no_log_begins_one(rig: Rig) {
        rig.fill("k", &["a"]).await;
        let (ticket, cursor) = (rig.ticket().await, rig.cursor().await);
        rig.forget_log().await;
        let purged = rig.purge(&["b"]).await;
        assert_ne!(purged.era, ticket.era);
        assert!(!rig.hits("k", &["a"]).await);
        assert_ne!(rig.poll(Some(cursor), None).await.continuity, Continuity::Joined);
    }

    /// `no_gap_check`, `no_era_bump`: whoever saw what was lost says so, and everybody hears of it.
    async fn a_failover_that_lost_the_cursor_begins_a_new_era(rig: Rig) {
        rig.fill("k", &["a"]).await;
        let other_gateway = rig.cursor().await;
        let replica = rig.replica();
        rig.purge(&["a"]).await;
        let cursor = rig.cursor().await;
        rig.fail_over_to(&replica).await;
        let ticket = rig.ticket().await;
        assert!(rig.hits("k", &["a"]).await, "nobody has noticed yet");
        let reading = rig.poll(Some(cursor), None).await;
        assert_eq!(reading.continuity, Continuity::Lost);
        assert!(!rig.hits("k", &["a"]).await);
        assert_eq!(rig.put("k", &["a"], ticket).await, StoreReply::Void);
        assert_eq!(rig.poll(Some(other_gateway), None).await.continuity, Continuity::NewEra);
        assert!(rig.poll(Some(reading.cursor), None).await.is_quiet());
    }

    /// `no_known`, `no_token`: the cursor may be old enough to have survived.
    async fn a_failover_that_lost_an_acknowledged_purge_is_noticed_by_whoever_made_it(rig: Rig) {
        rig.fill("k", &["a"]).await;
        let cursor = rig.cursor().await;
        let replica = rig.replica();
        let known = Some(rig.purge(&["a"]).await.position);
        rig.fail_over_to(&replica).await;
        assert_eq!(rig.ask("k", &["a"], known).await.0, LookupReply::Behind);
        assert!(rig.poll(Some(cursor), None).await.is_quiet(), "the cursor alone wouldn't show it");
        assert_eq!(rig.poll(Some(cursor), known).await.continuity, Continuity::Lost);
        assert!(!rig.hits("k", &["a"]).await);
    }

    /// `dense_ids`: the id alone proves nothing.
    async fn a_record_that_took_a_lost_ones_id_is_not_mistaken_for_it(rig: Rig) {
        rig.fill("k", &["a"]).await;
        let cursor = rig.cursor().await;
        let replica = rig.replica();
        let lost = rig.purge(&["a"]).await.position;
        rig.fail_over_to(&replica).await;
        rig.take_id(lost).await;
        assert_eq!(rig.ask("k", &["a"], Some(lost)).await.0, LookupReply::Behind);
        assert_eq!(rig.poll(Some(cursor), Some(lost)).await.continuity, Continuity::Lost);
    }

    async fn a_ticket_that_the_log_lost_stores_nothing(rig: Rig) {
        rig.fill("k", &["a"]).await;
        let replica = rig.replica();
        rig.purge(&["other"]).await;
        let ticket = rig.ticket().await;
        rig.fail_over_to(&replica).await;
        assert_eq!(rig.put("k2", &["a"], ticket).await, StoreReply::Void);
    }

    async fn namespaces_do_not_see_each_other(rig: Rig) {
        use bridge_api::{LookupRequest, PurgeRequest};
        rig.fill("k", &["a"]).await;
        let namespace = "shop:v2".to_owned();
        let elsewhere = LookupRequest { namespace: namespace.clone(), key: "k".into(), tags: vec!["a".into()], ..LookupRequest::default() };
        assert!(matches!(rig.store.lookup(&elsewhere).await.unwrap().0, LookupReply::Miss { .. }));
        rig.store.purge(&PurgeRequest { namespace, tags: vec!["a".into()], ..PurgeRequest::default() }, &[]).await.unwrap();
        assert!(rig.hits("k", &["a"]).await);
    }

    async fn keys_and_tags_may_hold_any_text(rig: Rig) {
        let (b, long) = ("{x}:*?[\\]\u{0}\r\n\"ä", "t".repeat(512));
        for text in ["", " ", b, &long] {
            let key = format!("key {text}");
            rig.fill(&key, &[text]).await;
            rig.purge(&[text]).await;
            assert!(!rig.hits(&key, &[text]).await, "{text:?}");
        }
    }

    /// 2^64 − 1 has more digits than a Lua number.
    async fn positions_of_any_size_are_refused_rather_than_misread(rig: Rig) {
        use bridge_api::{Position, Ticket};
        let now = rig.ticket().await;
        for at in [
            Position { ms: u64::MAX, seq: u64::MAX, unique: 0 },
            Position { ms: u64::MAX, seq: 0, unique: u64::MAX },
            Position { seq: u64::MAX, ..now.at },
            Position { unique: now.at.unique ^ 1, ..now.at },
        ] {
            assert_eq!(rig.put("k", &["a"], Ticket { at, ..now }).await, StoreReply::Void, "{at}");
            assert_eq!(rig.ask("k", &["a"], Some(at)).await.0, LookupReply::Behind, "{at}");
        }
        let first = Position { ms: 0, seq: 0, unique: 7 };
        assert!(matches!(rig.ask("k", &[], Some(first)).await.0, LookupReply::Miss { .. }), "trimmed, perhaps");
    }

    async fn as_many_tags_as_a_call_may_name_work(rig: Rig) {
        let tags: Vec<String> = (0..256).map(|tag| format!("t{tag}")).collect();
        let tags: Vec<&str> = tags.iter().map(|tag| &**tag).collect();
        rig.fill("k", &tags).await;
        assert!(rig.hits("k", &[]).await, "all of them from the entry");
        let cursor = rig.cursor().await;
        rig.purge(&tags).await;
        assert!(!rig.hits("k", &[]).await);
        assert_eq!(rig.poll(Some(cursor), None).await.records[0].tags, tags);
    }
}

/// `no_gap_check`, `eq_no_reach`: what the log no longer holds proves nothing.
async fn a_trimmed_log_flushes_rather_than_guesses(rig: Rig) {
    let (ticket, cursor) = (rig.ticket().await, rig.cursor().await);
    rig.fill("k", &["a"]).await;
    for _ in 0..6 {
        rig.purge(&["other"]).await;
    }
    assert_eq!(rig.poll(Some(cursor), None).await.continuity, Continuity::Trimmed);
    assert!(rig.hits("k", &["a"]).await, "epochs don't depend on the log's length");
    assert_eq!(rig.put("k2", &["a"], ticket).await, StoreReply::Stored, "nor does a store that finds them");
    assert_eq!(rig.put("k3", &["b"], ticket).await, StoreReply::Void);
    assert!(!rig.hits("k3", &["b"]).await);
}

#[tokio::test]
async fn a_trimmed_log_in_memory_flushes_rather_than_guesses() {
    a_trimmed_log_flushes_rather_than_guesses(Rig::mem_with_log(4)).await;
}

#[tokio::test]
async fn a_trimmed_log_in_redis_flushes_rather_than_guesses() {
    a_trimmed_log_flushes_rather_than_guesses(Rig::redis_with_log(4)).await;
}

mod memory {
    use bridge_api::{FeedRequest, LookupRequest, Position, PurgeRequest, StoreRequest, Ticket};
    use bytes::Bytes;
    use routecache_bridge::mem::Memory;

    use super::{Continuity, LookupReply, StoreReply};
    use crate::support::NAMESPACE;

    fn lookup(key: String) -> LookupRequest {
        LookupRequest { namespace: NAMESPACE.into(), key, tags: vec!["a".into()], ..LookupRequest::default() }
    }

    fn ticket(memory: &mut Memory, now_ms: u64) -> Ticket {
        match memory.lookup(&lookup("none".into()), now_ms).0 {
            LookupReply::Miss { ticket, .. } => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn poll(cursor: Option<Position>, hold_ms: u64) -> FeedRequest {
        FeedRequest { namespace: NAMESPACE.into(), cursor, hold_ms, ..FeedRequest::default() }
    }

    #[test]
    fn a_restart_is_noticed() {
        let mut memory = Memory::new(1 << 20, 1);
        let before = ticket(&mut memory, 5_000);
        let cursor = memory.read_log(&poll(None, 0), 5_000).cursor;
        // The clock goes on, steps back, or begins anew with the process.
        for (now_ms, continuity) in [(9_000, Continuity::Trimmed), (5_000, Continuity::Lost), (7, Continuity::Lost)] {
            let mut reborn = Memory::new(1 << 20, 2);
            assert_ne!(ticket(&mut reborn, now_ms).era, before.era);
            assert_eq!(reborn.read_log(&poll(Some(cursor), 0), now_ms).continuity, continuity);
            let (namespace, key, tags) = (NAMESPACE.into(), "k".into(), vec!["a".into()]);
            let late = StoreRequest { namespace, key, tags, ticket: before, keep_ms: 1_000, holder: None };
            assert_eq!(reborn.store(&late, Bytes::new(), now_ms), StoreReply::Void);
        }
    }

    #[test]
    fn a_poll_is_held_until_there_is_something_or_its_time_is_up() {
        let mut memory = Memory::new(1 << 20, 1);
        let cursor = memory.poll(&poll(None, 100), 0, 0).unwrap().cursor;
        let held = poll(Some(cursor), 100);
        assert_eq!(memory.poll(&held, 10, 10), None);
        assert_eq!(memory.poll(&held, 10, 109), None);
        let empty = memory.poll(&held, 10, 110).unwrap();
        assert_eq!((empty.held_ms, empty.records.len(), empty.complete), (100, 0, true));
        memory.purge(
            &PurgeRequest { namespace: NAMESPACE.into(), tags: vec!["a".into()], ..PurgeRequest::default() },
            120,
        );
        let told = memory.poll(&held, 110, 125).unwrap();
        assert_eq!((told.held_ms, told.records.len()), (15, 1));
    }

    #[test]
    fn the_byte_budget_holds_and_what_goes_is_a_miss() {
        const BYTES: usize = 4 << 20;
        let mut memory = Memory::new(BYTES, 1);
        let mut now_ms = 0;
        for round in 0..5_000_u64 {
            now_ms += 1;
            let at = ticket(&mut memory, now_ms);
            let tags = vec!["a".into(), format!("{round}")];
            let request = StoreRequest {
                namespace: NAMESPACE.into(),
                key: round.to_string(),
                tags: tags.clone(),
                ticket: at,
                keep_ms: 1 << 30,
                holder: None,
            };
            assert_eq!(memory.store(&request, vec![b'x'; 3_000].into(), now_ms), StoreReply::Stored);
            assert!(matches!(memory.lookup(&lookup(round.to_string()), now_ms).0, LookupReply::Hit { .. }));
            memory.purge(
                &PurgeRequest { namespace: NAMESPACE.into(), tags: vec!["x".repeat(500)], ..PurgeRequest::default() },
                now_ms,
            );
            assert!(memory.bytes() <= BYTES, "{} after {round}", memory.bytes());
        }
        assert!(matches!(memory.lookup(&lookup("0".into()), now_ms).0, LookupReply::Miss { .. }));
        let huge = StoreRequest {
            namespace: NAMESPACE.into(),
            key: "huge".into(),
            tags: vec![],
            ticket: ticket(&mut memory, now_ms),
            keep_ms: 1,
            holder: None,
        };
        assert_eq!(memory.store(&huge, vec![0; BYTES].into(), now_ms), StoreReply::Full);
    }

    #[test]
    fn more_groups_than_can_be_held_begin_anew_and_lose_nothing_but_entries() {
        let mut memory = Memory::new(8 << 20, 1);
        let first = ticket(&mut memory, 0);
        for group in 0..1_000 {
            memory.purge(
                &PurgeRequest { namespace: format!("g{group}"), tags: vec!["a".into()], ..PurgeRequest::default() },
                1,
            );
        }
        assert_ne!(ticket(&mut memory, 2).era, first.era);
    }
}
