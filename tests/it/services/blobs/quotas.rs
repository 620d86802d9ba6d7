//! How much may be kept, also if many send at once.

use futures_util::future::join_all;
use gantry::services::blobs::{
    BucketBounds, BucketId, Condition, Config, Error, Interrupted, NewObject, Object,
};

use super::on_both;
use super::place::{ANY, Make, Place, body, bucket, bytes, named, put};

on_both!(
    many_who_send_at_once_do_not_get_beyond_the_quota_together,
    a_bucket_has_bounds_of_its_own_within_those_of_its_plugin,
    an_upload_holds_what_it_declares_and_gives_back_what_it_held,
);

fn small(config: &mut Config) {
    config.bytes_per_plugin_max = 1_000_000;
    config.objects_per_plugin_max = 20;
    config.uploads_per_plugin_max = 10;
}

async fn send(
    place: &Place,
    bucket: &BucketId,
    name: &str,
    length: usize,
    declared: Option<u64>,
) -> Result<Object, Error> {
    let new = NewObject {
        length: declared,
        ..named(name)
    };
    let sent = bytes(length, 1);
    let sent = place.blobs.upload(bucket, new, &ANY, body(&sent, 20_000));
    sent.await.map_err(|error| match error {
        Interrupted::Refused(error) => error,
        Interrupted::Body(error) => panic!("{error}"),
    })
}

async fn many_who_send_at_once_do_not_get_beyond_the_quota_together(make: Make) {
    let place = make(small).await;
    let photos = bucket("shop/photos");
    let names: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    for declared in [Some(300_000), None] {
        let all = names
            .iter()
            .map(|name| send(&place, &photos, name, 300_000, declared));
        let all = join_all(all).await;
        let taken = all.iter().filter(|sent| sent.is_ok()).count();
        // Without declared lengths, those who end up refused may have kept others from their place.
        let least = if declared.is_some() { 3 } else { 0 };
        assert!((least..=3).contains(&taken), "{all:?}");
        let refused = all.iter().filter_map(|sent| sent.as_ref().err());
        for error in refused {
            assert_eq!(
                *error,
                Error::Full {
                    bytes_max: 1_000_000
                }
            );
        }
        let usage = place.blobs.usage_of(&photos.plugin).await.unwrap();
        assert!(usage.bytes + usage.reserved_bytes <= 1_000_000, "{usage:?}");
        place
            .settles_at(&photos, taken as u64 * 300_000, taken * 5)
            .await;
        for name in &names {
            place
                .blobs
                .delete(&photos, name, Condition::Always)
                .await
                .unwrap();
        }
        place.settles_at(&photos, 0, 0).await;
    }
    // Other plugins have their own.
    send(&place, &photos, "x", 900_000, None).await.unwrap();
    send(&place, &bucket("other/photos"), "x", 900_000, None)
        .await
        .unwrap();
    let full = send(&place, &bucket("shop/letters"), "x", 200_000, None).await;
    assert_eq!(
        full,
        Err(Error::Full {
            bytes_max: 1_000_000
        }),
        "over all its buckets"
    );
    let full = send(&place, &photos, "x", 900_000, None).await;
    assert_eq!(
        full,
        Err(Error::Full {
            bytes_max: 1_000_000
        }),
        "the old one is there until the new one is"
    );
    let counts = (0..30).map(|number| {
        let (place, name) = (&place, format!("n/{number}"));
        async move { send(place, &bucket("many/photos"), &name, 10, None).await }
    });
    let counts = join_all(counts).await;
    assert_eq!(
        place
            .blobs
            .usage(&bucket("many/photos"))
            .await
            .unwrap()
            .objects as usize,
        counts.iter().filter(|sent| sent.is_ok()).count()
    );
    for number in 0..30 {
        let _ = send(
            &place,
            &bucket("many/photos"),
            &format!("n/{number}"),
            10,
            None,
        )
        .await;
    }
    let usage = place.blobs.usage(&bucket("many/photos")).await.unwrap();
    assert_eq!(usage.objects, 20);
    let one_more = send(&place, &bucket("many/photos"), "n/x", 10, None).await;
    assert_eq!(one_more, Err(Error::TooManyObjects { objects_max: 20 }));
    let page = place
        .blobs
        .list(&bucket("many/photos"), "", None, 1)
        .await
        .unwrap();
    let again = send(
        &place,
        &bucket("many/photos"),
        &page.objects[0].name,
        11,
        None,
    )
    .await;
    assert_eq!(again.unwrap().size, 11, "in the place of one that is there");
}

async fn a_bucket_has_bounds_of_its_own_within_those_of_its_plugin(make: Make) {
    let place = make(|config| {
        small(config);
        config.buckets = vec![BucketBounds {
            plugin: "shop".parse().unwrap(),
            bucket: "photos".parse().unwrap(),
            bytes_max: Some(100_000),
            objects_max: Some(2),
        }];
    })
    .await;
    let (photos, letters) = (bucket("shop/photos"), bucket("shop/letters"));
    let full = send(&place, &photos, "a", 100_001, None).await;
    assert_eq!(full, Err(Error::Full { bytes_max: 100_000 }));
    for name in ["a", "b"] {
        send(&place, &photos, name, 100, None).await.unwrap();
    }
    let full = send(&place, &photos, "c", 100, None).await;
    assert_eq!(full, Err(Error::TooManyObjects { objects_max: 2 }));
    for name in ["a", "b", "c"] {
        send(&place, &letters, name, 200_000, None).await.unwrap();
    }
}

async fn an_upload_holds_what_it_declares_and_gives_back_what_it_held(make: Make) {
    let place = make(small).await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    let begin = async |name: &str, length| {
        let new = NewObject {
            length,
            ..named(name)
        };
        blobs.begin(&photos, new, &ANY).await
    };
    let held = begin("a", Some(900_000)).await.unwrap();
    let full = begin("b", Some(100_001)).await;
    assert_eq!(
        full,
        Err(Error::Full {
            bytes_max: 1_000_000
        })
    );
    let full = send(&place, &photos, "c", 100_001, None).await;
    assert_eq!(
        full,
        Err(Error::Full {
            bytes_max: 1_000_000
        })
    );
    // What came of the one that was refused goes by itself, soon.
    while blobs.usage(&photos).await.unwrap().bytes > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    put(blobs, &photos, "d", &bytes(100_000, 1)).await;
    blobs.abort(&photos, held.id).await.unwrap();
    place.settles_at(&photos, 100_000, 2).await;
    for number in 0..10 {
        begin(&number.to_string(), None).await.unwrap();
    }
    let too_many = begin("x", None).await;
    assert_eq!(too_many, Err(Error::TooManyUploads { uploads_max: 10 }));
    let too_many = send(&place, &photos, "x", 1, None).await;
    assert_eq!(too_many, Err(Error::TooManyUploads { uploads_max: 10 }));
}
