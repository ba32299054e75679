//! Opaque handles: what they hold is the business of the backend that made them.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a backend keeps behind a handle. Dropping the last handle gives it back.
pub trait Storage: Any + Send + Sync {
    /// For the backend's own downcast.
    fn as_any(&self) -> &dyn Any;
}

/// Identity of a tensor, for the tape.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TensorId(u64);

/// Identity of a weight, for optimisers and gradients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WeightId(u64);

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A matrix of f32 activations `[rows, cols]`, row-major and contiguous. Cloning copies the handle,
/// not the numbers; the numbers never change once an operation has returned them.
#[derive(Clone)]
pub struct Tensor {
    id: TensorId,
    rows: usize,
    cols: usize,
    storage: Arc<dyn Storage>,
}

impl Tensor {
    /// For backends: wraps storage of `rows * cols` numbers.
    pub fn from_storage(rows: usize, cols: usize, storage: Arc<dyn Storage>) -> Self {
        Self { id: TensorId(next_id()), rows, cols, storage }
    }

    /// The same tensor without its numbers: a name for what can be computed again.
    #[must_use]
    pub fn ghost(&self) -> Self {
        Self { storage: Arc::new(Ghost), ..*self }
    }

    /// Identity, shared by clones.
    pub fn id(&self) -> TensorId {
        self.id
    }

    /// Number of rows, `T`.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Width of a row, `D`.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// For backends: the storage, if it is of this type.
    pub fn storage<S: Storage>(&self) -> Option<&S> {
        self.storage.as_any().downcast_ref()
    }
}

struct Ghost;

impl Storage for Ghost {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor[{}, {}]", self.rows, self.cols)
    }
}

/// One prepared weight: a packed matrix, a vector or a table, in the backend's own format.
#[derive(Clone)]
pub struct Weight {
    id: WeightId,
    rows: usize,
    cols: usize,
    storage: Arc<dyn Storage>,
}

impl Weight {
    /// For backends: wraps a prepared weight of logical shape `[rows, cols]`.
    pub fn from_storage(rows: usize, cols: usize, storage: Arc<dyn Storage>) -> Self {
        Self { id: WeightId(next_id()), rows, cols, storage }
    }

    /// Identity, shared by clones.
    pub fn id(&self) -> WeightId {
        self.id
    }

    /// Output width of a matrix (`N`), rows of a table, 1 for a vector.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input width of a matrix (`K`), width of a table, length of a vector.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// For backends: the storage, if it is of this type.
    pub fn storage<S: Storage>(&self) -> Option<&S> {
        self.storage.as_any().downcast_ref()
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weight[{}, {}]", self.rows, self.cols)
    }
}
