//! What is asked of every text, whichever kind of dataset it is from.

use std::collections::BTreeMap;

use altclip_report::quote;

use super::numerals::has_placeholder;
use super::{CheckSettings, Finding, Script, Severity, graded, percent, share};
use crate::{Error, Fault, Reason};

/// Counts over texts; `whose` names them in messages.
pub(crate) struct Texts<'a> {
    settings: CheckSettings<'a>,
    whose: &'static str,
    texts: u64,
    too_long: u64,
    placeholders: u64,
    placeholder: Option<String>,
    scripts: BTreeMap<Script, u64>,
}

impl<'a> Texts<'a> {
    pub(crate) fn new(settings: CheckSettings<'a>, whose: &'static str) -> Self {
        Self {
            settings,
            whose,
            texts: 0,
            too_long: 0,
            placeholders: 0,
            placeholder: None,
            scripts: BTreeMap::new(),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.texts
    }

    pub(crate) fn add(&mut self, text: &str) {
        self.texts += 1;
        self.too_long += u64::from((self.settings.length)(text) > self.settings.max_length);
        *self.scripts.entry(Script::of(text)).or_default() += 1;
        if has_placeholder(text) {
            self.placeholders += 1;
            self.placeholder.get_or_insert_with(|| text.to_owned());
        }
    }

    pub(crate) fn findings(&self, findings: &mut Vec<Finding>) {
        let (whose, texts) = (self.whose, self.texts);
        if let (Some(severity), Some(example)) =
            (graded(share(self.placeholders, texts), 0.0, 0.01), &self.placeholder)
        {
            findings.push(Finding {
                severity,
                name: "lost_placeholder",
                number: self.placeholders as f64,
                text: format!(
                    "{} of {texts} {whose} are templates that were not filled in, as {}",
                    self.placeholders,
                    quote(example)
                ),
                help: "put the name of the class in place of the placeholder",
            });
        }
        if self.too_long > 0 {
            let CheckSettings { max_length, unit, .. } = self.settings;
            let much = share(self.too_long, texts) >= 0.01;
            findings.push(Finding {
                severity: if much { Severity::Warning } else { Severity::Notice },
                name: "too_long",
                number: self.too_long as f64,
                text: format!(
                    "{} of the {whose} are longer than {max_length} {unit} and will be cut",
                    percent(self.too_long, texts)
                ),
                help: "shorten them, or raise the limit if the model has the positions",
            });
        }
        let mut scripts: Vec<_> = self.scripts.iter().collect();
        scripts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let list =
            |(script, &count): (&Script, &u64)| format!("{script} {}", percent(count, texts));
        if texts > 0 {
            findings.push(Finding {
                severity: Severity::Notice,
                name: "scripts",
                number: scripts.len() as f64,
                text: format!(
                    "scripts of the {whose}: {}",
                    scripts.into_iter().map(|(s, n)| list((s, n))).collect::<Vec<_>>().join(", ")
                ),
                help: "",
            });
        }
    }
}

/// Samples that were bad, by reason.
#[derive(Default)]
pub(crate) struct Faults {
    reasons: BTreeMap<Reason, u64>,
    first: Option<Fault>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: &Fault) {
        *self.reasons.entry(fault.reason).or_default() += 1;
        self.first.get_or_insert_with(|| fault.clone());
    }

    pub(crate) fn count(&self) -> u64 {
        self.reasons.values().sum()
    }

    pub(crate) fn of(&self, reason: Reason) -> u64 {
        self.reasons.get(&reason).copied().unwrap_or(0)
    }

    pub(crate) fn findings(&self, samples: u64, findings: &mut Vec<Finding>) {
        let empty = self.of(Reason::NoText);
        if empty > 0 {
            findings.push(Finding {
                severity: Severity::Warning,
                name: "empty_texts",
                number: empty as f64,
                text: format!("{} of the samples have no text", percent(empty, samples)),
                help: "remove them; they are skipped",
            });
        }
        if let Some(first) = &self.first {
            let all = self.count() == samples;
            findings.push(Finding {
                severity: if all { Severity::Error } else { Severity::Warning },
                name: "bad_samples",
                number: self.count() as f64,
                text: format!(
                    "{} of the samples cannot be used ({}); the first: {first} ({})",
                    percent(self.count(), samples),
                    Error::table_of(&self.reasons),
                    first.place
                ),
                help: first.reason.help(),
            });
        }
    }
}
