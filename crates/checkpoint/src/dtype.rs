//! Element types: their names in safetensors, their widths, which of them are read as f32.

use std::fmt;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $name:ident $text:literal $bits:literal;)*) => {
        /// The element type of a stored tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types)]
        #[non_exhaustive]
        pub enum Dtype {
            $($(#[$doc])* $name,)*
        }

        /// Every element type of the format.
        #[cfg(test)]
        pub(crate) const DTYPES: &[Dtype] = &[$(Dtype::$name),*];

        impl Dtype {
            /// The name that safetensors gives it, `F32`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The type of this safetensors name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)* _ => None }
            }

            /// Width of one element in bits; some types are narrower than a byte.
            pub fn bits(self) -> usize {
                match self { $(Self::$name => $bits),* }
            }
        }
    };
}

dtypes! {
    /// One byte, 0 or 1.
    Bool "BOOL" 8;
    /// Unsigned 8-bit integer.
    U8 "U8" 8;
    /// Signed 8-bit integer.
    I8 "I8" 8;
    /// Unsigned 16-bit integer.
    U16 "U16" 16;
    /// Signed 16-bit integer.
    I16 "I16" 16;
    /// Unsigned 32-bit integer.
    U32 "U32" 32;
    /// Signed 32-bit integer.
    I32 "I32" 32;
    /// Unsigned 64-bit integer.
    U64 "U64" 64;
    /// Signed 64-bit integer, as of `position_ids`.
    I64 "I64" 64;
    /// IEEE half precision.
    F16 "F16" 16;
    /// bfloat16.
    BF16 "BF16" 16;
    /// IEEE single precision.
    F32 "F32" 32;
    /// IEEE double precision.
    F64 "F64" 64;
    /// Two single-precision numbers.
    C64 "C64" 64;
    /// Two double-precision numbers (PyTorch files only).
    C128 "C128" 128;
    /// 8-bit float, 4 exponent bits, no infinities.
    F8_E4M3 "F8_E4M3" 8;
    /// 8-bit float, 5 exponent bits.
    F8_E5M2 "F8_E5M2" 8;
    /// 8-bit power of two.
    F8_E8M0 "F8_E8M0" 8;
    /// 8-bit float, 4 exponent bits, one zero.
    F8_E4M3FNUZ "F8_E4M3FNUZ" 8;
    /// 8-bit float, 5 exponent bits, one zero.
    F8_E5M2FNUZ "F8_E5M2FNUZ" 8;
    /// 6-bit float, 2 exponent bits.
    F6_E2M3 "F6_E2M3" 6;
    /// 6-bit float, 3 exponent bits.
    F6_E3M2 "F6_E3M2" 6;
    /// 4-bit float.
    F4 "F4" 4;
}

impl Dtype {
    /// Whether [`crate::Checkpoint::read_f32`] reads it: F32, F16, BF16 and F64.
    pub fn is_readable(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64)
    }

    /// Bytes of a tensor of this type and shape; `None` when the number does not fit or the bits do
    /// not fill whole bytes.
    pub fn bytes_of(self, shape: &[usize]) -> Option<usize> {
        // A zero anywhere makes the tensor empty, but the product of the rest must still be sane:
        // readers multiply some of the sizes without the zero.
        let sizes = shape.iter().filter(|d| **d != 0);
        let bits = sizes.copied().chain([self.bits()]).try_fold(1usize, usize::checked_mul)?;
        let bits = if shape.contains(&0) { 0 } else { bits };
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Width in bytes of a type that fills whole bytes.
    pub(crate) fn width(self) -> usize {
        self.bits().div_ceil(8)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for &dtype in DTYPES {
            assert_eq!(Dtype::from_name(dtype.as_str()), Some(dtype));
        }
        assert_eq!(Dtype::from_name("f32"), None);
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(Dtype::F32.bytes_of(&[]), Some(4));
        assert_eq!(Dtype::F32.bytes_of(&[3, 0]), Some(0));
        assert_eq!(Dtype::F4.bytes_of(&[3]), None);
        assert_eq!(Dtype::F32.bytes_of(&[1 << 62, 2]), None);
        assert_eq!(Dtype::U8.bytes_of(&[usize::MAX, usize::MAX]), None);
        assert_eq!(Dtype::U8.bytes_of(&[0, usize::MAX, usize::MAX]), None);
    }
}
