//! The second level: the same entries on the shared server, for all hosts that use it. Purges are numbered there and the last
//! of each plugin remembered, so that no entry is taken that was purged since, whoever purged it; hosts ask for new ones
//! in short turns. Without the server each host goes on by itself.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::cache::{Entry, Kept, Key, Lives, Marks, NewEntry, Part, Purge};
use crate::clock::Clock;
use crate::cluster::{self, Cluster, Script, cmd};

/// Purges of one plugin that the server remembers. A host that has missed more forgets everything of the plugin.
const LOG_MAX: usize = 1024;
/// How often an entry is offered anew because something else was purged meanwhile.
const OFFERS: usize = 3;
/// Plugins that are asked about with one command.
const ASKED_AT_ONCE: usize = 500;

/// Numbers a purge and remembers it. The first one after the server has lost everything has a number beyond all before.
const PURGE: &str = "
local last = redis.call('GET', KEYS[1]) or '0'
local number
if last == '0' then
  local time = redis.call('TIME')
  number = string.format('%.0f', time[1] * 1000000 + time[2])
else
  number = string.format('%.0f', tonumber(last) + 1)
end
redis.call('SET', KEYS[1], number)
redis.call('ZADD', KEYS[2], number, number .. ' ' .. last .. ' ' .. ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[2]))
return {last, number}
";

/// An entry, and what was purged since it was written.
const FIND: &str = "
local entry = redis.call('GET', KEYS[1])
local last = redis.call('GET', KEYS[2]) or '0'
if not entry then return {'', last} end
local since = string.match(entry, '^(%d+) ')
if since == last then return {entry, last} end
return {entry, last, unpack(redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. since, '+inf'))}
";

/// Writes an entry, if nothing was purged that the writer has not seen; else tells what.
const OFFER: &str = "
local last = redis.call('GET', KEYS[2]) or '0'
if last == ARGV[1] then
  redis.call('SET', KEYS[1], last .. ' ' .. ARGV[2], 'PX', ARGV[3])
  return {}
