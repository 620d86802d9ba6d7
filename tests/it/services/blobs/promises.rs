//! What holds for objects wherever their bytes lie.

use futures_util::{StreamExt as _, TryStreamExt as _};
use gantry::ids::Digest;
use gantry::services::blobs::{
    Blobs, BucketId, Condition, Error, Interrupted, NewObject, Object, Rules, derived_folder,
};

use super::on_both;
use super::place::{ANY, KEY, Make, Place, body, broken_body, bucket, bytes, get, named, put};

on_both!(
    an_object_is_given_as_it_was_taken_whole_and_in_ranges,
    what_is_replaced_or_deleted_is_read_to_its_end_and_then_its_bytes_go,
    what_ends_early_or_is_refused_leaves_nothing,
    an_object_is_written_and_deleted_only_under_its_condition,
    buckets_of_one_label_are_apart_for_each_plugin,
    names_are_listed_in_order_by_prefix_and_page,
    bytes_that_no_row_knows_go_when_they_are_old,
    a_plugin_that_is_removed_takes_its_files_along,
    what_was_derived_of_an_object_goes_with_it_and_nothing_else_does,
);

async fn what_was_derived_of_an_object_goes_with_it_and_nothing_else_does(make: Make) {
    let place = make(|_| {}).await;
    let (blobs, photos, others) = (&place.blobs, bucket("shop/photos"), bucket("shop/others"));
    let some = bytes(1000, 3);
    let names = async || -> Vec<String> {
        let page = blobs.list(&photos, "", None, 100).await.unwrap();
        page.objects.into_iter().map(|object| object.name).collect()
    };
    let derived = |name: &str, of: &str| format!("{}{of}", derived_folder(name));
    let mine = derived("a%_b", "1");
    for name in [
        "a%_b",
        "a%_b/c",
        "axyb",
        &mine,
        &derived("a%_b", "2"),
        // These are not of it.
        &derived("a%_b/c", "1"),
        &derived("axyb", "1"),
        "~renditions/a%_b0",
        "~other/a%_b/1",
    ] {
        put(blobs, &photos, name, &some).await;
    }
    put(blobs, &others, &mine, &some).await;
    let read = blobs.info(&photos, &mine).await.unwrap();
    let reading = blobs.open(&read, None).await.unwrap();

    // Replaced.
    put(blobs, &photos, "a%_b", &some).await;
    let left = [
        "a%_b",
        "a%_b/c",
        "axyb",
        "~other/a%_b/1",
        "~renditions/a%_b/c/1",
        "~renditions/a%_b0",
        "~renditions/axyb/1",
    ];
    assert_eq!(names().await, left);
    assert_eq!(blobs.usage(&photos).await.unwrap().objects, 7);
    let to_its_end = reading.try_collect::<Vec<_>>().await.unwrap().concat();
    assert_eq!(to_its_end, some);

    // Deleted.
    put(blobs, &photos, &mine, &some).await;
    assert!(
        blobs
            .delete(&photos, "a%_b", Condition::Always)
            .await
            .unwrap()
    );
    assert_eq!(names().await, left[1..]);
    assert_eq!(blobs.usage(&photos).await.unwrap().objects, 6);
    assert_eq!(blobs.usage(&others).await.unwrap().objects, 1);
    place.settles_at(&photos, 6000, 7).await;
    let all = blobs.usage_of(&photos.plugin).await.unwrap();
    assert_eq!((all.objects, all.bytes), (7, 7000));
}

