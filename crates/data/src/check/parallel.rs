//! The check of parallel texts.

use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_128;

use super::texts::{Faults, Texts};
use super::{CheckSettings, Finding, Findings, Severity, graded, percent, share};
use crate::{Fault, Reason, TextPair};

/// Looks at pairs of texts, one by one.
pub struct ParallelCheck<'a> {
    samples: u64,
    sources: Texts<'a>,
    targets: Texts<'a>,
    faults: Faults,
    copies: u64,
    pairs: HashSet<u128>,
    duplicates: u64,
}

impl<'a> ParallelCheck<'a> {
    /// A check that has seen nothing; of the settings the batch size does not matter.
    pub fn new(settings: CheckSettings<'a>) -> Self {
        Self {
            samples: 0,
            sources: Texts::new(settings, "source texts"),
            targets: Texts::new(settings, "target texts"),
            faults: Faults::default(),
            copies: 0,
            pairs: HashSet::new(),
            duplicates: 0,
        }
    }

    /// Looks at a pair.
    pub fn add(&mut self, pair: &TextPair) {
        self.samples += 1;
        self.sources.add(&pair.source);
        self.targets.add(&pair.target);
        self.copies += u64::from(pair.source.trim() == pair.target.trim());
        let [source, target] = [&pair.source, &pair.target].map(|text| xxh3_128(text.as_bytes()));
        let hash = xxh3_128(&[source.to_le_bytes(), target.to_le_bytes()].concat());
        self.duplicates += u64::from(!self.pairs.insert(hash));
    }

    /// Counts a pair that could not be read.
    pub fn fault(&mut self, fault: &Fault) {
        self.samples += 1;
        self.faults.add(fault);
    }

    /// What was found so far.
    pub fn findings(&self) -> Findings {
        let mut findings = Vec::new();
        let good = self.sources.count();
        let broken = self.faults.of(Reason::BrokenLine);
        if let Some(severity) = graded(share(broken, self.samples), 0.0, 0.05) {
            findings.push(Finding {
                severity,
                name: "misaligned",
                number: broken as f64,
                text: format!(
                    "{} of the lines are not two texts with one tab or two columns",
                    percent(broken, self.samples)
                ),
                help: "a text with a tab or a line end of its own shifts the columns: write JSONL",
            });
        }
        if self.copies > 0 {
            let much = share(self.copies, good) >= 0.2;
            findings.push(Finding {
                severity: if much { Severity::Warning } else { Severity::Notice },
                name: "copies",
                number: self.copies as f64,
                text: format!(
                    "{} of the pairs have the same text twice",
                    percent(self.copies, good)
                ),
                help: if much {
                    "copies teach no translation; keep few of them, for the source language"
                } else {
                    ""
                },
            });
        }
        if self.duplicates > 0 {
            let much = share(self.duplicates, good) >= 0.01;
            findings.push(Finding {
                severity: if much { Severity::Warning } else { Severity::Notice },
                name: "duplicate_pairs",
                number: self.duplicates as f64,
                text: format!("{} of the pairs repeat", percent(self.duplicates, good)),
                help: if much { "remove the copies" } else { "" },
            });
        }
        self.sources.findings(&mut findings);
        self.targets.findings(&mut findings);
        self.faults.findings(self.samples, &mut findings);
        Findings::new(self.samples, findings)
    }
}
