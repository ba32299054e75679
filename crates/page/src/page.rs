//! The page: a title and blocks in order.

use crate::escape;

/// What a browser may load for a page: nothing but what is in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// What marks a page as one of this program.
const MARK: &str = "<meta name=\"generator\" content=\"altclip\">";
/// A page has its mark within so many bytes.
pub const HEAD_BYTES: usize = 4096;

/// Whether the first [`HEAD_BYTES`] bytes of a file have the mark of a page that this crate wrote.
pub fn is_page(head: &[u8]) -> bool {
    let head = head.get(..HEAD_BYTES).unwrap_or(head);
    head.windows(MARK.len()).any(|part| part == MARK.as_bytes())
}

/// A page that grows block by block.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    body: String,
    has_section: bool,
}

/// Something that can stand on a page: every kind of this crate.
pub trait Block: sealed::Html {}

impl<T: sealed::Html> Block for T {}

pub(crate) mod sealed {
    /// Writes itself with all text escaped. Nobody outside can write to a page.
    pub trait Html {
        /// Appends the block.
        fn html(&self, out: &mut String);
    }
}

/// A number that a reader should see first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFigure {
    /// What it is.
    pub name: String,
    /// The number as it is shown, with its unit.
    pub value: String,
    /// A few words below it, such as an interval; may be empty.
    pub note: String,
}

impl KeyFigure {
    /// A figure without a note.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), note: String::new() }
    }

    /// The same with a note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

impl Page {
    /// A page without blocks.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), body: String::new(), has_section: false }
    }

    /// Begins a section.
    pub fn section(&mut self, heading: &str) -> &mut Self {
        if self.has_section {
            self.body.push_str("</section>\n");
        }
        self.has_section = true;
        self.body.push_str("<section>\n");
        self.text("h2", "", heading)
    }

    /// Adds a heading inside a section.
    pub fn heading(&mut self, heading: &str) -> &mut Self {
        self.text("h3", "", heading)
    }

    /// Adds a paragraph.
    pub fn paragraph(&mut self, text: &str) -> &mut Self {
        self.text("p", "", text)
    }

    /// Adds a paragraph in small, grey letters: how something was measured.
    pub fn note(&mut self, text: &str) -> &mut Self {
        self.text("p", " class=\"note\"", text)
    }

    /// Adds text whose lines and spaces are kept, such as a configuration.
    pub fn preformatted(&mut self, text: &str) -> &mut Self {
        self.text("pre", "", text)
    }

    fn text(&mut self, tag: &str, attributes: &str, text: &str) -> &mut Self {
        self.body.push_str(&format!("<{tag}{attributes} dir=\"auto\">"));
        escape::push(&mut self.body, text);
        self.body.push_str(&format!("</{tag}>\n"));
        self
    }

    /// Adds key figures side by side.
    pub fn figures(&mut self, figures: &[KeyFigure]) -> &mut Self {
        self.body.push_str("<dl class=\"figures\">");
        for KeyFigure { name, value, note } in figures {
            self.body.push_str("<div>");
            self.text("dt", "", name).text("dd", "", value);
            if !note.is_empty() {
                self.text("dd", " class=\"note\"", note);
            }
            self.body.push_str("</div>");
        }
        self.body.push_str("</dl>\n");
        self
    }

    /// Adds a table, a plot, a picture or a sheet of pictures.
    pub fn add<B: Block>(&mut self, block: &B) -> &mut Self {
        block.html(&mut self.body);
        self
    }

    /// The whole page.
    pub fn html(&self) -> String {
        let title = escape::escaped(&self.title);
        let end = if self.has_section { "</section>\n" } else { "" };
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n{MARK}\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n\
             <h1 dir=\"auto\">{title}</h1>\n{}{end}</main>\n</body>\n</html>\n",
            include_str!("style.css"),
            self.body,
        )
    }
}
