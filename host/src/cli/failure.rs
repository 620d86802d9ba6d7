//! How a failure looks: what, where, how to mend it.

use std::fmt::Write as _;

use crate::cli::client::ClientError;

/// The command was not understood, or cannot be done in this way. The process exits with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// This machine lacks a program or a connection that the command needs. The process exits with 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Lacking(pub(super) String);

/// The failure as text for standard error, ending with a line break.
pub(super) fn render(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut causes = error.chain();
    if let Some(first) = causes.next() {
        let _ = writeln!(text, "error: {first}");
    }
    for cause in causes {
        let _ = writeln!(text, "  because: {cause}");
    }
    let client = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<ClientError>());
    if let Some(details) = client.map(ClientError::details) {
        text.push_str(&details);
    }
    text
}