end
return {last, unpack(redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf'))}
";

/// The second level.
#[derive(Debug)]
pub(super) struct Remote {
    cluster: Cluster,
    purge: Script,
    find: Script,
    offer: Script,
    /// Entries that are being written.
    writes: Arc<Semaphore>,
    clock: Clock,
}

/// What stands before the body of an entry on the server.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    /// Of an answer; nothing for a value.
    status: Option<u16>,
    /// Values are bytes; each becomes the character of its number.
    headers: Vec<(String, String)>,
    fresh_ms: u64,
    while_renewing_ms: u64,
    if_error_ms: u64,
    tags: Vec<String>,
    route: Option<String>,
    path: Option<String>,
    stored_at_ms: i64,
}

impl Remote {
    pub(super) fn new(cluster: Cluster, clock: Clock, writes_max: usize) -> Self {
        Self {
            cluster,
            purge: Script::new(PURGE),
            find: Script::new(FIND),
            offer: Script::new(OFFER),
            writes: Arc::new(Semaphore::new(writes_max)),
            clock,
        }
    }

    /// An entry that nothing was purged of since, and how old it is. The error means that nobody knows.
    pub(super) async fn find(
        &self,
        part: &Part,
        key: &Key,
    ) -> Result<Option<(NewEntry, Duration)>, cluster::Error> {
        let keys = self.keys(part, Some(key));
        let found: Vec<Vec<u8>> = self.cluster.run_script(&self.find, &keys, |_| ()).await?;
        let [entry, last, log @ ..] = &found[..] else {
            return Ok(None);
        };
        // Who has nothing yet has missed nothing yet.
        if part.seen().is_none()
            && part.bytes() == 0
            && let Some(last) = number(last)
        {
            part.has_seen(None, last);
        }
        if entry.is_empty() {
            return Ok(None);
        }
        let (entry, age) = match read(entry, self.clock.now_ms()) {
            Some((since, entry, age)) if is_current(since, number(last), log, &entry.marks) => {
                (entry, age)
            }
            _ => {
                self.remove(part, key).await?;
                return Ok(None);
            }
        };
        Ok(Some((entry, age)))
    }

    /// Whether the server answers now.
    pub(super) fn is_reachable(&self) -> bool {
        self.cluster.is_reachable()
    }

    /// A place to write an entry, if there are not too many being written.
    pub(super) fn place(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.writes).try_acquire_owned().ok()
    }

    /// Writes an entry, unless it was purged after `seen`.
    pub(super) async fn put(&self, part: &Part, key: &Key, entry: &Entry, seen: u64) {
        let Some(written) = self.write(entry) else {
            return;
        };
        let useful_ms = entry.useful().as_millis().max(1);
        let useful_ms = u64::try_from(useful_ms).unwrap_or(u64::MAX);
        let keys = self.keys(part, Some(key));
        let mut seen = seen;
        for _ in 0..OFFERS {
            let offered = self.cluster.run_script(&self.offer, &keys, |command| {
                command.arg(seen).arg(&written[..]).arg(useful_ms);
            });
            // Without the server there is one level.
            let Ok(found) = offered.await else { return };
            let found: Vec<Vec<u8>> = found;
            let [last, log @ ..] = &found[..] else { return };
            let Some(last) = number(last) else { return };
            if !is_current(seen, Some(last), log, &entry.marks) {
                return;
            }
            seen = last;
        }
    }

    pub(super) async fn remove(&self, part: &Part, key: &Key) -> Result<(), cluster::Error> {
        let mut command = cmd("DEL");
        command.arg(&self.keys(part, Some(key))[0]);
        self.cluster.query(&command).await
    }

    /// Numbers a purge and remembers it: the number before, and its own.
    pub(super) async fn purge(
        &self,
        part: &Part,
        purge: &Purge,
    ) -> Result<(u64, u64), cluster::Error> {
        let keys = self.keys(part, None);
        let text = purge.to_text();
        let numbers: (u64, u64) = self
            .cluster
            .run_script(&self.purge, &keys, |command| {
                command.arg(&text).arg(LOG_MAX);
            })
            .await?;
        Ok(numbers)
    }

    /// What was purged by others since the last turn is purged here, and what could not be told them is told.
    pub(super) async fn catch_up(&self, parts: &[Arc<Part>]) -> Result<(), cluster::Error> {
        for part in parts {
            while let Some(purge) = part.untold() {
                let told = self.purge(part, &purge).await;
                if told.is_err() {
                    part.tell_later(purge);
                }
                told?;
            }
        }
        for parts in parts.chunks(ASKED_AT_ONCE) {
            let mut command = cmd("MGET");
            for part in parts {
                command.arg(&self.keys(part, None)[0]);
            }
            let lasts: Vec<Option<u64>> = self.cluster.query(&command).await?;
            for (part, last) in parts.iter().zip(lasts) {
                let (seen, last) = (part.seen(), last.unwrap_or(0));
                if seen == Some(last) {
                    continue;
                }
                // Who has seen nothing yet, or more than there is, does not know what was missed.
                let log = match seen {
                    Some(seen) if seen < last => self.log(part, seen).await?,
                    _ => Vec::new(),
                };
                let missed = seen.and_then(|seen| purges(seen, last, &log));
                for purge in missed.unwrap_or_else(|| vec![Purge::Everything]) {
                    part.purge_here(&purge);
                }
                part.has_seen(seen, last);
            }
        }
        Ok(())
    }

    async fn log(&self, part: &Part, seen: u64) -> Result<Vec<Vec<u8>>, cluster::Error> {
        let mut command = cmd("ZRANGEBYSCORE");
        let keys = self.keys(part, None);
        command.arg(&keys[1]).arg(format!("({seen}")).arg("+inf");
        self.cluster.query(&command).await
    }

    /// The names of an entry, of the number of the last purge, and of the last purges.
    fn keys(&self, part: &Part, key: Option<&Key>) -> Vec<String> {
        let plugin = part.plugin();
        let name = |rest: &str| self.cluster.key(&format!("cache:{{{plugin}}}:{rest}"));
        let entry = key.map(|key| name(&hex::encode(key.0)));
        let rest = [name("purges"), name("purged")];
        entry.into_iter().chain(rest).collect()
    }

    fn write(&self, entry: &Entry) -> Option<Vec<u8>> {
        let head = match &entry.kept {
            Kept::Answer(head) => Some(head),
            Kept::Value => None,
            Kept::Refusal => return None,
        };
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let text = |value: &HeaderValue| value.as_bytes().iter().map(|b| char::from(*b)).collect();
        let headers = head.iter().flat_map(|head| head.headers());
        let lives = entry.lives();
        let age = i64::try_from(entry.age(self.clock.monotonic_ns()).as_millis()).ok()?;
        let written = Written {
            status: head.map(|head| head.status().as_u16()),
            headers: headers
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect(),
            fresh_ms: ms(lives.fresh),
            while_renewing_ms: ms(lives.while_renewing),
            if_error_ms: ms(lives.if_error),
            tags: entry.marks.tags.iter().map(ToString::to_string).collect(),
            route: entry.marks.route.as_deref().map(str::to_owned),
            path: entry.marks.path.as_deref().map(str::to_owned),
            stored_at_ms: self.clock.now_ms() - age,
        };
        let mut bytes = serde_json::to_vec(&written).ok()?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&entry.body);
        Some(bytes)
    }
}

