//! Looks at SQL text just far enough to know what kind of statement it is, that it is only one, and which parameters
//! it has. It does not parse: what a statement may touch is decided by the database's authorizer, see `sandbox.rs`.

use crate::services::Error;

/// What a guest may run outside of migrations.
const STATEMENTS: &[&str] = &[
    "SELECT", "WITH", "VALUES", "INSERT", "UPDATE", "DELETE", "REPLACE", "EXPLAIN",
];

/// What a migration may run.
const MIGRATION_STATEMENTS: &[&str] = &[
    "CREATE", "ALTER", "DROP", "INSERT", "UPDATE", "DELETE", "REPLACE", "SELECT", "WITH",
    "ANALYZE", "REINDEX",
];

/// The words with which the main part of a statement begins, after its common table expressions.
const VERBS: &[&str] = &["SELECT", "VALUES", "INSERT", "UPDATE", "DELETE", "REPLACE"];

/// Whether a statement changes rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    Writes,
}

/// What we know about one statement of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) effect: Effect,
    /// The highest number of a parameter: `$3` means that three values are needed.
    pub(super) parameters: usize,
}

/// One statement of a migration file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) sql: &'a str,
    /// Where it begins, counted from 1.
    pub(super) line: usize,
}

/// SQLite ends at such a character, in a comment too, and sqlx goes on to ask for what comes behind it, for ever.
const HAS_NUL: &str = "the statement holds a NUL character";

/// Checks a statement of a guest. `invalid` with a sentence that says what to change.
pub(super) fn check(sql: &str) -> Result<Statement, Error> {
    let invalid = |message: String| Error::invalid("sql.statement_invalid", message);
    if sql.contains('\0') {
        return Err(invalid(HAS_NUL.to_owned()));
    }
    let mut verb: Option<String> = None;
    let mut first: Option<String> = None;
    let (mut depth, mut parameters, mut has_ended) = (0_usize, 0, false);
    for token in Tokens::new(sql) {
        let token = token.map_err(invalid)?;
        if has_ended && token.kind != Kind::Semicolon {
            let message = "one call takes one statement; there is text after the semicolon";
            return Err(Error::invalid("sql.statement_multiple", message));
        }
        match token.kind {
            // Semicolons before the first word are empty statements.
            Kind::Semicolon => has_ended = first.is_some(),
            _ if first.is_none() && token.kind != Kind::Word => {
                return Err(invalid(
                    "a statement begins with a word like SELECT".to_owned(),
                ));
            }
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Parameter(number) => parameters = parameters.max(number),
            Kind::Word if first.is_none() => {
                let word = token.text.to_ascii_uppercase();
                if !STATEMENTS.contains(&word.as_str()) {
                    return Err(forbidden(&word));
                }
                verb = VERBS.contains(&word.as_str()).then(|| word.clone());
                first = Some(word);
            }
            Kind::Word if verb.is_none() && depth == 0 => {
                let word = token.text.to_ascii_uppercase();
                verb = VERBS.contains(&word.as_str()).then_some(word);
            }
            _ if first.is_none() => {
                return Err(invalid(
                    "a statement begins with a word like SELECT".to_owned(),
                ));
            }
            _ => {}
        }
    }
    let Some(first) = first else {
        return Err(invalid("the statement is empty".to_owned()));
    };
    let reads = first == "EXPLAIN" || matches!(verb.as_deref(), None | Some("SELECT" | "VALUES"));
    Ok(Statement {
        effect: if reads { Effect::Reads } else { Effect::Writes },
        parameters,
    })
}

