//! A strict cursor over JSON text that never builds a tree.
//!
//! The header of a weight file is read with it because a general parser hides what matters here:
//! a key that occurs twice, and the byte where it does. Integers are unsigned and whole.

use crate::limits;
use std::borrow::Cow;

/// What is wrong, and at which byte of the text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) offset: usize,
    pub(crate) what: &'static str,
}

pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor over bytes that must be UTF-8.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { text, at: 0 }),
            Err(e) => Err(Fault { offset: e.valid_up_to(), what: "not UTF-8" }),
        }
    }

    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    pub(crate) fn fault<T>(&self, what: &'static str) -> Result<T, Fault> {
        Err(Fault { offset: self.at, what })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next byte after white space, not consumed.
    pub(crate) fn next(&mut self) -> Option<u8> {
        self.space();
        self.peek()
    }

    /// Consumes one punctuation byte.
    pub(crate) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.next() != Some(byte) {
            return self.fault(what);
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        match self.next() {
            None => Ok(()),
            Some(_) => self.fault("text after the JSON object"),
        }
    }

    /// Steps to the next member of an object or array that ends with `close`; `first` is kept by
    /// the caller. False at the end.
    pub(crate) fn more(&mut self, close: u8, first: &mut bool) -> Result<bool, Fault> {
        if self.next() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        if !std::mem::replace(first, false) {
            self.expect(b',', "expected a comma or the end of the list")?;
        }
        Ok(true)
    }

    /// A key and its colon.
    pub(crate) fn key(&mut self) -> Result<Cow<'a, str>, Fault> {
        let key = self.string()?;
        self.expect(b':', "expected a colon")?;
        Ok(key)
    }

    /// A string, borrowed when it has no escapes.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.expect(b'"', "expected a string")?;
        let mut owned: Option<String> = None;
        let mut start = self.at;
        loop {
            match self.peek() {
                None => return self.fault("a string without end"),
                Some(b'"') => {
                    let tail = self.text.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(tail),
                        Some(text) => Cow::Owned(text + tail),
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_default();
                    text.push_str(self.text.get(start..self.at).unwrap_or_default());
                    self.at += 1;
                    let c = self.escape()?;
                    owned.get_or_insert_default().push(c);
                    start = self.at;
                }
                Some(0..=0x1f) => return self.fault("a control character in a string"),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let byte = self.peek();
        self.at += usize::from(byte.is_some());
        Ok(match byte {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return self.fault("an unknown escape"),
        })
    }

    fn unicode_escape(&mut self) -> Result<char, Fault> {
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with("\\u")) {
                    return self.fault("half of a surrogate pair");
                }
                self.at += 2;
                let second = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return self.fault("half of a surrogate pair");
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            other => other,
        };
        char::from_u32(code).map_or_else(|| self.fault("half of a surrogate pair"), Ok)
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        let mut value = 0;
        for &digit in digits {
            match char::from(digit).to_digit(16) {
                Some(d) => value = value * 16 + d,
                None => return self.fault("not four hexadecimal digits"),
            }
        }
        if digits.len() < 4 {
            return self.fault("not four hexadecimal digits");
        }
        self.at += 4;
        Ok(value)
    }

    /// A whole number from 0 on.
    pub(crate) fn unsigned(&mut self) -> Result<u64, Fault> {
        self.space();
        let start = self.at;
        let mut value: u64 = 0;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            let next = value.checked_mul(10).and_then(|v| v.checked_add(u64::from(digit - b'0')));
            match next {
                Some(next) => value = next,
                None => return self.fault("a number beyond 64 bits"),
            }
            self.at += 1;
        }
        let digits = self.at - start;
        if digits == 0 {
            return self.fault("expected a whole number from 0 on");
        }
        let zero_first = self.text.as_bytes().get(start) == Some(&b'0');
        if (digits > 1 && zero_first) || matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return self.fault("expected a whole number from 0 on");
        }
        Ok(value)
    }

    /// Steps over any value.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        self.skip_within(limits::JSON_DEPTH)
    }

    fn skip_within(&mut self, depth: usize) -> Result<(), Fault> {
        let Some(depth) = depth.checked_sub(1) else {
            return self.fault("JSON nested too deeply");
        };
        match self.next() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => {
                self.at += 1;
                let mut first = true;
                while self.more(b'}', &mut first)? {
                    self.key()?;
                    self.skip_within(depth)?;
                }
                Ok(())
            }
            Some(b'[') => {
                self.at += 1;
                let mut first = true;
                while self.more(b']', &mut first)? {
                    self.skip_within(depth)?;
                }
                Ok(())
            }
            _ => self.skip_scalar(),
        }
    }

    fn skip_scalar(&mut self) -> Result<(), Fault> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
            .unwrap_or(rest.len());
        let word = rest.get(..end).unwrap_or_default();
        let number = word.starts_with(|c: char| c == '-' || c.is_ascii_digit())
            && word.parse::<f64>().is_ok();
        if number || matches!(word, "true" | "false" | "null") {
            self.at += end;
            Ok(())
        } else {
            self.fault("not a JSON value")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_unescaped() {
        for (text, expected) in [
            (r#""""#, ""),
            (r#""a\n\u00e9\"\/""#, "a\né\"/"),
            (r#""\ud83d\ude00x""#, "😀x"),
            ("\"名前\"", "名前"),
        ] {
            assert_eq!(Cursor::new(text.as_bytes()).unwrap().string().unwrap(), expected);
        }
        for bad in [r#"""#, r#""\x""#, r#""\ud83d""#, r#""\ude00""#, r#""\u12"#, "\"\n\"", "a"] {
            assert!(Cursor::new(bad.as_bytes()).unwrap().string().is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_whole_and_unsigned() {
        for (text, expected) in [("0", 0), (" 17", 17), ("18446744073709551615", u64::MAX)] {
            assert_eq!(Cursor::new(text.as_bytes()).unwrap().unsigned(), Ok(expected));
        }
        for bad in ["-1", "1.5", "1e3", "01", "", "18446744073709551616", "true"] {
            assert!(Cursor::new(bad.as_bytes()).unwrap().unsigned().is_err(), "{bad}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(100_000);
        let fault = Cursor::new(deep.as_bytes()).unwrap().skip().unwrap_err();
        assert_eq!(fault.what, "JSON nested too deeply");
        assert!(Cursor::new(b"{\"a\":[1,-2.5e3,null,{}]}").unwrap().skip().is_ok());
    }
}
