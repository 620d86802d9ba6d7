//! One line of JSON per request, written by a thread of its own: a request only adds its line to a buffer.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::Request;
use serde::{Deserialize, Serialize};

use crate::http::Reason;
use crate::ids::{PluginName, RequestId};
use crate::runtime::{Ended, Fault, Usage};

/// Where the access log goes.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Target {
    /// Standard output.
    #[default]
    Stdout,
    /// The end of this file.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// Most bytes that wait to be written. When the disk is slower than the requests, lines are dropped and counted.
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// How long a line waits at most.
const FLUSH: Duration = Duration::from_millis(100);

/// The way to the log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLog(Option<Arc<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    is_wanted: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    is_closed: bool,
}

impl AccessLog {
    /// Opens the target and starts the thread that writes.
    pub fn open(target: &Target) -> std::io::Result<Self> {
        let mut out: Box<dyn std::io::Write + Send> = match target {
            Target::Off => return Ok(Self(None)),
            Target::Stdout => Box::new(std::io::stdout()),
            Target::File(path) => Box::new(
                std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)?,
            ),
        };
        let shared = Arc::new(Shared::default());
        let weak = Arc::downgrade(&shared);
        let write = move || {
            let mut lines = Vec::new();
            while let Some(shared) = weak.upgrade() {
                let mut buffer = shared.buffer.lock().unwrap_or_else(PoisonError::into_inner);
                if buffer.lines.is_empty() && !buffer.is_closed {
                    let waited = shared.is_wanted.wait_timeout(buffer, FLUSH);
                    buffer = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                std::mem::swap(&mut buffer.lines, &mut lines);
                let is_closed = buffer.is_closed;
                drop(buffer);
                drop(shared);
                // A log that cannot be written must not stop the requests.
                let _ = out.write_all(&lines).and_then(|()| out.flush());
                lines.clear();
                if is_closed {
                    return;
                }
                std::thread::sleep(FLUSH / 4);
            }
        };
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(write)?;
        Ok(Self(Some(shared)))
    }

    /// Lines that were lost because the target was too slow.
    pub fn dropped(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |shared| shared.dropped.load(Relaxed))
    }

    /// Writes what is left. Called when the host stops.
    pub fn close(&self) {
        if let Some(shared) = &self.0 {
            shared
                .buffer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_closed = true;
            shared.is_wanted.notify_all();
            std::thread::sleep(FLUSH);
        }
    }

    /// A second line about an answer that was sent while it was made, written when it is over.
    pub(super) fn end_stream(
        &self,
        id: &RequestId,
        principal: Option<&str>,
        ended: &Ended,
        duration: Duration,
    ) {
        let now = jiff::Timestamp::now();
        let (level, cut_off_by) = match &ended.result {
            Ok(()) => (INFO, String::new()),
            Err(error) => {
                let fault = error.fault();
                let level = if fault == Fault::Client { WARN } else { ERROR };
                (level, format!(",\"cut_off_by\":\"{}\"", fault.as_str()))
            }
        };
        let mut who = String::new();
        if let Some(principal) = principal {
            who.push_str(",\"principal.id\":");
            escape(&mut who, principal);
        }
        self.write(&format!(
            "{{\"time\":\"{now:.3}\",\"level\":\"{level}\",\"request.id\":\"{id}\"{who},\"stream\":\"ended\"{cut_off_by},\
             \"body_bytes\":{},\"cpu_us\":{},\"memory_bytes\":{},\"duration_us\":{}}}\n",
            ended.bytes,
            ended.usage.cpu.as_micros(),
            ended.usage.memory_bytes,
            duration.as_micros()
        ));
    }

    fn write(&self, line: &str) {
        let Some(shared) = &self.0 else { return };
        let mut buffer = shared.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.lines.len() + line.len() > BUFFER_BYTES_MAX {
            shared.dropped.fetch_add(1, Relaxed);
        } else {
            buffer.lines.extend_from_slice(line.as_bytes());
        }
    }
}

/// One line in the making. Holds no credentials, no query and no body: none of them is ever written.
#[derive(Debug)]
pub(super) struct AccessRecord {
    line: String,
}

