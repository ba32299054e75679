//! What is looked for: texts and pictures, added and taken away with weights, joined by AND, OR and NOT.
//!
//! ```text
//! a cat on a sofa                     one text
//! 红色 + car - "traffic light"        sums of vectors; + and - stand alone
//! 2*red + 0.5*car                     weights
//! cat AND NOT (indoors OR "a toy")    probabilities of matches
//! ```
//!
//! Parentheses and quotes are operators only where there is another operator, so that every other text is
//! searched as it stands: `neon signs (rain)`, `smile :)`, `12" vinyl`. What opens at a word's start and is
//! never closed, and a weight that is none (`1,5*red`), are no such text but slips, and refused.

use crate::Error;
use std::path::PathBuf;

/// Longest query in bytes, and most terms.
const MAX_BYTES: usize = 64 << 10;
const MAX_TERMS: usize = 256;
/// What to do about a fault.
const HELP: &str = "for example: red + car - \"traffic light\"; put a text in quotes";
/// Deepest nesting.
const MAX_DEPTH: usize = 32;

/// Something that has a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A text of any language.
    Text(String),
    /// A picture file.
    Picture(PathBuf),
}

/// A part of a sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// What its vector is multiplied by; negative where it is taken away.
    pub weight: f32,
    /// What it is.
    pub content: Content,
}

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// A sum of vectors.
    Sum(Vec<Term>),
    /// All match.
    And(Vec<Query>),
    /// At least one matches.
    Or(Vec<Query>),
    /// It does not match.
    Not(Box<Query>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Weight(f32),
    Plus,
    Minus,
    And,
    Or,
    Not,
    Open,
    Close,
}

impl Query {
    /// Understands a query.
    ///
    /// # Errors
    /// [`Error::Query`] with the byte where it goes wrong.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let error = |what, byte| Error::Query { what, text: text.to_owned(), byte, help: HELP };
        if text.len() > MAX_BYTES {
            return Err(error("the query is longer than 64 KiB", MAX_BYTES));
        }
        if text.trim().is_empty() {
            return Err(error("the query is empty", 0));
        }
        if !has_operator(text).map_err(|(what, byte)| error(what, byte))? {
            return Ok(Self::Sum(vec![Term { weight: 1.0, content: text_of(text.trim()) }]));
        }
        let tokens = tokens(text).map_err(|(what, byte)| error(what, byte))?;
        if let Some((_, byte)) = tokens.get(4 * MAX_TERMS) {
            return Err(error("the query has more than 256 terms", *byte));
        }
        let mut parser = Parser { tokens: &tokens, at: 0, end: text.len() };
        let query = parser.or(0).map_err(|(what, byte)| error(what, byte))?;
        match parser.tokens.get(parser.at) {
            None => Ok(query),
            Some((Token::Close, byte)) => {
                Err(error("a parenthesis is closed that was not opened", *byte))
            }
            Some((_, byte)) => Err(error(NO_OPERATOR, *byte)),
        }
    }

    /// The same query and pictures beside it: added to a sum, or a further condition.
    #[must_use]
    pub fn with_pictures(self, pictures: impl IntoIterator<Item = PathBuf>) -> Self {
        let terms: Vec<Term> = pictures
            .into_iter()
            .map(|path| Term { weight: 1.0, content: Content::Picture(path) })
            .collect();
        match self {
            query if terms.is_empty() => query,
            Self::Sum(mut sum) => {
                sum.extend(terms);
                Self::Sum(sum)
            }
            query => Self::And(vec![query, Self::Sum(terms)]),
        }
    }

    /// The sums of a query, in order, each with whether it is under a NOT.
    pub fn sums(&self) -> Vec<(&[Term], bool)> {
        fn walk<'q>(query: &'q Query, negated: bool, into: &mut Vec<(&'q [Term], bool)>) {
            match query {
                Query::Sum(terms) => into.push((terms, negated)),
                Query::And(parts) | Query::Or(parts) => {
                    parts.iter().for_each(|part| walk(part, negated, into));
                }
                Query::Not(part) => walk(part, !negated, into),
            }
        }
        let mut into = Vec::new();
        walk(self, false, &mut into);
        into
    }

    /// The probability of the whole from those of its sums, in the order of [`Query::sums`]; they are taken
    /// as independent.
    pub fn probability(&self, of_sums: &mut impl Iterator<Item = f32>) -> f32 {
        match self {
            Self::Sum(_) => of_sums.next().unwrap_or(0.0),
            Self::And(parts) => parts.iter().map(|part| part.probability(of_sums)).product(),
            Self::Or(parts) => {
                1.0 - parts.iter().map(|part| 1.0 - part.probability(of_sums)).product::<f32>()
            }
            Self::Not(part) => 1.0 - part.probability(of_sums),
        }
    }
}

