//! The settings of the audit trail.

use serde::{Deserialize, Serialize};

/// What is kept of what happened, and what is suspicious.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Days for which events are kept; 0 keeps them for ever. Where older ones were removed, the host signs where the chain
    /// begins. Default: 365.
    pub keep_days: u32,
    /// Seconds after which the end of the chain is signed into the file `audit.head`, if there is something new. Default: 10.
    pub checkpoint_s: u64,
    /// Events after which that is done in any case. Default: 1000.
    pub checkpoint_events: u64,
    /// Most notes (failed logins, refusals) that wait to be written. Further ones are lost, and the trail says how many.
    /// Default: 8192.
    pub queue_max: usize,
    /// Seconds for which the same refusal or failure is counted instead of written again. Default: 60.
    pub repeat_s: u64,
    /// Most refusals and failures that are told apart while they are counted. Default: 4096.
    pub repeats_max: usize,
    /// Most refusals and failures that are written in one minute; of further ones, only how many there were. Default: 600.
    pub refusals_per_minute_max: u64,
    /// Most bytes of an event's details; of longer ones, only length and hash are kept. Default: 8 KiB.
    pub detail_bytes_max: usize,
    /// Who is told by mail of what is suspicious. Default: nobody.
    pub notify_email: String,
    /// What is suspicious.
    pub detection: Detection,
}

/// What is suspicious, and how often that is said.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Detection {
    /// Over how many seconds is counted. Default: 600.
    pub window_s: u64,
    /// Accounts at which one network failed to log in: `security.credential_stuffing`. Default: 10.
    pub accounts_per_network: usize,
    /// Networks from which logins to one account failed: `security.account_attacked`. Default: 10.
    pub networks_per_account: usize,
    /// Answers 401, 403 and 404 to one network: `security.scanning`. Default: 1000.
    pub turned_away_per_network: usize,
    /// Seconds for which the same is not said again. Default: 3600.
    pub hold_off_s: u64,
    /// Most networks and accounts that are counted at the same time. Default: 10000.
    pub table_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keep_days: 365,
            checkpoint_s: 10,
            checkpoint_events: 1000,
            queue_max: 8192,
            repeat_s: 60,
            repeats_max: 4096,
            refusals_per_minute_max: 600,
            detail_bytes_max: 8 << 10,
            notify_email: String::new(),
            detection: Detection::default(),
        }
    }
}

impl Default for Detection {
    fn default() -> Self {
        Self {
            window_s: 600,
            accounts_per_network: 10,
            networks_per_account: 10,
            turned_away_per_network: 1000,
            hold_off_s: 3600,
            table_max: 10_000,
        }
    }
}

impl Config {
    /// What cannot be, one sentence each.
    pub fn mistakes(&self) -> Vec<String> {
        let detection = &self.detection;
        let rules = [
            (
                self.checkpoint_s > 0,
                "`audit.checkpoint_s` must be at least 1",
            ),
            (
                self.checkpoint_events > 0,
                "`audit.checkpoint_events` must be at least 1",
            ),
            (self.queue_max > 0, "`audit.queue_max` must be at least 1"),
            (self.repeat_s > 0, "`audit.repeat_s` must be at least 1"),
            (
                self.detail_bytes_max >= 256,
                "`audit.detail_bytes_max` must be at least 256",
            ),
            (
                self.notify_email.is_empty() || self.notify_email.contains('@'),
                "`audit.notify_email` must be an e-mail address",
            ),
            (
                (2..=1000).contains(&detection.accounts_per_network)
                    && (2..=1000).contains(&detection.networks_per_account),
                "`audit.detection.accounts_per_network` and `networks_per_account` must be 2 to 1000",
            ),
            (
                detection.turned_away_per_network > 0
                    && detection.window_s > 0
                    && detection.table_max > 0,
                "`audit.detection.turned_away_per_network`, `window_s` and `table_max` must be at least 1",
            ),
        ];
        let broken = rules.iter().filter(|(holds, _)| !holds);
        broken.map(|(_, rule)| (*rule).to_owned()).collect()
    }
}
