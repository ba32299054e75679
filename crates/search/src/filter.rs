//! Which pictures are looked at: by path, date, size and tag, before anything is scored.

use crate::Error;
use crate::path::plain;
use crate::picture::Picture;
use std::borrow::Cow;
use std::path::Path;

/// Longest pattern, and most patterns and tags.
const MAX_BYTES: usize = 4096;
const MAX_TERMS: usize = 64;
/// What to do about a fault.
const HELP: &str = "for example: path:*.jpg since:2024-05 tag:\"summer in Rome\"";
const SHORTER: &str = "use fewer and shorter filters; * and ** in a path stand for many";
const DAYS: &str = "name a day of the calendar, a month or a year: 2024-05-31, 2024-05, 2024";

/// Conditions that all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Patterns of paths with `*`, `**` and `?`; one of them must fit. One without `/` is compared with
    /// the last part of the path; in others `.`, `..` and `//` mean what they mean in a path.
    pub paths: Vec<String>,
    /// Not before this time, in seconds since 1970.
    pub since: Option<i64>,
    /// Before this time.
    pub until: Option<i64>,
    /// Least number of pixels of the shorter side.
    pub least_side: Option<u32>,
    /// Most bytes of the file.
    pub most_bytes: Option<u64>,
    /// Tags that the picture must have.
    pub tags: Vec<String>,
}

impl Filter {
    /// Understands conditions in one text: `path:/photos/** since:2024-05 tag:"summer in Rome"`. Fields are
    /// `path`, `tag`, `since`, `until`, `min_side` and `max_bytes`.
    ///
    /// # Errors
    /// [`Error::Query`] with the byte where it goes wrong.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut filter = Self::default();
        let mut at = 0;
        while let Some(rest) = text.get(at..) {
            let start = at + (rest.len() - rest.trim_start().len());
            let rest = rest.trim_start();
            if rest.is_empty() {
                break;
            }
            let error =
                |what| Error::Query { what, text: text.to_owned(), byte: start, help: HELP };
            let colon = rest
                .find(':')
                .ok_or_else(|| error("a condition is a field, a colon and a value"))?;
            let (field, value) = rest.split_at(colon);
            let value = value.get(1..).unwrap_or_default();
            let (value, len) = match value.strip_prefix('"') {
                Some(quoted) => {
                    let end = quoted.find('"').ok_or_else(|| error("a quote is not closed"))?;
                    (quoted.get(..end).unwrap_or_default(), end + 2)
                }
                None => {
                    let end = value.find(char::is_whitespace).unwrap_or(value.len());
                    (value.get(..end).unwrap_or_default(), end)
                }
            };
            let number = || value.parse::<u64>().map_err(|_| error("this is no whole number"));
            match field {
                "path" => filter.paths.push(value.to_owned()),
                "tag" => filter.tags.push(value.to_owned()),
                "since" => filter.since = Some(day(value, false)?),
                "until" => filter.until = Some(day(value, true)?),
                "min_side" => {
                    filter.least_side = Some(u32::try_from(number()?).unwrap_or(u32::MAX))
                }
                "max_bytes" => filter.most_bytes = Some(number()?),
                _ => {
                    return Err(error("fields are path, tag, since, until, min_side, max_bytes"));
                }
            }
            filter.check()?;
            at = start + colon + 1 + len;
        }
        Ok(filter)
    }

    /// Whether it lets everything through.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the patterns.
    ///
    /// # Errors
    /// [`Error::Query`] for one that is too long, or too many.
    pub fn check(&self) -> Result<(), Error> {
        let terms = self.paths.len() + self.tags.len();
        let long = self.paths.iter().chain(&self.tags).find(|text| text.len() > MAX_BYTES);
        match long {
            Some(text) => Err(Error::Query {
                what: "a filter is longer than 4096 bytes",
                text: text.clone(),
                byte: MAX_BYTES,
                help: SHORTER,
            }),
            None if terms > MAX_TERMS => Err(Error::Query {
                what: "there are more than 64 filters",
                text: format!("{terms} filters"),
                byte: 0,
                help: SHORTER,
            }),
            None => Ok(()),
        }
    }

    /// Whether a picture is looked at.
    pub fn lets(&self, picture: &Picture) -> bool {
        let date = picture.date();
        let side = picture.width.min(picture.height);
        let fits = |pattern: &String| {
            let last = picture.path.rsplit('/').next().unwrap_or_default();
            let path = if pattern.contains('/') { &picture.path } else { last };
            glob(&in_one_form(pattern), path)
        };
        (self.paths.is_empty() || self.paths.iter().any(fits))
            && self.since.is_none_or(|since| date >= since)
            && self.until.is_none_or(|until| date < until)
            && self.least_side.is_none_or(|least| side >= least)
            && self.most_bytes.is_none_or(|most| picture.bytes <= most)
            && self.tags.iter().all(|tag| picture.tags.contains(tag))
    }
}

