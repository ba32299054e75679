//! One folder per processor family; each file gives the 16-lane vector and the kernel table of one
//! instruction set.

pub(crate) mod generic;
pub(crate) mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64 {
    //! x86-64: AVX2 with FMA, AVX-512, its dot products, AMX.
    pub(crate) mod amx;
    pub(crate) mod avx2;
    pub(crate) mod avx2_bytes;
    pub(crate) mod avx512;
    pub(crate) mod avx512_dot;
}

#[cfg(target_arch = "aarch64")]
pub(crate) mod aarch64 {
    //! 64-bit Arm: NEON, and its matrix products.
    pub(crate) mod neon;
    pub(crate) mod neon_matrix;
}
