//! Finds what is suspicious in what happens: rules with bounded memory, each of which says the same once in a while only.

use std::{collections::HashMap, net::IpAddr};

use crate::audit::{Detection, network};
use crate::ledger::{Event, Outcome};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rule {
    CredentialStuffing,
    AccountAttacked,
    Scanning,
}

/// Whom a rule counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Network(IpAddr),
    Account(u64),
}

#[derive(Default)]
struct Window {
    began_ms: i64,
    /// Each once.
    seen: Vec<u64>,
    count: usize,
    held_until_ms: i64,
}

/// Watches what passes.
pub(super) struct Detector {
    config: Detection,
    windows: HashMap<(Rule, Subject), Window>,
}

impl Detector {
    pub(super) fn new(config: Detection) -> Self {
        Self {
            config,
            windows: HashMap::new(),
        }
    }

    /// What an event shows, together with those before it.
    pub(super) fn see(&mut self, event: &Event, now_ms: i64) -> Vec<Event> {
        let mut alerts = Vec::new();
        if event.action == "refresh_token.reused" {
            let alert = alert("security.token_reused", &event.target, event);
            alerts.push(alert);
        }
        if event.action != "login.failed" {
            return alerts;
        }
        let (Some(account), Some(address)) = (event.mark, event.address.map(network)) else {
            return alerts;
        };
        let by_network = (Rule::CredentialStuffing, Subject::Network(address));
        if let Some(accounts) = self.count_distinct(
            by_network,
            account,
            self.config.accounts_per_network,
            now_ms,
        ) {
            let alert = alert("security.credential_stuffing", &shown(address), event);
            alerts.push(alert.with("accounts", accounts));
        }
        let by_account = (Rule::AccountAttacked, Subject::Account(account));
        let from = digest(address);
        if let Some(networks) =
            self.count_distinct(by_account, from, self.config.networks_per_account, now_ms)
        {
            let alert = alert("security.account_attacked", &event.target, event);
            alerts.push(alert.with("networks", networks));
        }
        alerts
    }

    /// What it shows that somebody was turned away once more.
    pub(super) fn see_turned_away(&mut self, address: IpAddr, now_ms: i64) -> Option<Event> {
        let address = network(address);
        let threshold = self.config.turned_away_per_network;
        let key = (Rule::Scanning, Subject::Network(address));
        let window = self.window(key, now_ms)?;
        window.count += 1;
        if window.count < threshold {
            return None;
        }
        let count = window.count;
        self.hold(key, now_ms);
        let alert = Event::new("security.scanning", shown(address)).ended(Outcome::Noticed);
        Some(alert.with("turned_away", count))
    }

    fn count_distinct(
        &mut self,
        key: (Rule, Subject),
        what: u64,
        threshold: usize,
        now_ms: i64,
    ) -> Option<usize> {
        let window = self.window(key, now_ms)?;
        if !window.seen.contains(&what) {
            window.seen.push(what);
        }
        let count = window.seen.len();
        (count >= threshold).then(|| {
            self.hold(key, now_ms);
            count
        })
    }

    /// The window that is counted in; nothing while the same is not to be said again.
    fn window(&mut self, key: (Rule, Subject), now_ms: i64) -> Option<&mut Window> {
        let window_ms = ms(self.config.window_s);
        let is_over = |window: &Window| {
            now_ms >= window.held_until_ms && now_ms - window.began_ms >= window_ms
        };
        if self.windows.len() >= self.config.table_max && !self.windows.contains_key(&key) {
            self.windows.retain(|_, window| !is_over(window));
            if self.windows.len() >= self.config.table_max {
                // Somebody fills the table on purpose. Those who were found stay found.
                self.windows
                    .retain(|_, window| now_ms < window.held_until_ms);
            }
            if self.windows.len() >= self.config.table_max {
                return None;
            }
        }
        let window = self.windows.entry(key).or_default();
        if is_over(window) {
            *window = Window {
                began_ms: now_ms,
                ..Window::default()
            };
        }
        (now_ms >= window.held_until_ms).then_some(window)
    }

