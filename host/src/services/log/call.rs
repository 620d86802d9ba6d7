//! The log of one invocation.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Budget, Entry, Level, Logs, Verdict};
use crate::db::now_ms;
use crate::ids::{DeploymentId, PluginName, RequestId};
use crate::ledger::Event;

/// Where one invocation logs to. Its clones share one budget.
#[derive(Clone)]
pub struct CallLog(Arc<Call>);

struct Call {
    logs: Logs,
    plugin: PluginName,
    deployment: DeploymentId,
    request_id: RequestId,
    budget: Mutex<Budget>,
}

impl Logs {
    /// A log for one invocation, which may write so many bytes. Once per invocation; costs one allocation.
    pub fn for_call(
        &self,
        plugin: PluginName,
        deployment: DeploymentId,
        request_id: RequestId,
        bytes_max: usize,
    ) -> CallLog {
        let budget = Mutex::new(Budget::new(bytes_max));
        CallLog(Arc::new(Call {
            logs: self.clone(),
            plugin,
            deployment,
            request_id,
            budget,
        }))
    }
}

impl CallLog {
    /// Logs a message, if the budget allows. When it is used up, one entry says so.
    pub fn write(&self, level: Level, context: &str, message: &str) {
        // An entry costs something even if it is empty.
        const ENTRY_BYTES: usize = 64;
        let bytes = ENTRY_BYTES + context.len() + message.len();
        let budget = &self.0.budget;
        let verdict = budget
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(bytes);
        match verdict {
            Verdict::Fits => self.append(level, context, message),
            Verdict::IsFirstTooMany => {
                let message = "this call has logged as much as it may; the rest is left out";
                self.append(Level::Warn, "gantry", message);
            }
            Verdict::IsTooMany => {}
        }
    }

    /// Has the audit trail say that the plugin asked for something that it may not have.
    pub fn note_refused(&self, what: &str, code: &str) {
        let (plugin, request_id) = (&self.0.plugin, self.0.request_id);
        if let Some(ledger) = self.0.logs.ledger() {
            let target = format_args!("{plugin}/{what}");
            let event = Event::refused("capability.refused", target, code);
            ledger.note(event.by("plugin", plugin).of(None, request_id));
        }
    }

    /// Logs why the host ended the invocation. At most one entry for each, so the budget does not count it.
    pub fn write_verdict(&self, reason: &str) {
        self.append(Level::Error, "gantry", reason);
    }

    fn append(&self, level: Level, context: &str, message: &str) {
        let call = &self.0;
        call.logs.append(Entry {
            plugin: call.plugin.clone(),
            deployment: Some(call.deployment),
            request_id: Some(call.request_id),
            level,
            context: context.to_owned(),
            message: message.to_owned(),
            at_ms: now_ms(),
        });
    }
}

impl fmt::Debug for CallLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallLog")
            .field("plugin", &self.0.plugin)
            .finish_non_exhaustive()
    }
}