/// Divides a migration file into its statements. The error is the line and a sentence about it.
pub(super) fn split(sql: &str) -> Result<Vec<Part<'_>>, (usize, String)> {
    if let Some(offset) = sql.find('\0') {
        let line = 1 + sql[..offset].matches('\n').count();
        return Err((line, HAS_NUL.to_owned()));
    }
    let mut parts = Vec::new();
    let mut begin = None;
    let mut words: Vec<String> = Vec::new();
    // A trigger has statements inside: it ends with `; END ;`.
    let (mut is_trigger, mut tail) = (false, Tail::Other);
    for token in Tokens::new(sql) {
        let line = |offset: usize| 1 + sql[..offset].matches('\n').count();
        let token = token.map_err(|message| (line(begin.unwrap_or(0)), message))?;
        if begin.is_none() {
            match token.kind {
                Kind::Semicolon => continue,
                Kind::Word => {
                    let word = token.text.to_ascii_uppercase();
                    if !MIGRATION_STATEMENTS.contains(&word.as_str()) {
                        let message = format!("`{word}` is not allowed in a migration");
                        return Err((line(token.offset), message));
                    }
                }
                _ => {
                    let message = "a statement begins with a word like CREATE".to_owned();
                    return Err((line(token.offset), message));
                }
            }
            begin = Some(token.offset);
            (is_trigger, tail) = (false, Tail::Other);
            words.clear();
        }
        if words.len() < 3 && token.kind == Kind::Word {
            words.push(token.text.to_ascii_uppercase());
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            is_trigger |= matches!(
                words[..],
                ["CREATE", "TRIGGER"] | ["CREATE", "TEMP" | "TEMPORARY", "TRIGGER"]
            );
        }
        let ends = match token.kind {
            Kind::Parameter(_) => {
                return Err((
                    line(token.offset),
                    "a migration has no parameters".to_owned(),
                ));
            }
            Kind::Semicolon => !is_trigger || tail == Tail::End,
            _ => false,
        };
        tail = match token.kind {
            Kind::Semicolon => Tail::Semicolon,
            Kind::Word if tail == Tail::Semicolon && token.text.eq_ignore_ascii_case("END") => {
                Tail::End
            }
            _ => Tail::Other,
        };
        if let (true, Some(start)) = (ends, begin) {
            parts.push(Part {
                sql: &sql[start..token.offset],
                line: line(start),
            });
            begin = None;
        }
    }
    if let Some(start) = begin {
        let line = 1 + sql[..start].matches('\n').count();
        parts.push(Part {
            sql: sql[start..].trim_end(),
            line,
        });
    }
    Ok(parts)
}

#[derive(PartialEq, Eq)]
enum Tail {
    Other,
    Semicolon,
    End,
}

fn forbidden(word: &str) -> Error {
    let word: String = word.chars().take(40).collect();
    let advice = match word.as_str() {
        "BEGIN" | "COMMIT" | "END" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" => {
            "; transactions are begun and ended with the functions of `gantry:sql`"
        }
        "CREATE" | "ALTER" | "DROP" | "ANALYZE" | "REINDEX" => "; put it into a migration",
        _ => "",
    };
    let message = format!("`{word}` is not allowed here{advice}");
    Error::invalid("sql.statement_forbidden", message)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    /// A string or a name in quotes.
    Quoted,
    Parameter(usize),
    Semicolon,
    Open,
    Close,
    /// Numbers and operators.
    Other,
}

struct Token<'a> {
    kind: Kind,
    text: &'a str,
    offset: usize,
}

/// The tokens of some SQL, by the rules of SQLite. Comments and space are left out.
struct Tokens<'a> {
    sql: &'a str,
    offset: usize,
}

impl<'a> Tokens<'a> {
    fn new(sql: &'a str) -> Self {
        Self { sql, offset: 0 }
    }

