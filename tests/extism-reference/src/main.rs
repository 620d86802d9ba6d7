//! Calls each case of `cases.json` in Extism's own host and prints what came of it, as `expected.json` has it.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use extism::{Manifest, Plugin, PluginBuilder, Wasm};
use serde::{Deserialize, Serialize};

/// One call of one export in a fresh instance.
#[derive(Deserialize)]
struct Case {
    name: String,
    export: String,
    #[serde(default)]
    input: String,
    #[serde(default)]
    config: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// The output, as base64.
    Output(String),
    /// The module returned an error of its own accord: its code, and what it said of it.
    Error(i32, String),
    /// The module was stopped.
    Trap,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(cases), Some(module)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: extism-reference CASES MODULE");
    };
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| path.display().to_string());
    let cases: Vec<Case> = serde_json::from_slice(&read(&cases)?)?;
    let module = read(&module)?;
    let mut outcomes = BTreeMap::new();
    for case in cases {
        let name = case.name.clone();
        let outcome = call(case, &module).with_context(|| name.clone())?;
        outcomes.insert(name, outcome);
    }
    println!("{}", serde_json::to_string_pretty(&outcomes)?);
    Ok(())
}

fn call(case: Case, module: &[u8]) -> anyhow::Result<Outcome> {
    let manifest = Manifest::new([Wasm::data(module)]).with_config(case.config.into_iter());
    let compiled = PluginBuilder::new(manifest).with_wasi(true).compile()?;
    let input = case.input.as_bytes();
    let error = match Plugin::new_from_compiled(&compiled)?.call::<_, Vec<u8>>(&case.export, input)
    {
        Ok(output) => return Ok(Outcome::Output(STANDARD.encode(output))),
        Err(error) => error.to_string(),
    };
    if let Some(code) = error.strip_prefix("Returned non-zero exit code: ") {
        return Ok(Outcome::Error(code.parse()?, String::new()));
    }
    // The same again, because only this function tells the code beside the text.
    let again = Plugin::new_from_compiled(&compiled)?
        .call_get_error_code::<_, Vec<u8>>(&case.export, input);
    let Err((error, code)) = again else {
        anyhow::bail!("it failed once and did not fail again");
    };
    let message = error.to_string();
    let is_said = !message.starts_with("error while executing");
    Ok(match code {
        // What the engine says of a trap, or of a function of the host that failed.
        134 => Outcome::Trap,
        -1 if !is_said => Outcome::Trap,
        // An exit has a number and no text.
        code if !is_said => Outcome::Error(code, String::new()),
        code => Outcome::Error(code, message),
    })
}
