//! Refuses a text whose tables would be nested absurdly deep. The parser bounds brackets but not dotted keys, and a
//! tree of a hundred thousand levels exhausts the stack when it is dropped.

use std::ops::Range;

use toml_parser::{Source, lexer::TokenKind};

/// Most brackets that are open at once.
const BRACKETS_MAX: usize = 32;
/// Most dots in the keys of one line.
const DOTS_MAX: usize = 16;

/// The first place that goes too deep.
pub(super) fn too_deep(text: &str) -> Option<Range<usize>> {
    let mut brackets = 0usize;
    let mut dots = 0;
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => brackets += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                brackets = brackets.saturating_sub(1);
            }
            // A key ends at its `=` and a dotted number has one dot.
            TokenKind::Dot => dots += 1,
            TokenKind::Newline | TokenKind::Equals | TokenKind::Comma => dots = 0,
            _ => {}
        }
        if brackets > BRACKETS_MAX || dots > DOTS_MAX {
            return Some(token.span().start()..token.span().end());
        }
    }
    None
}
