//! What both suites need: the built command in a child, model folders, and writers of files that no
//! ordinary library would write.

pub(crate) mod child;
pub(crate) mod folder;
pub(crate) mod picture;
pub(crate) mod random;
pub(crate) mod torch;
pub(crate) mod weights;