    fn skip_space_and_comments(&mut self) {
        let bytes = self.sql.as_bytes();
        loop {
            let rest = &bytes[self.offset..];
            self.offset += match rest {
                [b' ' | b'\t' | b'\n' | b'\x0c' | b'\r', ..] => 1,
                [b'-', b'-', ..] => rest
                    .iter()
                    .position(|&byte| byte == b'\n')
                    .unwrap_or(rest.len()),
                // One without an end reaches to the end of the text.
                [b'/', b'*', ..] => {
                    let end = rest[2..].windows(2).position(|pair| pair == b"*/");
                    end.map_or(rest.len(), |end| end + 4)
                }
                _ => return,
            };
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Result<Token<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_space_and_comments();
        let offset = self.offset;
        let rest = &self.sql.as_bytes()[offset..];
        let first = *rest.first()?;
        let measured = match first {
            b'\'' | b'"' | b'`' => quoted(rest, first).map(|length| (Kind::Quoted, length)),
            b'[' => {
                let end = rest.iter().position(|&byte| byte == b']');
                end.map(|end| (Kind::Quoted, end + 1))
                    .ok_or_else(unterminated)
            }
            b';' => Ok((Kind::Semicolon, 1)),
            b'(' => Ok((Kind::Open, 1)),
            b')' => Ok((Kind::Close, 1)),
            b'$' => parameter(rest),
            b'?' | b':' | b'@' | b'#' => Err("write parameters as `$1`, `$2`, …".to_owned()),
            b'0'..=b'9' => Ok((Kind::Other, word_length(rest))),
            byte if is_word(byte) => Ok((Kind::Word, word_length(rest))),
            _ => Ok((Kind::Other, 1)),
        };
        Some(measured.map(|(kind, length)| {
            self.offset += length;
            Token {
                kind,
                text: &self.sql[offset..self.offset],
                offset,
            }
        }))
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

fn word_length(rest: &[u8]) -> usize {
    rest.iter()
        .position(|&byte| !is_word(byte))
        .unwrap_or(rest.len())
}

/// The length of a string or name in quotes. A quote inside is written twice.
fn quoted(rest: &[u8], quote: u8) -> Result<usize, String> {
    let mut at = 1;
    loop {
        let end = rest[at..].iter().position(|&byte| byte == quote);
        at += end.ok_or_else(unterminated)? + 1;
        if rest.get(at) != Some(&quote) {
            return Ok(at);
        }
        at += 1;
    }
}

fn parameter(rest: &[u8]) -> Result<(Kind, usize), String> {
    let length = 1 + word_length(&rest[1..]);
    // SQLite would read `$1::a` and `$1(a)` as names of parameters too.
    let is_plain = !matches!(rest.get(length), Some(b':' | b'('));
    let digits = std::str::from_utf8(&rest[1..length]).ok();
    let digits = digits.filter(|digits| {
        is_plain && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    let number = digits.and_then(|digits| digits.parse().ok());
    number
        .map(|number| (Kind::Parameter(number), length))
        .ok_or_else(|| "write parameters as `$1`, `$2`, …".to_owned())
}

fn unterminated() -> String {
    "a string or name in quotes has no end".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(sql: &str) -> String {
        check(sql).map_or_else(|error| error.code.into_owned(), |_| "ok".to_owned())
    }

    #[test]
    fn reading_and_writing_are_told_apart() {
        for (sql, effect, parameters) in [
            ("SELECT 1", Effect::Reads, 0),
            ("  -- note; DROP\n /* ; */ select $2, $1;", Effect::Reads, 2),
            ("VALUES (1), (2)", Effect::Reads, 0),
            (
                ";;select ';', \"a;b\", `c;`, [d;]; ; -- end",
                Effect::Reads,
                0,
            ),
            ("SELECT 'it''s $9' /* $8 */", Effect::Reads, 0),
            ("INSERT INTO t VALUES ($1)", Effect::Writes, 1),
            ("replace into t values ($10)", Effect::Writes, 10),
            (
                "WITH a AS (SELECT 1), b(x) AS (DELETE) SELECT replace(a, b, c)",
                Effect::Reads,
                0,
            ),
            (
                "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
                Effect::Writes,
                0,
            ),
            (
                "WITH RECURSIVE a AS (SELECT 1) DELETE FROM t",
                Effect::Writes,
                0,
            ),
            ("EXPLAIN QUERY PLAN DELETE FROM t", Effect::Reads, 0),
            ("SELECT 1 /* no end", Effect::Reads, 0),
            ("SELECT x'00', 1e5, a->>'$.b', a IN ($1)", Effect::Reads, 1),
        ] {
            assert_eq!(check(sql), Ok(Statement { effect, parameters }), "{sql}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (sql, wanted) in [
            ("", "sql.statement_invalid"),
            (" ; -- nothing", "sql.statement_invalid"),
            ("(SELECT 1)", "sql.statement_invalid"),
            ("'PRAGMA' x", "sql.statement_invalid"),
            ("SELECT 'no end", "sql.statement_invalid"),
            ("SELECT [no end", "sql.statement_invalid"),
            ("SELECT \"no end\"\"", "sql.statement_invalid"),
            ("SELECT ?", "sql.statement_invalid"),
            ("SELECT ?1", "sql.statement_invalid"),
            ("SELECT :a", "sql.statement_invalid"),
            ("SELECT @a", "sql.statement_invalid"),
            ("SELECT $a", "sql.statement_invalid"),
            ("SELECT $", "sql.statement_invalid"),
            ("SELECT $0", "sql.statement_invalid"),
            ("SELECT $01", "sql.statement_invalid"),
            ("SELECT $1a", "sql.statement_invalid"),
            ("SELECT $1::text", "sql.statement_invalid"),
            ("SELECT $1(x)", "sql.statement_invalid"),
            ("SELECT 1\0", "sql.statement_invalid"),
            ("SELECT 1 /*\0x", "sql.statement_invalid"),
            ("SELECT 1 -- \0x", "sql.statement_invalid"),
            ("SELECT 1; \0", "sql.statement_invalid"),
            ("SELECT '\0'", "sql.statement_invalid"),
            ("SELECT 1; SELECT 2", "sql.statement_multiple"),
            ("SELECT 1;/**/DROP TABLE t", "sql.statement_multiple"),
            ("SELECT 1; 'x'", "sql.statement_multiple"),
            ("ATTACH 'x' AS y", "sql.statement_forbidden"),
            ("detach y", "sql.statement_forbidden"),
            (
                "/* x */ PRAGMA journal_mode = DELETE",
                "sql.statement_forbidden",
            ),
            ("VACUUM INTO '/tmp/x'", "sql.statement_forbidden"),
            ("BEGIN", "sql.statement_forbidden"),
            ("COMMIT", "sql.statement_forbidden"),
            ("END", "sql.statement_forbidden"),
            ("ROLLBACK", "sql.statement_forbidden"),
            ("SAVEPOINT a", "sql.statement_forbidden"),
            ("RELEASE a", "sql.statement_forbidden"),
            ("REINDEX", "sql.statement_forbidden"),
            ("ANALYZE", "sql.statement_forbidden"),
            ("CREATE TABLE t (a)", "sql.statement_forbidden"),
            ("DROP TABLE t", "sql.statement_forbidden"),
            ("\u{feff}SELECT 1", "sql.statement_forbidden"),
        ] {
            assert_eq!(code(sql), wanted, "{sql}");
        }
    }

    #[test]
    fn a_migration_is_divided_at_the_right_semicolons() {
        let sql = "-- first\nCREATE TABLE a (x TEXT DEFAULT ';');\n\n;CREATE TRIGGER t AFTER INSERT \
                   ON a BEGIN\n UPDATE a SET x = CASE WHEN 1 THEN 2 END; DELETE FROM a;\nEND;\n\
                   DROP TABLE b -- last";
        let parts = split(sql).unwrap();
        let lines: Vec<_> = parts.iter().map(|part| part.line).collect();
        assert_eq!(lines, [2, 4, 7]);
        assert!(parts[0].sql.ends_with("';')"), "{}", parts[0].sql);
        assert!(parts[1].sql.ends_with("END"), "{}", parts[1].sql);
        assert_eq!(split("  -- nothing\n"), Ok(vec![]));
    }

    #[test]
    fn what_a_migration_may_not_do_is_named_with_its_line() {
        for sql in [
            "PRAGMA foreign_keys = OFF",
            "BEGIN",
            "COMMIT",
            "VACUUM",
            "ATTACH 'x' AS y",
        ] {
            let file = format!("CREATE TABLE a (x);\n{sql};");
            let (line, message) = split(&file).unwrap_err();
            assert_eq!(line, 2);
            let word = sql.split(' ').next().unwrap();
            assert_eq!(message, format!("`{word}` is not allowed in a migration"));
        }
        assert!(split("INSERT INTO a VALUES ($1)").is_err());
        let (line, message) = split("DROP TABLE a;\n/* x \0 */ DROP TABLE b").unwrap_err();
        assert_eq!((line, message.as_str()), (2, HAS_NUL));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(sql in "\\PC*|[-/*'\"`;$()\\[\\]a1 \n]{0,40}") {
            let _ = check(&sql);
            let _ = split(&sql);
        }
    }
}
