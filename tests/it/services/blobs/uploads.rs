//! Uploads that take several requests.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use gantry::ids::Digest;
use gantry::services::blobs::{Blobs, Condition, Error, Interrupted, NewObject, Upload};

use super::on_both;
use super::place::{ANY, Make, body, broken_body, bucket, bytes, get, named};

on_both!(
    an_upload_goes_on_where_it_stood_on_any_host,
    what_does_not_follow_what_is_there_is_refused_and_changes_nothing,
    one_request_at_a_time_adds_to_an_upload,
    an_upload_to_which_nobody_adds_goes_with_its_bytes,
    an_upload_whose_host_died_goes_on_when_its_lease_is_over,
    open_uploads_are_listed_for_their_owners,
    nothing_is_left_of_an_upload_whose_file_is_gone,
    an_upload_in_tiny_pieces_is_asked_for_larger_ones,
    an_upload_that_is_whole_becomes_a_file_whoever_writes_to_it,
);

async fn append(
    blobs: &Blobs,
    upload: &Upload,
    at: u64,
    sent: &bytes::Bytes,
) -> Result<Upload, Error> {
    let appended = blobs.append(&upload.bucket, upload.id, at, body(sent, 10_000));
    appended.await.map_err(|error| match error {
        Interrupted::Refused(error) => error,
        Interrupted::Body(error) => panic!("{error}"),
    })
}

async fn an_upload_goes_on_where_it_stood_on_any_host(make: Make) {
    let place = make(|_| {}).await;
    let (here, there, photos) = (&place.blobs, place.twin(), bucket("shop/photos"));
    let sent = bytes(300_000, 1);
    let new = NewObject {
        length: Some(300_000),
        content_type: Some("text/plain".to_owned()),
        ..named("x")
    };
    let upload = here.begin(&photos, new, &ANY).await.unwrap();
    assert_eq!(here.usage(&photos).await.unwrap().reserved_bytes, 300_000);
    let cut = here.append(&photos, upload.id, 0, broken_body(&sent, 100_000));
    assert!(matches!(cut.await, Err(Interrupted::Body(_))));
    assert_eq!(
        there.resume(&photos, upload.id).await.unwrap().offset,
        100_000
    );
    for (host, from, to) in [
        (&there, 100_000, 100_001),
        (here, 100_001, 100_001),
        (&there, 100_001, 300_000),
    ] {
        let at = append(host, &upload, from as u64, &sent.slice(from..to))
            .await
            .unwrap();
        assert_eq!(at.offset, to as u64);
        assert_eq!(
            here.info(&photos, "x").await,
            Err(Error::NotFound),
            "not before it is whole"
        );
    }
    let object = here.finish(&photos, upload.id).await.unwrap();
    assert_eq!((object.size, object.sha256), (300_000, Digest::of(&sent)));
    assert!(get(&there, &object).await == sent);
    assert_eq!(
        there.finish(&photos, upload.id).await.unwrap(),
        object,
        "twice is once"
    );
    assert_eq!(
        append(here, &upload, 300_000, &sent).await,
        Err(Error::UploadFinished)
    );
    assert_eq!(
        there.resume(&photos, upload.id).await.unwrap().finished,
        Some(object.id)
    );
    assert_eq!(
        here.abort(&photos, upload.id).await,
        Ok(false),
        "what it became stays"
    );
    assert!(get(here, &object).await == sent);
    let usage = here.usage(&photos).await.unwrap();
    assert_eq!(
        (
            usage.objects,
            usage.bytes,
            usage.reserved_bytes,
            usage.uploads
        ),
        (1, 300_000, 0, 0)
    );
}

