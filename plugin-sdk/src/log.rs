//! The plugin's log. The host adds time, plugin, version and request id, and bounds what one call may write.
//!
//! ```
//! use gantry_sdk::prelude::*;
//!
//! log::info("reservation created");
//! log::warn(format!("only {} seats left", 3));
//! log::write(log::Level::Debug, "payments", "deposit computed");
//! ```

use crate::host::logging;

/// How much a message matters.
pub use crate::bindings::module::wasi::logging::logging::Level;

/// Writes one message. `context` groups messages: an area of your plugin, or nothing.
pub fn write(level: Level, context: &str, message: impl AsRef<str>) {
    logging::log(level, context, message.as_ref());
}

/// For whoever follows each step.
pub fn trace(message: impl AsRef<str>) {
    write(Level::Trace, "", message);
}

/// For whoever looks for a mistake.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, "", message);
}

/// What happened.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, "", message);
}

/// What may become a problem.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, "", message);
}

/// What went wrong.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, "", message);
}
