//! The names that a pickle may use, and what each stands for. This list is the whole of it.

use crate::dtype::Dtype;

/// The names that a pickle may use. They are tags; none of them is ever called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Global {
    OrderedDict,
    /// `_rebuild_tensor`: storage, offset, size, stride.
    Tensor,
    /// `_rebuild_tensor_v2`: and requires_grad, hooks, perhaps metadata.
    TensorV2,
    /// `_rebuild_tensor_v3`: and the dtype, for types without a storage class.
    TensorV3,
    /// `_rebuild_parameter`: the tensor, requires_grad, hooks, perhaps a state.
    Parameter,
    Storage(Dtype),
    UntypedStorage,
    Dtype(Dtype),
    Size,
    /// A class of a TorchScript archive: an object of it is its attributes.
    Script,
    /// `torch.jit._pickle`: the first argument, a list, as it is.
    Typed,
    /// Parts of a random state or a device: an opaque value whatever its arguments are.
    Opaque,
}

/// The allow-list. Besides the names of a state dict it has those by which a trainer's checkpoint
/// describes its random states; they stay opaque.
pub(crate) fn global(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor") => Global::Tensor,
        ("torch._utils", "_rebuild_tensor_v2") => Global::TensorV2,
        ("torch._utils", "_rebuild_tensor_v3") => Global::TensorV3,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            Global::Parameter
        }
        ("torch", "Size") => Global::Size,
        ("torch", "device") => Global::Opaque,
        ("torch.storage" | "torch", "UntypedStorage") => Global::UntypedStorage,
        ("torch", name) => return storage_class(name).or_else(|| dtype_object(name)),
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct")
        | ("numpy", "ndarray" | "dtype")
        | ("_codecs", "encode") => Global::Opaque,
        _ => return None,
    })
}

/// The names that only the pickle of a TorchScript archive may use besides.
pub(crate) fn script_global(module: &str, name: &str) -> Option<Global> {
    const LISTS: [&str; 5] = [
        "build_intlist",
        "build_doublelist",
        "build_boollist",
        "build_tensorlist",
        "restore_type_tag",
    ];
    match module {
        "torch.jit._pickle" if LISTS.contains(&name) => Some(Global::Typed),
        "__torch__" => Some(Global::Script),
        _ if module.starts_with("__torch__.") => Some(Global::Script),
        _ => None,
    }
}

fn storage_class(name: &str) -> Option<Global> {
    Some(Global::Storage(match name {
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        "ComplexFloatStorage" => Dtype::C64,
        "ComplexDoubleStorage" => Dtype::C128,
        _ => return None,
    }))
}

fn dtype_object(name: &str) -> Option<Global> {
    Some(Global::Dtype(match name {
        "float32" => Dtype::F32,
        "float64" => Dtype::F64,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "bool" => Dtype::Bool,
        "complex64" => Dtype::C64,
        "complex128" => Dtype::C128,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        "float8_e4m3fnuz" => Dtype::F8_E4M3FNUZ,
        "float8_e5m2fnuz" => Dtype::F8_E5M2FNUZ,
        "float8_e8m0fnu" => Dtype::F8_E8M0,
        _ => return None,
    }))
}
