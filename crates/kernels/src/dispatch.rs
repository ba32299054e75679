//! Which instruction set is used: found once, at run time.

use std::fmt;
use std::sync::OnceLock;

use crate::activation::Activation;
use crate::arch;
use crate::gemm::{FinishArgs, TileArgs};

/// The environment variable that forces a level, by [`Isa::name`].
const ISA_VARIABLE: &str = "ALTCLIP_ISA";

/// A level of instructions that kernels exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable code without assumptions.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, beside AVX2.
    Avx512,
    /// x86-64 with AVX-512 and its byte dot products (VNNI).
    Avx512Vnni,
    /// x86-64 with AVX-512, VNNI and `bf16` dot products.
    Avx512Bf16,
    /// x86-64 with AMX for `bf16` and bytes, beside all of the above.
    Amx,
    /// 64-bit Arm with NEON.
    Neon,
    /// 64-bit Arm with NEON and its matrix products of `bf16` and bytes (BF16, I8MM).
    NeonMatrix,
}

impl Isa {
    /// Every level, the best first.
    pub const ALL: [Isa; 8] = [
        Isa::Amx,
        Isa::Avx512Bf16,
        Isa::Avx512Vnni,
        Isa::Avx512,
        Isa::Avx2,
        Isa::NeonMatrix,
        Isa::Neon,
        Isa::Scalar,
    ];

    /// The best level of this processor.
    pub fn detect() -> Isa {
        Self::ALL.into_iter().find(|isa| isa.is_available()).unwrap_or(Isa::Scalar)
    }

    /// The levels of this processor, the best first; [`Isa::Scalar`] is always among them.
    pub fn available() -> Vec<Isa> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// Whether this processor has the level.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Isa::Avx2.is_available() && is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Isa::Avx512.is_available() && is_x86_feature_detected!("avx512vnni"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => {
                Isa::Avx512Vnni.is_available() && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => arch::x86_64::amx::is_available(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonMatrix => {
                Isa::Neon.is_available()
                    && std::arch::is_aarch64_feature_detected!("bf16")
                    && std::arch::is_aarch64_feature_detected!("i8mm")
            }
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// The name as the environment variable `ALTCLIP_ISA` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Avx512Bf16 => "avx512bf16",
            Isa::Amx => "amx",
            Isa::Neon => "neon",
            Isa::NeonMatrix => "neonmatrix",
        }
    }

    /// Whether it stands on AVX-512 F.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_avx512(self) -> bool {
        matches!(self, Isa::Avx512 | Isa::Avx512Vnni | Isa::Avx512Bf16 | Isa::Amx)
    }

    /// Columns of a weight panel: the vectors of the register tile, in lanes.
    pub(crate) fn panel_width(self) -> usize {
        match self {
            Isa::Avx512 | Isa::Avx512Vnni | Isa::Avx512Bf16 | Isa::Amx => 64,
            Isa::Scalar | Isa::Avx2 | Isa::Neon | Isa::NeonMatrix => 16,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `(row, weight, bias, eps, out)`, all of one length.
type LayerNormRow = unsafe fn(&[f32], &[f32], &[f32], f32, &mut [f32]);

/// The kernels of one instruction set.
///
/// A reference to a table can be had only where the processor has the instruction set, so calling
/// its functions is safe.
pub struct Kernels {
    pub(crate) isa: Isa,
    /// Rows of the register tile.
    pub(crate) mr: usize,
    /// Vectors (of 16 columns) of the register tile.
    pub(crate) nv: usize,
    /// `tiles[v - 1][r - 1]` computes `r` rows by `v` vectors.
    pub(crate) tiles: &'static [&'static [unsafe fn(&TileArgs)]],
    pub(crate) finish: unsafe fn(&FinishArgs),
    pub(crate) activate: unsafe fn(Activation, &[f32], &mut [f32]),
    pub(crate) softmax_weights: unsafe fn(&mut [f32], f32) -> f32,
    pub(crate) scale: unsafe fn(&[f32], f32, &mut [f32]),
    pub(crate) layer_norm: LayerNormRow,
    pub(crate) add: unsafe fn(&[f32], &[f32], &mut [f32]),
    pub(crate) dot: unsafe fn(&[f32], &[f32]) -> f32,
    pub(crate) scan_f16: unsafe fn(&[u16], usize, &[f32], &mut [f32]),
    pub(crate) peak: unsafe fn(usize) -> f32,
    pub(crate) backward: crate::backward::Table,
    pub(crate) reduced: crate::reduced::Table,
}

static SCALAR: Kernels = arch::portable::TABLE;
#[cfg(target_arch = "x86_64")]
static AVX2: Kernels = arch::x86_64::avx2::TABLE;
#[cfg(target_arch = "x86_64")]
static AVX512: Kernels = arch::x86_64::avx512::TABLE;
#[cfg(target_arch = "aarch64")]
static NEON: Kernels = arch::aarch64::neon::TABLE;

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernels").field("isa", &self.isa).finish_non_exhaustive()
    }
}

