//! Dates and times as guests say them, on the restaurant's own clock, and instants as machines need them.
//!
//! All planning is done in local time and never converted: "Friday at 19:30 for two hours" means the same in summer
//! and in winter. Only what is compared with now (the past, deadlines of guests) becomes an instant, in `zone`.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use gantry_sdk::prelude::*;
use serde::{Deserializer, Serializer, de};

/// Tables are given away by quarters of an hour.
pub const SLOT_MINUTES: i64 = 15;
/// Minutes of a day on the wall, which always has 24 hours there.
pub const DAY_MINUTES: i64 = 24 * 60;
/// Milliseconds of a minute.
pub const MINUTE_MS: i64 = 60_000;

/// A date, written `2026-12-01`. Counted in days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Day(i64);

impl Day {
    /// A date of the Gregorian calendar; days beyond the month run into the next.
    pub fn new(year: i64, month: i64, day: i64) -> Self {
        // Years that begin in March have the leap day at their end, and eras of 400 years are all alike.
        let year = if month <= 2 { year - 1 } else { year };
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Self(era * 146_097 + day_of_era - 719_468)
    }

    /// Year, month and day: the way back.
    fn parts(self) -> (i64, i64, i64) {
        let shifted = self.0 + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
        let year_of_era = (day_of_era - leap_days) / 365;
        let before_year = 365 * year_of_era + year_of_era / 4 - year_of_era / 100;
        let day_of_year = day_of_era - before_year;
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march + 2) % 12 + 1;
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        (year, month, day)
    }

    pub fn year(self) -> i64 {
        self.parts().0
    }

    /// 1 is January.
    pub fn month(self) -> i64 {
        self.parts().1
    }

    /// 1 is Monday, 7 is Sunday.
    pub fn weekday(self) -> i64 {
        (self.0 + 3).rem_euclid(7) + 1
    }

    /// Days since 1970-01-01.
    pub fn number(self) -> i64 {
        self.0
    }

    /// So many days later; earlier, if there are less than none.
    pub fn plus(self, days: i64) -> Self {
        Self(self.0 + days)
    }
}

impl FromStr for Day {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '-');
        let mut next = |length| parts.next().and_then(|digits| number(digits, length));
        let day = match (next(4), next(2), next(2)) {
            (Some(year), Some(month), Some(day)) => Some(Self::new(year, month, day)),
            _ => None,
        };
        // A day that is in no calendar would come back as another one.
        day.filter(|day| day.year() >= 2000 && day.to_string() == text)
            .ok_or("a date is written 2026-12-01")
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.parts();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// A time of day, written `19:30`. Counted in minutes since midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct TimeOfDay(i64);

impl TimeOfDay {
    /// Minutes since midnight; beyond the day, the time it is then.
    pub fn from_minute(minute: i64) -> Self {
        Self(minute.rem_euclid(DAY_MINUTES))
    }

    /// Minutes since midnight.
    pub fn minute(self) -> i64 {
        self.0
    }
}

impl FromStr for TimeOfDay {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (hour, minute) = text.split_once(':').unwrap_or_default();
        match (number(hour, 2), number(minute, 2)) {
            (Some(hour @ 0..24), Some(minute @ 0..60)) => Ok(Self(hour * 60 + minute)),
            _ => Err("a time is written 19:30"),
        }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// A number of so many digits.
fn number(digits: &str, length: usize) -> Option<i64> {
    let is_number = digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// Both: minutes since 1970-01-01 00:00 on the restaurant's clock, so that nights past midnight are no special case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTime(i64);

impl LocalTime {
    pub fn new(day: Day, time: TimeOfDay) -> Self {
        Self(day.0 * DAY_MINUTES + time.0)
    }

    /// Minutes since 1970-01-01 00:00.
    pub fn from_minute(minute: i64) -> Self {
        Self(minute)
    }

    /// Minutes since 1970-01-01 00:00.
    pub fn minute(self) -> i64 {
        self.0
    }

    pub fn day(self) -> Day {
        Day(self.0.div_euclid(DAY_MINUTES))
    }

    pub fn time(self) -> TimeOfDay {
        TimeOfDay::from_minute(self.0)
    }
}

/// An instant in milliseconds since 1970 in UTC; in JSON to the second, `2026-12-01T18:30:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Millis(pub i64);

impl Millis {
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX))
    }

    pub fn minus_hours(self, hours: u32) -> Self {
        Self(self.0 - i64::from(hours) * 60 * MINUTE_MS)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let utc = LocalTime(self.0.div_euclid(MINUTE_MS));
        let second = self.0.rem_euclid(MINUTE_MS) / 1000;
        write!(f, "{}T{}:{second:02}Z", utc.day(), utc.time())
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// In JSON, in queries and in rows these are the text that people write.
macro_rules! as_text {
    ($($type:ty)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
as_text!(Day TimeOfDay);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_people_write_is_a_date_or_a_time() {
        for text in ["2026-12-01", "2028-02-29", "2100-02-28"] {
            assert_eq!(text.parse::<Day>().unwrap().to_string(), text);
        }
        let wrong = [
            "",
            "2026-2-1",
            "2027-02-29",
            "2100-02-29",
            "2026-13-01",
            "2026-00-10",
        ];
        for text in
            wrong
                .into_iter()
                .chain(["20261201", "2026-12-01T10", "1999-01-01", "2026-12-+1"])
        {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
        for text in ["00:00", "09:05", "23:59"] {
            assert_eq!(text.parse::<TimeOfDay>().unwrap().to_string(), text);
        }
        for text in ["", "9:05", "24:00", "12:60", "+1:00", "12:00:00", "12"] {
            assert!(text.parse::<TimeOfDay>().is_err(), "{text}");
        }
    }

    #[test]
    fn days_follow_one_another_through_all_leap_years() {
        let mut expected = Day::new(1969, 12, 1);
        for year in 1970..2410 {
            for month in 1..=12 {
                let first = Day::new(year, month, 1);
                assert_eq!(first.parts(), (year, month, 1));
                let length = first.number() - Day::new(year, month - 1, 1).number();
                assert!((28..=31).contains(&length) || month == 1, "{year}-{month}");
                assert!(first > expected, "{year}-{month}");
                expected = first;
            }
        }
        assert_eq!(Day::new(1970, 1, 1).number(), 0);
        assert_eq!(Day::new(2026, 12, 1).weekday(), 2);
        assert_eq!(Day::new(2027, 1, 1).plus(-1), Day::new(2026, 12, 31));
    }

    #[test]
    fn an_instant_is_written_in_utc() {
        assert_eq!(Millis(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(
            Millis(1_796_149_799_999).to_string(),
            "2026-12-01T18:29:59Z"
        );
    }
}