async fn an_object_is_given_as_it_was_taken_whole_and_in_ranges(make: Make) {
    let place = make(|_| {}).await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    for length in [0, 1, 65_535, 65_536, 65_537, 300_001] {
        let sent = bytes(length, 1);
        let mut new = named("a/b.txt");
        new.content_type = Some("text/plain; charset=utf-8".to_owned());
        new.metadata = [("alt".to_owned(), "Ein Käse".to_owned())].into();
        new.owner = Some("ann".to_owned());
        new.length = Some(length as u64);
        let taken = blobs.upload(&photos, new, &ANY, body(&sent, 7_001));
        let object = taken.await.unwrap();
        assert_eq!(blobs.info(&photos, "a/b.txt").await.unwrap(), object);
        assert_eq!(
            (object.size, object.sha256),
            (length as u64, Digest::of(&sent))
        );
        assert_eq!(object.content_type, "text/plain; charset=utf-8");
        assert_eq!(object.metadata["alt"], "Ein Käse");
        assert_eq!(object.owner.as_deref(), Some("ann"));
        assert!(get(blobs, &object).await == sent, "{length} bytes");
        place
            .settles_at(&photos, length as u64, length.div_ceil(65_536))
            .await;
    }
    let object = blobs.info(&photos, "a/b.txt").await.unwrap();
    let sent = bytes(300_001, 1);
    for range in [
        0..1,
        65_535..65_537,
        65_536..131_072,
        1..300_000,
        131_071..262_145,
        300_000..300_001,
        299_999..999_999,
    ] {
        let content = blobs.open(&object, Some(range.clone())).await.unwrap();
        let read = content.try_collect::<Vec<_>>().await.unwrap().concat();
        let end = (range.end as usize).min(sent.len());
        assert!(read == sent[range.start as usize..end], "{range:?}");
    }
    for range in [300_001..300_002, 5..5, 999_999..1_000_000] {
        let refused = blobs.open(&object, Some(range.clone())).await;
        assert_eq!(
            refused.err(),
            Some(Error::RangeInvalid { size: 300_001 }),
            "{range:?}"
        );
    }
}

async fn what_is_replaced_or_deleted_is_read_to_its_end_and_then_its_bytes_go(make: Make) {
    let place = make(|_| {}).await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    let versions = [bytes(200_000, 1), bytes(200_000, 2)];
    let first = put(blobs, &photos, "x", &versions[0]).await;
    let mut reading = blobs.open(&first, None).await.unwrap();
    let mut read = reading.next().await.unwrap().unwrap().to_vec();

    let second = put(blobs, &photos, "x", &versions[1]).await;
    assert_ne!(first.etag(), second.etag());
    assert!(
        get(blobs, &second).await == versions[1],
        "the new one at once"
    );
    blobs.delete(&photos, "x", Condition::Always).await.unwrap();
    assert_eq!(blobs.info(&photos, "x").await, Err(Error::NotFound));
    let gone = blobs.open(&second, None).await.err();
    assert_eq!(
        gone,
        Some(Error::NotFound),
        "nobody begins to read it any more"
    );
    blobs.sweep().await.unwrap();
    place.settles_at(&photos, 200_000, 4).await;
    while let Some(bytes) = reading.try_next().await.unwrap() {
        read.extend_from_slice(&bytes);
    }
    assert!(read == versions[0], "the old one to its end");
    drop(reading);
    place.settles_at(&photos, 0, 0).await;
}

