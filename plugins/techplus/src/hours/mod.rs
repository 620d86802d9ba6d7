//! When a restaurant is open: the periods of each weekday, and the days on which it is closed all the same.

mod store;

use gantry_sdk::prelude::*;

use crate::check::Check;
use crate::time::{DAY_MINUTES, Day, LocalTime, TimeOfDay};
use crate::{database, restaurants};

/// Most periods of a week.
const PERIODS_MAX: usize = 28;
/// Most closed days that are known ahead.
const CLOSED_DAYS_MAX: usize = 100;

pub fn routes() -> Router {
    Router::new()
        .get("/restaurants/{id}/hours", show)
        .put("/restaurants/{id}/hours", replace)
}

/// The hours of a week and the exceptions to come.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    pub weekly: Vec<Period>,
    #[serde(default)]
    pub closed_days: Vec<ClosedDay>,
}

/// `{ "weekday": "friday", "opens": "18:00", "closes": "02:00" }` ends on Saturday.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    pub weekday: Weekday,
    pub opens: TimeOfDay,
    pub closes: TimeOfDay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    Monday = 1,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClosedDay {
    pub date: Day,
    #[serde(default)]
    pub reason: String,
}

/// One period on one date, in minutes since 1970 on the restaurant's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    pub opens: i64,
    pub closes: i64,
}

impl Opening {
    /// Whether a party that comes then and stays so long is gone before the door closes.
    pub fn covers(&self, minute: i64, duration: i64) -> bool {
        self.opens <= minute && minute + duration <= self.closes
    }
}

/// The openings in which one can come on a date: its own, and those of the day before that end after midnight.
pub fn openings(db: &impl Executor, restaurant: &str, day: Day) -> Result<Vec<Opening>> {
    let before = day.plus(-1);
    let rows = store::periods_of(db, restaurant, [before, day])?;
    let midnight = |day: Day| LocalTime::new(day, TimeOfDay::default()).minute();
    let opening = |(weekday, opens, closes): (i64, i64, i64)| {
        let midnight = midnight(if weekday == day.weekday() {
            day
        } else {
            before
        });
        Opening {
            opens: midnight + opens,
            closes: midnight + closes,
        }
    };
    let reaches_day = |opening: &Opening| opening.closes > midnight(day);
    Ok(rows.into_iter().map(opening).filter(reaches_day).collect())
}

impl Period {
    /// Minutes after the midnight before it opens.
    fn closes_minute(&self) -> i64 {
        let (opens, closes) = (self.opens.minute(), self.closes.minute());
        if closes > opens {
            closes
        } else {
            closes + DAY_MINUTES
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.weekday == other.weekday
            && self.opens.minute() < other.closes_minute()
            && other.opens.minute() < self.closes_minute()
    }
}

fn show(Path(restaurant): Path<String>) -> Result<Json<Hours>> {
    let db = database()?;
    restaurants::require(&db, &restaurant)?;
    store::read(&db, &restaurant).map(Json)
}

/// Reservations that were made before keep their time.
fn replace(Path(restaurant): Path<String>, Json(mut hours): Json<Hours>) -> Result<Json<Hours>> {
    hours.check()?;
    hours
        .weekly
        .sort_by_key(|period| (period.weekday, period.opens));
    hours.closed_days.sort_by_key(|closed| closed.date);
    database()?.transaction(|tx| {
        restaurants::require(tx, &restaurant)?;
        store::replace(tx, &restaurant, &hours)
    })?;
    Ok(Json(hours))
}

impl Hours {
    fn check(&mut self) -> Result<()> {
        let mut check = Check::default();
        check.number("/weekly", self.weekly.len(), 0..=PERIODS_MAX);
        check.number("/closed_days", self.closed_days.len(), 0..=CLOSED_DAYS_MAX);
        for (at, period) in self.weekly.iter().enumerate().take(PERIODS_MAX) {
            if self.weekly[..at]
                .iter()
                .any(|earlier| earlier.overlaps(period))
            {
                check.mistake(
                    format!("/weekly/{at}"),
                    "overlap",
                    "the restaurant is already open then",
                );
            }
        }
        for at in 0..self.closed_days.len().min(CLOSED_DAYS_MAX) {
            let (earlier, rest) = self.closed_days.split_at_mut(at);
            let closed = &mut rest[0];
            closed.reason = check.text(
                &format!("/closed_days/{at}/reason"),
                &closed.reason,
                0..=200,
            );
            if earlier.iter().any(|earlier| earlier.date == closed.date) {
                check.mistake(
                    format!("/closed_days/{at}/date"),
                    "duplicate",
                    "this day is already there",
                );
            }
        }
        check.finish()
    }
}
