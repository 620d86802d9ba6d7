//! What one plugin has of the way out: its own connections, its places, and how much it may send and receive in a minute.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    Config,
    client::{Clients, Resolver},
};
use crate::services::Error;

const MINUTE: Duration = Duration::from_secs(60);

pub(super) struct Lane {
    pub(super) clients: Clients,
    places: Arc<Semaphore>,
    requests_max: u64,
    bytes_max: u64,
    minute: Mutex<Minute>,
}

/// What was used since it began.
struct Minute {
    began: Instant,
    requests: u64,
    bytes: u64,
}

impl Lane {
    pub(super) fn new(config: &Config, resolver: Resolver) -> Arc<Self> {
        Arc::new(Self {
            clients: Clients::new(resolver),
            places: Arc::new(Semaphore::new(config.in_flight_max)),
            requests_max: config.requests_per_minute_max,
            bytes_max: config.bytes_per_minute_max,
            minute: Mutex::new(Minute {
                began: Instant::now(),
                requests: 0,
                bytes: 0,
            }),
        })
    }

    /// A place among the requests in flight.
    pub(super) fn place(&self, config: &Config) -> Result<OwnedSemaphorePermit, Error> {
        self.places.clone().try_acquire_owned().map_err(|_| {
            let in_flight_max = config.in_flight_max;
            let message = format!("{in_flight_max} requests of this plugin are under way already");
            let error = Error::limit("outbound.too_many_in_flight", message);
            Error {
                retry_after_ms: Some(200),
                ..error
            }
        })
    }

    /// Counts a request of so many bytes.
    pub(super) fn count_request(&self, bytes: u64) -> Result<(), Error> {
        self.count(1, bytes)
    }

    /// Counts bytes that came back.
    pub(super) fn count_bytes(&self, bytes: u64) -> Result<(), Error> {
        self.count(0, bytes)
    }

    fn count(&self, requests: u64, bytes: u64) -> Result<(), Error> {
        let now = Instant::now();
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(minute.began) >= MINUTE {
            *minute = Minute {
                began: now,
                requests: 0,
                bytes: 0,
            };
        }
        // What came has come, so it counts also if it is too much.
        minute.requests += requests;
        minute.bytes = minute.bytes.saturating_add(bytes);
        if minute.requests <= self.requests_max && minute.bytes <= self.bytes_max {
            return Ok(());
        }
        let left = (minute.began + MINUTE).saturating_duration_since(now);
        let message = "this plugin has sent and received as much as it may in a minute";
        let error = Error::limit("outbound.rate_exceeded", message);
        Err(Error {
            retry_after_ms: u64::try_from(left.as_millis()).ok(),
            ..error
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::outbound::client::system;

    #[tokio::test(start_paused = true)]
    async fn a_minute_has_its_requests_and_bytes_and_the_next_one_too() {
        let config = Config {
            requests_per_minute_max: 3,
            bytes_per_minute_max: 100,
            ..Config::default()
        };
        let lane = Lane::new(&config, system());
        lane.count_request(40).unwrap();
        lane.count_bytes(60).unwrap();
        let error = lane.count_bytes(1).unwrap_err();
        assert_eq!(error.code, "outbound.rate_exceeded");
        assert_eq!(error.retry_after_ms, Some(60_000));
        tokio::time::advance(MINUTE).await;
        for _ in 0..3 {
            lane.count_request(1).unwrap();
        }
        lane.count_request(1).unwrap_err();
    }
}
