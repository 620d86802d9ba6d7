use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn cache(config: Config) -> (Cache, Clock) {
    let clock = Clock::manual(1_000_000);
    (Cache::new(config, clock.clone(), None), clock)
}

fn plugin(name: &str) -> PluginName {
    name.parse().unwrap()
}

fn key(number: u64) -> Key {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    Key(key)
}

fn value(bytes: usize, tags: &[&str]) -> NewEntry {
    NewEntry {
        kept: Kept::Value,
        body: Bytes::from(vec![7; bytes]),
        lives: Lives {
            fresh: Duration::from_secs(10),
            while_renewing: Duration::from_secs(5),
            if_error: Duration::from_secs(20),
        },
        marks: Marks {
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            ..Marks::default()
        },
    }
}

fn tag(text: &str) -> Purge {
    Purge::Tag(text.parse().unwrap())
}

#[test]
fn an_entry_goes_through_its_times_and_is_gone_after_the_last() {
    let (cache, clock) = cache(Config::default());
    let part = cache.part(&plugin("a"));
    cache
        .put(&part, key(1), value(3, &[]), part.stamp())
        .unwrap();
    for (after_s, is_fresh, may_renew, may_stand_in) in [
        (0, true, true, true),
        (9, true, true, true),
        (1, false, true, true),
        (4, false, true, true),
        (1, false, false, true),
        (14, false, false, true),
    ] {
        clock.advance_ms(after_s * 1000);
        let entry = part.find(&key(1)).unwrap();
        let now_ns = clock.monotonic_ns();
        assert_eq!(!entry.fresh_for(now_ns).is_zero(), is_fresh, "{after_s}");
        assert_eq!(entry.may_renew_behind(now_ns), may_renew, "{after_s}");
        assert_eq!(entry.may_stand_in(now_ns), may_stand_in, "{after_s}");
    }
    clock.advance_ms(1000);
    assert!(part.find(&key(1)).is_none());
}

#[test]
fn a_purge_takes_what_it_means_and_nothing_else() {
    let (cache, _) = cache(Config::default());
    let (part, other) = (cache.part(&plugin("a")), cache.part(&plugin("b")));
    for (number, tags) in [(1, &["red"][..]), (2, &["red", "blue"]), (3, &[])] {
        for part in [&part, &other] {
            cache
                .put(part, key(number), value(3, tags), part.stamp())
                .unwrap();
        }
    }
    let mut routed = value(3, &[]);
    routed.marks.route = Some("/orders/{id}".into());
    routed.marks.path = Some("/shop/orders/7".into());
    cache
        .put(&part, key(4), routed.clone(), part.stamp())
        .unwrap();
    assert_eq!(part.purge_here(&tag("green")), 0);
    assert_eq!(part.purge_here(&tag("blue")), 1);
    assert!(part.find(&key(1)).is_some() && part.find(&key(2)).is_none());
    assert_eq!(
        part.purge_here(&tag("red")),
        1,
        "the other one is gone already"
    );
    assert_eq!(part.purge_here(&Purge::Path("/shop/orders/8".into())), 0);
    assert_eq!(part.purge_here(&Purge::Path("/shop/orders/7".into())), 1);
    cache.put(&part, key(4), routed, part.stamp()).unwrap();
    assert_eq!(part.purge_here(&Purge::Route("/orders/{id}".into())), 1);
    assert_eq!(part.purge_here(&Purge::Everything), 1);
    assert_eq!(cache.figures()[0].bytes, 0, "{:?}", cache.figures());
    for number in [1, 2, 3] {
        assert!(other.find(&key(number)).is_some(), "another plugin's");
    }
}

#[test]
fn what_was_being_made_when_it_was_purged_is_not_kept() {
    let (cache, _) = cache(Config::default());
    let part = cache.part(&plugin("a"));
    let before = part.stamp();
    part.purge_here(&tag("red"));
    let refused = cache.put(&part, key(1), value(3, &["red"]), before);
    assert_eq!(refused.unwrap_err(), Refused::Purged);
    assert!(part.find(&key(1)).is_none());
    cache
        .put(&part, key(2), value(3, &["blue"]), before)
        .unwrap();
    cache
        .put(&part, key(1), value(3, &["red"]), part.stamp())
        .unwrap();
    // With more purges than are remembered, nobody knows.
    let before = part.stamp();
    for number in 0..300 {
        part.purge_here(&tag(&format!("other-{number}")));
    }
    let refused = cache.put(&part, key(3), value(3, &[]), before);
    assert_eq!(refused.unwrap_err(), Refused::Purged);
    assert!(part.find(&key(1)).is_some());
}

