//! A row that may leave the server: every number of it is finite.

use altclip_report::{Code, Report};

/// A vector without a number that is not finite. There is no other way to an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row(Vec<f32>);

impl Row {
    /// Checks every number.
    ///
    /// # Errors
    /// The place of the first that is not finite.
    pub(crate) fn new(numbers: Vec<f32>) -> Result<Self, Report> {
        match numbers.iter().position(|x| !x.is_finite()) {
            None => Ok(Self(numbers)),
            Some(place) => Err(Report::new(Code::E9003, "server", "a result is not finite")
                .place(format!("number {place} of the row"))
                .got("NaN or infinity")
                .expected("finite numbers")
                .help("nothing of it was sent; the weights may be damaged: altclip doctor --full")),
        }
    }

    pub(crate) fn numbers(&self) -> &[f32] {
        &self.0
    }

    /// Appends it as a JSON array, each number with the digits that give it back.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (place, x) in self.0.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            // Finite, so it is a number of JSON; a vector does not fail to be written to.
            let _ = serde_json::to_writer(&mut *out, x);
        }
        out.push(b']');
    }

    /// Its numbers as little-endian bytes in base64, as OpenAI's clients ask for them.
    pub(crate) fn base64(&self) -> String {
        use base64::Engine as _;
        let bytes: Vec<u8> = self.0.iter().flat_map(|x| x.to_le_bytes()).collect();
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }
}

/// A cosine without what rounding put beyond 1. What is farther beyond is none, and stays to be seen.
pub(crate) fn cosine(x: f32) -> f32 {
    const ROUNDING: f32 = 1e-4;
    if x.abs() < 1.0 + ROUNDING { x.clamp(-1.0, 1.0) } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_does_not_become_a_row() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(Row::new(vec![1.0, bad]).unwrap_err().code, Code::E9003);
        }
        // The control: what would have been sent.
        assert_eq!(serde_json::to_string(&[f32::NAN]).unwrap(), "[null]");
    }

    #[test]
    fn rounding_makes_no_cosine_beyond_one() {
        for (x, expected) in
            [(1.000_000_1, 1.0), (-1.000_01, -1.0), (1.0, 1.0), (-0.3, -0.3), (1.5, 1.5)]
        {
            assert_eq!(cosine(x), expected);
        }
        assert!(cosine(f32::NAN).is_nan());
    }

    #[test]
    fn numbers_come_back_with_their_bits() {
        let numbers = vec![0.1, -1.0e-30, 3.402_823_5e38, 1.0, -0.0];
        let row = Row::new(numbers.clone()).unwrap();
        let mut json = Vec::new();
        row.write_json(&mut json);
        let back: Vec<f32> = serde_json::from_slice(&json).unwrap();
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&numbers));
        assert_eq!(row.base64().len(), 28);
    }
}
