//! Python: the sources and an interpreter (CPython) as one component, a snapshot taken after the modules were imported.

use std::process::Command;

use super::toolchain::{Toolchain, run};
use super::{Place, world};

pub(super) const NEEDS: &str =
    "it takes Python 3.10 or newer and its `pip` (Debian: python3 and python3-pip)";

/// Packages into the folder of the toolchain, each with a hash that must be right.
pub(super) const FETCH: &[&str] = &[
    "python3",
    "-m",
    "pip",
    "install",
    "--quiet",
    "--disable-pip-version-check",
    "--no-input",
    "--no-deps",
    "--only-binary=:all:",
    "--require-hashes",
    "--target=packages",
    "--requirement=requirements.txt",
];

const TOOLCHAIN: Toolchain = Toolchain {
    name: "python",
    files: &[(
        "requirements.txt",
        include_str!("../../../../../languages/python/toolchain/requirements.txt"),
    )],
    fetch: FETCH,
    needs: NEEDS,
    source: "PyPI",
};

/// Names of interfaces in the kit, whatever else is in the world.
const NAMES: &[(&str, &str)] = &[
    ("gantry:context/identity@0.1.0", "wit_identity"),
    ("gantry:context/invocation@0.1.0", "wit_invocation"),
    ("gantry:http/request-headers@0.1.0", "wit_headers"),
    ("gantry:http/types@0.1.0", "wit_http"),
    ("gantry:kv/store@0.1.0", "wit_kv"),
    ("gantry:secrets/reveal@0.1.0", "wit_reveal"),
    ("gantry:secrets/store@0.1.0", "wit_secrets"),
    ("gantry:sql/client@0.1.0", "wit_sql"),
    ("gantry:tokens/tokens@0.1.0", "wit_tokens"),
    ("gantry:types/types@1.0.0", "wit_types"),
    ("wasi:config/store@0.2.0-rc.1", "wit_config"),
    ("wasi:http/outgoing-handler@0.2.12", "wit_outgoing"),
    ("wasi:http/types@0.2.12", "wit_outgoing_types"),
    ("wasi:io/streams@0.2.12", "wit_streams"),
    ("wasi:logging/logging@0.1.0-draft", "wit_logging"),
];

pub(super) fn build(place: &Place) -> anyhow::Result<Vec<u8>> {
    place.source("src/plugin.py")?;
    let tools = TOOLCHAIN.folder()?;
    let made = place.scratch.join("snapshot.wasm");
    let mut python = Command::new("python3");
    python
        .args([
            "-c",
            "import sys, componentize_py; sys.exit(componentize_py.script())",
        ])
        .args(["--quiet", "--wit-path"])
        .arg(&place.wit)
        .args(["--world", world::WORLD]);
    for (interface, name) in NAMES {
        python.args(["--import-interface-name", &format!("{interface}={name}")]);
    }
    python
        .args(["componentize", "gantry.main"])
        .args(["--python-path", "src", "--python-path", ".", "--output"])
        .arg(&made)
        .env("PYTHONPATH", tools.join("packages"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(&place.folder);
    run(&mut python, NEEDS)?;
    Place::read(&made)
}
