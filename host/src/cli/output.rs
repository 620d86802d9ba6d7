//! What people see and are asked: tables on standard output, progress and questions on standard error. Standard output
//! carries only results, so that it can be piped.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use anyhow::{Context as _, bail};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::Serialize;
use zeroize::Zeroizing;

/// Whether only results, warnings and errors are wanted. Set once, before a command runs.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Tells only results, warnings and errors from now on.
pub(super) fn be_quiet() {
    IS_QUIET.store(true, Relaxed);
}

/// Most bytes of a secret read from standard input.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Columns as wide as their widest value, two blanks apart.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|title| title.to_uppercase()).collect();
    let lines = || std::iter::once(&head).chain(rows);
    let width = |column: usize| {
        lines()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in lines() {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Prints a result. A reader that has gone away is no failure.
pub(super) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

/// Prints a result for programs.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"));
    Ok(())
}

/// Tells what is being done or was done: `   Deployed hello 0.1.0`.
pub(super) fn progress(verb: &str, what: &str) {
    if IS_QUIET.load(Relaxed) {
        return;
    }
    if io::stderr().is_terminal() {
        eprintln!("\x1b[1;32m{verb:>12}\x1b[0m {what}");
    } else {
        eprintln!("{verb:>12} {what}");
    }
}

/// Tells what is not as it should be and does not stop the command.
pub(super) fn warn(what: &str) {
    eprintln!("warning: {what}");
}

/// Tells the next useful command.
pub(super) fn next(command: &str) {
    if !IS_QUIET.load(Relaxed) {
        eprintln!("{:>12} {command}", "Next");
    }
}

/// Text of a plugin, safe for a terminal: control characters would move the cursor or worse.
pub(super) fn plain(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() || c == '\t';
    text.chars()
        .map(|c| if is_plain(c) { c } else { '\u{fffd}' })
        .collect()
}

/// Whether somebody sits there who can answer.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a yes. Anything else is a no.
pub(super) fn confirm(question: &str) -> anyhow::Result<bool> {
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

/// A secret: asked for without showing it, or the whole of standard input if that is no terminal. One line break at
/// its end does not belong to it.
pub(super) fn read_secret(prompt: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut secret = if can_ask() {
        eprint!("{prompt}: ");
        io::stderr().flush()?;
        let secret = read_hidden_line();
        eprintln!();
        secret?
    } else {
        let mut secret = Zeroizing::new(Vec::new());
        io::stdin()
            .lock()
            .take(SECRET_BYTES_MAX + 1)
            .read_to_end(&mut secret)?;
        secret
    };
    if secret.last() == Some(&b'\n') {
        secret.pop();
    }
    if secret.len() as u64 > SECRET_BYTES_MAX {
        bail!("the value has more than {SECRET_BYTES_MAX} bytes");
    }
    if secret.is_empty() {
        bail!("no value was given; type it, or pipe it in: `… < file`");
    }
    Ok(secret)
}

/// Like [`read_secret`], for text.
pub(super) fn read_password(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    let secret = read_secret(prompt)?;
    let text = std::str::from_utf8(&secret).context("the password is not UTF-8")?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn read_hidden_line() -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let mut line = Zeroizing::new(Vec::new());
    let read = stdin
        .lock()
        .take(SECRET_BYTES_MAX + 1)
        .read_until(b'\n', &mut line);
    tcsetattr(&stdin, OptionalActions::Flush, &before)?;
    read?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_value() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["längst".to_owned(), String::new()],
        ];
        assert_eq!(
            table(&["name", "n"], &rows),
            "NAME    N\na       1\nlängst\n"
        );
    }

    #[test]
    fn text_of_a_plugin_cannot_steer_the_terminal() {
        assert_eq!(
            plain("a\x1b[2Jb\r\nc\td"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\td"
        );
    }
}