async fn what_ends_early_or_is_refused_leaves_nothing(make: Make) {
    let place = make(|config| config.types_refused = vec!["text/html".parse().unwrap()]).await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    let sent = bytes(200_000, 1);
    let cut = blobs.upload(&photos, named("x"), &ANY, broken_body(&sent, 150_000));
    assert!(matches!(
        cut.await,
        Err(Interrupted::Body("the client is gone"))
    ));

    let refused = async |new: NewObject, rules: Rules, sent: &bytes::Bytes| match blobs
        .upload(&photos, new, &rules, body(sent, 9_000))
        .await
    {
        Err(Interrupted::Refused(error)) => error.code(),
        other => panic!("{other:?}"),
    };
    let of_type = |content_type: &str| NewObject {
        content_type: Some(content_type.to_owned()),
        ..named("x")
    };
    let of_length = |length| NewObject {
        length: Some(length),
        ..named("x")
    };
    let at_most = |bytes| Rules {
        bytes_max: Some(bytes),
        ..Rules::default()
    };
    let images = Rules {
        types: vec!["image/*".parse().unwrap()],
        ..Rules::default()
    };
    let any = Rules::default;
    for (new, rules, sent, code) in [
        (of_type("image/png"), any(), &sent, "blobs.type_mismatch"),
        (
            of_type("image/png"),
            any(),
            &sent.slice(..20),
            "blobs.type_mismatch",
        ),
        (of_type("text/html"), any(), &sent, "blobs.type_not_allowed"),
        (named("x"), images, &sent, "blobs.type_not_allowed"),
        (of_type("png"), any(), &sent, "blobs.type_invalid"),
        (of_length(199_999), any(), &sent, "blobs.length_mismatch"),
        (of_length(200_001), any(), &sent, "blobs.length_mismatch"),
        (
            of_length(200_000),
            at_most(199_999),
            &sent,
            "blobs.too_large",
        ),
        (named("x"), at_most(199_999), &sent, "blobs.too_large"),
        (named("../x"), any(), &sent, "blobs.name_invalid"),
        (named("/x"), any(), &sent, "blobs.name_invalid"),
        (named("a//x"), any(), &sent, "blobs.name_invalid"),
        (named(""), any(), &sent, "blobs.name_invalid"),
        (named("a\\x"), any(), &sent, "blobs.name_invalid"),
        (named(&"x".repeat(513)), any(), &sent, "blobs.name_invalid"),
    ] {
        let what = format!("{new:?}");
        assert_eq!(refused(new, rules, sent).await, code, "{what}");
    }
    // Who is gone without a word.
    let mut writer = blobs.writer(&photos, named("x"), &ANY).await.unwrap();
    writer.write(sent.clone()).await.unwrap();
    drop(writer);
    place.settles_at(&photos, 0, 0).await;
    assert_eq!(blobs.info(&photos, "x").await, Err(Error::NotFound));
    let usage = blobs.usage(&photos).await.unwrap();
    assert_eq!((usage.objects, usage.uploads), (0, 0));
}

async fn an_object_is_written_and_deleted_only_under_its_condition(make: Make) {
    let place = make(|_| {}).await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    let write = async |condition| {
        let new = NewObject {
            condition,
            ..named("x")
        };
        let written = blobs.upload(&photos, new, &ANY, body(&bytes(10, 1), 10));
        written.await.map_err(|error| match error {
            Interrupted::Refused(error) => error,
            Interrupted::Body(error) => panic!("{error}"),
        })
    };
    let first = write(Condition::Absent).await.unwrap();
    assert_eq!(write(Condition::Absent).await, Err(Error::Changed));
    let second = write(Condition::Is(first.id)).await.unwrap();
    assert_eq!(write(Condition::Is(first.id)).await, Err(Error::Changed));
    let delete = async |condition| blobs.delete(&photos, "x", condition).await;
    assert_eq!(delete(Condition::Is(first.id)).await, Err(Error::Changed));
    assert_eq!(delete(Condition::Is(second.id)).await, Ok(true));
    assert_eq!(delete(Condition::Always).await, Ok(false));
    // Of many who want to be first, one is.
    let all = futures_util::future::join_all((0..8).map(|_| write(Condition::Absent))).await;
    assert_eq!(
        all.iter().filter(|written| written.is_ok()).count(),
        1,
        "{all:?}"
    );
}