/// `NUMBER HEAD\nBODY`. Nothing for what nobody of this version has written.
fn read(bytes: &[u8], now_ms: i64) -> Option<(u64, NewEntry, Duration)> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let since = number(&bytes[..space])?;
    let rest = &bytes[space + 1..];
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let written: Written = serde_json::from_slice(&rest[..end]).ok()?;
    let kept = match written.status {
        None => Kept::Value,
        Some(status) => {
            let mut head = Response::builder().status(status);
            for (name, value) in written.headers {
                let value: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
                let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
                head = head.header(name, HeaderValue::from_bytes(&value?).ok()?);
            }
            Kept::Answer(Box::new(head.body(()).ok()?))
        }
    };
    let tags: Result<Vec<_>, _> = written.tags.iter().map(|tag| tag.parse()).collect();
    let entry = NewEntry {
        kept,
        body: Bytes::copy_from_slice(&rest[end + 1..]),
        lives: Lives {
            fresh: Duration::from_millis(written.fresh_ms),
            while_renewing: Duration::from_millis(written.while_renewing_ms),
            if_error: Duration::from_millis(written.if_error_ms),
        },
        marks: Marks {
            tags: tags.ok()?,
            route: written.route.map(Arc::from),
            path: written.path.map(Arc::from),
        },
    };
    let age_ms = u64::try_from(now_ms - written.stored_at_ms).unwrap_or(0);
    Some((since, entry, Duration::from_millis(age_ms)))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Whether nothing with these marks was purged after `since`, as far as that is known for certain.
fn is_current(since: u64, last: Option<u64>, log: &[Vec<u8>], marks: &Marks) -> bool {
    let purges = last.and_then(|last| purges(since, last, log));
    purges.is_some_and(|purges| !purges.iter().any(|purge| purge.means(marks)))
}

/// The purges between two numbers; nothing if one of them is missing.
fn purges(since: u64, last: u64, log: &[Vec<u8>]) -> Option<Vec<Purge>> {
    let mut purges = Vec::with_capacity(log.len());
    let mut at = since;
    for line in log {
        let mut words = std::str::from_utf8(line).ok()?.splitn(3, ' ');
        let (number, before) = (
            words.next()?.parse().ok()?,
            words.next()?.parse::<u64>().ok()?,
        );
        if before != at {
            return None;
        }
        at = number;
        purges.push(Purge::from_text(words.next()?)?);
    }
    (at == last).then_some(purges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<Vec<u8>> {
        lines.iter().map(|line| line.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_purge_that_is_missing_is_noticed() {
        let whole = lines(&["6 5 t red", "7 6 p /shop/a b", "8 7 *"]);
        let found = purges(5, 8, &whole).unwrap();
        let expected = [
            Purge::Tag("red".parse().unwrap()),
            Purge::Path("/shop/a b".into()),
            Purge::Everything,
        ];
        assert_eq!(found, expected);
        assert_eq!(purges(5, 5, &[]), Some(Vec::new()));
        for (since, last, log) in [
            (4, 8, &whole[..]),
            (5, 9, &whole[..]),
            (5, 8, &whole[1..]),
            (5, 7, &whole[..]),
            (5, 8, &[]),
            (5, 6, &lines(&["6 5 ?"])),
            (5, 6, &lines(&["6"])),
        ] {
            assert_eq!(purges(since, last, log), None, "{since} {last}");
        }
        // The server has lost everything and begun anew.
        assert_eq!(purges(5, 900, &lines(&["900 0 *"])), None);
    }
}
