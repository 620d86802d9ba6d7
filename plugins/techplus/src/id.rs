//! Ids of everything we store: UUIDs that sort by the time they were made.

use uuid::Uuid;

/// A new one.
pub fn new() -> String {
    Uuid::now_v7().to_string()
}
