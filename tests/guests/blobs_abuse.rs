//! Uses files in every way, also for more than it should be given. Answers `{"ok": …}` or the error's code.

use std::time::Duration;

use gantry_sdk::blobs;
use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

#[derive(Deserialize)]
struct Wish {
    #[serde(default = "data")]
    label: String,
    #[serde(default = "data")]
    name: String,
    #[serde(default)]
    bytes: usize,
    #[serde(default)]
    count: usize,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    at: u64,
}

fn data() -> String {
    "data".to_owned()
}

#[gantry_sdk::handler]
fn abuse(Query(wish): Query<Wish>, request: Request) -> Json<Value> {
    Json(match run(&request, &wish) {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "code": error.code(), "kind": format!("{:?}", error.kind()) }),
    })
}

fn run(request: &Request, wish: &Wish) -> Result<Value> {
    let files = blobs::open(&wish.label)?;
    let name = wish.name.as_str();
    let how = || match (&wish.kind, &wish.etag) {
        (Some(kind), _) => blobs::Put::new().content_type(kind),
        (None, Some(etag)) => blobs::Put::new().if_etag(etag),
        (None, None) => blobs::Put::new(),
    };
    let hour = Duration::from_secs(3600);
    Ok(match request.path.as_str() {
        "/put" => told(files.put_with(name, &request.body, how())?),
        "/first" => told(files.put_with(name, &request.body, how().if_absent())?),
        "/described" => {
            let how = how().metadata("alt", "a picture").owner("ann");
            told(files.put_with(name, &request.body, how)?)
        }
        "/metadata" => {
            let entries = (0..wish.count).map(|number| format!("k{number}"));
            let how = entries.fold(how(), |how, key| how.metadata(key, "v".repeat(wish.bytes)));
            told(files.put_with(name, b"x", how)?)
        }
        "/get" => json!(
            files
                .get(name)?
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        ),
        "/info" => json!(files.info(name)?.map(told)),
        "/read" => json!(files.read(name, wish.at, wish.bytes as u32)?.len()),
        "/delete" => match &wish.etag {
            Some(etag) => json!(files.delete_if(name, etag)?),
            None => json!(files.delete(name)?),
        },
        "/list" => {
            let page = files.list(name, None, wish.count as u32)?;
            let names = page.objects.iter().map(|object| object.name.as_str());
            json!({ "names": names.collect::<Vec<_>>(), "more": page.cursor.is_some() })
        }
        "/cursor" => json!(files.list("", Some("nonsense"), 10)?.objects.len()),
        "/link" => json!(files.link(name, &blobs::Link::new(hour))?),
        "/put-link" => {
            let link = blobs::Link::put(hour)
                .bytes_max(1000)
                .content_type("text/plain");
            json!(files.link(name, &link.owner("ann"))?)
        }
        "/long-link" => json!(files.link(name, &blobs::Link::new(hour * 24 * 365))?),
        "/stream" => {
            let mut upload = files.upload(name, how())?;
            for _ in 0..wish.count {
                upload.write(&vec![b'x'; wish.bytes])?;
            }
            told(upload.finish()?)
        }
        "/forget" => {
            files.upload(name, how())?.write(&vec![b'x'; wish.bytes])?;
            json!("dropped")
        }
        "/lie" => {
            let mut upload = files.upload(name, how().length(wish.count as u64))?;
            upload.write(&vec![b'x'; wish.bytes])?;
            told(upload.finish()?)
        }
        "/fill" => {
            for number in 0..wish.count {
                files.put(&format!("{name}/{number}"), vec![b'x'; wish.bytes])?;
            }
            json!(wish.count)
        }
        "/open-uploads" => {
            let uploads: Result<Vec<_>> = (0..wish.count)
                .map(|number| files.upload(&format!("{name}/{number}"), how()))
                .collect();
            json!(uploads?.len())
        }
        "/trap" => {
            let mut upload = files.upload(name, how())?;
            upload.write(&vec![b'x'; wish.bytes])?;
            panic!("in the middle of an upload")
        }
        "/spin" => {
            let mut upload = files.upload(name, how())?;
            upload.write(&vec![b'x'; wish.bytes])?;
            loop {
                std::hint::black_box(0);
            }
        }
        _ => json!("opened"),
    })
}

fn told(object: blobs::Object) -> Value {
    json!({
        "name": object.name,
        "etag": object.etag,
        "size": object.size,
        "type": object.content_type,
        "sha256": object.sha256,
        "owner": object.owner,
        "metadata": object.metadata.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    })
}
