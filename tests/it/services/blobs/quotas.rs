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
    one_sender_keeps_nobody_else_out_with_uploads_that_never_come,
    one_sender_has_no_more_than_a_share_if_there_is_one,
    uploads_that_come_slowly_leave_memory_for_others,
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

async fn one_sender_keeps_nobody_else_out_with_uploads_that_never_come(make: Make) {
    let place = make(|config| {
        small(config);
        config.uploads_per_owner_max = 3;
    })
    .await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    let begin = async |owner: Option<&str>, name: &str, length| {
        let new = NewObject {
            length,
            owner: owner.map(str::to_owned),
            ..named(name)
        };
        blobs.begin(&photos, new, &ANY).await
    };
    for (sender, name, most) in [(Some("ann"), "ann", 3), (None, "anybody", 5)] {
        let name = |number: u32| format!("{name}/{number}");
        let first = begin(sender, &name(1), Some(200_000)).await.unwrap();
        let too_much = begin(sender, &name(2), Some(400_000)).await;
        assert!(matches!(too_much, Err(Error::Full { .. })), "{too_much:?}");
        begin(sender, &name(2), Some(100_000)).await.unwrap();
        let third = begin(sender, &name(3), None).await.unwrap();
        let too_much = blobs.declare_length(&photos, third.id, 400_000).await;
        assert!(matches!(too_much, Err(Error::Full { .. })), "{too_much:?}");
        for number in 4..=most {
            begin(sender, &name(number), None).await.unwrap();
        }
        let too_many = begin(sender, &name(9), None).await;
        let uploads_max = most.into();
        assert_eq!(too_many, Err(Error::TooManyUploads { uploads_max }));
        blobs.abort(&photos, third.id).await.unwrap();
        begin(sender, &name(9), None).await.unwrap();
        assert!(first.finished.is_none());
    }
    begin(Some("bob"), "bob/1", Some(400_000)).await.unwrap();
}

async fn one_sender_has_no_more_than_a_share_if_there_is_one(make: Make) {
    let place = make(|config| {
        small(config);
        config.bytes_per_owner_max = Some(100_000);
    })
    .await;
    let photos = bucket("shop/photos");
    let full = Err(Error::Full { bytes_max: 100_000 });
    let send = async |owner: Option<&str>, name: &str, length: usize, declared| {
        let new = NewObject {
            length: declared,
            owner: owner.map(str::to_owned),
            ..named(name)
        };
        let sent = bytes(length, 1);
        let sent = place
            .blobs
            .upload(&photos, new, &ANY, body(&sent, 20_000))
            .await;
        sent.map(|object| object.size).map_err(|error| match error {
            Interrupted::Refused(error) => error,
            Interrupted::Body(error) => panic!("{error}"),
        })
    };
    assert_eq!(send(Some("ann"), "a", 60_000, None).await, Ok(60_000));
    assert_eq!(send(Some("ann"), "b", 60_000, Some(60_000)).await, full);
    assert_eq!(send(Some("ann"), "b", 60_000, None).await, full);
    assert_eq!(
        send(Some("ann"), "b", 40_000, Some(40_000)).await,
        Ok(40_000)
    );
    assert_eq!(send(Some("bob"), "c", 60_000, None).await, Ok(60_000));
    assert_eq!(
        send(None, "d", 200_000, None).await,
        Ok(200_000),
        "the plugin"
    );
}

async fn uploads_that_come_slowly_leave_memory_for_others(make: Make) {
    let place = make(|config| {
        config.buffers_bytes_max = 1 << 20;
        config.part_bytes = 512 << 10;
        config.wait_ms = 200;
    })
    .await;
    let photos = bucket("shop/photos");
    let mut slow = Vec::new();
    for number in 0..4 {
        let new = named(&format!("slow/{number}"));
        let mut writer = place.blobs.writer(&photos, new, &ANY).await.unwrap();
        writer.write(bytes(262_000, number)).await.unwrap();
        // Once this is on its way, what came before has been taken.
        writer.write(bytes(1, 1)).await.unwrap();
        writer.write(bytes(1, 1)).await.unwrap();
        slow.push(writer);
    }
    let sent = send(&place, &photos, "x", 300_000, None).await.unwrap();
    assert_eq!(sent.size, 300_000);
    for writer in slow {
        assert_eq!(writer.finish().await.unwrap().size, 262_002);
    }
}