impl Kernels {
    /// The kernels to use: the level that `ALTCLIP_ISA` asks for, else the best.
    ///
    /// The variable is read once, at the first call.
    pub fn get() -> &'static Kernels {
        chosen().0
    }

    /// The kernels of a level, or `None` where the processor lacks it.
    pub fn for_isa(isa: Isa) -> Option<&'static Kernels> {
        if !isa.is_available() {
            return None;
        }
        match isa {
            Isa::Scalar => Some(&SCALAR),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Some(&AVX2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Some(&AVX512),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Some(&arch::x86_64::avx512_dot::VNNI),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => Some(&arch::x86_64::avx512_dot::BF16),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Some(&arch::x86_64::amx::KERNELS),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Some(&NEON),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonMatrix => Some(&arch::aarch64::neon_matrix::KERNELS),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }

    /// The level these kernels are of.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}

/// Why the level in use is not the one that `ALTCLIP_ISA` asks for, or `None` where it is (or the
/// variable is not set). For whoever talks to the user to show.
pub fn isa_notice() -> Option<&'static str> {
    chosen().1.as_deref()
}

fn chosen() -> &'static (&'static Kernels, Option<String>) {
    static CHOSEN: OnceLock<(&'static Kernels, Option<String>)> = OnceLock::new();
    CHOSEN
        .get_or_init(|| choose(std::env::var_os(ISA_VARIABLE).map(|v| v.to_string_lossy().into())))
}

/// The kernels for a request, and the notice where the request cannot be met.
fn choose(asked: Option<String>) -> (&'static Kernels, Option<String>) {
    let best = Isa::detect();
    let best_kernels = Kernels::for_isa(best).unwrap_or(&SCALAR);
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
        return (best_kernels, None);
    };
    match Isa::ALL.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(&asked)) {
        Some(isa) => match Kernels::for_isa(isa) {
            Some(kernels) => (kernels, None),
            None => {
                let notice = format!(
                    "{ISA_VARIABLE} asks for `{isa}`, which this processor lacks; using `{best}`"
                );
                (best_kernels, Some(notice))
            }
        },
        None => {
            // The value is foreign text: escaped, and cut to a readable length.
            let shown: String = asked.chars().take(40).collect();
            let names: Vec<&str> = Isa::ALL.iter().rev().map(|isa| isa.name()).collect();
            let names = names.join(", ");
            let notice =
                format!("{ISA_VARIABLE} is {shown:?}, which is none of {names}; using `{best}`");
            (best_kernels, Some(notice))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_met_or_explained() {
        let (kernels, notice) = choose(None);
        assert_eq!((kernels.isa(), notice), (Isa::detect(), None));
        let (kernels, notice) = choose(Some("SCALAR".into()));
        assert_eq!((kernels.isa(), notice), (Isa::Scalar, None));

        let absent = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
        let (kernels, notice) = choose(Some(absent.into()));
        assert_eq!(kernels.isa(), Isa::detect());
        assert!(notice.is_some_and(|notice| notice.contains(absent) && notice.contains("lacks")));

        let (kernels, notice) = choose(Some("sse\u{1b}[0m".into()));
        assert_eq!(kernels.isa(), Isa::detect());
        let notice = notice.unwrap_or_default();
        assert!(notice.contains("none of") && !notice.contains('\u{1b}'), "{notice}");
    }

    #[test]
    fn every_level_is_forced_by_its_name() {
        let names =
            ["amx", "avx512bf16", "avx512vnni", "avx512", "avx2", "neonmatrix", "neon", "scalar"];
        assert_eq!(Isa::ALL.map(Isa::name), names);
        for isa in Isa::ALL {
            for name in [isa.name().to_owned(), isa.name().to_uppercase()] {
                let (kernels, notice) = choose(Some(name.clone()));
                if isa.is_available() {
                    assert_eq!((kernels.isa(), notice), (isa, None), "{name}");
                } else {
                    assert_eq!(kernels.isa(), Isa::detect(), "{name}");
                    let notice = notice.unwrap_or_default();
                    assert!(notice.contains(isa.name()) && notice.contains("lacks"), "{notice}");
                }
            }
        }
        // What a user mistypes is answered with every name.
        let (_, notice) = choose(Some("avx1024".into()));
        let notice = notice.unwrap_or_default();
        assert!(names.iter().all(|name| notice.contains(name)), "{notice}");
        // A level stands on those below it.
        if Isa::Amx.is_available() {
            for below in [Isa::Avx512Bf16, Isa::Avx512Vnni, Isa::Avx512, Isa::Avx2] {
                assert!(below.is_available(), "{below}");
            }
        }
    }

    #[test]
    fn every_available_level_has_kernels_of_its_panel_width() {
        assert_eq!(Isa::available().last(), Some(&Isa::Scalar));
        for isa in Isa::ALL {
            let kernels = Kernels::for_isa(isa);
            assert_eq!(kernels.is_some(), isa.is_available());
            if let Some(kernels) = kernels {
                assert_eq!(kernels.isa(), isa);
                assert_eq!(kernels.nv * 16, isa.panel_width());
                assert_eq!(kernels.tiles.len(), kernels.nv);
                assert!(kernels.tiles.iter().all(|tiles| tiles.len() == kernels.mr));
            }
        }
    }
}
