use super::*;
use crate::cache::Config;
use crate::clock::Clock;
use crate::services::Kind;

fn values(config: Config) -> (Values, Clock) {
    let clock = Clock::manual(1_000_000);
    (Values::new(Cache::new(config, clock.clone(), None)), clock)
}

fn shop() -> PluginName {
    "shop".parse().unwrap()
}

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_value_is_there_until_its_time_is_over_or_it_is_thrown_away() {
    let (values, clock) = values(Config {
        ttl_ms_max: 10_000,
        ..Config::default()
    });
    let (shop, rates, other) = (shop(), label("rates"), label("other"));
    let tags = ["money".to_owned()];
    values
        .set(&shop, &rates, "eur", b"1.1", 60_000, &tags)
        .await
        .unwrap();
    assert_eq!(
        values.get(&shop, &rates, "eur").await.unwrap().unwrap(),
        "1.1"
    );
    assert_eq!(values.get(&shop, &rates, "usd").await.unwrap(), None);
    assert_eq!(
        values.get(&shop, &other, "eur").await.unwrap(),
        None,
        "another cache"
    );
    let neighbour = "neighbour".parse().unwrap();
    assert_eq!(
        values.get(&neighbour, &rates, "eur").await.unwrap(),
        None,
        "another plugin"
    );
    assert_eq!(values.purge_tag(&neighbour, "money").await.unwrap(), 0);
    clock.advance_ms(9_999);
    assert!(values.get(&shop, &rates, "eur").await.unwrap().is_some());
    clock.advance_ms(1);
    assert!(
        values.get(&shop, &rates, "eur").await.unwrap().is_none(),
        "no longer than the operator keeps it"
    );

    values
        .set(&shop, &rates, "eur", b"1.1", 60_000, &tags)
        .await
        .unwrap();
    values
        .set(&shop, &other, "eur", b"1.2", 60_000, &tags)
        .await
        .unwrap();
    assert!(values.delete(&shop, &rates, "eur").await.unwrap());
    assert!(!values.delete(&shop, &rates, "eur").await.unwrap());
    assert_eq!(values.purge_tag(&shop, "money").await.unwrap(), 1);
    assert!(values.get(&shop, &other, "eur").await.unwrap().is_none());
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_words() {
    let (values, _) = values(Config {
        entry_bytes_max: 10,
        ..Config::default()
    });
    let (shop, rates) = (shop(), label("rates"));
    let long = "k".repeat(513);
    let tag = |tag: &str| vec![tag.to_owned()];
    let many: Vec<String> = (0..33).map(|number| format!("t{number}")).collect();
    for (key, value, ttl_ms, tags, code) in [
        ("", &b"v"[..], 1, vec![], "cache.key_invalid"),
        (&long, b"v", 1, vec![], "cache.key_invalid"),
        ("k", b"12345678901", 1, vec![], "cache.value_too_large"),
        ("k", b"v", 0, vec![], "cache.ttl_invalid"),
        ("k", b"v", 1, tag("a b"), "cache.tag_invalid"),
        ("k", b"v", 1, many, "cache.too_many_tags"),
    ] {
        let error = values
            .set(&shop, &rates, key, value, ttl_ms, &tags)
            .await
            .unwrap_err();
        assert_eq!(error.code, code);
        let expected = if code.ends_with("large") {
            Kind::Limit
        } else {
            Kind::Invalid
        };
        assert_eq!(error.kind, expected, "{code}");
    }
    let error = values
        .purge_route(&shop, &"r".repeat(5000))
        .await
        .unwrap_err();
    assert_eq!(error.code, "cache.route_invalid");
}

#[tokio::test]
async fn where_nothing_is_kept_nothing_is_found_and_nothing_fails() {
    let (values, _) = values(Config {
        is_on: false,
        ..Config::default()
    });
    let (shop, rates) = (shop(), label("rates"));
    values
        .set(&shop, &rates, "k", b"v", 1000, &[])
        .await
        .unwrap();
    assert_eq!(values.get(&shop, &rates, "k").await.unwrap(), None);
}
