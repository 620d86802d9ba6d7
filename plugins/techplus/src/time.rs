//! Dates and times as guests say them, on the restaurant's own clock, and instants as machines need them.
//!
//! All planning is done in local time and never converted: "Friday at 19:30 for two hours" means the same in summer
//! and in winter. Only what is compared with now (the past, deadlines of guests) becomes an instant, in `zone`.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use gantry_sdk::prelude::*;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use serde::{Deserializer, Serializer, de};

/// Tables are given away by quarters of an hour.
pub const SLOT_MINUTES: i64 = 15;
/// Minutes of a day on the wall, which always has 24 hours there.
pub const DAY_MINUTES: i64 = 24 * 60;

/// A date, written `2026-12-01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Day(Date);

impl Day {
    /// Days since 1970-01-01.
    fn number(self) -> i64 {
        let midnight = self.0.to_datetime(Time::midnight());
        let timestamp = TimeZone::UTC.to_timestamp(midnight);
        timestamp
            .map_or(0, Timestamp::as_second)
            .div_euclid(DAY_MINUTES * 60)
    }

    /// 1 is Monday, 7 is Sunday.
    pub fn weekday(self) -> i64 {
        self.0.weekday().to_monday_one_offset().into()
    }

    /// The day before; the first day there is has none and stays.
    pub fn before(self) -> Self {
        self.0.yesterday().map_or(self, Self)
    }

    /// Days from another day to this one.
    pub fn days_since(self, other: Self) -> i64 {
        self.number() - other.number()
    }
}

impl FromStr for Day {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "a date is written 2026-12-01";
        // The parser knows more forms than one, and years in which nobody eats.
        let has_form = text.len() == 10 && text.starts_with("20");
        let date = has_form.then(|| text.parse().ok()).flatten();
        date.map(Self).ok_or(WANTED)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A time of day, written `19:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// Minutes since midnight; beyond the day, the time it is then.
    pub fn from_minute(minute: i64) -> Self {
        Self(u16::try_from(minute.rem_euclid(DAY_MINUTES)).unwrap_or_default())
    }

    /// Minutes since midnight.
    pub fn minute(self) -> i64 {
        self.0.into()
    }
}

impl FromStr for TimeOfDay {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "a time is written 19:30";
        let two_digits = |text: &str, below: u16| -> Option<u16> {
            let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse()
                .ok()
                .filter(|number| is_plain && *number < below)
        };
        let (hour, minute) = text.split_once(':').ok_or(WANTED)?;
        match (two_digits(hour, 24), two_digits(minute, 60)) {
            (Some(hour), Some(minute)) => Ok(Self(hour * 60 + minute)),
            _ => Err(WANTED),
        }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// Both, counted in minutes since 1970-01-01 00:00 on the restaurant's clock, so that nights past midnight are no
/// special case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTime {
    day: Day,
    time: TimeOfDay,
}

impl LocalTime {
    pub fn new(day: Day, time: TimeOfDay) -> Self {
        Self { day, time }
    }

    pub fn day(self) -> Day {
        self.day
    }

    pub fn time(self) -> TimeOfDay {
        self.time
    }

    /// Minutes since 1970-01-01 00:00.
    pub fn minute(self) -> i64 {
        self.day.number() * DAY_MINUTES + self.time.minute()
    }
}

impl From<LocalTime> for DateTime {
    fn from(local: LocalTime) -> Self {
        let minute = local.time.0;
        let two_digits = |number: u16| i8::try_from(number).unwrap_or_default();
        local
            .day
            .0
            .at(two_digits(minute / 60), two_digits(minute % 60), 0, 0)
    }
}

impl From<DateTime> for LocalTime {
    fn from(moment: DateTime) -> Self {
        let minute = i64::from(moment.hour()) * 60 + i64::from(moment.minute());
        Self::new(Day(moment.date()), TimeOfDay::from_minute(minute))
    }
}

/// An instant in milliseconds since 1970 in UTC; in JSON `2026-12-01T18:30:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Millis(pub i64);

impl Millis {
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    pub fn minus_hours(self, hours: u32) -> Self {
        Self(self.0 - i64::from(hours) * 3_600_000)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => self.0.fmt(f),
        }
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// In JSON and in rows these are the text that people write.
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
        for text in ["2026-12-01", "2028-02-29"] {
            assert_eq!(text.parse::<Day>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "2026-2-1",
            "2027-02-29",
            "20261201",
            "2026-12-01T10",
            "1999-01-01",
        ] {
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
    fn days_are_counted() {
        let day = |text: &str| text.parse::<Day>().unwrap();
        assert_eq!(day("2027-03-01").days_since(day("2027-02-28")), 1);
        assert_eq!(day("2027-01-01").before(), day("2026-12-31"));
        assert_eq!(day("2026-12-01").weekday(), 2);
    }
}
