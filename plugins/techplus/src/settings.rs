//! The rules of a house: what the operator set for all restaurants, unless a restaurant says otherwise.

use gantry_sdk::prelude::*;

use crate::check::Check;
use crate::time::SLOT_MINUTES;

/// The operator's settings, described in `plugin.toml`. The host has checked them.
#[derive(Debug, Deserialize)]
pub struct Config {
    pub slot_minutes: i64,
    pub durations: Vec<Duration>,
    pub buffer_minutes: i64,
    pub advance_days_max: i64,
    pub party_size_max: u32,
    pub cancellation_hours: u32,
    pub confirmation: Confirmation,
    pub manage_url: String,
}

/// How long parties up to a size stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duration {
    pub up_to: u32,
    pub minutes: i64,
}

/// What happens to a booking of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// It is confirmed at once.
    Automatic,
    /// It stays pending until somebody of the staff confirms it.
    Manual,
}

/// What a restaurant says itself. What it leaves out is the operator's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub general: General,
    pub booking: Booking,
    pub policies: Policies,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct General {
    /// Of all prices, ISO 4217. Default: EUR.
    pub currency: String,
    /// Shown to guests before they book.
    pub welcome: String,
}

impl Default for General {
    fn default() -> Self {
        Self {
            currency: "EUR".to_owned(),
            welcome: String::new(),
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Booking {
    pub slot_minutes: Option<i64>,
    pub durations: Option<Vec<Duration>>,
    pub buffer_minutes: Option<i64>,
    pub advance_days_max: Option<i64>,
    pub party_size_max: Option<u32>,
    pub confirmation: Option<Confirmation>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    pub cancellation_hours: Option<u32>,
    /// The house's own words, shown to guests.
    pub text: String,
}

/// What holds for one restaurant.
#[derive(Debug, Serialize)]
pub struct Rules {
    /// Minutes between two times at which one can come: 15, 30 or 60.
    pub slot_minutes: i64,
    /// In ascending order; larger parties stay as long as the last.
    pub durations: Vec<Duration>,
    /// Minutes that a table stays empty after a party.
    pub buffer_minutes: i64,
    /// How many days ahead guests can book.
    pub advance_days_max: i64,
    /// The largest party that guests can book.
    pub party_size_max: u32,
    /// Until how many hours before the time guests can change or cancel.
    pub cancellation_hours: u32,
    pub confirmation: Confirmation,
}

impl Config {
    pub fn load() -> Result<Self> {
        config::load()
    }

    /// The link with which a guest comes back.
    pub fn manage_link(&self, token: &str) -> String {
        self.manage_url.replace("{token}", token)
    }
}

impl Rules {
    pub fn of(config: &Config, settings: &Settings) -> Self {
        let own = &settings.booking;
        Self {
            slot_minutes: own.slot_minutes.unwrap_or(config.slot_minutes),
            durations: own.durations.as_ref().unwrap_or(&config.durations).clone(),
            buffer_minutes: own.buffer_minutes.unwrap_or(config.buffer_minutes),
            advance_days_max: own.advance_days_max.unwrap_or(config.advance_days_max),
            party_size_max: own.party_size_max.unwrap_or(config.party_size_max),
            cancellation_hours: settings
                .policies
                .cancellation_hours
                .unwrap_or(config.cancellation_hours),
            confirmation: own.confirmation.unwrap_or(config.confirmation),
        }
    }

    /// How long a party of this size stays, in minutes.
    pub fn duration(&self, party_size: u32) -> i64 {
        let fits = self
            .durations
            .iter()
            .find(|duration| party_size <= duration.up_to);
        fits.or(self.durations.last())
            .map_or(120, |duration| duration.minutes)
    }
}

impl Settings {
    /// Notes what cannot be.
    pub fn check(&self, check: &mut Check) {
        let currency = &self.general.currency;
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            check.mistake("/general/currency", "format", "three capitals, like EUR");
        }
        check.text("/general/welcome", &self.general.welcome, 0..=1000);
        check.text("/policies/text", &self.policies.text, 0..=5000);
        if let Some(hours) = self.policies.cancellation_hours {
            check.number("/policies/cancellation_hours", hours, 0..=720);
        }
        self.booking.check(check);
    }
}

impl Booking {
    fn check(&self, check: &mut Check) {
        if self
            .slot_minutes
            .is_some_and(|minutes| ![15, 30, 60].contains(&minutes))
        {
            check.mistake("/booking/slot_minutes", "out_of_range", "15, 30 or 60");
        }
        if let Some(minutes) = self.buffer_minutes {
            check.number("/booking/buffer_minutes", minutes, 0..=120);
        }
        if let Some(days) = self.advance_days_max {
            check.number("/booking/advance_days_max", days, 1..=365);
        }
        if let Some(size) = self.party_size_max {
            check.number("/booking/party_size_max", size, 1..=100);
        }
        if let Some(durations) = &self.durations {
            check.number("/booking/durations", durations.len(), 1..=10);
            for (at, duration) in durations.iter().enumerate() {
                let pointer = format!("/booking/durations/{at}/minutes");
                check.number(&pointer, duration.minutes, 15..=480);
                if duration.minutes % SLOT_MINUTES != 0 {
                    check.mistake(pointer, "format", "whole quarters of an hour");
                }
            }
            if durations
                .windows(2)
                .any(|pair| pair[0].up_to >= pair[1].up_to)
            {
                check.mistake("/booking/durations", "order", "`up_to` must ascend");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restaurant_overrides_only_what_it_says() {
        let config = Config {
            slot_minutes: 30,
            durations: vec![
                Duration {
                    up_to: 2,
                    minutes: 90,
                },
                Duration {
                    up_to: 6,
                    minutes: 120,
                },
            ],
            buffer_minutes: 15,
            advance_days_max: 90,
            party_size_max: 12,
            cancellation_hours: 24,
            confirmation: Confirmation::Automatic,
            manage_url: "https://example.com/r/{token}".to_owned(),
        };
        let mut settings = Settings::default();
        settings.booking.slot_minutes = Some(15);

        let rules = Rules::of(&config, &settings);

        assert_eq!((rules.slot_minutes, rules.cancellation_hours), (15, 24));
        assert_eq!(
            [1, 2, 3, 6, 20].map(|size| rules.duration(size)),
            [90, 90, 120, 120, 120]
        );
        assert_eq!(config.manage_link("abc"), "https://example.com/r/abc");
    }
}
