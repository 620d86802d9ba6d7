//! Keeps calls away from a route that keeps crashing: first the callers whose calls crash, and all of them only when many
//! different callers meet it. After a while one call is let through to see.
//!
//! While nothing crashes this costs one load of a flag. What is counted is gone with the deployment.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::http::address;

/// When calls are kept away from a route. A crash is a call that the host had to end: a trap, memory, processor time or
/// time used up.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether calls are kept away at all. Default: true.
    pub enabled: bool,
    /// Crashes within a window from which on calls are kept away. Default: 20.
    pub crashes_min: u32,
    /// Percentage of calls that must have crashed as well. Counting begins with the first crash. Default: 50.
    pub crashes_percent: u32,
    /// How many clients must have met crashes before calls of everybody are kept away; before that, only those of the
    /// clients whose own calls crash. Default: 4.
    pub clients_min: u32,
    /// The window. Default: 30000.
    pub window_ms: u64,
    /// How long calls are kept away at first; each time that the next one crashes, twice as long. Default: 1000.
    pub hold_ms: u64,
    /// How long at most. Default: 60000.
    pub hold_ms_max: u64,
    /// Clients of one route that are counted by themselves while it crashes; the others are counted as one. Default: 256.
    pub clients_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            crashes_min: 20,
            crashes_percent: 50,
            clients_min: 4,
            window_ms: 30_000,
            hold_ms: 1000,
            hold_ms_max: 60_000,
            clients_max: 256,
        }
    }
}

/// The breaker of one route of one deployment.
#[derive(Debug)]
pub struct Breaker {
    config: Config,
    /// Whether anything in `trouble` is worth a look.
    is_troubled: AtomicBool,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    window_began_ns: u64,
    clients: HashMap<IpAddr, Client>,
    /// Of everybody.
    hold: Option<Hold>,
}

#[derive(Debug, Default)]
struct Client {
    crashed: u32,
    answered: u32,
    hold: Option<Hold>,
}

/// Calls are kept away.
#[derive(Debug)]
struct Hold {
    until_ns: u64,
    /// How often in a row, this time included.
    times: u32,
    /// Until when others wait for the end of a call that was let through. Whoever it is may take as long as they like.
    probed_until_ns: u64,
    /// When a client that has met no crash may try, although it is early.
    others_from_ns: u64,
}

/// How a call ended, as far as it says something of the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The host had to end it.
    Crashed,
    Answered,
    /// It ended for a reason that is not the plugin's.
    Other,
}

/// Whose calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Client,
    Everybody,
}

impl Scope {
    /// The word for it in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Everybody => "everybody",
        }
    }
}

/// What a call has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Calls are kept away from now on.
    Held { scope: Scope, time: Duration },
    /// They are let through again.
    Released { scope: Scope },
}

/// Calls are kept away for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub retry_after: Duration,
}

/// How a route stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether calls of everybody are kept away, and for how much longer; zero means that the next call is let through.
    pub everybody: Option<Duration>,
    /// Clients whose own calls are kept away.
    pub clients: usize,
}

/// A call that was let through. Dropped without an end, it says nothing of the plugin.
#[derive(Debug)]
pub struct Pass<'a> {
    breaker: &'a Breaker,
    client: IpAddr,
    probes_client: bool,
    probes_route: bool,
}

