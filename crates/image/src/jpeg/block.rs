//! The coefficients of one block, sequential and progressive (ITU T.81, annexes F.2 and G.2).

use super::huffman::{Bits, Fault, Table};

/// One block of 8 x 8 coefficients, row by row.
pub(super) type Block = [i16; 64];

/// Row-by-row place of each coefficient in the order of the file.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Which coefficients a scan carries and which of their bits.
#[derive(Clone, Copy)]
pub(super) struct Band {
    pub(super) start: u8,
    pub(super) end: u8,
    /// Bits that earlier scans have left out, 0 in a first scan.
    pub(super) high: u8,
    /// Bits that this scan leaves out.
    pub(super) low: u8,
}

/// Reads a whole block into `block`, which must be zero, and gives the last place that it filled.
#[inline(always)]
pub(super) fn sequential(
    bits: &mut Bits<'_>,
    dc: &Table,
    ac: &Table,
    previous: &mut i32,
    block: &mut Block,
) -> Result<usize, Fault> {
    let (_, difference) = bits.symbol_and_value(dc)?;
    *previous = previous.wrapping_add(difference);
    block[0] = *previous as i16;
    let (mut k, mut last) = (1usize, 0);
    while k < 64 {
        let (symbol, value) = bits.symbol_and_value(ac)?;
        let run = usize::from(symbol >> 4);
        // A value that has bits is never 0.
        if value == 0 {
            if run != 15 {
                break;
            }
            k += 16;
            continue;
        }
        k += run;
        let place = *ZIGZAG.get(k).ok_or(Fault::Run)?;
        block[usize::from(place & 63)] = value as i16;
        last = k;
        k += 1;
    }
    Ok(last)
}

/// First scan of the DC coefficient.
pub(super) fn first_dc(
    bits: &mut Bits<'_>,
    dc: &Table,
    previous: &mut i32,
    low: u8,
    block: &mut Block,
) -> Result<(), Fault> {
    let (_, difference) = bits.symbol_and_value(dc)?;
    *previous = previous.wrapping_add(difference);
    block[0] = previous.wrapping_shl(u32::from(low)) as i16;
    Ok(())
}

/// Later scan of the DC coefficient: one bit more.
pub(super) fn refine_dc(bits: &mut Bits<'_>, low: u8, block: &mut Block) {
    if bits.take(1) == 1 {
        block[0] |= 1i16.wrapping_shl(u32::from(low));
    }
}

/// First scan of AC coefficients; `end_run` counts the blocks that are still to stay empty.
pub(super) fn first_ac(
    bits: &mut Bits<'_>,
    ac: &Table,
    band: Band,
    end_run: &mut u32,
    block: &mut Block,
) -> Result<(), Fault> {
    if *end_run > 0 {
        *end_run -= 1;
        return Ok(());
    }
    let mut k = usize::from(band.start);
    while k <= usize::from(band.end) {
        let (symbol, value) = bits.symbol_and_value(ac)?;
        let run = symbol >> 4;
        if value != 0 {
            k += usize::from(run);
            let place = *ZIGZAG.get(k).ok_or(Fault::Run)?;
            block[usize::from(place & 63)] = value.wrapping_shl(u32::from(band.low)) as i16;
            k += 1;
        } else if run == 15 {
            k += 16;
        } else {
            *end_run = (1 << run) - 1 + bits.take(u32::from(run)) as u32;
            break;
        }
    }
    Ok(())
}

/// Later scan of AC coefficients: one bit more of those that are not zero, and new ones of size 1.
pub(super) fn refine_ac(
    bits: &mut Bits<'_>,
    ac: &Table,
    band: Band,
    end_run: &mut u32,
    block: &mut Block,
) -> Result<(), Fault> {
    let one = 1i16.wrapping_shl(u32::from(band.low));
    let end = usize::from(band.end);
    let mut k = usize::from(band.start);
    if *end_run == 0 {
        while k <= end {
            let symbol = bits.symbol(ac)?;
            let mut run = symbol >> 4;
            let value = match symbol & 15 {
                0 if run == 15 => 0,
                0 => {
                    *end_run = (1 << run) + bits.take(u32::from(run)) as u32;
                    break;
                }
                // Any other size than 1 is an error that libjpeg only warns of.
                1 => {
                    if bits.take(1) == 1 {
                        one
                    } else {
                        -one
                    }
                }
                _ => return Err(Fault::Code),
            };
            while k <= end {
                let coefficient = &mut block[usize::from(ZIGZAG[k & 63] & 63)];
                if *coefficient != 0 {
                    refine(bits, one, coefficient);
                } else if run == 0 {
                    *coefficient = value;
                    k += 1;
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
        }
    }
    if *end_run > 0 {
        for place in ZIGZAG.iter().take(end + 1).skip(k) {
            let coefficient = &mut block[usize::from(place & 63)];
            if *coefficient != 0 {
                refine(bits, one, coefficient);
            }
        }
        *end_run -= 1;
    }
    Ok(())
}

fn refine(bits: &mut Bits<'_>, one: i16, coefficient: &mut i16) {
    if bits.take(1) == 1 && *coefficient & one == 0 {
        *coefficient = coefficient.wrapping_add(if *coefficient >= 0 { one } else { -one });
    }
}
