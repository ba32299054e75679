//! Huffman tables and the bits between two markers (ITU T.81, annexes C and F).

/// Bits that are decoded by one look into a table.
const LOOK: u32 = 9;

/// A table that decodes symbols.
pub(super) struct Table {
    /// For each prefix of [`LOOK`] bits: length and symbol, or 0 where the code is longer.
    look: [u16; 1 << LOOK],
    /// For each length the first code after its last, aligned left to 16 bits.
    ends: [u32; 17],
    /// For each length what to add to a code to get its place in `symbols`.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// A table from the number of codes of each length and the symbols; `None` where the lengths
    /// do not make a prefix code or a symbol is larger than `max_symbol`.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8], max_symbol: u8) -> Option<Self> {
        if symbols.iter().any(|&symbol| symbol > max_symbol) {
            return None;
        }
        let symbols = symbols.to_vec();
        let mut table = Self { look: [0; 1 << LOOK], ends: [0; 17], offsets: [0; 17], symbols };
        let (mut code, mut place) = (0u32, 0i32);
        for (len, &count) in (1u32..).zip(counts) {
            let end = code + u32::from(count);
            // The code of all ones stays free only by convention; libjpeg accepts it.
            if end > 1 << len {
                return None;
            }
            if let (Some(offset), Some(last)) =
                (table.offsets.get_mut(len as usize), table.ends.get_mut(len as usize))
            {
                *offset = place - code as i32;
                *last = end << (16 - len);
            }
            if len <= LOOK {
                let fill = 1usize << (LOOK - len);
                for (i, &symbol) in
                    table.symbols.iter().skip(place as usize).take(count.into()).enumerate()
                {
                    let start = (code as usize + i) * fill;
                    let entry = (len as u16) << 8 | u16::from(symbol);
                    table.look.iter_mut().skip(start).take(fill).for_each(|slot| *slot = entry);
                }
            }
            place += i32::from(count);
            code = end << 1;
        }
        Some(table)
    }
}

/// Why a block could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bits belong to no code.
    Code,
    /// A run leads beyond the last coefficient.
    Run,
}

/// The bits of entropy-coded data, up to the next marker.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// Next byte; never beyond the first byte of a marker.
    at: usize,
    /// Bits that were read, aligned left; below them zeros or bits that will be read next.
    buffer: u64,
    n_bits: u32,
    /// How many of the bits are zeros from beyond the end.
    n_beyond: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8], at: usize) -> Self {
        Self { data, at, buffer: 0, n_bits: 0, n_beyond: 0 }
    }

    /// Where the next marker is to be looked for.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Whether more bits were taken than there are before the next marker.
    pub(super) fn overrun(&self) -> bool {
        self.n_beyond > self.n_bits
    }

    /// Whether the data, not a marker, ended.
    pub(super) fn at_end_of_file(&self) -> bool {
        let rest = self.data.get(self.at..).unwrap_or_default();
        rest.iter().all(|&byte| byte == 0xFF)
    }

    /// Leaves the bits and goes to the next marker, which must be restart `number`.
    pub(super) fn restart(&mut self, number: u8) -> bool {
        let mut rest = self.data.get(self.at..).unwrap_or_default();
        while let [first, second, ..] = rest {
            if *first == 0xFF && *second != 0 && *second != 0xFF {
                break;
            }
            rest = rest.get(1..).unwrap_or_default();
        }
        self.at = self.data.len() - rest.len();
        (self.buffer, self.n_bits, self.n_beyond) = (0, 0, 0);
        let found = rest.get(1) == Some(&(0xD0 | number & 7));
        if found {
            self.at += 2;
        }
        found
    }

    /// Makes at least 32 bits available.
    #[inline]
    fn fill(&mut self) {
        if self.n_bits < 32 {
            self.refill();
        }
    }

    fn refill(&mut self) {
        if let Some(&[a, b, c, d, e, f, g, h]) = self.data.get(self.at..self.at.wrapping_add(8)) {
            let word = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            let inverse = !word;
            let has_ff = inverse.wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080;
            if has_ff == 0 {
                // Bits beyond the counted ones are those that will be added next time.
                self.buffer |= word >> self.n_bits;
                let n_bytes = (64 - self.n_bits) / 8;
                self.at += n_bytes as usize;
                self.n_bits += 8 * n_bytes;
                return;
            }
        }
        while self.n_bits <= 56 {
            let byte = match self.next_byte() {
                Some(byte) => byte,
                None => {
                    self.n_beyond += 8;
                    0
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.n_bits);
            self.n_bits += 8;
        }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let byte = *self.data.get(self.at)?;
        if byte != 0xFF {
            self.at += 1;
            return Some(byte);
        }
        let mut next = self.at + 1;
        while self.data.get(next) == Some(&0xFF) {
            next += 1;
        }
        if self.data.get(next) != Some(&0) {
            return None;
        }
        self.at = next + 1;
        Some(0xFF)
    }

    #[inline]
    fn drop_bits(&mut self, n: u32) {
        self.buffer = self.buffer.wrapping_shl(n);
        self.n_bits -= n;
    }

    /// The next `n` bits, at most 16, as a number.
    #[inline]
    pub(super) fn take(&mut self, n: u32) -> i32 {
        self.fill();
        self.take_filled(n)
    }

    #[inline]
    fn take_filled(&mut self, n: u32) -> i32 {
        if n == 0 {
            return 0;
        }
        let value = (self.buffer >> (64 - n)) as i32;
        self.drop_bits(n);
        value
    }

    /// The next symbol; afterwards 16 more bits are there for [`Self::signed`].
    #[inline]
    pub(super) fn symbol(&mut self, table: &Table) -> Result<u8, Fault> {
        self.fill();
        let entry = table.look[(self.buffer >> (64 - LOOK)) as usize];
        if entry != 0 {
            self.drop_bits(u32::from(entry >> 8));
            return Ok(entry as u8);
        }
        self.long_symbol(table)
    }

    fn long_symbol(&mut self, table: &Table) -> Result<u8, Fault> {
        let next = (self.buffer >> 48) as u32;
        for len in LOOK + 1..=16 {
            let (Some(&end), Some(&offset)) =
                (table.ends.get(len as usize), table.offsets.get(len as usize))
            else {
                break;
            };
            if next < end {
                self.drop_bits(len);
                let place = (next >> (16 - len)) as i32 + offset;
                return table.symbols.get(place as usize).copied().ok_or(Fault::Code);
            }
        }
        Err(Fault::Code)
    }

    /// The next `n` bits as a signed difference (T.81, figure F.12), after [`Self::symbol`].
    #[inline]
    pub(super) fn signed(&mut self, n: u32) -> i32 {
        if n == 0 {
            return 0;
        }
        let value = self.take_filled(n);
        if value < 1 << (n - 1) { value - (1 << n) + 1 } else { value }
    }
}