async fn what_does_not_follow_what_is_there_is_refused_and_changes_nothing(make: Make) {
    let place = make(|_| {}).await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    let sent = bytes(100_000, 1);
    let begin = async |length, content_type: Option<&str>| {
        let new = NewObject {
            length,
            content_type: content_type.map(str::to_owned),
            ..named("x")
        };
        blobs.begin(&photos, new, &ANY).await.unwrap()
    };
    let upload = begin(Some(60_000), None).await;
    append(blobs, &upload, 0, &sent.slice(..50_000))
        .await
        .unwrap();
    for (at, length, error) in [
        (0, 10, Error::OffsetMismatch { offset: 50_000 }),
        (50_001, 10, Error::OffsetMismatch { offset: 50_000 }),
        (
            50_000,
            10_001,
            Error::LengthMismatch {
                declared: 60_000,
                given: 60_001,
            },
        ),
    ] {
        let refused = append(blobs, &upload, at, &sent.slice(..length)).await;
        assert_eq!(refused, Err(error));
    }
    assert_eq!(
        blobs.finish(&photos, upload.id).await,
        Err(Error::UploadIncomplete { offset: 50_000 })
    );
    assert_eq!(blobs.abort(&photos, upload.id).await, Ok(true));
    assert_eq!(blobs.abort(&photos, upload.id).await, Ok(false));
    assert_eq!(
        append(blobs, &upload, 50_000, &sent).await,
        Err(Error::UploadNotFound)
    );

    // Without a length until somebody says so.
    let upload = begin(None, None).await;
    append(blobs, &upload, 0, &sent.slice(..70_000))
        .await
        .unwrap();
    let declare = async |length| blobs.declare_length(&photos, upload.id, length).await;
    assert!(matches!(
        declare(69_999).await,
        Err(Error::LengthMismatch { .. })
    ));
    assert!(matches!(
        declare(1 << 40).await,
        Err(Error::TooLarge { .. })
    ));
    assert_eq!(declare(100_000).await.unwrap().length, Some(100_000));
    assert_eq!(declare(100_000).await.unwrap().length, Some(100_000));
    assert!(matches!(
        declare(100_001).await,
        Err(Error::LengthMismatch { .. })
    ));
    append(blobs, &upload, 70_000, &sent.slice(70_000..))
        .await
        .unwrap();
    let object = blobs.finish(&photos, upload.id).await.unwrap();
    assert!(get(blobs, &object).await == sent);

    // What is not what it was declared to be goes as soon as that can be seen.
    let upload = begin(None, Some("image/png")).await;
    append(blobs, &upload, 0, &sent.slice(..4_000))
        .await
        .unwrap();
    let refused = append(blobs, &upload, 4_000, &sent.slice(4_000..)).await;
    assert!(
        matches!(refused, Err(Error::TypeMismatch { .. })),
        "{refused:?}"
    );
    assert_eq!(
        blobs.resume(&photos, upload.id).await,
        Err(Error::UploadNotFound)
    );
    let upload = begin(None, Some("image/png")).await;
    append(blobs, &upload, 0, &sent.slice(..100)).await.unwrap();
    assert!(matches!(
        blobs.finish(&photos, upload.id).await,
        Err(Error::TypeMismatch { .. })
    ));
    place.settles_at(&photos, 100_000, 3).await;
    assert_eq!(blobs.info(&photos, "x").await.unwrap(), object);
}

async fn one_request_at_a_time_adds_to_an_upload(make: Make) {
    let place = make(|_| {}).await;
    let (here, there, photos) = (&place.blobs, place.twin(), bucket("shop/photos"));
    let sent = bytes(100_000, 1);
    let upload = here.begin(&photos, named("x"), &ANY).await.unwrap();
    let (go_on, gate) = tokio::sync::oneshot::channel::<()>();
    let first = stream::iter([Ok::<_, &str>(sent.slice(..70_000))]);
    let rest = sent.slice(70_000..);
    let slow = first.chain(stream::once(async move {
        gate.await.unwrap();
        Ok(rest)
    }));
    let slow = here.append(&photos, upload.id, 0, slow);
    let others = async {
        let begun = async || there.resume(&photos, upload.id).await.unwrap().offset > 0;
        while !begun().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for at in [0, 65_536] {
            assert_eq!(
                append(&there, &upload, at, &sent).await,
                Err(Error::UploadBusy)
            );
        }
        assert_eq!(
            there.finish(&photos, upload.id).await,
            Err(Error::UploadBusy)
        );
        go_on.send(()).unwrap();
    };
    let (slow, ()) = tokio::join!(slow, others);
    assert_eq!(slow.unwrap().offset, 100_000);
    let object = there.finish(&photos, upload.id).await.unwrap();
    assert!(get(here, &object).await == sent);
}

