//! The rows of hours.

use gantry_sdk::prelude::*;

use super::{ClosedDay, Hours, Period, Weekday};
use crate::time::{Day, TimeOfDay};

/// Weekday, opening and closing minute of what is open on these dates.
pub(super) fn periods_of(
    db: &impl Executor,
    restaurant: &str,
    days: [Day; 2],
) -> Result<Vec<(i64, i64, i64)>> {
    let [before, day] = days;
    db.query_as(
        "SELECT h.weekday, h.opens_minute, h.closes_minute FROM opening_hours h \
         WHERE h.restaurant_id = $1 AND h.weekday IN ($2, $4) AND NOT EXISTS \
         (SELECT 1 FROM closed_days c WHERE c.restaurant_id = h.restaurant_id \
          AND c.date = CASE h.weekday WHEN $2 THEN $3 ELSE $5 END) \
         ORDER BY h.opens_minute",
        params![
            restaurant,
            before.weekday(),
            before.to_string(),
            day.weekday(),
            day.to_string()
        ],
    )
}

pub(super) fn read(db: &impl Executor, restaurant: &str) -> Result<Hours> {
    let periods: Vec<(i64, i64, i64)> = db.query_as(
        "SELECT weekday, opens_minute, closes_minute FROM opening_hours WHERE restaurant_id = $1 \
         ORDER BY weekday, opens_minute",
        params![restaurant],
    )?;
    let closed_days = db.query_as(
        "SELECT date, reason FROM closed_days WHERE restaurant_id = $1 ORDER BY date",
        params![restaurant],
    )?;
    let weekly = periods.into_iter().map(|(weekday, opens, closes)| Period {
        weekday: weekday_of(weekday),
        opens: TimeOfDay::from_minute(opens),
        closes: TimeOfDay::from_minute(closes),
    });
    Ok(Hours {
        weekly: weekly.collect::<Vec<_>>(),
        closed_days,
    })
}

pub(super) fn replace(tx: &sql::Transaction, restaurant: &str, hours: &Hours) -> Result<()> {
    tx.execute(
        "DELETE FROM opening_hours WHERE restaurant_id = $1",
        params![restaurant],
    )?;
    tx.execute(
        "DELETE FROM closed_days WHERE restaurant_id = $1",
        params![restaurant],
    )?;
    for period in &hours.weekly {
        tx.execute(
            "INSERT INTO opening_hours (restaurant_id, weekday, opens_minute, closes_minute) \
             VALUES ($1, $2, $3, $4)",
            params![
                restaurant,
                period.weekday as i64,
                period.opens.minute(),
                period.closes_minute()
            ],
        )?;
    }
    for ClosedDay { date, reason } in &hours.closed_days {
        tx.execute(
            "INSERT INTO closed_days (restaurant_id, date, reason) VALUES ($1, $2, $3)",
            params![restaurant, date.to_string(), reason],
        )?;
    }
    Ok(())
}

fn weekday_of(number: i64) -> Weekday {
    match number {
        1 => Weekday::Monday,
        2 => Weekday::Tuesday,
        3 => Weekday::Wednesday,
        4 => Weekday::Thursday,
        5 => Weekday::Friday,
        6 => Weekday::Saturday,
        _ => Weekday::Sunday,
    }
}