/// A pattern in the form of the paths that it is compared with. Behind `**` a `..` could mean any folder, so
/// that one stays, and fits nothing.
fn in_one_form(pattern: &str) -> Cow<'_, str> {
    let odd = ["//", "/./", "/../"].iter().any(|odd| pattern.contains(odd));
    let odd = odd || pattern.ends_with("/.") || pattern.ends_with("/..");
    if !odd || pattern.contains("**/..") {
        return pattern.into();
    }
    plain(Path::new(pattern)).to_string_lossy().into_owned().into()
}

/// Whether a pattern fits a whole text: `?` is one character and `*` any number of them, neither of them
/// `/`; `**` is any number of any characters. Linear in pattern times text.
fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    // `reach[i]`: the first `i` characters of the pattern fit what was read so far.
    let stars = |reach: &mut Vec<bool>| {
        for i in 0..pattern.len() {
            if reach[i] && pattern[i] == '*' {
                reach[i + 1] = true;
            }
        }
    };
    let mut reach = vec![false; pattern.len() + 1];
    reach[0] = true;
    stars(&mut reach);
    for c in text.chars() {
        let mut next = vec![false; pattern.len() + 1];
        for i in 0..pattern.len() {
            let double = pattern[i] == '*'
                && (pattern.get(i + 1) == Some(&'*') || (i > 0 && pattern[i - 1] == '*'));
            match pattern[i] {
                '*' if reach[i] && (double || c != '/') => next[i] = true,
                '?' if reach[i] && c != '/' => next[i + 1] = true,
                p if reach[i] && p == c && p != '*' => next[i + 1] = true,
                _ => {}
            }
        }
        reach = next;
        stars(&mut reach);
    }
    reach[pattern.len()]
}

/// A day such as `2024-05-31`, or a year or month, as seconds since 1970; its end where `end` is set.
///
/// # Errors
/// [`Error::Query`].
pub fn day(text: &str, end: bool) -> Result<i64, Error> {
    let parts: Vec<Option<i64>> = text
        .split('-')
        .map(|part| part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit())))
        .collect();
    let date = match parts[..] {
        // More figures than a year has would overflow.
        _ if text.len() > 10 => None,
        [Some(y)] => Some((y, 1, 1, (y + 1, 1, 1))),
        [Some(y), Some(m)] => Some((y, m, 1, if m == 12 { (y + 1, 1, 1) } else { (y, m + 1, 1) })),
        [Some(y), Some(m), Some(d)] => Some((y, m, d, (y, m, d + 1))),
        _ => None,
    };
    let bad = |what| Error::Query { what, text: text.to_owned(), byte: 0, help: DAYS };
    let (y, m, d, (ey, em, ed)) =
        date.ok_or_else(|| bad("this is no day such as 2024, 2024-05 or 2024-05-31"))?;
    let valid = (1..=9999).contains(&y) && (1..=12).contains(&m);
    if !valid || !(1..=month_days(y, m)).contains(&d) {
        return Err(bad("the calendar has no such day"));
    }
    let days = if end { days(ey, em, ed) } else { days(y, m, d) };
    Ok(days * 86_400)
}

