//! Where the records of a text begin: an index of 8 bytes a record, made in one pass.

/// What ends a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A line end; an empty line is a record too.
    Line,
    /// A line end; empty lines are left out.
    NotBlank,
    /// A line end outside of quotes, with this separator; empty lines are left out.
    Csv(u8),
}

/// The records of one text.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// First byte of each record.
    pub(crate) starts: Vec<u64>,
    /// End of the text.
    pub(crate) end: u64,
    /// For each line that begins no record, the first record after it.
    gaps: Vec<u64>,
    /// Line ends `\n` and `\r\n`.
    pub(crate) line_ends: [u64; 2],
    /// Line on which a quote was opened that is never closed.
    pub(crate) open_quote: Option<u64>,
}

impl Index {
    /// First byte and length of a record, its line end and blank lines after it included.
    pub(crate) fn range(&self, record: usize) -> Option<(u64, u64)> {
        let start = *self.starts.get(record)?;
        let end = self.starts.get(record + 1).copied().unwrap_or(self.end);
        Some((start, end.saturating_sub(start)))
    }

    /// The line, from 1, on which a record begins; records that were taken out at the front still count.
    pub(crate) fn line(&self, record: usize) -> u64 {
        let record = record as u64;
        record + 1 + self.gaps.partition_point(|&first| first <= record) as u64
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside of quotes: the end of the field, or the first half of `""`.
    Quote,
}

/// Makes an [`Index`] of bytes that arrive in pieces.
pub(crate) struct Indexer {
    cut: Cut,
    index: Index,
    /// Byte after the last one seen.
    offset: u64,
    start: u64,
    last: u8,
    state: State,
    /// Lines that ended, and the one on which the last quote was opened.
    lines: u64,
    quote_line: u64,
    /// Lines that ended inside of this record.
    inner_lines: u64,
}

impl Indexer {
    /// For a text that begins at byte `base` of what it is read from.
    pub(crate) fn new(cut: Cut, base: u64) -> Self {
        Self {
            cut,
            index: Index::default(),
            offset: base,
            start: base,
            last: 0,
            state: State::FieldStart,
            lines: 0,
            quote_line: 0,
            inner_lines: 0,
        }
    }

    /// The next piece.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if let Cut::Csv(separator) = self.cut {
            self.feed_csv(bytes, separator);
        } else {
            for (at, _) in bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'\n') {
                let before = if at == 0 { self.last } else { bytes[at - 1] };
                self.end_line(self.offset + at as u64, before);
            }
        }
        self.offset += bytes.len() as u64;
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    fn feed_csv(&mut self, bytes: &[u8], separator: u8) {
        for (at, &byte) in bytes.iter().enumerate() {
            let field_end = if byte == separator { State::FieldStart } else { State::Plain };
            self.state = match (self.state, byte) {
                (State::Quoted, b'"') => State::Quote,
                (State::Quoted, b'\n') => {
                    self.lines += 1;
                    self.inner_lines += 1;
                    State::Quoted
                }
                (State::Quoted, _) | (State::Quote, b'"') => State::Quoted,
                (State::FieldStart, b'"') => {
                    self.quote_line = self.lines + 1;
                    State::Quoted
                }
                (_, b'\n') => {
                    let before = if at == 0 { self.last } else { bytes[at - 1] };
                    self.end_line(self.offset + at as u64, before);
                    State::FieldStart
                }
                _ => field_end,
            };
        }
    }

    /// A record ends with the line end at byte `at`.
    fn end_line(&mut self, at: u64, before: u8) {
        let crlf = before == b'\r' && at > self.start;
        self.index.line_ends[usize::from(crlf)] += 1;
        self.lines += 1;
        self.end_record(at - u64::from(crlf) == self.start);
        self.start = at + 1;
    }

    fn end_record(&mut self, blank: bool) {
        if blank && self.cut != Cut::Line {
            self.index.gaps.push(self.index.starts.len() as u64);
        } else {
            self.index.starts.push(self.start);
            let next = self.index.starts.len() as u64;
            self.index.gaps.extend((0..self.inner_lines).map(|_| next));
        }
        self.inner_lines = 0;
    }

    /// The index; a last line needs no line end.
    pub(crate) fn finish(mut self) -> Index {
        if self.offset > self.start {
            self.end_record(false);
        }
        if self.state == State::Quoted {
            self.index.open_quote = Some(self.quote_line);
        }
        self.index.end = self.offset;
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(cut: Cut, text: &str, piece: usize) -> Index {
        let mut indexer = Indexer::new(cut, 0);
        for bytes in text.as_bytes().chunks(piece) {
            indexer.feed(bytes);
        }
        indexer.finish()
    }

    fn records<'t>(index: &Index, text: &'t str) -> Vec<&'t str> {
        (0..index.starts.len())
            .map(|n| {
                let (start, len) = index.range(n).unwrap();
                &text[start as usize..(start + len) as usize]
            })
            .collect()
    }

    #[test]
    fn lines_and_their_numbers() {
        let text = "a\r\n\nb\nlast";
        let all = index(Cut::Line, text, 1);
        assert_eq!(records(&all, text), ["a\r\n", "\n", "b\n", "last"]);
        assert_eq!(all.line_ends, [2, 1]);
        let some = index(Cut::NotBlank, text, 3);
        assert_eq!(records(&some, text), ["a\r\n\n", "b\n", "last"]);
        assert_eq!([0, 1, 2].map(|n| some.line(n)), [1, 3, 4]);
    }

    #[test]
    fn quotes_hold_line_ends() {
        let text = "a,\"b\n\"\"c\"\r\n5\" disk,x\n\n\"q\",y\n";
        let found = index(Cut::Csv(b','), text, 2);
        assert_eq!(records(&found, text), ["a,\"b\n\"\"c\"\r\n", "5\" disk,x\n\n", "\"q\",y\n"]);
        assert_eq!([0, 1, 2].map(|n| found.line(n)), [1, 3, 5]);
        assert_eq!(found.open_quote, None);
        assert_eq!(index(Cut::Csv(b','), "a\nb,\"c\nd\n", 4).open_quote, Some(2));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[a,\"\r\n]{0,60}", piece in 1usize..20, cut in 0usize..3) {
            let cut = [Cut::Line, Cut::NotBlank, Cut::Csv(b',')][cut];
            let (whole, pieces) = (index(cut, &text, 100), index(cut, &text, piece));
            prop_assert_eq!(&whole.starts, &pieces.starts);
            prop_assert_eq!(whole.open_quote, pieces.open_quote);
            if cut == Cut::Line {
                let expected: Vec<&str> = text.split_inclusive('\n').collect();
                prop_assert_eq!(records(&whole, &text), expected);
            }
            for n in 0..whole.starts.len() {
                let before = &text[..whole.starts[n] as usize];
                prop_assert_eq!(whole.line(n), before.matches('\n').count() as u64 + 1);
            }
        }
    }
}