impl AccessRecord {
    pub(super) fn begin<B>(id: &RequestId, client: IpAddr, request: &Request<B>) -> Self {
        let mut line = String::with_capacity(400);
        let now = jiff::Timestamp::now();
        let _ = write!(
            line,
            "{{\"time\":\"{now:.3}\",\"request.id\":\"{id}\",\"client\":\"{client}\""
        );
        let _ = write!(line, ",\"method\":\"{}\",\"path\":", request.method());
        escape(&mut line, request.uri().path());
        Self { line }
    }

    pub(super) fn route(&mut self, plugin: &PluginName, pattern: &str) {
        let _ = write!(self.line, ",\"plugin.name\":\"{plugin}\",\"route\":");
        escape(&mut self.line, pattern);
    }

    pub(super) fn principal(&mut self, id: &str) {
        self.line.push_str(",\"principal.id\":");
        escape(&mut self.line, id);
    }

    /// Limits that only tell, and that would have refused the request.
    pub(super) fn shadowed<'a>(&mut self, limits: impl Iterator<Item = &'a str>) {
        let limits: Vec<&str> = limits.collect();
        self.line.push_str(",\"shadow_limit\":");
        escape(&mut self.line, &limits.join(" "));
    }

    pub(super) fn usage(&mut self, usage: Usage) {
        let _ = write!(
            self.line,
            ",\"cpu_us\":{},\"memory_bytes\":{}",
            usage.cpu.as_micros(),
            usage.memory_bytes
        );
    }

    /// Why the host refused the request, or what the plugin's failure is called.
    pub(super) fn reason(&mut self, reason: &Reason) {
        self.line.push_str(",\"code\":");
        escape(&mut self.line, &reason.code);
        if !reason.limits.is_empty() {
            self.line.push_str(",\"limit\":");
            escape(&mut self.line, &reason.limits.join(" "));
        }
    }

    pub(super) fn end(mut self, log: &AccessLog, status: u16, duration: Duration) {
        let _ = writeln!(
            self.line,
            ",\"level\":\"{}\",\"status\":{status},\"duration_us\":{}}}",
            level_of(status),
            duration.as_micros()
        );
        log.write(&self.line);
    }
}

const INFO: &str = "info";
const WARN: &str = "warn";
const ERROR: &str = "error";

/// How much whoever runs the host should care: a failure of the host or of a plugin, a request that was refused, or
/// neither.
fn level_of(status: u16) -> &'static str {
    match status {
        500.. => ERROR,
        400.. => WARN,
        _ => INFO,
    }
}

/// A JSON string. Paths are ASCII and mostly need no escaping.
fn escape(line: &mut String, text: &str) {
    if text
        .bytes()
        .all(|byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\')
    {
        line.push('"');
        line.push_str(text);
        line.push('"');
    } else {
        line.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_tells_failures_from_refusals() {
        for (status, level) in [
            (101, "info"),
            (200, "info"),
            (304, "info"),
            (400, "warn"),
            (429, "warn"),
            (499, "warn"),
            (500, "error"),
            (504, "error"),
        ] {
            assert_eq!(level_of(status), level, "{status}");
        }
    }

    #[test]
    fn a_line_is_json_whatever_the_path_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = AccessLog::open(&Target::File(path.clone())).unwrap();
        let request = Request::builder().uri("/a\"b?token=secret").body(());
        let request = request.unwrap_or_else(|_| {
            Request::builder()
                .uri("/a%22b?token=secret")
                .body(())
                .unwrap()
        });
        let mut record =
            AccessRecord::begin(&RequestId::new(), IpAddr::from([127, 0, 0, 1]), &request);
        record.route(&"shop".parse().unwrap(), "/{id}");
        record.principal("a\"\n\\");
        record.usage(Usage {
            cpu: Duration::from_micros(7),
            memory_bytes: 3,
        });
        record.reason(&Reason {
            code: "limit.quota_exceeded".into(),
            limits: vec!["booking".to_owned(), "all".to_owned()],
        });
        record.end(&log, 200, Duration::from_micros(11));
        log.close();
        std::thread::sleep(FLUSH);
        let text = std::fs::read_to_string(path).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["plugin.name"], "shop");
        assert_eq!(line["principal.id"], "a\"\n\\");
        assert_eq!(line["code"], "limit.quota_exceeded");
        assert_eq!(line["limit"], "booking all");
        assert_eq!(line["duration_us"], 11);
        assert_eq!(line["level"], "info");
        assert!(!text.contains("secret"), "the query is not logged");
    }
}
