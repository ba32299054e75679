//! Huffman tables and the bits between two markers (ITU T.81, annexes C and F).

/// Bits that are decoded by one look into a table.
const LOOK: u32 = 10;

/// A table that decodes symbols.
pub(super) struct Table {
    /// For each prefix of [`LOOK`] bits what it begins with.
    look: [Entry; 1 << LOOK],
    /// For each length the first code after its last, aligned left to 16 bits.
    ends: [u32; 17],
    /// For each length what to add to a code to get its place in `symbols`.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

/// What the next bits begin with: bits to drop (8), symbol (8), value (16).
///
/// Where the bits of the value follow within the prefix, they are decoded and dropped with the code.
/// No such value is 0; so 0 means that only the code is decoded, and an entry that is 0 altogether
/// that the code is longer than the prefix.
#[derive(Clone, Copy)]
struct Entry(u32);

impl Entry {
    /// The entry of `prefix`, which begins with a code of `len` bits for `symbol`.
    fn new(prefix: u32, len: u32, symbol: u8) -> Self {
        let n = u32::from(symbol & 15);
        if n == 0 || len + n > LOOK {
            return Self(u32::from(symbol) << 8 | len);
        }
        let bits = prefix >> (LOOK - len - n) & ((1 << n) - 1);
        Self((extend(bits as i32, n) as u32) << 16 | u32::from(symbol) << 8 | (len + n))
    }

    fn n_bits(self) -> u32 {
        self.0 & 0xFF
    }

    fn symbol(self) -> u8 {
        (self.0 >> 8) as u8
    }

    fn value(self) -> i32 {
        self.0.cast_signed() >> 16
    }
}

/// `n` bits as a signed difference (T.81, figure F.12).
#[inline(always)]
fn extend(bits: i32, n: u32) -> i32 {
    if bits < 1 << (n - 1) { bits - (1 << n) + 1 } else { bits }
}

impl Table {
    /// A table from the number of codes of each length and the symbols; `None` where the lengths
    /// do not make a prefix code or a symbol is larger than `max_symbol`.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8], max_symbol: u8) -> Option<Self> {
        if symbols.iter().any(|&symbol| symbol > max_symbol) {
            return None;
        }
        let symbols = symbols.to_vec();
        let mut table =
            Self { look: [Entry(0); 1 << LOOK], ends: [0; 17], offsets: [0; 17], symbols };
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
                    let slots = table.look.iter_mut().enumerate().skip(start).take(fill);
                    slots.for_each(|(at, slot)| *slot = Entry::new(at as u32, len, symbol));
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
    #[inline(always)]
    fn fill(&mut self) {
        if self.n_bits >= 32 {
            return;
        }
        if let Some(&bytes) = self.data.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_be_bytes(bytes);
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
        self.fill_by_bytes();
    }

    #[cold]
    #[inline(never)]
    fn fill_by_bytes(&mut self) {
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

    #[inline(always)]
    fn drop_bits(&mut self, n: u32) {
        self.buffer = self.buffer.wrapping_shl(n);
        self.n_bits = self.n_bits.wrapping_sub(n);
    }

    /// The next `n` bits, at most 16, as a number.
    #[inline]
    pub(super) fn take(&mut self, n: u32) -> i32 {
        self.fill();
        self.take_filled(n)
    }

    #[inline(always)]
    fn take_filled(&mut self, n: u32) -> i32 {
        if n == 0 {
            return 0;
        }
        let value = (self.buffer >> (64 - n)) as i32;
        self.drop_bits(n);
        value
    }

    /// The next symbol and, in the lower half of it, how many bits its value has: the value itself
    /// is decoded too.
    #[inline(always)]
    pub(super) fn symbol_and_value(&mut self, table: &Table) -> Result<(u8, i32), Fault> {
        self.fill();
        let entry = table.look[(self.buffer >> (64 - LOOK)) as usize];
        if entry.value() != 0 {
            self.drop_bits(entry.n_bits());
            return Ok((entry.symbol(), entry.value()));
        }
        let symbol = self.code(table, entry)?;
        Ok((symbol, self.signed(u32::from(symbol & 15))))
    }

    /// The next symbol alone; afterwards 16 more bits are there.
    #[inline]
    pub(super) fn symbol(&mut self, table: &Table) -> Result<u8, Fault> {
        self.fill();
        let entry = table.look[(self.buffer >> (64 - LOOK)) as usize];
        if entry.value() != 0 {
            self.drop_bits(entry.n_bits() - u32::from(entry.symbol() & 15));
            return Ok(entry.symbol());
        }
        self.code(table, entry)
    }

    /// The symbol of an entry without value.
    #[inline(always)]
    fn code(&mut self, table: &Table, entry: Entry) -> Result<u8, Fault> {
        if entry.0 == 0 {
            return self.long_symbol(table);
        }
        self.drop_bits(entry.n_bits());
        Ok(entry.symbol())
    }

    #[inline(never)]
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

    /// The value of `n` bits, after its symbol.
    #[inline(always)]
    fn signed(&mut self, n: u32) -> i32 {
        if n == 0 {
            return 0;
        }
        let bits = self.take_filled(n);
        extend(bits, n)
    }
}
