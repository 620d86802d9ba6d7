//! What a request holds while it is in progress.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::limits::Key;
use crate::limits::leases::Leases;
use crate::limits::table::Table;

/// A place among the calls in progress. It is free again when this is dropped.
#[derive(Debug)]
#[must_use = "the place is free again when this is dropped"]
pub struct Permit(Held);

#[derive(Debug)]
enum Held {
    /// Each by the id of its policy.
    InProcess(Arc<Table>, SmallVec<[(u64, Key); 2]>),
    Shared(Arc<Leases>, u128),
}

impl Permit {
    pub(super) fn in_process(table: Arc<Table>, places: SmallVec<[(u64, Key); 2]>) -> Self {
        Self(Held::InProcess(table, places))
    }

    pub(super) fn shared(leases: Arc<Leases>, id: u128) -> Self {
        Self(Held::Shared(leases, id))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        match &self.0 {
            Held::InProcess(table, places) => {
                for (policy, key) in places {
                    table.release(*policy, *key);
                }
            }
            Held::Shared(leases, id) => leases.end(*id),
        }
    }
}
