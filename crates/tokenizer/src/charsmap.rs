//! sentencepiece's precompiled charsmap: a double-array trie from characters to replacements.
//!
//! Layout: the trie's size in bytes (u32, little end first), the trie (u32 units), then the
//! replacements, each ended by a zero byte. A unit holds the label by which it is entered (bits 0–7),
//! whether it has a value (bit 8) and where its children are (bits 10–31, times 256 if bit 9). The
//! child for byte c of the unit at i is the unit at `i ^ offset ^ c`, if its label is c; the value, a
//! position among the replacements, is the unit at `i ^ offset`.
//!
//! The whole trie is walked once when it is read, so a lookup cannot leave it.

use crate::Error;

pub(crate) struct Charsmap {
    units: Vec<u32>,
    replacements: String,
}

/// The end of a list.
const NONE: usize = usize::MAX;

fn label(unit: u32) -> u32 {
    // Bit 31 marks a value, which no label equals.
    unit & 0x8000_00ff
}

fn offset(unit: u32) -> usize {
    ((unit >> 10) as usize) << ((unit & (1 << 9)) >> 6)
}

fn has_value(unit: u32) -> bool {
    unit & (1 << 8) != 0
}

fn value(unit: u32) -> usize {
    (unit & 0x7fff_ffff) as usize
}

impl Charsmap {
    /// Reads and checks a table.
    ///
    /// # Errors
    /// [`Error::Charsmap`] if a size, a child or a value points outside.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |offset, what| Error::Charsmap { offset, what };
        let (size, rest) =
            bytes.split_first_chunk::<4>().ok_or(damaged(0, "it is shorter than its head"))?;
        // Upstream: a size that is not a multiple of four is rounded down.
        let size = u32::from_le_bytes(*size) as usize / 4 * 4;
        let (trie, replacements) =
            rest.split_at_checked(size).ok_or(damaged(0, "the trie is longer than the table"))?;
        let (units, _) = trie.as_chunks::<4>();
        let units: Vec<u32> = units.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        let replacements = std::str::from_utf8(replacements)
            .map_err(|e| damaged(4 + size + e.valid_up_to(), "a replacement is not UTF-8"))?;
        let charsmap = Self { units, replacements: replacements.to_owned() };
        charsmap.check()?;
        Ok(charsmap)
    }

    /// Visits every unit that a lookup can reach.
    fn check(&self) -> Result<(), Error> {
        let damaged = |unit: usize, what| Error::Charsmap { offset: 4 + 4 * unit, what };
        let n_units = self.units.len();
        // The possible children of each base: lists, each linked from its base by indices.
        let mut first = vec![NONE; n_units];
        let mut next = vec![NONE; n_units];
        for (child, &unit) in self.units.iter().enumerate() {
            let byte = label(unit) as usize;
            if (1..256).contains(&byte)
                && let Some(first) = first.get_mut(child ^ byte)
                && let Some(next) = next.get_mut(child)
            {
                *next = std::mem::replace(first, child);
            }
        }
        let mut waiting = vec![0];
        while let Some(at) = waiting.pop() {
            let unit = *self.units.get(at).ok_or(damaged(at, "the trie is empty"))?;
            let base = at ^ offset(unit);
            // Children lie at `base ^ 1` … `base ^ 255`: one aligned block of 256 units.
            if base | 0xff >= n_units {
                return Err(damaged(at, "the children of a unit are outside the trie"));
            }
            if at != 0 && has_value(unit) {
                let value = value(self.units.get(base).copied().unwrap_or(0));
                if !self.replacements.is_char_boundary(value) {
                    return Err(damaged(base, "a value points outside the replacements"));
                }
            }
            // The list is taken, so that a trie that leads back to itself comes to an end.
            let mut child =
                first.get_mut(base).map_or(NONE, |first| std::mem::replace(first, NONE));
            while child != NONE {
                waiting.push(child);
                child = next.get(child).copied().unwrap_or(NONE);
            }
        }
        Ok(())
    }

    /// The replacement of the shortest key that begins `chunk`, if there is one.
    ///
    /// Upstream: only the shortest is looked at, and it replaces the whole chunk.
    pub(crate) fn replacement(&self, chunk: &str) -> Option<&str> {
        let mut at = offset(*self.units.first()?);
        for &byte in chunk.as_bytes() {
            if byte == 0 {
                return None;
            }
            at ^= usize::from(byte);
            let unit = *self.units.get(at)?;
            if label(unit) != u32::from(byte) {
                return None;
            }
            at ^= offset(unit);
            if has_value(unit) {
                let start = value(*self.units.get(at)?);
                let rest = self.replacements.get(start..)?;
                return rest.split('\0').next();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_points_outside_is_refused() {
        let table = |units: &[u32], text: &str| {
            let mut bytes = (4 * units.len() as u32).to_le_bytes().to_vec();
            bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
            bytes.extend(text.as_bytes());
            bytes
        };
        // The root's children start at unit 256; `a` has a value at unit 512.
        let mut units = vec![0u32; 768];
        units[0] = 256 << 10;
        units[256 + 97] = (((256 + 97) ^ 512) << 10) | (1 << 8) | 97;
        units[512] = 1 << 31;
        let good = Charsmap::parse(&table(&units, "A\0B\0")).unwrap();
        assert_eq!(good.replacement("abc"), Some("A"));
        assert_eq!(good.replacement("b"), None);

        let mut far_value = units.clone();
        far_value[512] = (1 << 31) | 5;
        let mut far_child = units.clone();
        far_child[256 + 97] |= 1 << 20;
        let cases = [
            table(&far_value, "A\0B\0"),
            table(&far_child, "A\0B\0"),
            table(&[], ""),
            table(&units, "\u{c9}")[..768 * 4 + 5].to_vec(),
            vec![255; 5],
            vec![1],
        ];
        for case in cases {
            assert!(matches!(Charsmap::parse(&case), Err(Error::Charsmap { .. })));
        }
    }
}
