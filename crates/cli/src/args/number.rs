//! Numbers that are typed: finite, and within what they mean.

fn number(text: &str, fits: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && fits(number) => Ok(number),
        _ => Err(format!("expected {expected}")),
    }
}

/// Any.
pub(crate) fn finite(text: &str) -> Result<f64, String> {
    number(text, |_| true, "a number")
}

/// 0 or more.
pub(crate) fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |number| number >= 0.0, "a number that is not negative")
}

/// More than 0.
pub(crate) fn over_0(text: &str) -> Result<f64, String> {
    number(text, |number| number > 0.0, "a number above 0")
}

/// From 0 on, below 1.
pub(crate) fn below_1(text: &str) -> Result<f64, String> {
    number(text, |number| (0.0..1.0).contains(&number), "a number from 0 on, below 1")
}

/// From 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    number(text, |number| (0.0..=1.0).contains(&number), "a number from 0 to 1")
}