#[test]
fn an_entry_in_the_place_of_another_is_found_by_its_own_tags_only() {
    let (cache, _) = cache(Config::default());
    let part = cache.part(&plugin("a"));
    cache
        .put(&part, key(1), value(3, &["old", "both"]), part.stamp())
        .unwrap();
    cache
        .put(&part, key(1), value(4, &["new", "both"]), part.stamp())
        .unwrap();
    assert_eq!(part.purge_here(&tag("old")), 0);
    assert_eq!(part.find(&key(1)).unwrap().body.len(), 4);
    assert_eq!(part.purge_here(&tag("both")), 1);
    assert_eq!(cache.figures()[0].bytes, 0);
}

#[tokio::test]
async fn no_plugin_has_more_than_its_bytes_and_all_together_no_more_than_theirs() {
    let (cache, _) = cache(Config {
        bytes_max: 100_000,
        bytes_per_plugin_max: 60_000,
        entry_bytes_max: 10_000,
        ..Config::default()
    });
    let parts = ["a", "b", "c"].map(|name| cache.part(&plugin(name)));
    let long = cache.put(&parts[0], key(1), value(10_001, &[]), parts[0].stamp());
    assert_eq!(long.unwrap_err(), Refused::TooLong);
    for number in 0..200 {
        for part in &parts {
            let tag = format!("t{number}");
            let _ = cache.put(part, key(number), value(1000, &[&tag]), part.stamp());
            assert!(part.bytes() <= 60_000, "{}", part.bytes());
            let sum: u64 = cache.figures().iter().map(|figures| figures.bytes).sum();
            assert!(sum <= 100_000, "{sum}");
        }
    }
    let figures = cache.figures();
    assert!(
        figures
            .iter()
            .all(|figures| figures.entries > 0 && figures.evictions > 0),
        "{figures:?}"
    );
    cache.remove(&plugin("a")).await;
    assert_eq!(cache.figures().len(), 2);
}

#[tokio::test]
async fn one_of_those_who_want_the_same_has_it_made_and_one_takes_over_if_it_goes() {
    let (cache, _) = cache(Config {
        waiting_max: 2,
        ..Config::default()
    });
    let part = cache.part(&plugin("a"));
    let Turn::Lead(leader) = part.join(key(1)) else {
        panic!("nobody else is here");
    };
    let (Turn::Wait(first), Turn::Wait(second)) = (part.join(key(1)), part.join(key(1))) else {
        panic!("it is being made");
    };
    assert!(matches!(part.join(key(1)), Turn::Full));
    assert!(matches!(part.join(key(2)), Turn::Lead(_)), "another one");
    drop(leader);
    assert!(matches!(first.outcome().await, Outcome::Abandoned));
    let Turn::Lead(leader) = part.join(key(1)) else {
        panic!("the place is free");
    };
    assert!(matches!(second.outcome().await, Outcome::Abandoned));
    let Turn::Wait(third) = part.join(key(1)) else {
        panic!("it is being made");
    };
    leader.settle(Outcome::Failed(502));
    assert!(matches!(third.outcome().await, Outcome::Failed(_)));
    assert!(matches!(part.join(key(1)), Turn::Lead(_)));
}

#[test]
fn a_tag_is_one_visible_word() {
    let long = "t".repeat(128);
    let longer = "t".repeat(129);
    for (text, is_tag) in [
        ("order:7", true),
        ("a", true),
        (long.as_str(), true),
        (longer.as_str(), false),
        ("", false),
        ("a,b", false),
        ("a b", false),
        ("\u{e9}", false),
        ("a\n", false),
    ] {
        assert_eq!(text.parse::<Tag>().is_ok(), is_tag, "{text}");
    }
}

proptest! {
    /// Whatever is put, removed and purged, in whatever order: what is found was put there last and not purged since, and
    /// the bytes that are counted are those of what is there.
    #[test]
    fn what_is_found_is_what_is_there(steps in proptest::collection::vec((0_u8..4, 0_u64..6, 0_usize..4), 1..80)) {
        let (cache, _) = cache(Config::default());
        let part = cache.part(&plugin("a"));
        let mut model: HashMap<u64, (usize, String)> = HashMap::new();
        for (what, number, choice) in steps {
            let name = format!("t{choice}");
            match what {
                0 | 1 => {
                    let bytes = 10 + choice;
                    cache.put(&part, key(number), value(bytes, &[&name]), part.stamp()).unwrap();
                    model.insert(number, (bytes, name));
                }
                2 => {
                    prop_assert_eq!(part.remove(&key(number)), model.remove(&number).is_some());
                }
                _ => {
                    let before = model.len();
                    model.retain(|_, (_, other)| *other != name);
                    prop_assert_eq!(part.purge_here(&tag(&name)), (before - model.len()) as u64);
                }
            }
            for number in 0..6 {
                let found = part.find(&key(number)).map(|entry| entry.body.len());
                prop_assert_eq!(found, model.get(&number).map(|(bytes, _)| *bytes));
            }
        }
        part.purge_here(&Purge::Everything);
        prop_assert_eq!(part.bytes(), 0);
    }
}
