//! Text of values for people: values come from systems under test and are as long as these like.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_after_characters_and_says_so() {
        assert_eq!(clip(&"äbc", 3), "äbc");
        assert_eq!(clip(&"äbcd", 3), "äbc…");
        assert_eq!(clip(&"", 0), "");
    }
}
