//! The paper of drawings: escaped texts, boxes, lines, and one style for light and dark.

use std::fmt::Write;

use crate::text::{clip, markup};

/// Width of a character of the fixed-width font, in pixels.
pub const CHAR_WIDTH: f64 = 7.3;
/// Distance of lines of text.
pub const LINE_HEIGHT: f64 = 18.0;
/// Space around everything.
pub const MARGIN: f64 = 20.0;
/// Longest text of a tooltip.
const TIP_CHAR_COUNT_MAX: usize = 1_000;

/// Kinds of edges with their colours, told apart by people with any colour vision (after Okabe and Ito).
const KINDS: [(&str, &str); 9] = [
    ("ww", "#0072B2"),
    ("wr", "#009E73"),
    ("reads-from", "#009E73"),
    ("rw", "#D55E00"),
    ("process", "#8C6BB1"),
    ("session", "#8C6BB1"),
    ("realtime", "#71798A"),
    ("causal", "#A67C00"),
    ("version", "#CC79A7"),
];

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#444}.m{font:12px ui-monospace,\
'DejaVu Sans Mono',monospace}.t{font-size:15px;font-weight:600;fill:#1d2330}.s{fill:#667085}.bg{fill:#fff}\
.row{stroke:#eceff4}.tick{stroke:#d7dbe3;stroke-dasharray:2 4}.box{fill:#f7f8fa;stroke:#c4cad6}\
.ok{fill:#81BFFC}.info{fill:#FFC766}.fail{fill:#FF9CCB}.other{fill:#d7dbe3}.saw{fill:#8fd6b0}\
.missed,.stuck{fill:#c81e5b}.on{fill:#16191f}.onx{fill:#fff;font-weight:600}.open{stroke-dasharray:5 3;\
stroke:#8a6d1f;fill-opacity:.55}.path{fill:none;stroke:#1d2330;stroke-width:1.6;stroke-opacity:.5}.point{fill:#1d2330}\
.pn{font-size:9.5px;font-weight:700;fill:#fff;text-anchor:middle}.pill{font-weight:700;fill:#fff;\
text-anchor:middle}.r{fill:#dcebff}.w{fill:#ffe3cc}.o{fill:#e8eaef}\
@media(prefers-color-scheme:dark){text{fill:#b9bdc7}.t{fill:#eceef2}.s{fill:#949cac}.bg{fill:#16181d}\
.row{stroke:#262a32}.tick{stroke:#3a404c}.box{fill:#1e2129;stroke:#454c5a}.path{stroke:#eceef2}\
.point{fill:#eceef2}.pn{fill:#16181d}.on{fill:#16191f}.onx,.pill{fill:#fff}}";

/// What is being drawn; it grows as things are put on it.
#[derive(Debug, Default)]
pub struct Canvas {
    body: String,
    width: f64,
    height: f64,
}

impl Canvas {
    fn grow(&mut self, right: f64, bottom: f64) {
        self.width = self.width.max(right);
        self.height = self.height.max(bottom);
    }

    /// SVG of our own making, without text from outside.
    pub fn raw(&mut self, svg: &str) {
        self.body.push_str(svg);
        self.body.push('\n');
    }

    /// A line of text with its baseline at `y`; `class` as in the style.
    pub fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        self.grow(x + text_width(text), y + 6.0);
        self.put_text(class, x, y, text);
    }

    /// Text that stands in the middle of `x`, inside something that is there already.
    pub fn label(&mut self, class: &str, x: f64, y: f64, text: &str) {
        self.put_text(class, x, y, text);
    }

    fn put_text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            self.body,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" xml:space=\"preserve\">{}</text>",
            markup(text)
        );
    }

    /// Lines of text, the first with its baseline at `y`; the baseline after the last.
    pub fn lines(&mut self, class: &str, x: f64, mut y: f64, lines: &[String]) -> f64 {
        for line in lines {
            self.text(class, x, y, line);
            y += LINE_HEIGHT;
        }
        y
    }

    /// A rounded box with a tooltip.
    pub fn rect(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        tip: &str,
    ) {
        self.grow(x + width, y + height);
        let _ = writeln!(
            self.body,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\" rx=\"4\"><title>{}</title></rect>",
            markup(&clip(&tip, TIP_CHAR_COUNT_MAX))
        );
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.grow(x1.max(x2), y1.max(y2));
        let _ = writeln!(
            self.body,
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        );
    }

    /// The name of an edge's kind on its colour; how wide it is.
    pub fn pill(&mut self, kind: &str, x: f64, y: f64, tip: &str) -> f64 {
        let kind = clip(&kind, 24);
        let width = text_width(&kind) + 14.0;
        self.grow(x + width, y + 18.0);
        let _ = writeln!(
            self.body,
            "<g><title>{}</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"18\" \
             rx=\"9\" fill=\"{}\"/>",
            markup(&clip(&tip, TIP_CHAR_COUNT_MAX)),
            colour(&kind)
        );
        self.put_text("pill", x + width / 2.0, y + 13.0, &kind);
        self.raw("</g>");
        width
    }

    /// The document.
    pub fn finish(self, title: &str) -> String {
        let (width, height) = (self.width + MARGIN, self.height + MARGIN);
        let title = markup(title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n<rect class=\"bg\" width=\"{width:.0}\" height=\"{height:.0}\"/>\n\
             {}</svg>\n",
            self.body
        )
    }
}

/// The colour of a kind of edge; that of `rw-realtime` and the like is that of its first word.
pub fn colour(kind: &str) -> &'static str {
    let found = KINDS.iter().find(|(name, _)| kind.starts_with(name));
    found.map_or("#CC79A7", |(_, colour)| colour)
}

/// How wide a text is, in the fixed-width font; a wide letter takes the place of two.
pub fn text_width(text: &str) -> f64 {
    let columns: usize = text.chars().map(|c| if c >= '\u{1100}' { 2 } else { 1 }).sum();
    columns as f64 * CHAR_WIDTH
}

/// Breaks a text at spaces, at most `lines_max` lines of `columns` characters; what is cut ends in `…`.
pub fn wrap(text: &str, columns: usize, lines_max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let word = clip(&word, columns.saturating_sub(1));
        let length = line.chars().count();
        if length > 0 && length + 1 + word.chars().count() > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    if lines.len() > lines_max {
        lines.truncate(lines_max);
        if let Some(last) = lines.last_mut() {
            last.push_str(" …");
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_bounded() {
        let mut canvas = Canvas::default();
        canvas.text("m", 0.0, 10.0, "<script>\u{1b}&");
        canvas.rect("ok", (0.0, 0.0), (10.0, 10.0), &"\"x".repeat(10_000));
        let svg = canvas.finish("a & b");
        assert!(svg.contains("&lt;script&gt;\u{FFFD}&amp;") && svg.contains("a &amp; b"));
        assert!(svg.len() < 12_000, "{}", svg.len());
    }

    #[test]
    fn long_texts_are_broken_and_cut() {
        assert_eq!(wrap("ab cd  ef", 5, 9), ["ab cd", "ef"]);
        assert_eq!(wrap("ab cd ef", 3, 2), ["ab", "cd …"]);
        assert_eq!(wrap("abcdefgh", 5, 2), ["abcd…"]);
        assert!(wrap("", 5, 2).is_empty());
    }
}