async fn an_upload_to_which_nobody_adds_goes_with_its_bytes(make: Make) {
    let place = make(|config| config.upload_idle_ms = 60_000).await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    let sent = bytes(100_000, 1);
    let upload = blobs.begin(&photos, named("x"), &ANY).await.unwrap();
    for (at, to) in [(0, 50_000), (50_000, 100_000)] {
        place.clock.advance_ms(59_000);
        blobs.sweep().await.unwrap();
        append(blobs, &upload, at, &sent.slice(at as usize..to))
            .await
            .unwrap();
    }
    let finished = blobs.begin(&photos, named("y"), &ANY).await.unwrap();
    append(blobs, &finished, 0, &sent).await.unwrap();
    let object = blobs.finish(&photos, finished.id).await.unwrap();
    place.clock.advance_ms(60_000);
    for upload in [&upload, &finished] {
        let gone = blobs.resume(&photos, upload.id).await;
        assert_eq!(gone, Err(Error::UploadNotFound), "before anybody sweeps");
        assert_eq!(
            append(blobs, upload, 100_000, &sent).await,
            Err(Error::UploadNotFound)
        );
    }
    blobs.sweep().await.unwrap();
    place.settles_at(&photos, 100_000, 2).await;
    assert!(get(blobs, &object).await == sent, "what was finished stays");
    assert_eq!(blobs.usage(&photos).await.unwrap().uploads, 0);
}

/// As after `kill -9`: nobody says goodbye, and what was written last may be in the store and not in the rows.
async fn an_upload_whose_host_died_goes_on_when_its_lease_is_over(make: Make) {
    let place = make(|_| {}).await;
    let photos = bucket("shop/photos");
    let sent = bytes(200_000, 1);
    let upload = place.blobs.begin(&photos, named("x"), &ANY).await.unwrap();
    let first = sent.slice(..70_000);
    let endless = stream::iter([Ok::<_, &str>(first)]).chain(stream::pending());
    let (dying, id) = (place.twin(), upload.id);
    let in_bucket = photos.clone();
    // A runtime of its own, which ends with everything in it.
    let death = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let writing = async move { dying.append(&in_bucket, id, 0, endless).await.map(drop) };
        let cut =
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(2), writing).await });
        assert!(cut.is_err());
        runtime.shutdown_background();
    });
    tokio::task::spawn_blocking(move || death.join().unwrap())
        .await
        .unwrap();
    // What it had handed to the disk comes to its end.
    tokio::time::sleep(Duration::from_millis(300)).await;

    let blobs = &place.blobs;
    let at = blobs.resume(&photos, upload.id).await.unwrap().offset;
    assert!(at == 65_536 || at == 70_000, "{at}");
    if at == 65_536 {
        let busy = append(blobs, &upload, at, &sent.slice(at as usize..)).await;
        assert_eq!(busy, Err(Error::UploadBusy));
    }
    place.clock.advance_ms(30_000);
    append(blobs, &upload, at, &sent.slice(at as usize..))
        .await
        .unwrap();
    let object = blobs.finish(&photos, upload.id).await.unwrap();
    assert_eq!(object.sha256, Digest::of(&sent));
    assert!(get(blobs, &object).await == sent);
    blobs.sweep().await.unwrap();
    place.settles_at(&photos, 200_000, 4).await;
}

