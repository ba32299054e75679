//! The check of pictures with captions.

use std::collections::{BTreeMap, HashMap, HashSet};

use altclip_report::quote;
use xxhash_rust::xxh3::xxh3_128;

use super::numerals::Numerals;
use super::texts::{Faults, Texts};
use super::{CheckSettings, Finding, Findings, Severity, graded, loss_floor, percent, share};
use crate::{Captioned, Fault, Picture};

/// Batches below this have too few wrong captions to choose from to learn much.
const SMALL_BATCH: usize = 64;

/// Looks at pictures with captions, one by one.
///
/// # Example
/// ```
/// use altclip_data::check::{CaptionCheck, CheckSettings};
/// let settings = CheckSettings {
///     batch_size: 64,
///     samples: 1000,
///     length: &|text| text.split_whitespace().count(),
///     unit: "words",
///     max_length: 75,
/// };
/// let mut check = CaptionCheck::new(settings);
/// for picture in 0..1000 {
///     check.add_parts(picture, [format!("a photo of a {}", picture % 10).as_str()], None);
/// }
/// let findings = check.findings();
/// assert!(findings.get("loss_floor").unwrap().number > 1.8);
/// assert!(findings.verdict().is_err(), "a class that is a number teaches nothing");
/// ```
pub struct CaptionCheck<'a> {
    settings: CheckSettings<'a>,
    samples: u64,
    texts: Texts<'a>,
    numerals: Numerals,
    faults: Faults,
    /// How many samples have a caption, by its hash: the first of a sample that has several.
    captions: HashMap<u128, u64>,
    pairs: HashSet<u128>,
    duplicate_pairs: u64,
    languages: BTreeMap<String, u64>,
    without_language: u64,
}

impl<'a> CaptionCheck<'a> {
    /// A check that has seen nothing.
    pub fn new(settings: CheckSettings<'a>) -> Self {
        Self {
            settings,
            samples: 0,
            texts: Texts::new(settings, "captions"),
            numerals: Numerals::default(),
            faults: Faults::default(),
            captions: HashMap::new(),
            pairs: HashSet::new(),
            duplicate_pairs: 0,
            languages: BTreeMap::new(),
            without_language: 0,
        }
    }

    /// Looks at a sample.
    pub fn add(&mut self, sample: &Captioned) {
        let picture = match &sample.picture {
            Picture::File(path) => xxh3_128(path.as_os_str().as_encoded_bytes()),
            Picture::Bytes(bytes) => xxh3_128(bytes),
        };
        self.add_parts(
            picture,
            sample.captions.iter().map(String::as_str),
            sample.language.as_deref(),
        );
    }

