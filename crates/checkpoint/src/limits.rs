//! Every limit that a file is held to, in one place.

/// Longest safetensors header and longest shard index, in bytes.
pub(crate) const HEADER_BYTES: u64 = 16 << 20;
/// Most tensors of a checkpoint.
pub(crate) const TENSORS: usize = 65_536;
/// Longest name of a tensor or of an archive entry, in bytes.
pub(crate) const NAME_BYTES: usize = 512;
/// Most dimensions of a tensor.
pub(crate) const DIMENSIONS: usize = 8;
/// Most bytes of `__metadata__` strings.
pub(crate) const METADATA_BYTES: usize = 1 << 20;
/// Most shards of a checkpoint.
pub(crate) const SHARDS: usize = 512;
/// Deepest nesting of JSON values in a shard index.
pub(crate) const JSON_DEPTH: usize = 32;

/// Most entries of a zip archive: a storage for each tensor, and the few records beside them.
pub(crate) const ZIP_ENTRIES: u64 = 65_536 + 1_024;
/// Longest central directory, in bytes.
pub(crate) const ZIP_DIRECTORY_BYTES: u64 = 16 << 20;

/// Longest pickle, in bytes.
pub(crate) const PICKLE_BYTES: u64 = 64 << 20;
/// Most opcodes of a pickle.
pub(crate) const PICKLE_OPCODES: usize = 1_000_000;
/// Most bytes that decoded values take. A trainer's checkpoint of 3,500 tensors needs about 6 MB;
/// the bound keeps any pickle, however built, below 16 MiB in all.
pub(crate) const PICKLE_MEMORY: usize = 8 << 20;
/// Most values on the stack of the interpreter.
pub(crate) const PICKLE_STACK: usize = 32_768;
/// Deepest nesting of values and of marks.
pub(crate) const PICKLE_DEPTH: usize = 64;
/// Longest string of a pickle, in bytes.
pub(crate) const PICKLE_STRING: u64 = 1 << 20;
