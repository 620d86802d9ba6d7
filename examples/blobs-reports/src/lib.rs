//! Reports as files: written in pieces, listed, given away by links.

use std::time::Duration;

use gantry_sdk::blobs;
use gantry_sdk::prelude::*;

const PAGE: u32 = 100;

#[derive(Deserialize)]
struct Wanted {
    rows: u32,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Report {
    name: String,
    size: u64,
    content_type: String,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Link {
    url: String,
}

#[gantry_sdk::main]
fn app() -> Router {
    Router::new()
        .post("/reports/{name}", write)
        .get("/reports", list)
        .get("/reports/{name}/link", link)
        .delete("/reports/{name}", delete)
}

fn write(Path(name): Path<String>, Query(wanted): Query<Wanted>) -> Result<Response> {
    let how = blobs::Put::new().content_type("text/csv");
    let mut report = blobs::open("reports")?.upload(&format!("{name}.csv"), how)?;
    report.write(b"row,square\n")?;
    for row in 1..=wanted.rows {
        report.write(format!("{row:4},{:5}\n", row * row).as_bytes())?;
    }
    // Until here nobody sees anything of it.
    Response::json(201, &told(report.finish()?))
}

fn list() -> Result<Json<Vec<Report>>> {
    let page = blobs::open("reports")?.list("", None, PAGE)?;
    Ok(Json(page.objects.into_iter().map(told).collect()))
}

fn link(Path(name): Path<String>) -> Result<Json<Link>> {
    let reports = blobs::open("reports")?;
    let name = format!("{name}.csv");
    reports.info(&name)?.or_404("there is no such report")?;
    let url = reports.link(&name, &blobs::Link::new(Duration::from_secs(600)))?;
    Ok(Json(Link { url }))
}

fn delete(Path(name): Path<String>) -> Result<Response> {
    blobs::open("reports")?.delete(&format!("{name}.csv"))?;
    Ok(Response::new(204))
}

fn told(object: blobs::Object) -> Report {
    Report {
        name: object.name,
        size: object.size,
        content_type: object.content_type,
    }
}

#[cfg(test)]
mod tests {
    use gantry_sdk::testing::{self, TestApp};

    use super::*;

    #[test]
    fn a_report_is_there_when_it_is_whole() {
        let app = TestApp::new(app());
        assert_eq!(app.post("/reports/may?rows=2").status(), 201);
        let reports = app.get("/reports").json::<Vec<Report>>();
        assert_eq!((reports[0].name.as_str(), reports[0].size), ("may.csv", 33));
        let link = app.get("/reports/may/link").json::<Link>();
        assert!(link.url.contains("/reports/may.csv?"), "{}", link.url);
        testing::with(|host| host.fail("blobs.finish"));
        assert_eq!(app.post("/reports/june?rows=2").status(), 503);
        assert_eq!(app.get("/reports/june/link").status(), 404);
    }
}