fn text_of(text: &str) -> Content {
    Content::Text(text.to_owned())
}

/// Whether a text is more than a text. What is in quotes that open at a word's start is none of its words.
///
/// # Errors
/// Such a quote is not closed, nor is a parenthesis that opens at a word's start of a mere text; a weight that
/// is none.
fn has_operator(text: &str) -> Result<bool, Fault> {
    let trimmed = text.trim();
    let is_quoted = trimmed.len() > 1 && trimmed.starts_with('"') && trimmed.ends_with('"');
    let mut found = is_quoted && trimmed.matches('"').count() == 2;
    let (mut at, mut open) = (0, Vec::new());
    while let Some(rest) = text.get(at..)
        && let Some(first) = rest.chars().next()
    {
        let word = rest.split(char::is_whitespace).next().unwrap_or_default();
        at += match first {
            c if c.is_whitespace() => c.len_utf8(),
            '(' => {
                open.push(at);
                1
            }
            '"' => {
                let body = rest.get(1..).unwrap_or_default();
                let end = body.find('"').ok_or((OPEN_QUOTE, at))?;
                let rest = body.get(end + 1..).unwrap_or_default();
                let after = rest.split(char::is_whitespace).next().unwrap_or_default();
                close(&mut open, after);
                end + 2 + after.len()
            }
            _ if is_slip(word) => return Err((NO_WEIGHT, at)),
            _ => {
                found |= matches!(word, "+" | "-" | "AND" | "OR" | "NOT") || weight(word).is_some();
                close(&mut open, word);
                word.len()
            }
        };
    }
    match open.first() {
        Some(&at) if !found => Err((OPEN_PARENTHESIS, at)),
        _ => Ok(found),
    }
}

/// Takes away the open parentheses that a word closes.
fn close(open: &mut Vec<usize>, word: &str) {
    let closed = word.matches(')').count();
    open.truncate(open.len().saturating_sub(closed));
}

/// Whether a word is meant to begin with a weight and does not: numbers with signs, commas or exponents before
/// `*` and a word. Figures behind it are a calculation or a size, which is text.
fn is_slip(word: &str) -> bool {
    let Some((number, rest)) = word.split_once('*') else { return false };
    let of_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '+' | '-' | 'e' | 'E');
    number.chars().all(of_number)
        && number.contains(|c: char| c.is_ascii_digit())
        && !number.starts_with(['e', 'E'])
        && rest.starts_with(|c: char| c.is_alphabetic() || c == '"')
        && weight(word).is_none()
}

/// The weight at the beginning of a word, and the bytes that it takes.
fn weight(word: &str) -> Option<(f32, usize)> {
    let (number, rest) = word.split_once('*')?;
    let plain = |c: char| c.is_ascii_digit() || c == '.';
    if number.is_empty() || !number.chars().all(plain) || rest.starts_with('*') {
        return None;
    }
    let weight: f32 = number.parse().ok()?;
    (weight.is_finite() && weight < 1e6).then_some((weight, number.len() + 1))
}