impl Breaker {
    /// For a route on which nothing has crashed yet.
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            is_troubled: AtomicBool::new(false),
            trouble: Mutex::default(),
        }
    }

    /// Lets a call of this client through, or not.
    pub fn admit(&self, client: IpAddr, now_ns: u64) -> Result<Pass<'_>, Held> {
        let mut pass = Pass {
            breaker: self,
            client,
            probes_client: false,
            probes_route: false,
        };
        if !self.is_troubled.load(Relaxed) {
            return Ok(pass);
        }
        pass.client = address::network(client);
        let mut trouble = self.lock();
        self.begin_window(&mut trouble, now_ns);
        let Trouble { clients, hold, .. } = &mut *trouble;
        let mut known = clients.get_mut(&pass.client);
        let own = known.as_deref_mut().and_then(|known| known.hold.as_mut());
        if let Some(hold) = &own
            && now_ns < hold.until_ns.max(hold.probed_until_ns)
        {
            return Err(self.held(hold, now_ns));
        }
        let has_own_hold = own.is_some();
        let next_ns = now_ns.saturating_add(nanoseconds(self.config.hold_ms));
        if let Some(hold) = hold {
            let is_blameless = known.as_ref().is_none_or(|known| known.crashed == 0);
            let from_ns = match is_blameless && !has_own_hold {
                true => hold.others_from_ns.min(hold.until_ns),
                false => hold.until_ns,
            };
            if now_ns < from_ns.max(hold.probed_until_ns) {
                return Err(self.held(hold, now_ns));
            }
            hold.others_from_ns = next_ns;
            hold.probed_until_ns = next_ns;
            pass.probes_route = true;
        }
        if let Some(own) = known.and_then(|known| known.hold.as_mut()) {
            own.probed_until_ns = next_ns;
            pass.probes_client = true;
        }
        Ok(pass)
    }

    /// Counts how a call ended whose pass is settled already: its answer broke off later.
    pub fn count(&self, client: IpAddr, end: End, now_ns: u64) -> Option<Event> {
        let pass = Pass {
            breaker: self,
            client,
            probes_client: false,
            probes_route: false,
        };
        pass.settle(end, now_ns)
    }

    /// How it stands now.
    pub fn standing(&self, now_ns: u64) -> Standing {
        if !self.is_troubled.load(Relaxed) {
            return Standing::default();
        }
        let trouble = self.lock();
        let left = |hold: &Hold| Duration::from_nanos(hold.until_ns.saturating_sub(now_ns));
        let held = trouble.clients.values().filter(|one| one.hold.is_some());
        Standing {
            everybody: trouble.hold.as_ref().map(left),
            clients: held.count(),
        }
    }

    fn settle(&self, pass: &Pass<'_>, end: End, now_ns: u64) -> Option<Event> {
        let is_probe = pass.probes_client || pass.probes_route;
        let is_quiet = end != End::Crashed && !self.is_troubled.load(Relaxed);
        if !self.config.enabled || (is_quiet && !is_probe) {
            return None;
        }
        let mut trouble = self.lock();
        if !self.is_troubled.swap(true, Relaxed) {
            trouble.window_began_ns = now_ns;
        }
        self.begin_window(&mut trouble, now_ns);
        let client = address::network(pass.client);
        match end {
            End::Other => {
                trouble.forget_probe(pass);
                None
            }
            End::Answered => self.answered(&mut trouble, client, pass),
            End::Crashed => self.crashed(&mut trouble, client, pass, now_ns),
        }
    }

    fn answered(&self, trouble: &mut Trouble, client: IpAddr, pass: &Pass<'_>) -> Option<Event> {
        let known = trouble.client(client, self.config.clients_max);
        known.answered += 1;
        let mut released = None;
        if pass.probes_client {
            *known = Client::default();
            released = Some(Scope::Client);
        }
        if pass.probes_route {
            trouble.hold = None;
            // What they have met is over; who crashes again is counted anew.
            for known in trouble.clients.values_mut() {
                known.crashed = 0;
            }
            released = Some(Scope::Everybody);
        }
        released.map(|scope| Event::Released { scope })
    }

    fn crashed(
        &self,
        trouble: &mut Trouble,
        client: IpAddr,
        pass: &Pass<'_>,
        now_ns: u64,
    ) -> Option<Event> {
        let config = &self.config;
        let known = trouble.client(client, config.clients_max);
        known.crashed += 1;
        let mut held = None;
        let is_much = known.crashed >= config.crashes_min
            && self.is_share(known.crashed.into(), known.answered.into());
        match &mut known.hold {
            Some(hold) if pass.probes_client => {
                held = Some((Scope::Client, self.prolong(hold, now_ns)));
            }
            None if is_much && client != OTHERS => {
                let hold = known.hold.insert(Hold::none(now_ns));
                held = Some((Scope::Client, self.prolong(hold, now_ns)));
            }
            _ => {}
        }
        // Nobody counts for more than their share, so that one client cannot speak for all.
        let share = config.crashes_min.div_ceil(config.clients_min.max(1));
        let mut sums = (0, 0);
        for known in trouble.clients.values() {
            sums.0 += u64::from(known.crashed.min(share));
            sums.1 += u64::from(known.answered.min(share));
        }
        let is_much = sums.0 >= config.crashes_min.into() && self.is_share(sums.0, sums.1);
        match &mut trouble.hold {
            Some(hold) if pass.probes_route => {
                held = Some((Scope::Everybody, self.prolong(hold, now_ns)));
            }
            None if is_much => {
                let hold = trouble.hold.insert(Hold::none(now_ns));
                held = Some((Scope::Everybody, self.prolong(hold, now_ns)));
            }
            _ => {}
        }
        held.map(|(scope, time)| Event::Held { scope, time })
    }

    fn is_share(&self, crashed: u64, answered: u64) -> bool {
        crashed * 100 >= u64::from(self.config.crashes_percent) * (crashed + answered)
    }

    /// Keeps calls away once more, for twice as long as the last time.
    fn prolong(&self, hold: &mut Hold, now_ns: u64) -> Duration {
        let Config {
            hold_ms,
            hold_ms_max,
            ..
        } = self.config;
        let doubled = hold_ms.saturating_mul(1 << hold.times.min(32));
        let ns = nanoseconds(doubled.min(hold_ms_max));
        hold.times = hold.times.saturating_add(1);
        hold.probed_until_ns = 0;
        hold.until_ns = now_ns.saturating_add(ns);
        Duration::from_nanos(ns)
    }

    fn held(&self, hold: &Hold, now_ns: u64) -> Held {
        let left = Duration::from_nanos(hold.until_ns.saturating_sub(now_ns));
        let retry_after = match left.is_zero() {
            // Somebody else's call is to show how things are.
            true => Duration::from_millis(self.config.hold_ms),
            false => left,
        };
        Held { retry_after }
    }

    /// Forgets what happened before this window, and holds that ended long ago.
    fn begin_window(&self, trouble: &mut Trouble, now_ns: u64) {
        let window_ns = nanoseconds(self.config.window_ms);
        if now_ns.saturating_sub(trouble.window_began_ns) < window_ns {
            return;
        }
        trouble.window_began_ns = now_ns;
        let forgotten_ns = window_ns.max(nanoseconds(self.config.hold_ms_max));
        let is_over = |hold: &Hold| now_ns > hold.until_ns.saturating_add(forgotten_ns);
        trouble.hold.take_if(|hold| is_over(hold));
        trouble.clients.retain(|_, known| {
            (known.crashed, known.answered) = (0, 0);
            known.hold.take_if(|hold| is_over(hold));
            known.hold.is_some()
        });
        if trouble.hold.is_none() && trouble.clients.is_empty() {
            self.is_troubled.store(false, Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Tells how the call ended.
    pub fn settle(mut self, end: End, now_ns: u64) -> Option<Event> {
        let event = self.breaker.settle(&self, end, now_ns);
        (self.probes_client, self.probes_route) = (false, false);
        event
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probes_client || self.probes_route {
            self.breaker.lock().forget_probe(self);
        }
    }
}

/// Stands for the clients that are not counted by themselves. They are kept away only together with everybody.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Trouble {
    fn client(&mut self, client: IpAddr, clients_max: usize) -> &mut Client {
        let has_room = self.clients.len() < clients_max || self.clients.contains_key(&client);
        let client = if has_room { client } else { OTHERS };
        self.clients.entry(client).or_default()
    }

    /// The call was let through to see, and nothing was seen.
    fn forget_probe(&mut self, pass: &Pass<'_>) {
        let known = self.clients.get_mut(&pass.client);
        let own = known.and_then(|known| known.hold.as_mut());
        let holds = [
            own.filter(|_| pass.probes_client),
            self.hold.as_mut().filter(|_| pass.probes_route),
        ];
        for hold in holds.into_iter().flatten() {
            hold.probed_until_ns = 0;
        }
    }
}

impl Hold {
    fn none(now_ns: u64) -> Self {
        Self {
            until_ns: now_ns,
            times: 0,
            probed_until_ns: 0,
            others_from_ns: now_ns,
        }
    }
}

fn nanoseconds(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn breaker() -> Breaker {
        Breaker::new(Config::default())
    }

    fn client(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn call(breaker: &Breaker, from: u8, end: End, now_ns: u64) -> Result<Option<Event>, Held> {
        let pass = breaker.admit(client(from), now_ns)?;
        Ok(pass.settle(end, now_ns))
    }

    fn held(breaker: &Breaker, from: u8, now_ns: u64) -> Option<u64> {
        let held = breaker.admit(client(from), now_ns).err();
        held.map(|held| held.retry_after.as_secs())
    }

    /// A client that crashes again and again is kept away.
    fn hold_client(breaker: &Breaker, from: u8) {
        for crash in 1..=20 {
            let event = call(breaker, from, End::Crashed, 0).unwrap();
            assert_eq!(event.is_some(), crash == 20, "{crash}: {event:?}");
        }
    }

    #[test]
    fn a_client_whose_calls_crash_is_kept_away_and_nobody_else() {
        let breaker = breaker();
        hold_client(&breaker, 1);
        assert_eq!(held(&breaker, 1, SECOND / 2), Some(0));
        assert_eq!(held(&breaker, 2, SECOND / 2), None);
        // However often one client tries, it does not speak for others.
        for now in 1..1000 {
            let _ = call(&breaker, 1, End::Crashed, now * SECOND);
            assert_eq!(held(&breaker, 2, now * SECOND), None, "{now}");
        }
        assert_eq!(breaker.standing(1000 * SECOND).everybody, None);
    }

    #[test]
    fn each_time_is_twice_as_long_up_to_the_longest_and_one_answer_ends_it() {
        let breaker = breaker();
        hold_client(&breaker, 1);
        let mut now = 0;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(held(&breaker, 1, now + seconds * SECOND - 1).is_some());
            now += seconds * SECOND;
            let event = call(&breaker, 1, End::Crashed, now).unwrap();
            assert!(matches!(event, Some(Event::Held { .. })), "{event:?}");
        }
        now += 60 * SECOND;
        let event = call(&breaker, 1, End::Answered, now).unwrap();
        let scope = Scope::Client;
        assert_eq!(event, Some(Event::Released { scope }));
        assert_eq!(held(&breaker, 1, now), None);
        assert_eq!(breaker.standing(now), Standing::default());
    }

    #[test]
    fn when_it_is_time_one_call_is_let_through_and_if_it_says_nothing_another_one() {
        let breaker = breaker();
        hold_client(&breaker, 1);
        let probe = breaker.admit(client(1), SECOND).unwrap();
        assert_eq!(held(&breaker, 1, SECOND), Some(1));
        drop(probe);
        let probe = breaker.admit(client(1), SECOND).unwrap();
        assert_eq!(probe.settle(End::Other, SECOND), None);
        assert_eq!(held(&breaker, 1, SECOND), None);
    }

    /// Crashes of four clients, five each.
    fn hold_everybody(breaker: &Breaker) -> Option<Event> {
        let crashes = (0..20).map(|crash| call(breaker, 1 + crash % 4, End::Crashed, 0));
        crashes.last().unwrap().unwrap()
    }

    #[test]
    fn everybody_is_kept_away_when_many_clients_meet_crashes() {
        let breaker = breaker();
        let event = hold_everybody(&breaker);
        let scope = Scope::Everybody;
        assert!(
            matches!(event, Some(Event::Held { scope: found, .. }) if found == scope),
            "{event:?}"
        );
        assert_eq!(held(&breaker, 1, SECOND / 2), Some(0));
        // Somebody to whom nothing has happened may try early, one at a time and not without a pause.
        let event = call(&breaker, 9, End::Crashed, SECOND / 2).unwrap();
        assert!(matches!(event, Some(Event::Held { .. })), "{event:?}");
        assert!(held(&breaker, 10, SECOND / 2).is_some());
        // Nor can whoever is let through make the others wait by taking long.
        let _slow = breaker.admit(client(11), 2 * SECOND).unwrap();
        assert!(held(&breaker, 10, 2 * SECOND).is_some());
        let event = call(&breaker, 10, End::Answered, 3 * SECOND).unwrap();
        assert_eq!(event, Some(Event::Released { scope }));
        assert_eq!(held(&breaker, 1, 3 * SECOND), None);
    }

    #[test]
    fn a_few_clients_that_crash_on_purpose_do_not_speak_for_those_that_are_answered() {
        let breaker = breaker();
        for round in 0..100 {
            for good in 100..130 {
                let answered = call(&breaker, good, End::Answered, round * SECOND / 10);
                assert!(answered.is_ok(), "{round}");
            }
            for bad in 1..=10 {
                let _ = call(&breaker, bad, End::Crashed, round * SECOND / 10);
            }
        }
        assert_eq!(breaker.standing(10 * SECOND).everybody, None);
        assert_eq!(breaker.standing(10 * SECOND).clients, 10);
    }

    #[test]
    fn crashes_among_many_answers_and_crashes_of_long_ago_hold_nobody() {
        let breaker = breaker();
        for call_number in 0..1000 {
            let end = match call_number % 3 {
                0 => End::Crashed,
                _ => End::Answered,
            };
            call(&breaker, 1, end, 1000 + call_number).unwrap();
        }
        for day in 1..100 {
            call(&breaker, 2, End::Crashed, day * 86_400 * SECOND).unwrap();
        }
        let later = 100 * 86_400 * SECOND;
        assert!(call(&breaker, 2, End::Answered, later).is_ok());
        assert_eq!(breaker.standing(later), Standing::default());
        assert!(!breaker.is_troubled.load(Relaxed), "all is forgotten");
    }

    #[test]
    fn clients_without_end_take_no_memory_without_end() {
        let breaker = breaker();
        for number in 0..100_000_u32 {
            let client = IpAddr::from(number.to_be_bytes());
            if let Ok(pass) = breaker.admit(client, u64::from(number)) {
                pass.settle(End::Crashed, u64::from(number));
            }
        }
        assert!(breaker.lock().clients.len() <= 257);
    }

    #[test]
    fn it_can_be_switched_off() {
        let breaker = Breaker::new(Config {
            enabled: false,
            ..Config::default()
        });
        for _ in 0..1000 {
            assert_eq!(call(&breaker, 1, End::Crashed, 0), Ok(None));
        }
    }
}
