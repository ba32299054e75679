//! A reader over a byte slice that never reads past its end.

use crate::error::Error;
use crate::sniff::Format;

/// A position in a slice of foreign bytes.
#[derive(Clone)]
pub(crate) struct Bytes<'a> {
    data: &'a [u8],
    at: usize,
    format: Format,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(data: &'a [u8], format: Format) -> Self {
        Self { data, at: 0, format }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn seek(&mut self, at: usize) {
        self.at = at.min(self.data.len());
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.data.get(self.at..).unwrap_or(&[])
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let slice = self
            .at
            .checked_add(len)
            .and_then(|end| self.data.get(self.at..end))
            .ok_or_else(|| Error::truncated(self.format, self.data.len()))?;
        self.at += len;
        Ok(slice)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16_be(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u16_le(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32_le(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn i32_le(&mut self) -> Result<i32, Error> {
        self.array().map(i32::from_le_bytes)
    }
}