    fn hold(&mut self, key: (Rule, Subject), now_ms: i64) {
        let held_until_ms = now_ms.saturating_add(ms(self.config.hold_off_s));
        let held = Window {
            began_ms: now_ms,
            held_until_ms,
            ..Window::default()
        };
        self.windows.insert(key, held);
    }
}

/// The host says so, about what somebody did.
fn alert(action: &'static str, target: &str, event: &Event) -> Event {
    let mut alert = Event::new(action, target)
        .ended(Outcome::Noticed)
        .by("host", "");
    alert.address = event.address;
    alert.request_id = event.request_id;
    alert
}

fn shown(network: IpAddr) -> String {
    match network {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{address}/64"),
    }
}

fn digest(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => {
            let prefix = address.to_bits() >> 64;
            u64::try_from(prefix).unwrap_or(u64::MAX) | 1 << 63
        }
    }
}

fn ms(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(account: u64, address: &str) -> Event {
        let mut event =
            Event::failed("login.failed", account, "auth.credentials_wrong").marked(account);
        event.address = Some(address.parse().unwrap());
        event
    }

    fn actions(alerts: &[Event]) -> Vec<&'static str> {
        alerts.iter().map(|alert| alert.action).collect()
    }

    #[test]
    fn many_accounts_from_one_network_are_said_once_in_a_while() {
        let mut detector = Detector::new(Detection::default());
        let mut said = Vec::new();
        // One network, many addresses of it.
        for account in 0..50 {
            let address = format!("2001:db8::{account:x}");
            said.extend(detector.see(&failure(account, &address), 1000 + account as i64));
        }
        assert_eq!(actions(&said), ["security.credential_stuffing"]);
        assert_eq!(said[0].target, "2001:db8::/64");
        let again = |detector: &mut Detector, at_ms| {
            let alerts =
                (0..20).map(|account| detector.see(&failure(account, "2001:db8::9"), at_ms));
            alerts.flatten().count()
        };
        assert_eq!(again(&mut detector, 3_500_000), 0, "the hold-off");
        assert_eq!(again(&mut detector, 3_700_000), 1);
    }

    #[test]
    fn one_account_from_many_networks_is_found_and_one_who_errs_is_not() {
        let mut detector = Detector::new(Detection::default());
        for at in 0..1000 {
            let alerts = detector.see(&failure(7, "192.0.2.1"), 1000 + at);
            assert!(
                alerts.is_empty(),
                "one person who has forgotten the password"
            );
        }
        let said: Vec<_> = (2..40)
            .flat_map(|at| detector.see(&failure(7, &format!("192.0.2.{at}")), 2000))
            .collect();
        assert_eq!(actions(&said), ["security.account_attacked"]);
    }

    #[test]
    fn slow_failures_are_none_and_the_table_stays_small() {
        let config = Detection {
            table_max: 100,
            ..Detection::default()
        };
        let mut detector = Detector::new(config);
        for account in 0..200 {
            let at_ms = 1000 + account as i64 * 100_000;
            assert!(
                detector
                    .see(&failure(account, "192.0.2.1"), at_ms)
                    .is_empty()
            );
        }
        for at in 0..100_000_u32 {
            let address = IpAddr::from(std::net::Ipv4Addr::from_bits(at));
            detector.see_turned_away(address, 1_000_000_000);
            assert!(detector.windows.len() <= 100);
        }
    }

    #[test]
    fn whoever_tries_around_is_found() {
        let mut detector = Detector::new(Detection::default());
        let address = "192.0.2.9".parse().unwrap();
        let said: Vec<_> = (0..5000)
            .filter_map(|at| detector.see_turned_away(address, 1000 + at))
            .collect();
        assert_eq!(actions(&said), ["security.scanning"]);
        assert_eq!(said[0].detail["turned_away"], 1000);
    }
}