async fn open_uploads_are_listed_for_their_owners(make: Make) {
    let place = make(|_| {}).await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    let mut ids = Vec::new();
    for (name, owner) in [
        ("a", Some("ann")),
        ("b", Some("bob")),
        ("c", Some("ann")),
        ("d", None),
    ] {
        let new = NewObject {
            owner: owner.map(str::to_owned),
            ..named(name)
        };
        ids.push(blobs.begin(&photos, new, &ANY).await.unwrap().id);
    }
    let listed = async |owner, max| {
        let (mut names, mut cursor) = (String::new(), None);
        loop {
            let page = blobs
                .uploads(&photos, owner, cursor.as_deref(), max)
                .await
                .unwrap();
            names.extend(page.uploads.iter().map(|upload| upload.name.as_str()));
            cursor = page.cursor;
            if cursor.is_none() {
                return names;
            }
        }
    };
    for max in [1, 2, 1000] {
        assert_eq!(listed(None, max).await, "abcd");
        assert_eq!(listed(Some("ann"), max).await, "ac");
        assert_eq!(listed(Some("eve"), max).await, "");
    }
    blobs.finish(&photos, ids[0]).await.unwrap();
    assert_eq!(
        listed(Some("ann"), 10).await,
        "c",
        "finished ones are not open"
    );
}

async fn nothing_is_left_of_an_upload_whose_file_is_gone(make: Make) {
    let place = make(|_| {}).await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    let sent = bytes(5_000, 1);
    let finished = async |name: &str| {
        let upload = blobs.begin(&photos, named(name), &ANY).await.unwrap();
        append(blobs, &upload, 0, &sent).await.unwrap();
        blobs.finish(&photos, upload.id).await.unwrap();
        upload
    };
    let (deleted, replaced) = (finished("deleted").await, finished("replaced").await);
    assert!(blobs.resume(&photos, deleted.id).await.is_ok());
    let gone = blobs.delete(&photos, "deleted", Condition::Always).await;
    assert_eq!(gone, Ok(true));
    super::place::put(blobs, &photos, "replaced", &sent).await;
    for upload in [deleted, replaced] {
        let found = blobs.resume(&photos, upload.id).await;
        assert_eq!(found, Err(Error::UploadNotFound));
    }
}

async fn an_upload_that_is_whole_becomes_a_file_whoever_writes_to_it(make: Make) {
    let place = make(|_| {}).await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    let sent = bytes(100_000, 1);
    let new = NewObject {
        length: Some(100_000),
        ..named("x")
    };
    let upload = blobs.begin(&photos, new, &ANY).await.unwrap();
    append(blobs, &upload, 0, &sent).await.unwrap();
    let (writes, written_to) = tokio::sync::oneshot::channel();
    let silent = stream::once(async {
        // Asked for bytes is who writes.
        writes.send(()).unwrap();
        std::future::pending::<Result<bytes::Bytes, &str>>().await
    });
    let other = blobs.append(&photos, upload.id, 100_000, silent);
    let finished = async {
        written_to.await.unwrap();
        blobs.finish(&photos, upload.id).await
    };
    let object = tokio::select! {
        other = other => panic!("{other:?}"),
        finished = finished => finished.unwrap(),
    };
    assert!(get(blobs, &object).await == sent);
    place.settles_at(&photos, 100_000, 2).await;
    assert!(get(blobs, &object).await == sent);
}

async fn an_upload_in_tiny_pieces_is_asked_for_larger_ones(make: Make) {
    let place = make(|config| config.parts_small_max = 3).await;
    let (blobs, photos) = (&place.blobs, bucket("shop/photos"));
    let upload = blobs.begin(&photos, named("x"), &ANY).await.unwrap();
    let one = bytes(1, 1);
    for at in 0..3 {
        append(blobs, &upload, at, &one).await.unwrap();
    }
    let refused = append(blobs, &upload, 3, &one).await;
    assert_eq!(refused, Err(Error::TooManyParts { parts_max: 3 }));
    let at = append(blobs, &upload, 3, &bytes(20_000, 2)).await.unwrap();
    assert_eq!(at.offset, 20_003);
    let object = blobs.finish(&photos, upload.id).await.unwrap();
    assert_eq!(get(blobs, &object).await.len(), 20_003);
}