async fn buckets_of_one_label_are_apart_for_each_plugin(make: Make) {
    let place = make(|_| {}).await;
    let blobs = &place.blobs;
    let all = [
        bucket("ann/photos"),
        bucket("bob/photos"),
        bucket("ann/letters"),
    ];
    for (number, bucket) in (1..).zip(&all) {
        put(blobs, bucket, "x", &bytes(100, number)).await;
    }
    let mine = blobs.info(&all[0], "x").await.unwrap();
    assert!(get(blobs, &mine).await == bytes(100, 1));
    blobs.delete(&all[0], "x", Condition::Always).await.unwrap();
    for (number, bucket) in [(2, &all[1]), (3, &all[2])] {
        let object = blobs.info(bucket, "x").await.unwrap();
        assert!(get(blobs, &object).await == bytes(100, number));
        assert_eq!(
            blobs
                .list(bucket, "", None, 10)
                .await
                .unwrap()
                .objects
                .len(),
            1
        );
    }
    assert_eq!(blobs.list(&all[0], "", None, 10).await.unwrap().objects, []);
    let upload = blobs.begin(&all[0], named("y"), &ANY).await.unwrap();
    assert_eq!(
        blobs.resume(&all[1], upload.id).await,
        Err(Error::UploadNotFound)
    );
    assert_eq!(
        blobs.finish(&all[1], upload.id).await,
        Err(Error::UploadNotFound)
    );
    assert_eq!(blobs.abort(&all[1], upload.id).await, Ok(false));
    assert_eq!(
        blobs.resume(&all[0], upload.id).await.unwrap().id,
        upload.id
    );
}

async fn names_are_listed_in_order_by_prefix_and_page(make: Make) {
    let place = make(|_| {}).await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    let names = ["a/1", "a/10", "a/2", "a-", "ä", "b", "B"];
    for name in names {
        put(blobs, &photos, name, &bytes(3, 1)).await;
    }
    let listed = async |prefix: &str, max| {
        let (mut names, mut cursor) = (Vec::new(), None);
        loop {
            let page = blobs
                .list(&photos, prefix, cursor.as_deref(), max)
                .await
                .unwrap();
            assert!(page.objects.len() <= max as usize);
            names.extend(page.objects.into_iter().map(|object| object.name));
            cursor = page.cursor;
            if cursor.is_none() {
                return names;
            }
        }
    };
    for max in [1, 2, 3, 1000] {
        assert_eq!(
            listed("", max).await,
            ["B", "a-", "a/1", "a/10", "a/2", "b", "ä"]
        );
        assert_eq!(listed("a/", max).await, ["a/1", "a/10", "a/2"]);
        assert_eq!(listed("c", max).await, [""; 0]);
    }
    for max in [0, 1001] {
        let refused = blobs.list(&photos, "", None, max).await;
        assert_eq!(refused, Err(Error::PageSizeInvalid { max: 1000 }));
    }
    let refused = blobs.list(&photos, "", Some("no cursor"), 1).await;
    assert_eq!(refused, Err(Error::CursorInvalid));
}

async fn bytes_that_no_row_knows_go_when_they_are_old(make: Make) {
    let place = make(|_| {}).await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    let object: Object = put(blobs, &photos, "x", &bytes(200_000, 1)).await;
    let sweep = async |blobs: &Blobs| {
        for _ in 0..16 {
            blobs.sweep_unknown().await.unwrap();
        }
    };
    let week = 7 * 24 * 3_600_000;
    place.clock.advance_ms(week - 60_000);
    let lost = place.without_rows(KEY).await;
    sweep(&lost).await;
    assert_eq!(place.stored().len(), 4, "not old enough");
    place.clock.advance_ms(120_000);
    sweep(blobs).await;
    assert!(
        get(blobs, &object).await == bytes(200_000, 1),
        "known is kept"
    );
    if place.server.is_some() {
        let other = place.without_rows([8; 32]).await;
        sweep(&other).await;
        assert_eq!(place.stored().len(), 4, "another host's");
        let sent = bytes(10, 1);
        let refused = other.upload(&photos, named("x"), &ANY, body(&sent, 10));
        assert!(matches!(
            refused.await,
            Err(Interrupted::Refused(Error::Unavailable))
        ));
    }
    sweep(&lost).await;
    assert_eq!(place.stored().len(), 0);
    let content = blobs.open(&object, None).await.unwrap();
    assert_eq!(content.try_collect::<Vec<_>>().await, Err(Error::Damaged));
}

