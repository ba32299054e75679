//! Which texts belong to which pictures of a batch.

use std::collections::HashMap;

/// The texts that are right for each picture: one or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positives {
    /// Where each picture's texts begin in `texts`; one more at the end.
    starts: Vec<usize>,
    /// Text numbers, ascending for each picture.
    texts: Vec<u32>,
    /// How many pictures each text is right for.
    images_of_text: Vec<u32>,
}

impl Positives {
    /// Picture `i` belongs to text `i` alone: the loss of CLIP.
    ///
    /// # Panics
    /// Panics if `n` is over 2^32.
    pub fn pairs(n: usize) -> Positives {
        Self::of((0..n).map(|i| vec![index(i)]), n)
    }

    /// Pairs of which some share a picture or a caption. Text `j` is right for picture `i` if pair
    /// `j` has the same picture, or the same caption: so `j = i` always is. (It goes one step only: a
    /// caption of a picture that shares a caption with picture `i` is not right for `i`.)
    ///
    /// Memory is of the order of the number of right (picture, text) combinations: pairs that all
    /// share one caption need the square of their number.
    ///
    /// # Panics
    /// Panics if the lengths differ or are over 2^32.
    pub fn of_ids(image_ids: &[u64], caption_ids: &[u64]) -> Positives {
        let n = image_ids.len();
        assert_eq!(n, caption_ids.len(), "positives: as many pictures as captions");
        let (same_image, same_caption) = (places(image_ids), places(caption_ids));
        let rows = image_ids.iter().zip(caption_ids).map(|(image, caption)| {
            let mut row = [&same_image[image][..], &same_caption[caption][..]].concat();
            row.sort_unstable();
            row.dedup();
            row
        });
        Self::of(rows, n)
    }

    /// Picture `i` belongs to the class `labels[i]` of `n_classes`.
    ///
    /// # Panics
    /// Panics if a label is not below `n_classes`.
    pub(super) fn labels(labels: &[u32], n_classes: usize) -> Positives {
        Self::of(labels.iter().map(|&label| vec![label]), n_classes)
    }

    fn of(rows: impl Iterator<Item = Vec<u32>>, n_texts: usize) -> Positives {
        let mut positives =
            Positives { starts: vec![0], texts: Vec::new(), images_of_text: vec![0; n_texts] };
        for row in rows {
            for &text in &row {
                assert!((text as usize) < n_texts, "positives: text {text} of {n_texts}");
                positives.images_of_text[text as usize] += 1;
            }
            positives.texts.extend(row);
            positives.starts.push(positives.texts.len());
        }
        positives
    }

    /// How many pictures there are.
    pub fn n_images(&self) -> usize {
        self.starts.len() - 1
    }

    /// How many texts there are.
    pub fn n_texts(&self) -> usize {
        self.images_of_text.len()
    }

    /// The texts that are right for a picture, ascending.
    pub fn of_image(&self, image: usize) -> &[u32] {
        &self.texts[self.starts[image]..self.starts[image + 1]]
    }

    /// How many pictures a text is right for.
    pub(super) fn n_images_of_text(&self, text: usize) -> u32 {
        self.images_of_text[text]
    }
}

/// Where each id stands.
fn places(ids: &[u64]) -> HashMap<u64, Vec<u32>> {
    let mut places: HashMap<u64, Vec<u32>> = HashMap::new();
    for (place, &id) in ids.iter().enumerate() {
        places.entry(id).or_default().push(index(place));
    }
    places
}

fn index(i: usize) -> u32 {
    u32::try_from(i).expect("a batch of more than 2^32 pairs; this is a bug")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_pairs_are_the_diagonal() {
        assert_eq!(Positives::of_ids(&[5, 3, 9], &[1, 2, 3]), Positives::pairs(3));
    }

    #[test]
    fn shared_pictures_and_captions_are_right_for_each_other() {
        //     pictures  a a b c      captions  w x x y
        let positives = Positives::of_ids(&[1, 1, 2, 3], &[10, 11, 11, 12]);
        let rows: Vec<&[u32]> = (0..4).map(|i| positives.of_image(i)).collect();
        assert_eq!(rows, [&[0, 1][..], &[0, 1, 2], &[1, 2], &[3]]);
        assert_eq!(positives.images_of_text, [2, 3, 2, 1]);
    }
}
