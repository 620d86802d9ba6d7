//! What expressions may be: small, of names that are known, and done in a time that their size bounds.

use std::collections::HashMap;

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr, LiteralValue};
use regex::{Regex, RegexBuilder};

use super::Variable;

/// Longest text of an expression, in bytes.
pub const TEXT_BYTES_MAX: usize = 1000;
/// Most parts of an expression, after its macros are written out.
pub const NODES_MAX: usize = 250;
/// Deepest nesting of an expression.
const DEPTH_MAX: usize = 40;
/// Most brackets that are open at once; the parser takes its time for each.
const BRACKETS_MAX: usize = 12;
/// Most signs in a row of which each takes the rest for its argument: `!`, `-`, `?`.
const SIGNS_MAX: usize = 24;
/// Most macros that go through a list: `all`, `exists`, `exists_one`, `filter`, `map`.
const LOOPS_MAX: usize = 4;
/// Most memory of one pattern, in bytes; the time for it grows with that.
const PATTERN_BYTES_MAX: usize = 64 << 10;

/// Functions that expressions may call, beside operators.
const FUNCTIONS: [&str; 9] = [
    "bool",
    "contains",
    "double",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
];

/// What an expression asks for.
#[derive(Default)]
pub(super) struct Used {
    pub(super) variables: Vec<Variable>,
    pub(super) patterns: HashMap<String, Regex>,
    nodes: usize,
    loops: usize,
}

/// Refuses what the parser should not even see: it goes down one step for each bracket and sign.
pub(super) fn check_text(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("the expression is empty".to_owned());
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!(
            "the expression has {} bytes, at most {TEXT_BYTES_MAX} are allowed",
            text.len()
        ));
    }
    let (mut open, mut signs) = (0usize, 0usize);
    // Strings are not told apart: brackets in them count, which refuses too much and never too little.
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            '!' | '-' | '?' => signs += 1,
            _ => {}
        }
        if open > BRACKETS_MAX || signs > SIGNS_MAX {
            return Err("the expression is nested too deeply; make several of it".to_owned());
        }
    }
    Ok(())
}

/// Goes through an expression once.
pub(super) fn check(expression: &IdedExpr) -> Result<Used, String> {
    let mut used = Used::default();
    used.visit(expression, &mut Vec::new(), 0)?;
    Ok(used)
}

impl Used {
    /// `locals` are the names that macros around this have made.
    fn visit<'e>(
        &mut self,
        expression: &'e IdedExpr,
        locals: &mut Vec<&'e str>,
        depth: usize,
    ) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > NODES_MAX || depth > DEPTH_MAX {
            return Err("the expression is too large; make several of it".to_owned());
        }
        let depth = depth + 1;
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.name(name, locals)?,
            Expr::Select(select) => self.visit(&select.operand, locals, depth)?,
            Expr::List(list) => {
                for element in &list.elements {
                    self.visit(element, locals, depth)?;
                }
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    match &entry.expr {
                        EntryExpr::MapEntry(entry) => {
                            self.visit(&entry.key, locals, depth)?;
                            self.visit(&entry.value, locals, depth)?;
                        }
                        EntryExpr::StructField(field) => self.visit(&field.value, locals, depth)?,
                    }
                }
            }
            Expr::Struct(_) => return Err("an expression makes no messages".to_owned()),
            Expr::Call(call) => {
                self.function(&call.func_name, &call.args)?;
                for part in call.target.as_deref().into_iter().chain(&call.args) {
                    self.visit(part, locals, depth)?;
                }
            }
            Expr::Comprehension(comprehension) => {
                self.loops += 1;
                if self.loops > LOOPS_MAX {
                    return Err(format!(
                        "an expression goes through at most {LOOPS_MAX} lists"
                    ));
                }
                let inner = locals.iter().any(|name| *name == comprehension.accu_var);
                if inner {
                    return Err(
                        "an expression does not go through one list within another".to_owned()
                    );
                }
                self.visit(&comprehension.iter_range, locals, depth)?;
                self.visit(&comprehension.accu_init, locals, depth)?;
                let outer = locals.len();
                locals.push(&comprehension.iter_var);
                locals.extend(comprehension.iter_var2.as_deref());
                locals.push(&comprehension.accu_var);
                self.visit(&comprehension.loop_cond, locals, depth)?;
                self.visit(&comprehension.loop_step, locals, depth)?;
                self.visit(&comprehension.result, locals, depth)?;
                locals.truncate(outer);
            }
        }
        Ok(())
    }

    fn name(&mut self, name: &str, locals: &[&str]) -> Result<(), String> {
        if locals.contains(&name) {
            return Ok(());
        }
        let variable = Variable::ALL
            .into_iter()
            .find(|known| known.as_str() == name);
        let Some(variable) = variable else {
            let known = Variable::ALL.map(Variable::as_str).join("`, `");
            let name: String = name.chars().take(64).collect();
            return Err(format!(
                "nothing is called `{name}` here; there are `{known}`"
            ));
        };
        if !self.variables.contains(&variable) {
            self.variables.push(variable);
        }
        Ok(())
    }

    fn function(&mut self, name: &str, args: &[IdedExpr]) -> Result<(), String> {
        // Operators have names that no author can write.
        let is_operator = name.contains('_') && !name.bytes().all(is_word) || name.starts_with('@');
        if is_operator {
            return Ok(());
        }
        if !FUNCTIONS.contains(&name) {
            let name: String = name.chars().take(64).collect();
            let known = FUNCTIONS.join("`, `");
            return Err(format!(
                "there is no function `{name}`; there are `{known}`, and `has`, `all`, `exists`, `exists_one`, \
                 `filter`, `map`"
            ));
        }
        if name == "matches" {
            self.pattern(args.last())?;
        }
        Ok(())
    }

    fn pattern(&mut self, pattern: Option<&IdedExpr>) -> Result<(), String> {
        let Some(Expr::Literal(LiteralValue::String(text))) = pattern.map(|part| &part.expr) else {
            return Err("the pattern of `matches` must stand there as text".to_owned());
        };
        let pattern = RegexBuilder::new(text)
            .size_limit(PATTERN_BYTES_MAX)
            .build()
            .map_err(|error| {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default();
                format!("the pattern of `matches` cannot be used: {reason}")
            })?;
        self.patterns.insert((**text).to_owned(), pattern);
        Ok(())
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
