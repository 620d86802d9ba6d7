//! The machine code that is loaded now, so that all deployments of one component share it. It goes with the last of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::ids::Digest;
use crate::runtime::compile::Code;

/// What one engine has loaded, by the digest of the artifact. Never longer than what is in use.
#[derive(Default)]
pub(super) struct Codes {
    loaded: Mutex<HashMap<Digest, Weak<Code>>>,
}

impl Codes {
    /// The code of this artifact, if some deployment uses it.
    pub(super) fn find(&self, digest: Digest) -> Option<Arc<Code>> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.get(&digest)?.upgrade()
    }

    /// Keeps code as long as somebody uses it. Whoever was first wins, and the other's is dropped.
    pub(super) fn keep(&self, digest: Digest, code: Code) -> Arc<Code> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = loaded.get(&digest).and_then(Weak::upgrade) {
            return code;
        }
        loaded.retain(|_, code| code.strong_count() > 0);
        let code = Arc::new(code);
        loaded.insert(digest, Arc::downgrade(&code));
        code
    }
}
