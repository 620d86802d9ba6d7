//! How long a party has its table, and whether it may come then.

use std::ops::Range;

use gantry_sdk::prelude::*;

use crate::hours::{self, Opening};
use crate::restaurants::Venue;
use crate::settings::Rules;
use crate::time::{Day, LocalTime, Millis, SLOT_MINUTES};

/// Who books. The staff takes down what happened and what was agreed, guests keep to the rules of the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Booker {
    Guest,
    Staff,
}

impl Booker {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Staff => "staff",
        }
    }
}

/// A party at a table.
#[derive(Debug)]
pub struct Stay {
    pub starts: LocalTime,
    pub starts_at: Millis,
    pub duration_minutes: i64,
    /// The slots of the table, with the pause after the party.
    pub slots: Range<i64>,
}

impl Stay {
    /// As long as the rules say for a party of this size.
    pub fn new(venue: &Venue, starts: LocalTime, party_size: u32) -> Self {
        let duration_minutes = venue.rules.duration(party_size);
        let minute = starts.minute();
        let ends = minute + duration_minutes + venue.rules.buffer_minutes;
        Self {
            starts,
            starts_at: venue.zone.instant(starts),
            duration_minutes,
            slots: minute.div_euclid(SLOT_MINUTES)
                ..(ends + SLOT_MINUTES - 1).div_euclid(SLOT_MINUTES),
        }
    }

    /// The same, if one may come then; else 422 with the code of the rule.
    pub fn plan(
        db: &impl Executor,
        venue: &Venue,
        starts: LocalTime,
        party_size: u32,
        booker: Booker,
    ) -> Result<Self> {
        let stay = Self::new(venue, starts, party_size);
        match booker {
            Booker::Guest => stay.check_for_guests(venue, party_size)?,
            Booker::Staff if starts.time().minute() % SLOT_MINUTES != 0 => {
                return Err(refused(
                    "off_grid",
                    "/time",
                    "tables are given by quarters of an hour",
                ));
            }
            Booker::Staff => {}
        }
        let openings = hours::openings(db, &venue.id, starts.day())?;
        if openings.iter().any(|opening| stay.fits(opening)) {
            Ok(stay)
        } else {
            Err(refused(
                "closed",
                "/time",
                "the restaurant is not open then for as long as the party stays",
            ))
        }
    }

    /// Whether the party is gone before the door closes.
    pub fn fits(&self, opening: &Opening) -> bool {
        opening.covers(self.starts.minute(), self.duration_minutes)
    }

    fn check_for_guests(&self, venue: &Venue, party_size: u32) -> Result<()> {
        let Rules {
            slot_minutes,
            party_size_max,
            advance_days_max,
            ..
        } = venue.rules;
        let now = Millis::now();
        if self.starts_at <= now {
            return Err(refused("in_past", "/date", "this time has passed"));
        }
        if party_size > party_size_max {
            let message =
                format!("for more than {party_size_max} people, please call the restaurant");
            return Err(refused("party_too_large", "/party_size", message));
        }
        if !venue.accepts(self.starts.day(), party_size, now) {
            let message = format!("at most {advance_days_max} days ahead");
            return Err(refused("too_far_ahead", "/date", message));
        }
        if self.starts.time().minute() % slot_minutes != 0 {
            let message =
                format!("times are {slot_minutes} minutes apart, beginning at the full hour");
            return Err(refused("off_grid", "/time", message));
        }
        Ok(())
    }
}

impl Venue {
    /// Whether guests may book for this date and size at all.
    pub fn accepts(&self, date: Day, party_size: u32, now: Millis) -> bool {
        let days_ahead = date.number() - self.zone.local(now).day().number();
        (0..=self.rules.advance_days_max).contains(&days_ahead)
            && (1..=self.rules.party_size_max).contains(&party_size)
    }
}

impl Rules {
    /// Minutes from one time to the next, to step by.
    pub fn slot_step(&self) -> usize {
        usize::try_from(self.slot_minutes).unwrap_or(30).max(1)
    }
}

fn refused(rule: &str, at: &str, message: impl Into<String>) -> Error {
    let message = message.into();
    Error::new(422, format!("reservation.{rule}"), message.clone()).with_field(
        at,
        rule.to_owned(),
        message,
    )
}