    /// Looks at a sample that is made elsewhere, as a class in a prompt; `picture` is the same for the same picture.
    pub fn add_parts<'t>(
        &mut self,
        picture: u128,
        captions: impl IntoIterator<Item = &'t str>,
        language: Option<&str>,
    ) {
        self.samples += 1;
        match language {
            Some(language) => *self.languages.entry(language.to_owned()).or_default() += 1,
            None => self.without_language += 1,
        }
        for (place, caption) in captions.into_iter().enumerate() {
            self.texts.add(caption);
            self.numerals.add(caption);
            let hash = xxh3_128(caption.as_bytes());
            if place == 0 {
                *self.captions.entry(hash).or_default() += 1;
            }
            let pair = [picture.to_le_bytes(), hash.to_le_bytes()].concat();
            self.duplicate_pairs += u64::from(!self.pairs.insert(xxh3_128(&pair)));
        }
    }

    /// Counts a sample that could not be read.
    pub fn fault(&mut self, fault: &Fault) {
        self.samples += 1;
        self.faults.add(fault);
    }

    /// What was found so far.
    pub fn findings(&self) -> Findings {
        let mut findings = Vec::new();
        self.repeated_captions(&mut findings);
        self.batch(&mut findings);
        self.numbers(&mut findings);
        self.duplicates(&mut findings);
        self.languages(&mut findings);
        self.texts.findings(&mut findings);
        self.faults.findings(self.samples, &mut findings);
        Findings::new(self.samples, findings)
    }

    fn repeated_captions(&self, findings: &mut Vec<Finding>) {
        let (distinct, samples) = (self.captions.len(), self.captions.values().sum::<u64>());
        findings.push(Finding {
            severity: Severity::Notice,
            name: "distinct_captions",
            number: distinct as f64,
            text: format!("{distinct} distinct captions in {samples} samples"),
            help: "",
        });
        let batch_size = self.settings.batch_size;
        // Of a part of the samples no more is known than of all that were seen at once.
        let is_part = self.samples < self.settings.samples;
        let batch = if is_part { samples.min(batch_size as u64) } else { batch_size as u64 };
        let floor = loss_floor(self.captions.values().copied(), batch);
        let random = (batch_size.max(1) as f64).ln();
        let repeated = if !is_part && batch > samples {
            "repeated captions, and samples that stand in it several times,"
        } else {
            "repeated captions"
        };
        findings.push(Finding {
            severity: if floor > 0.05 { Severity::Warning } else { Severity::Notice },
            name: "loss_floor",
            number: floor,
            text: format!(
                "{repeated} keep the loss of a batch of {batch_size} at {floor:.3} or above \
                 (chance is {random:.3})"
            ),
            help: if floor > 0.05 {
                "more different captions or a smaller batch lower it"
            } else {
                ""
            },
        });
    }

    fn batch(&self, findings: &mut Vec<Finding>) {
        let batch_size = self.settings.batch_size;
        let good = self.samples - self.faults.count();
        if batch_size < SMALL_BATCH {
            findings.push(Finding {
                severity: if batch_size < 2 { Severity::Error } else { Severity::Warning },
                name: "small_batch",
                number: batch_size as f64,
                text: format!(
                    "a contrastive loss compares a picture with the {} other captions of its batch",
                    batch_size.saturating_sub(1)
                ),
                help: "raise the batch size; gradient caching keeps the memory",
            });
        }
        if batch_size as u64 > good && self.samples >= self.settings.samples {
            findings.push(Finding {
                severity: Severity::Warning,
                name: "batch_over_samples",
                number: good as f64,
                text: format!(
                    "a batch of {batch_size} is larger than the {good} good samples there are"
                ),
                help: "use a smaller batch or more data",
            });
        }
    }

    fn numbers(&self, findings: &mut Vec<Finding>) {
        let (found, pattern) = self.numerals.found();
        let texts = self.texts.count();
        if let (Some(severity), Some(pattern)) = (graded(share(found, texts), 0.01, 0.1), pattern) {
            findings.push(Finding {
                severity,
                name: "numeric_captions",
                number: found as f64,
                text: format!(
                    "{} of the captions have a number for a class, as {}",
                    percent(found, texts),
                    quote(pattern)
                ),
                help: "write the name of the class in words; a class number means nothing to the model",
            });
        }
    }

    fn duplicates(&self, findings: &mut Vec<Finding>) {
        if self.duplicate_pairs > 0 {
            let (pairs, texts) = (self.duplicate_pairs, self.texts.count());
            findings.push(Finding {
                severity: Severity::Warning,
                name: "duplicate_pairs",
                number: pairs as f64,
                text: format!(
                    "{} of the pairs of picture and caption repeat",
                    percent(pairs, texts)
                ),
                help: "remove the copies: in one batch they count as wrong answers",
            });
        }
    }

    fn languages(&self, findings: &mut Vec<Finding>) {
        if self.languages.is_empty() {
            return;
        }
        let mut list: Vec<String> =
            self.languages.iter().map(|(name, count)| format!("{} {count}", quote(name))).collect();
        if self.without_language > 0 {
            list.push(format!("none {}", self.without_language));
        }
        // Foreign data may name thousands.
        let more = list.len().saturating_sub(20);
        list.truncate(20);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let mixed = self.without_language > 0;
        findings.push(Finding {
            severity: if mixed { Severity::Warning } else { Severity::Notice },
            name: "languages",
            number: self.languages.len() as f64,
            text: format!("languages that the samples name: {}{more}", list.join(", ")),
            help: if mixed { "name the language of every sample, or of none" } else { "" },
        });
    }
}
