//! What occurs several times in a call is computed once.

use std::collections::HashMap;

/// Texts without their repetitions, and where each text's row is.
pub(crate) struct Distinct<'t> {
    /// Each text once, in the order of first occurrence.
    pub(crate) texts: Vec<&'t [u32]>,
    /// For each text of the call its place in `texts`.
    places: Vec<usize>,
}

impl<'t> Distinct<'t> {
    pub(crate) fn new(ids: &[&'t [u32]]) -> Self {
        let (mut texts, mut seen) = (Vec::new(), HashMap::with_capacity(ids.len()));
        let place = |text: &&'t [u32]| {
            *seen.entry(*text).or_insert_with(|| {
                texts.push(*text);
                texts.len() - 1
            })
        };
        let places = ids.iter().map(place).collect();
        Self { texts, places }
    }

    /// Rows of the distinct texts, `width` numbers each, to rows of all texts.
    pub(crate) fn scatter(&self, rows: Vec<f32>, width: usize) -> Vec<f32> {
        if self.texts.len() == self.places.len() {
            return rows;
        }
        let row = |&place: &usize| &rows[place * width..(place + 1) * width];
        self.places.iter().flat_map(row).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_one_row_of_work() {
        let ids: [&[u32]; 6] = [&[0, 2], &[0, 5, 2], &[0, 2], &[], &[0, 5, 2], &[0, 2]];
        let distinct = Distinct::new(&ids);
        assert_eq!(distinct.texts, [&[0, 2][..], &[0, 5, 2], &[]]);
        let rows = vec![1.0, 1.5, 2.0, 2.5, 3.0, 3.5];
        let all = [1.0, 1.5, 2.0, 2.5, 1.0, 1.5, 3.0, 3.5, 2.0, 2.5, 1.0, 1.5];
        assert_eq!(distinct.scatter(rows, 2), all);
    }

    #[test]
    fn without_repetitions_rows_stay_where_they_are() {
        let ids: [&[u32]; 2] = [&[1], &[2]];
        assert_eq!(Distinct::new(&ids).scatter(vec![4.0, 3.0], 1), [4.0, 3.0]);
        assert!(Distinct::new(&[]).scatter(Vec::new(), 3).is_empty());
    }
}
