//! Text of systems under test, bounded, and made safe for a terminal and for one line.
//!
//! Names, values and errors of a history are hostile until they have passed here: an escape sequence would
//! steer the terminal of whoever reads the verdict, a line end would forge a line of ours, and they are as
//! long as these systems like.

use std::fmt::{self, Display, Write};

/// A `Display` cut after a number of characters, without formatting the rest.
pub fn clip(value: &impl Display, char_count_max: usize) -> String {
    struct Clip {
        text: String,
        left: usize,
    }
    impl Write for Clip {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            for c in piece.chars() {
                if self.left == 0 {
                    self.text.push('…');
                    return Err(fmt::Error);
                }
                self.text.push(c);
                self.left -= 1;
            }
            Ok(())
        }
    }
    let mut clip = Clip { text: String::new(), left: char_count_max };
    // The only error is our own, when the text is cut.
    let _ = write!(clip, "{value}");
    clip.text
}

/// Longest reason of a verdict.
pub const REASON_CHAR_COUNT_MAX: usize = 500;

/// Whether a character steers a terminal or hides text: control characters, marks of direction, characters
/// without width, tags.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061C}'
                | '\u{180E}'
                | '\u{200B}'..='\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{2069}'
                | '\u{FEFF}'
                | '\u{FFF9}'..='\u{FFFB}'
                | '\u{E0000}'..='\u{E007F}'
        )
}

/// The text in one line, with a dot for every character that steers.
pub fn harmless(text: &str) -> String {
    text.chars().map(harmless_char).collect()
}

fn harmless_char(c: char) -> char {
    match c {
        '\t' => ' ',
        c if steers(c) => '·',
        c => c,
    }
}

/// The same, cut to a number of characters, of which the last is then `…`.
pub fn line(text: &str, char_count_max: usize) -> String {
    let mut line: String = text.chars().take(char_count_max).map(harmless_char).collect();
    if text.chars().nth(char_count_max).is_some() {
        line.pop();
        line.push('…');
    }
    line
}

/// The reason of a verdict: one line, bounded.
pub fn reason(text: &str) -> String {
    line(text, REASON_CHAR_COUNT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_after_characters_and_says_so() {
        assert_eq!(clip(&"äbc", 3), "äbc");
        assert_eq!(clip(&"äbcd", 3), "äbc…");
        assert_eq!(clip(&"", 0), "");
    }

    #[test]
    fn nothing_steers_a_terminal_or_begins_a_line() {
        let hostile = "a\u{1b}]0;x\u{7}\nFAKE verdict  valid\r\u{202e}\u{2066}\u{85}\u{9b}31m\u{200b}\u{feff}z";
        let safe = harmless(hostile);
        assert!(!safe.chars().any(steers), "{safe:?}");
        assert!(safe.starts_with("a·]0;x··FAKE verdict  valid") && safe.ends_with('z'), "{safe:?}");
        assert_eq!(harmless("a\tb é 日本 👍"), "a b é 日本 👍");
    }

    #[test]
    fn a_line_is_bounded() {
        assert_eq!(line("abcdef", 4), "abc…");
        assert_eq!(line("abcd", 4), "abcd");
        let long = "é".repeat(20_000);
        assert_eq!(reason(&long).chars().count(), REASON_CHAR_COUNT_MAX);
    }
}
