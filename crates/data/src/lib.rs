//! Datasets: parallel texts, pictures with captions, labelled pictures.

#![forbid(unsafe_code)]
