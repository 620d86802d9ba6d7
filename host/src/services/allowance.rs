//! What one call may still take of the host: time, processor time, and memory beside the guest's own. Services that work
//! or keep something for a call take it from here; the runtime makes one for each call.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::db::Meter;
use crate::services::{Account, Error, Kind, Service};

/// The allowance of one call. Cheap to clone; all clones are the same allowance.
#[derive(Debug, Clone)]
pub struct Allowance(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    deadline: Instant,
    cpu_ns_max: u64,
    /// What this call has used.
    used: Account,
    /// Where that is booked once nobody works for the call any more.
    account: Arc<Account>,
    memory: Quota,
    /// What the last answer takes until the guest has it, which is when it asks for the next.
    answer: Mutex<Option<Held>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.account.book(&self.used);
    }
}

impl Allowance {
    /// For a call that ends at the deadline. `memory` is the call's own part, `account` the one of its route.
    pub fn new(deadline: Instant, cpu_max: Duration, memory: Quota, account: Arc<Account>) -> Self {
        Self(Arc::new(Inner {
            deadline,
            cpu_ns_max: nanoseconds(cpu_max),
            used: Account::default(),
            account,
            memory,
            answer: Mutex::default(),
        }))
    }

    /// When the call ends, and with it everything that is done for it.
    pub fn deadline(&self) -> Instant {
        self.0.deadline
    }

    /// Processor time used so far, on whatever thread.
    pub fn cpu_used(&self) -> Duration {
        Duration::from_nanos(self.0.used.cpu_ns())
    }

    /// Processor time that is left. Zero means that the call is about to be stopped.
    pub fn cpu_left(&self) -> Duration {
        let used = self.0.used.cpu_ns();
        Duration::from_nanos(self.0.cpu_ns_max.saturating_sub(used))
    }

    /// Counts processor time that was used for this call.
    pub fn charge(&self, cpu: Duration) {
        self.0.used.add_cpu(nanoseconds(cpu));
    }

    /// Counts the memory that the guest has held at most.
    pub fn note_memory(&self, bytes: usize) {
        self.0.used.note_memory(bytes as u64);
    }

    /// Counts rows of SQL that were returned and changed.
    pub fn count_rows(&self, read: u64, written: u64) {
        self.0.used.add_rows(read, written);
    }

    /// Counts bytes that went to other servers and came from them.
    pub fn count_bytes(&self, sent: u64, received: u64) {
        self.0.used.add_bytes(sent, received);
    }

    /// Counts a call of this service, and its time until the result is dropped.
    pub fn time(&self, service: Service) -> Timed<'_> {
        Timed {
            allowance: self,
            service,
            began: std::time::Instant::now(),
        }
    }

    /// Counts time of a service beside that of its calls.
    pub fn add_time(&self, service: Service, time: Duration) {
        self.0.used.add_host_calls(service, 0, nanoseconds(time));
    }

    /// Counts bytes that the host keeps for this call, until the result is dropped. `limit` if the call has too many,
    /// `unavailable` if its plugin or the whole host has.
    pub fn hold(&self, bytes: usize) -> Result<Held, Error> {
        self.0.memory.hold(bytes)
    }

    /// Keeps the count for an answer until the next one: while the guest takes it over, it is in the host too.
    pub fn answer(&self, held: Option<Held>) {
        let mut answer = self.0.answer.lock().unwrap_or_else(PoisonError::into_inner);
        *answer = held;
    }

    /// Counts the bytes of an answer in the place of those of the one before, which the guest has by now. Fails as
    /// [`Allowance::hold`] does.
    pub fn hold_answer(&self, bytes: usize) -> Result<(), Error> {
        self.answer(None);
        self.answer(Some(self.hold(bytes)?));
        Ok(())
    }
}

/// A call of a service, which is timed until this is dropped.
#[derive(Debug)]
pub struct Timed<'a> {
    allowance: &'a Allowance,
    service: Service,
    began: std::time::Instant,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let took = nanoseconds(self.began.elapsed());
        let used = &self.allowance.0.used;
        used.add_host_calls(self.service, 1, took);
    }
}

/// Charges what a connection to the rows computes, from when it was taken until this is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    meter: Meter,
    payer: Option<Allowance>,
}

impl Charge {
    /// Nothing is charged without a payer.
    pub(super) fn new(meter: Meter, payer: Option<&Allowance>) -> Self {
        let payer = payer.cloned();
        Self { meter, payer }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(payer) = &self.payer {
            payer.charge(self.meter.used());
        }
    }
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub struct Held {
    quota: Quota,
    bytes: usize,
}

impl Held {
    /// Counts more bytes. After an error it holds what it held.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        self.quota.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.quota.give_back(self.bytes);
    }
}

/// A bound on a sum of bytes that others hold: for the whole host, of which each plugin has a part, of which each call
/// may have a part. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Quota(Arc<Part>);

#[derive(Debug)]
struct Part {
    bytes_max: usize,
    bytes: AtomicUsize,
    whole: Option<Quota>,
}

impl Quota {
    /// For the whole host.
    pub fn new(bytes_max: usize) -> Self {
        Self::with(bytes_max, None)
    }