/// Days of a month.
fn month_days(year: i64, month: i64) -> i64 {
    days(year + month / 12, month % 12 + 1, 1) - days(year, month, 1)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
///
/// # Source
/// Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`.
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("*.jpg", "a.jpg", true),
            ("*.jpg", "a.jpeg", false),
            ("/p/*/a.jpg", "/p/x/a.jpg", true),
            ("/p/*/a.jpg", "/p/x/y/a.jpg", false),
            ("/p/**/a.jpg", "/p/x/y/a.jpg", true),
            ("/p/**", "/p/x/y/a.jpg", true),
            ("?猫*", "大猫.png", true),
            ("", "", true),
            ("", "a", false),
            ("**", "", true),
            ("a*b*c", "aXbXbc", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
        let lets = |pattern: &str| {
            let picture = Picture { path: "/p/x/a.jpg".into(), ..Picture::default() };
            Filter { paths: vec![pattern.into()], ..Filter::default() }.lets(&picture)
        };
        for fits in ["/p//x/*.jpg", "/p/./x/a.jpg", "/p/y/../x/*", "/p/x/y*/../*", "**//a.jpg"] {
            assert!(lets(fits), "{fits}");
        }
        for other in ["/p/x/../*.jpg", "/p/**/../a.jpg", "/p/x/..", "/p/x/.", "p/x/a.jpg"] {
            assert!(!lets(other), "{other}");
        }
        // Not exponential.
        assert!(!glob(&"*a".repeat(100), &"a".repeat(99).replace('a', "ab")));
    }

    #[test]
    fn days_of_the_calendar() {
        assert_eq!(day("1970-01-01", false).unwrap(), 0);
        assert_eq!(day("2000-02-29", true).unwrap(), 951_868_800);
        assert_eq!(day("2024", true).unwrap(), day("2025", false).unwrap());
        assert_eq!(day("2024-12", true).unwrap(), day("2025-01-01", false).unwrap());
        assert_eq!(day("2024-02-29", true).unwrap(), day("2024-03", false).unwrap());
        assert_eq!(day("2023-12-31", true).unwrap(), day("2024", false).unwrap());
        let lengths = (1..=12).map(|month| month_days(2024, month));
        assert!(lengths.eq([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]));
        assert_eq!([1900, 2000, 2023].map(|year| month_days(year, 2)), [28, 29, 28]);
        for bad in [
            "",
            "x",
            "2024-13",
            "2024-00",
            "2024-01-32",
            "2024-01-00",
            "2024-02-30",
            "2023-02-29",
            "2024-04-31",
            "2024-1-1-1",
            "+2024",
            "99999",
            "9223372036854775807",
            "2024-9223372036854775807",
        ] {
            assert!(day(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn conditions_in_one_text() {
        let text =
            " path:/p/**  since:2024-05\tuntil:2024 min_side:640 max_bytes:9 tag:\"a b\" tag:猫";
        let expected = Filter {
            paths: vec!["/p/**".into()],
            since: Some(day("2024-05", false).unwrap()),
            until: Some(day("2024", true).unwrap()),
            least_side: Some(640),
            most_bytes: Some(9),
            tags: vec!["a b".into(), "猫".into()],
        };
        assert_eq!(Filter::parse(text).unwrap(), expected);
        assert_eq!(Filter::parse(" ").unwrap(), Filter::default());
        for (text, byte) in [
            ("tag:a person:b", 6),
            ("tag:a b", 6),
            ("tag:\"a", 0),
            ("min_side:large", 0),
            ("since:May", 0),
            ("猫:a", 0),
        ] {
            match Filter::parse(text) {
                Err(Error::Query { byte: found, .. }) => assert_eq!(found, byte, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        // Refused at the 65th, not read to its end.
        assert!(Filter::parse(&"tag:a ".repeat(1_000_000)).is_err());
    }

    #[test]
    fn all_conditions_must_hold() {
        let picture = Picture {
            path: "/photos/2024/cat.jpg".into(),
            bytes: 1000,
            width: 640,
            height: 480,
            taken: Some(day("2024-05-31", false).unwrap()),
            tags: vec!["family".into()],
            ..Picture::default()
        };
        let mut filter = Filter { paths: vec!["*.jpg".into()], ..Filter::default() };
        assert!(filter.lets(&picture));
        filter.since = Some(day("2024", false).unwrap());
        filter.until = Some(day("2024", true).unwrap());
        filter.least_side = Some(480);
        filter.tags.push("family".into());
        assert!(filter.lets(&picture));
        for wrong in [
            Filter { paths: vec!["/photos/*.jpg".into()], ..filter.clone() },
            Filter { until: filter.since, ..filter.clone() },
            Filter { least_side: Some(481), ..filter.clone() },
            Filter { most_bytes: Some(999), ..filter.clone() },
            Filter { tags: vec!["work".into()], ..filter.clone() },
        ] {
            assert!(!wrong.lets(&picture), "{wrong:?}");
        }
    }
}
