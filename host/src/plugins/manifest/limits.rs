//! `[limits]`: how much of the machine one invocation wants. The operator's ceilings are checked in `validate`.

use std::time::Duration;

use super::reader::{Fields, Reader};

/// What the author asks for; what is not set is the operator's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// All memories and tables of one instance together.
    pub memory_bytes_max: Option<u64>,
    /// Time on a processor, for one invocation.
    pub cpu_max: Option<Duration>,
    /// Time on the wall, for one invocation.
    pub wall_max: Option<Duration>,
    /// Invocations at the same time.
    pub concurrency_max: Option<u32>,
    /// What one invocation may write to the log.
    pub log_bytes_max: Option<u64>,
}

impl Limits {
    pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_, '_>) -> Self {
        let memory = fields.size(reader, "memory", 64 << 10..=4 << 30);
        let cpu = fields.duration(reader, "cpu", MS..=5 * MINUTE);
        let wall = fields.duration(reader, "wall", MS..=15 * MINUTE);
        let concurrency = fields.integer(reader, "concurrency", 1..=10_000);
        let log_bytes = fields.size(reader, "log_bytes", 1 << 10..=16 << 20);
        for (key, span) in [
            ("limits.memory", memory.as_ref().map(|value| value.span())),
            ("limits.cpu", cpu.as_ref().map(|value| value.span())),
            ("limits.wall", wall.as_ref().map(|value| value.span())),
            (
                "limits.concurrency",
                concurrency.as_ref().map(|value| value.span()),
            ),
            (
                "limits.log_bytes",
                log_bytes.as_ref().map(|value| value.span()),
            ),
        ] {
            if let Some(span) = span {
                reader.remember(key.to_owned(), span);
            }
        }
        fields.finish(reader, &["queue", "egress", "rows"], &[]);
        Self {
            memory_bytes_max: memory.map(|value| value.into_inner()),
            cpu_max: cpu.map(|value| value.into_inner()),
            wall_max: wall.map(|value| value.into_inner()),
            concurrency_max: concurrency.and_then(|value| u32::try_from(value.into_inner()).ok()),
            log_bytes_max: log_bytes.map(|value| value.into_inner()),
        }
    }
}

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
