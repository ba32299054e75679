//! An answer as programs read it: the object of `altclip search --json`, and of whatever else answers.

use crate::{Answer, Match};
use serde::Serialize;

/// An answer in its JSON form, which stays fixed:
/// `{"query":…,"no_match":false,"matches":[{"id":…,"path":…,"score":…,"p_match":…}]}`, with `uncalibrated`
/// saying why where `p_match` is `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown<'a> {
    /// The query as it was typed; empty where there was only a picture.
    pub query: &'a str,
    /// Nothing is probable to match.
    pub no_match: bool,
    /// Why there are no probabilities, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncalibrated: Option<&'a str>,
    /// The best first.
    pub matches: Vec<ShownMatch<'a>>,
}

/// A picture of an answer in its JSON form.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownMatch<'a> {
    /// Number of the picture in the index; a number is never given twice.
    pub id: i64,
    /// Its absolute path.
    pub path: &'a str,
    /// Its cosine with the query.
    pub score: f32,
    /// The probability that it is a true match; `null` where that is not known.
    pub p_match: Option<f32>,
}

impl Answer {
    /// The answer to `query` in its JSON form.
    pub fn shown<'a>(&'a self, query: &'a str) -> Shown<'a> {
        Shown {
            query,
            no_match: self.no_match,
            uncalibrated: self.uncalibrated.map(|reason| reason.reason()),
            matches: self.matches.iter().map(ShownMatch::new).collect(),
        }
    }
}

impl<'a> ShownMatch<'a> {
    fn new(found: &'a Match) -> Self {
        let Match { id, picture, score, probability, .. } = found;
        Self { id: *id, path: &picture.path, score: *score, p_match: *probability }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Picture, Uncalibrated};

    #[test]
    fn the_form_stays_fixed() {
        let picture = Picture { path: "/p/猫.png".into(), ..Picture::default() };
        let found = Match { id: 7, picture, row: 0, score: 0.25, probability: Some(0.5) };
        let mut answer = Answer {
            matches: vec![found],
            no_match: false,
            none_passes: false,
            uncalibrated: None,
        };
        let text = |answer: &Answer| serde_json::to_string(&answer.shown("猫")).unwrap();
        let expected = r#"{"query":"猫","no_match":false,"matches":[{"id":7,"path":"/p/猫.png","score":0.25,"p_match":0.5}]}"#;
        assert_eq!(text(&answer), expected);
        answer.matches[0].probability = None;
        answer.uncalibrated = Some(Uncalibrated::FewPictures);
        let expected = r#"{"query":"猫","no_match":false,"uncalibrated":"fewer than 50 pictures","matches":[{"id":7,"path":"/p/猫.png","score":0.25,"p_match":null}]}"#;
        assert_eq!(text(&answer), expected);
    }
}