async fn a_plugin_that_is_removed_takes_its_files_along(make: Make) {
    let place = make(|_| {}).await;
    let blobs = &place.blobs;
    let others: BucketId = bucket("bob/photos");
    put(blobs, &others, "x", &bytes(10, 1)).await;
    let mine = ["ann/photos", "ann/letters"].map(bucket);
    for bucket in &mine {
        put(blobs, bucket, "x", &bytes(100_000, 1)).await;
        let upload = blobs.begin(bucket, named("y"), &ANY).await.unwrap();
        let appended = blobs.append(bucket, upload.id, 0, body(&bytes(100_000, 2), 10_000));
        appended.await.unwrap();
    }
    blobs.delete_plugin(&mine[0].plugin).await.unwrap();
    for bucket in &mine {
        place.settles_at(bucket, 0, 1).await;
        assert_eq!(blobs.usage(bucket).await.unwrap(), Default::default());
    }
    assert_eq!(
        blobs.usage_of(&mine[0].plugin).await.unwrap(),
        Default::default()
    );
    assert_eq!(blobs.usage_of(&others.plugin).await.unwrap().bytes, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_told_and_comes_back_without_a_restart() {
    let mut place = Place::s3(|_| {}).await;
    let photos = bucket("shop/photos");
    let sent = bytes(200_000, 1);
    let object = put(&place.blobs, &photos, "x", &sent).await;
    let mut server = place.server.take().unwrap();
    let upload = place.blobs.begin(&photos, named("y"), &ANY).await.unwrap();
    let appended = place
        .blobs
        .append(&photos, upload.id, 0, body(&sent.slice(..70_000), 10_000));
    appended.await.unwrap();

    server.stop().await;
    let blobs = &place.blobs;
    assert_eq!(
        blobs.info(&photos, "x").await.unwrap(),
        object,
        "rows are here"
    );
    let read = blobs
        .open(&object, None)
        .await
        .unwrap()
        .try_collect::<Vec<_>>()
        .await;
    assert_eq!(read, Err(Error::Unavailable));
    let written = blobs.upload(&photos, named("z"), &ANY, body(&sent, 10_000));
    assert!(matches!(
        written.await,
        Err(Interrupted::Refused(Error::Unavailable))
    ));
    let appended = blobs.append(
        &photos,
        upload.id,
        70_000,
        body(&sent.slice(70_000..), 10_000),
    );
    assert!(matches!(
        appended.await,
        Err(Interrupted::Refused(Error::Unavailable))
    ));
    let kept = blobs.resume(&photos, upload.id).await.unwrap().offset;
    assert_eq!(kept, 70_000, "what was taken stays taken");

    server.go_on().await;
    place.server = Some(server);
    assert!(get(blobs, &object).await == sent);
    let appended = blobs.append(
        &photos,
        upload.id,
        70_000,
        body(&sent.slice(70_000..), 10_000),
    );
    appended.await.unwrap();
    let finished = blobs.finish(&photos, upload.id).await.unwrap();
    assert!(get(blobs, &finished).await == sent);
    blobs.sweep().await.unwrap();
    place.settles_at(&photos, 400_000, 4 + 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_know_the_secret_takes_nothing() {
    let place = Place::s3(|config| config.s3.secret_key = "guessed".to_owned().into()).await;
    let sent = bytes(10, 1);
    let photos = bucket("shop/photos");
    let taken = place
        .blobs
        .upload(&photos, named("x"), &ANY, body(&sent, 10));
    assert!(matches!(
        taken.await,
        Err(Interrupted::Refused(Error::Unavailable))
    ));
    assert_eq!(place.stored().len(), 0);
}
