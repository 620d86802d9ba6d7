//! Expressions over a request, in the Common Expression Language (CEL): compiled and bounded when something is deployed,
//! evaluated for each request. What follows from their values is for those who ask.

mod bounds;
mod facts;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

use cel::extractors::This;
use cel::{Context, Env, ExecutionError, Program, Value};
use regex::Regex;

pub use bounds::{NODES_MAX, TEXT_BYTES_MAX};
pub use facts::{Facts, Variable};

/// The functions and operators that expressions are made of. The standard ones without those of time.
static LANGUAGE: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::default().with_optional_support(false).with_stdlib()));

/// An expression, ready to be evaluated.
pub struct Expression {
    text: Box<str>,
    program: Program,
    uses: Vec<Variable>,
    /// The patterns of `matches`, by their text.
    patterns: Option<Arc<HashMap<String, Regex>>>,
}

/// Why a text is no expression that may be used. A sentence for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

/// Why an expression has no value for a request: for example, it asks for a claim that the caller does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(String);

/// Longest message about a failure, in bytes.
const MESSAGE_BYTES_MAX: usize = 200;

impl Expression {
    /// Compiles a text. What is too large, has a name that nobody knows, or could take long is refused.
    pub fn compile(text: &str) -> Result<Self, Invalid> {
        bounds::check_text(text).map_err(Invalid)?;
        let program = Program::compile(text).map_err(|errors| {
            let first = errors.errors.first();
            let message = first.map_or_else(String::new, |error| {
                let (line, column) = error.pos;
                format!(" (line {line}, column {column}): {}", error.msg)
            });
            Invalid(clip(&format!("this is no expression{message}")))
        })?;
        let used = bounds::check(program.expression()).map_err(Invalid)?;
        Ok(Self {
            text: text.into(),
            program,
            uses: used.variables,
            patterns: (!used.patterns.is_empty()).then(|| Arc::new(used.patterns)),
        })
    }

    /// The text that it was made of.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether its value depends on this.
    pub fn uses(&self, variable: Variable) -> bool {
        self.uses.contains(&variable)
    }

    /// Whether it is true of a request. A value that is neither true nor false is a failure.
    pub fn holds(&self, facts: &Facts<'_>) -> Result<bool, Failed> {
        match self.evaluate(facts)? {
            Value::Bool(truth) => Ok(truth),
            other => {
                let word = other.type_of();
                Err(Failed(format!(
                    "its value is {word}, neither true nor false"
                )))
            }
        }
    }

    /// Its value as text, for counting by it: of a string, a number or a truth value. Other values are failures.
    pub fn key(&self, facts: &Facts<'_>) -> Result<String, Failed> {
        match self.evaluate(facts)? {
            Value::String(text) => Ok(text.as_str().to_owned()),
            Value::Bool(truth) => Ok(truth.to_string()),
            Value::Int(number) => Ok(number.to_string()),
            Value::UInt(number) => Ok(number.to_string()),
            Value::Float(number) => Ok(number.to_string()),
            other => {
                let word = other.type_of();
                Err(Failed(format!(
                    "its value is {word}, and only text, numbers and truth values are keys"
                )))
            }
        }
    }

    fn evaluate(&self, facts: &Facts<'_>) -> Result<Value, Failed> {
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        for variable in &self.uses {
            let value = facts.value(*variable).map_err(Failed)?;
            context.add_variable_from_value(variable.as_str(), value);
        }
        if let Some(patterns) = &self.patterns {
            let patterns = Arc::clone(patterns);
            let matches = move |This(text): This<Arc<String>>, pattern: Arc<String>| {
                // Patterns are literals, so that all of them are known.
                let pattern = patterns.get(pattern.as_str());
                pattern
                    .map(|pattern| pattern.is_match(&text))
                    .ok_or_else(|| ExecutionError::function_error("matches", "unknown pattern"))
            };
            let added = context.add_function("matches", matches);
            added.map_err(|error| Failed(error.to_string()))?;
        }
        let value = self.program.execute(&context);
        // The error may hold values of the caller, whole.
        value.map_err(|error| Failed(clip(&error.to_string())))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

fn clip(message: &str) -> String {
    let mut clipped = String::new();
    for c in message.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if clipped.len() + c.len_utf8() > MESSAGE_BYTES_MAX {
            clipped.push('…');
            break;
        }
        clipped.push(c);
    }
    clipped
}
