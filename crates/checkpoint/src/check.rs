//! The tensors that a model needs against those that a checkpoint has: all differences at once.

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use altclip_report::{Code, MAX_REPORTS, Report, quote};
use std::collections::BTreeSet;

/// A tensor that a model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// Compares a checkpoint with what a model needs; gives warnings back.
///
/// `ignorable` says which tensors may be there without being used (`position_ids` and the like);
/// `allow_extra` makes a warning of every other one that is not expected.
///
/// # Errors
/// Every missing tensor (with the most similar name), every one that is not expected, every wrong
/// shape and every type that cannot be read: one error as it is, several as [`Error::Problems`].
pub fn check(
    checkpoint: &Checkpoint,
    expected: &[Expected],
    ignorable: &dyn Fn(&str) -> bool,
    allow_extra: bool,
) -> Result<Vec<Report>, Error> {
    let wanted: BTreeSet<&str> = expected.iter().map(|e| e.name.as_str()).collect();
    let extra: Vec<&str> =
        checkpoint.names().filter(|n| !wanted.contains(n) && !ignorable(n)).collect();
    let mut errors = Vec::new();
    for e in expected {
        let Some(info) = checkpoint.get(&e.name) else {
            // Only as many as are printed: the search goes over all names.
            let nearest = (errors.len() < MAX_REPORTS).then(|| nearest(&e.name, &extra)).flatten();
            errors.push(Error::TensorMissing { name: e.name.clone(), nearest });
            continue;
        };
        let file = checkpoint.path_of(info);
        if info.shape != e.shape {
            errors.push(Error::ShapeMismatch {
                name: e.name.clone(),
                file,
                found: info.shape.clone(),
                expected: e.shape.clone(),
            });
        } else if !info.dtype.is_readable() && !checkpoint.is_packed(&e.name) {
            let dtype = info.dtype.as_str().to_owned();
            errors.push(Error::DtypeUnsupported { file, tensor: e.name.clone(), dtype });
        }
    }
    let mut warnings = Vec::new();
    if allow_extra && !extra.is_empty() {
        let shown: Vec<_> = extra.iter().take(3).map(|n| quote(n)).collect();
        let message = format!("ignored {} tensors: {}", extra.len(), shown.join(", "));
        warnings.push(
            Report::new(Code::W2121, "checkpoint", message)
                .help("check that the checkpoint belongs to this model"),
        );
    } else {
        errors.extend(extra.iter().filter_map(|name| checkpoint.get(name)).map(|info| {
            Error::TensorUnexpected { name: info.name.clone(), file: checkpoint.path_of(info) }
        }));
    }
    Error::collect(errors).map(|()| warnings)
}

/// The candidate that shares the longest beginning and end with a name, if they are half of it.
/// A letter wrong, left out or put in leaves all the rest shared.
fn nearest(name: &str, candidates: &[&str]) -> Option<String> {
    let likeness = |other: &str| {
        let equal = |(a, b): &(u8, u8)| a == b;
        let start = name.bytes().zip(other.bytes()).take_while(equal).count();
        let end = name.bytes().rev().zip(other.bytes().rev()).take_while(equal).count();
        (start + end).min(name.len()).min(other.len())
    };
    let best = candidates.iter().max_by_key(|other| {
        (likeness(other), std::cmp::Reverse(other.len().abs_diff(name.len())))
    })?;
    (2 * likeness(best) >= name.len()).then(|| (*best).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_found() {
        let have = ["text.layer.0.weight", "text.pre_LM.weight", "vision.post.bias"];
        assert_eq!(nearest("text.pre_LN.weight", &have).as_deref(), Some("text.pre_LM.weight"));
        assert_eq!(nearest("logit_scale", &have), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