    /// A part of it with a bound of its own.
    #[must_use]
    pub fn part(&self, bytes_max: usize) -> Self {
        Self::with(bytes_max, Some(self.clone()))
    }

    /// Counts bytes until the result is dropped.
    pub fn hold(&self, bytes: usize) -> Result<Held, Error> {
        self.take(bytes)?;
        let quota = self.clone();
        Ok(Held { quota, bytes })
    }

    /// How many bytes nobody holds, as of now and without those of a whole.
    pub fn free(&self) -> usize {
        self.0.bytes_max.saturating_sub(self.0.bytes.load(Relaxed))
    }

    fn with(bytes_max: usize, whole: Option<Self>) -> Self {
        Self(Arc::new(Part {
            bytes_max,
            bytes: AtomicUsize::new(0),
            whole,
        }))
    }

    fn take(&self, bytes: usize) -> Result<(), Error> {
        let part = &*self.0;
        let add = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= part.bytes_max);
        if part.bytes.fetch_update(Relaxed, Relaxed, add).is_err() {
            return Err(self.exceeded());
        }
        let of_whole = part
            .whole
            .as_ref()
            .map_or(Ok(()), |whole| whole.take(bytes));
        of_whole.inspect_err(|_| {
            part.bytes.fetch_sub(bytes, Relaxed);
        })
    }

    fn give_back(&self, bytes: usize) {
        let mut part = Some(self);
        while let Some(quota) = part {
            quota.0.bytes.fetch_sub(bytes, Relaxed);
            part = quota.0.whole.as_ref();
        }
    }

    fn exceeded(&self) -> Error {
        let bytes_max = self.0.bytes_max;
        let is_call = self.0.whole.as_ref().is_some_and(|of| of.0.whole.is_some());
        if is_call {
            let message = format!(
                "the host keeps at most {bytes_max} bytes for one call; ask for less at once, or drop \
                 requests and answers that are done with"
            );
            return Error::limit("limit.call_memory_exceeded", message);
        }
        let message = "the host keeps as much for calls as it may; try again soon";
        let error = Error::new(Kind::Unavailable, "host.memory_short", message);
        Error {
            retry_after_ms: Some(1000),
            ..error
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(memory: Quota) -> Allowance {
        Allowance::new(
            Instant::now(),
            Duration::from_millis(10),
            memory,
            Arc::default(),
        )
    }

    #[test]
    fn what_is_held_counts_for_the_call_its_plugin_and_the_host_until_it_is_dropped() {
        let host = Quota::new(1000);
        let (ann, bob) = (host.part(600), host.part(600));
        let (first, second) = (allowance(ann.part(400)), allowance(ann.part(400)));
        let other = allowance(bob.part(400));
        let code = |result: Result<Held, Error>| result.map_err(|error| error.code.into_owned());

        let held = first.hold(400).unwrap();
        assert_eq!(
            code(first.hold(1)).unwrap_err(),
            "limit.call_memory_exceeded"
        );
        assert_eq!(code(second.hold(201)).unwrap_err(), "host.memory_short");
        let more = second.hold(200).unwrap();
        let theirs = other.hold(400).unwrap();
        assert_eq!(
            code(allowance(bob.part(400)).hold(1)).unwrap_err(),
            "host.memory_short"
        );
        drop((held, more, theirs));
        first.hold(400).unwrap();
        // Nothing was counted for what was refused.
        let _all = (
            first.hold(400).unwrap(),
            second.hold(200).unwrap(),
            other.hold(400).unwrap(),
        );
    }

    #[test]
    fn an_answer_is_held_until_the_next_one() {
        let call = allowance(Quota::new(100).part(100).part(100));
        call.answer(Some(call.hold(100).unwrap()));
        assert!(call.hold(1).is_err());
        call.answer(None);
        call.hold(100).unwrap();
    }

    #[test]
    fn a_sum_that_overflows_is_refused() {
        let call = allowance(Quota::new(usize::MAX).part(usize::MAX).part(usize::MAX));
        let _held = call.hold(10).unwrap();
        assert!(call.hold(usize::MAX).is_err());
    }

    #[test]
    fn a_call_is_booked_when_nobody_works_for_it_any_more() {
        let account = Arc::new(Account::default());
        let (now, cpu) = (Instant::now(), Duration::from_secs(1));
        let call = Allowance::new(now, cpu, Quota::new(0), Arc::clone(&account));
        let statement = call.clone();
        call.charge(Duration::from_millis(1));
        drop(call);
        assert_eq!(account.totals().calls, 0, "a statement is under way");
        statement.charge(Duration::from_millis(2));
        drop(statement.time(Service::Kv));
        drop(statement);
        let totals = account.totals();
        assert_eq!((totals.calls, totals.cpu), (1, Duration::from_millis(3)));
        assert_eq!(totals.services[0].calls, 1);
    }

    #[test]
    fn processor_time_is_counted_down_to_nothing() {
        let call = allowance(Quota::new(0));
        call.charge(Duration::from_millis(4));
        assert_eq!(call.cpu_left(), Duration::from_millis(6));
        call.charge(Duration::from_millis(40));
        assert_eq!(call.cpu_left(), Duration::ZERO);
        assert_eq!(call.cpu_used(), Duration::from_millis(44));
    }
}
