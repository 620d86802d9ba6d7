//! Whether a new version keeps what the live one promises to its callers. Who knows that it does not, and wants it all the
//! same, says so.

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::ids::PluginName;
use crate::openapi::compare::{Difference, compare};
use crate::plugins::describe;
use crate::plugins::manifest::Manifest;
use crate::plugins::{DeployError, Plugins};

/// What becomes of a version that would break callers of the live one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promises {
    /// It is refused, unless whoever brings it says that it may break them.
    #[default]
    Required,
    /// It goes live, and the answer says what is different.
    Warn,
    /// Nobody looks.
    Off,
}

impl Plugins {
    /// Holds a version against the live one. What it breaks is an error, or comes back where that is allowed.
    pub(super) async fn check_promises(
        &self,
        plugin: &PluginName,
        new: &Manifest,
        allows_breaking: bool,
    ) -> Result<Vec<String>, DeployError> {
        let policy = self.config.promises;
        let live = self.registry.live();
        let Some(old) = live.get(plugin).filter(|_| policy != Promises::Off) else {
            return Ok(Vec::new());
        };
        let (old, new) = (old.manifest().clone(), new.clone());
        let found = self.runtime.in_background(move || broken(&old, &new)).await;
        let is_fine = found.is_empty() || allows_breaking || policy == Promises::Warn;
        if is_fine {
            return Ok(found.iter().map(ToString::to_string).collect());
        }
        Err(DeployError::Breaking {
            plugin: plugin.clone(),
            differences: found,
        })
    }
}

/// What whoever breaks promises is told.
pub(super) fn warnings_of(breaks: &[String]) -> Vec<String> {
    let sentences = breaks.iter();
    sentences
        .map(|what| format!("breaks callers: {what}"))
        .collect()
}

/// What callers of one version rely on and another does not keep. What is gone by now in the old one is promised no more.
fn broken(old: &Manifest, new: &Manifest) -> Vec<Difference> {
    let now_ms = Clock::system().now_ms();
    let (old, new) = (
        describe::promise(old, now_ms),
        describe::promise(new, now_ms),
    );
    let mut found = compare(&old, &new);
    found.retain(|difference| difference.is_blocking);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(routes: &str) -> Manifest {
        let head = "schema = 1\n[plugin]\nname = \"shop\"\nversion = \"1.0.0\"\n[component]\npath = \"a.wasm\"\n";
        Manifest::parse(&format!("{head}{routes}")).unwrap()
    }

    #[test]
    fn what_callers_rely_on_must_stay_and_what_is_gone_anyway_may_go() {
        let get = "[[route]]\nmethod = \"GET\"\npath = \"/orders/{id}\"\nauth = \"public\"\n";
        let limited = format!("{get}limits = [{{ limit = 1, window = \"1m\" }}]\n");
        let named = get.replace("{id}", "{order}");
        let closed = get.replace("\"public\"", "\"required\"");
        let two =
            format!("{get}[[route]]\nmethod = \"POST\"\npath = \"/orders\"\nauth = \"public\"\n");
        let over =
            format!("{get}deprecation = {{ since = \"2020-01-01\", sunset = \"2021-01-01\" }}\n");
        let soon =
            format!("{get}deprecation = {{ since = \"2020-01-01\", sunset = \"2999-01-01\" }}\n");
        let by_header = |versions: &str| {
            format!(
                "[versioning]\nby = \"header\"\ndefault = \"v1\"\n[[version]]\nname = \"v1\"\n[[version]]\nname = \"v2\"\n\
                 {get}version = {versions}\n"
            )
        };
        for (old, new, breaks) in [
            (get, get, false),
            (get, &*two, false),
            (get, &*named, false),
            (&*limited, get, false),
            (get, &*limited, false),
            (&*two, get, true),
            (get, &*closed, true),
            (&*closed, get, false),
            (&*over, "", false),
            (&*soon, "", true),
            (
                &*by_header("[\"v1\", \"v2\"]"),
                &*by_header("[\"v1\", \"v2\"]"),
                false,
            ),
            (&*by_header("[\"v1\", \"v2\"]"), &*by_header("\"v2\""), true),
        ] {
            let found = broken(&manifest(old), &manifest(new));
            assert_eq!(!found.is_empty(), breaks, "{old}\n=>\n{new}: {found:?}");
        }
    }
}
