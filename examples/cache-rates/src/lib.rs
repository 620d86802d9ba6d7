//! Exchange rates: made once a minute, and thrown away by their tag.

use std::time::Duration;

use gantry_sdk::cache;
use gantry_sdk::prelude::*;

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Rate {
    currency: String,
    rate: f64,
}

#[derive(Deserialize)]
struct Wanted {
    amount: f64,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Converted {
    amount: f64,
    /// How often a rate was looked up so far.
    asked: i64,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Thrown {
    thrown_away: u64,
}

#[gantry_sdk::main]
fn app() -> Router {
    Router::new()
        .get("/rates/{currency}", show)
        .get("/convert/{currency}", convert)
        .post("/rates", renew)
        .delete("/rates", forget)
}

/// The host keeps the whole answer, as the manifest says.
fn show(Path(currency): Path<String>) -> Result<Json<Rate>> {
    let rate = rate(&currency)?;
    Ok(Json(Rate { currency, rate }))
}

fn convert(Path(currency): Path<String>, Query(wanted): Query<Wanted>) -> Result<Json<Converted>> {
    let rate = rate(&currency)?;
    let asked = kv::open("asked")?.increment("all", 0)?;
    let amount = (wanted.amount * rate * 100.0).round() / 100.0;
    Ok(Json(Converted { amount, asked }))
}

fn renew() -> Result<Json<Thrown>> {
    let thrown_away = cache::purge_tag("rates")?;
    Ok(Json(Thrown { thrown_away }))
}

/// Values and whole answers, whatever their tags.
fn forget() -> Result<Json<Thrown>> {
    let thrown_away = cache::purge_everything()?;
    Ok(Json(Thrown { thrown_away }))
}

fn rate(currency: &str) -> Result<f64> {
    let minute = cache::Set::new(Duration::from_secs(60)).tag("rates");
    cache::open("rates")?.get_or_set(currency, &minute, || {
        // Here a bank would be asked.
        kv::open("asked")?.increment("all", 1)?;
        match currency {
            "EUR" => Ok(1.1),
            "CHF" => Ok(1.2),
            _ => Err(Error::not_found(
                "rate.unknown",
                "there is no such currency",
            )),
        }
    })
}

#[cfg(test)]
mod tests {
    use gantry_sdk::testing::{self, TestApp};

    use super::*;

    #[test]
    fn a_rate_is_looked_up_once_a_minute() {
        let app = TestApp::new(app());
        let asked = || app.get("/convert/EUR?amount=10").json::<Converted>().asked;
        assert_eq!((asked(), asked()), (1, 1));
        testing::with(|host| host.advance(Duration::from_secs(60)));
        assert_eq!(asked(), 2);
        let thrown = app.post("/rates").json::<Thrown>();
        assert_eq!(thrown, Thrown { thrown_away: 1 });
        assert_eq!(asked(), 3);
        let forgotten = app.delete("/rates").json::<Thrown>();
        assert_eq!(forgotten, Thrown { thrown_away: 1 });
        assert_eq!(asked(), 4);
    }

    #[test]
    fn a_cache_that_is_away_costs_the_making_only() {
        let app = TestApp::new(app());
        testing::with(|host| host.fail("cache.get"));
        testing::with(|host| host.fail("cache.set"));
        assert_eq!(app.get("/convert/CHF?amount=10").status(), 200);
        assert_eq!(app.get("/convert/XXX?amount=10").code(), "rate.unknown");
    }
}