type Fault = (&'static str, usize);

const OPEN_QUOTE: &str = "a quote is not closed";
const OPEN_PARENTHESIS: &str = "a parenthesis is not closed";
const NO_OPERATOR: &str = "an operator is missing: +, -, AND or OR";
const NO_WEIGHT: &str = "a weight is digits with at most a point, below a million";

fn tokens(text: &str) -> Result<Vec<(Token, usize)>, Fault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(first) = rest.chars().next() else { break };
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, len) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '"' => {
                let body = rest.get(1..).unwrap_or_default();
                let end = body.find('"').ok_or((OPEN_QUOTE, at))?;
                (Token::Quoted(body.get(..end).unwrap_or_default().to_owned()), end + 2)
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"'));
                let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                match (word, weight(word)) {
                    ("+", _) => (Token::Plus, 1),
                    ("-", _) => (Token::Minus, 1),
                    ("AND", _) => (Token::And, 3),
                    ("OR", _) => (Token::Or, 2),
                    ("NOT", _) => (Token::Not, 3),
                    (_, Some((weight, len))) => (Token::Weight(weight), len),
                    _ => (Token::Word(word.to_owned()), word.len()),
                }
            }
        };
        tokens.push((token, at));
        at += len;
    }
    Ok(tokens)
}

struct Parser<'t> {
    tokens: &'t [(Token, usize)],
    at: usize,
    end: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn byte(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(_, byte)| *byte)
    }

    fn take(&mut self, token: &Token) -> bool {
        let is = self.peek() == Some(token);
        self.at += usize::from(is);
        is
    }

    fn or(&mut self, depth: usize) -> Result<Query, Fault> {
        let mut parts = vec![self.and(depth)?];
        while self.take(&Token::Or) {
            parts.push(self.and(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Query::Or(parts) })
    }

    fn and(&mut self, depth: usize) -> Result<Query, Fault> {
        let mut parts = vec![self.not(depth)?];
        // `cat NOT dog` is `cat AND NOT dog`.
        while self.take(&Token::And) || self.peek() == Some(&Token::Not) {
            parts.push(self.not(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Query::And(parts) })
    }

    fn not(&mut self, depth: usize) -> Result<Query, Fault> {
        if depth > MAX_DEPTH {
            return Err(("the query is nested too deeply", self.byte()));
        }
        if self.take(&Token::Not) {
            return Ok(Query::Not(Box::new(self.not(depth + 1)?)));
        }
        let open = self.byte();
        if self.take(&Token::Open) {
            let inner = self.or(depth + 1)?;
            if self.take(&Token::Close) {
                return Ok(inner);
            }
            let is_end = self.peek().is_none();
            return Err(if is_end { (OPEN_PARENTHESIS, open) } else { (NO_OPERATOR, self.byte()) });
        }
        self.sum()
    }

    fn sum(&mut self) -> Result<Query, Fault> {
        let mut terms = Vec::new();
        let mut sign = match self.peek() {
            Some(Token::Minus) => -1.0,
            _ => 1.0,
        };
        if matches!(self.peek(), Some(Token::Minus | Token::Plus)) {
            self.at += 1;
        }
        loop {
            terms.push(self.term(sign)?);
            sign = match self.peek() {
                Some(Token::Plus) => 1.0,
                Some(Token::Minus) => -1.0,
                _ => break,
            };
            self.at += 1;
        }
        if terms.iter().all(|term| term.weight <= 0.0) {
            return Err(("nothing is looked for, only taken away: use NOT", self.byte()));
        }
        Ok(Query::Sum(terms))
    }

    fn term(&mut self, sign: f32) -> Result<Term, Fault> {
        let weight = match self.peek() {
            Some(&Token::Weight(weight)) => {
                self.at += 1;
                weight
            }
            _ => 1.0,
        };
        let mut words = Vec::new();
        while let Some(Token::Word(word) | Token::Quoted(word)) = self.peek() {
            words.push(word.clone());
            self.at += 1;
        }
        let text = words.join(" ");
        if text.trim().is_empty() {
            return Err(("a text is missing", self.byte()));
        }
        Ok(Term { weight: sign * weight, content: Content::Text(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(terms: &[(f32, &str)]) -> Query {
        let term = |&(weight, text): &(f32, &str)| Term { weight, content: text_of(text) };
        Query::Sum(terms.iter().map(term).collect())
    }

    #[test]
    fn plain_texts_stay_as_they_are() {
        for text in [
            "a cat on a sofa",
            "12:30 — menu: €4.50, 50% off!",
            "Tokyo, 2019: neon signs (rain)",
            "black-and-white",
            "红色的汽车",
            "say \"hi\" and go",
            "C++ * pointers",
            "smile :)",
            ":( and :-) and 5\" (or 12\" vinyl)",
            "(rain) neon",
            "(a \"quoted :) word\")",
            "rock 'n' roll, don't '",
            "a) first b) second",
            "\"say - or AND\" twice",
            "car:abc car:2",
            "10,5*20 cm",
            "a 4-5* hotel",
            "**bold** and e*e and *star*",
        ] {
            assert_eq!(Query::parse(text).unwrap(), sum(&[(1.0, text)]), "{text}");
        }
        assert_eq!(Query::parse("\"a AND b\"").unwrap(), sum(&[(1.0, "a AND b")]));
    }

    #[test]
    fn sums_weights_and_logic() {
        let parse = |text: &str| Query::parse(text).unwrap();
        let expected = sum(&[(1.0, "红色"), (1.0, "car"), (-1.0, "traffic light")]);
        assert_eq!(parse("红色 + car - \"traffic light\""), expected);
        assert_eq!(parse("红色 + car - traffic light"), expected);
        assert_eq!(parse("2*red - 0.5*\"a car\""), sum(&[(2.0, "red"), (-0.5, "a car")]));
        let query = parse("cat AND NOT (indoors OR \"a toy\")");
        let inner = Query::Or(vec![sum(&[(1.0, "indoors")]), sum(&[(1.0, "a toy")])]);
        assert_eq!(query, Query::And(vec![sum(&[(1.0, "cat")]), Query::Not(Box::new(inner))]));
        let negated: Vec<bool> = query.sums().iter().map(|(_, negated)| *negated).collect();
        assert_eq!(negated, [false, true, true]);
        let p = query.probability(&mut [0.9, 0.5, 0.5].into_iter());
        assert!((p - 0.9 * 0.25).abs() < 1e-6);
        assert_eq!(parse("cat NOT dog"), parse("cat AND NOT dog"));
    }

    #[test]
    fn faults_name_their_place() {
        for (text, byte) in [
            ("", 0),
            ("cat +", 5),
            ("cat + \"open", 6),
            ("cat AND", 7),
            ("(cat OR dog", 0),
            ("cat AND (red OR (dog OR bird)", 8),
            ("cat OR dog)", 10),
            ("smile :) + cat", 7),
            ("cat + red (dog)", 10),
            ("(cat + red (dog))", 11),
            ("- cat", 5),
            // Of texts: only what opens at a word's start.
            ("\"a cat", 0),
            ("a cat \"", 6),
            ("say \"hi\" and \"go", 13),
            ("猫 (cat dog", 4),
            ("((cat) dog", 0),
            ("\"a\" \"AND b", 4),
            // Weights that are none.
            ("1,5*red", 0),
            ("red + 1.2.3*car", 6),
            ("-2*\"red car\"", 0),
            ("cat (1e3*dog)", 5),
            ("9999999*red", 0),
        ] {
            match Query::parse(text) {
                Err(Error::Query { byte: found, .. }) => assert_eq!(found, byte, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        for count in [1000, 15_000, 17_000] {
            let text = "NOT ".repeat(count);
            match Query::parse(&text) {
                Err(Error::Query { byte, .. }) => assert!(byte < text.len(), "{count}: {byte}"),
                other => panic!("{count}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_understood_or_refused(text in "[a猫 \"()+*0-9ANDORT-]{0,40}") {
            if let Ok(query) = Query::parse(&text) {
                let sums = query.sums().len();
                let p = query.probability(&mut std::iter::repeat_n(0.5, sums));
                prop_assert!((0.0..=1.0).contains(&p));
            }
        }
    }
}
