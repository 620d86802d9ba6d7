//! Counts visits of pages in a key-value store.

use gantry_sdk::prelude::*;

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Visits {
    page: String,
    visits: i64,
}

#[derive(Deserialize)]
struct Filter {
    #[serde(default)]
    prefix: String,
}

#[gantry_sdk::main]
fn app() -> Router {
    Router::new()
        .post("/pages/{page}/visits", count)
        .get("/pages", list)
        .delete("/pages/{page}", forget)
}

fn count(Path(page): Path<String>) -> Result<Json<Visits>> {
    let visits = kv::open("counters")?.increment(&page, 1)?;
    Ok(Json(Visits { page, visits }))
}

fn list(Query(filter): Query<Filter>) -> Result<Json<Vec<Visits>>> {
    let counters = kv::open("counters")?;
    let pages = counters.keys(&filter.prefix, 100)?;
    let entries = counters.get_many(&pages)?;
    let visits = pages.into_iter().zip(entries).filter_map(|(page, entry)| {
        let visits = std::str::from_utf8(&entry?.value).ok()?.parse().ok()?;
        Some(Visits { page, visits })
    });
    Ok(Json(visits.collect()))
}

fn forget(Path(page): Path<String>) -> Result<()> {
    let who = identity::require("pages.write")?;
    if !kv::open("counters")?.delete(&page)? {
        return Err(Error::not_found("page.unknown", "this page has no visits"));
    }
    log::info(format!("{} forgot {page}", who.name()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use gantry_sdk::testing::{self, TestApp, TestPrincipal};

    use super::*;

    fn visits(page: &str, visits: i64) -> Visits {
        Visits {
            page: page.to_owned(),
            visits,
        }
    }

    #[test]
    fn each_visit_counts() {
        let app = TestApp::new(app());

        assert_eq!(
            app.post("/pages/home/visits").json::<Visits>(),
            visits("home", 1)
        );
        assert_eq!(
            app.post("/pages/home/visits").json::<Visits>(),
            visits("home", 2)
        );
        app.post("/pages/help/visits");
        assert_eq!(
            app.get("/pages?prefix=ho").json::<Vec<Visits>>(),
            [visits("home", 2)]
        );
    }

    #[test]
    fn only_those_with_the_permission_forget_a_page() {
        let reader = TestApp::new(app()).login(TestPrincipal::user("ann", &[]));
        assert_eq!(reader.delete("/pages/home").status(), 403);

        let writer = TestApp::new(app()).login(TestPrincipal::user("bo", &["pages.write"]));
        assert_eq!(writer.delete("/pages/home").code(), "page.unknown");
        writer.post("/pages/home/visits");
        assert_eq!(writer.delete("/pages/home").status(), 204);
    }

    #[test]
    fn a_store_that_is_away_is_told_as_such() {
        let app = TestApp::new(app());
        testing::with(|host| host.fail("kv.increment"));

        assert_eq!(app.post("/pages/home/visits").status(), 503);
    }
}
