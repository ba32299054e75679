//! A decoded picture: 8 bits per channel, red green blue, row by row from the top.

use crate::error::Error;

/// An RGB picture of `width` x `height` pixels.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl Rgb {
    /// A picture from `width * height * 3` bytes.
    ///
    /// # Errors
    /// [`Error::Pixels`] where a side is zero or the number of bytes is another one.
    pub fn from_raw(width: u32, height: u32, data: Vec<u8>) -> Result<Self, Error> {
        let expected = (u64::from(width) * u64::from(height)).saturating_mul(3);
        if width == 0 || height == 0 {
            let found = u64::from(width.min(height));
            return Err(Error::Pixels { what: "a side of the picture", found, expected: 1 });
        }
        if data.len() as u64 != expected {
            let found = data.len() as u64;
            return Err(Error::Pixels { what: "bytes of RGB data", found, expected });
        }
        Ok(Self { width, height, data })
    }

    /// Pixels in a row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Width and height.
    pub(crate) fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// All bytes, `[height, width, 3]`.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes themselves, `[height, width, 3]`.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// The bytes of row `y`, empty where there is no such row.
    pub fn row(&self, y: u32) -> &[u8] {
        let stride = 3 * self.width as usize;
        let start = stride * y as usize;
        self.data.get(start..start + stride).unwrap_or(&[])
    }
}

impl std::fmt::Debug for Rgb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb({} x {})", self.width, self.height)
    }
}

/// An empty vector with room for `len` bytes, or the error that says there is no room.
pub(crate) fn with_room<T>(len: usize) -> Result<Vec<T>, Error> {
    let mut data = Vec::new();
    match data.try_reserve_exact(len) {
        Ok(()) => Ok(data),
        Err(_) => Err(Error::Memory { bytes: (len as u64).saturating_mul(size_of::<T>() as u64) }),
    }
}

/// `len` zeros, or the error that says there is no room.
pub(crate) fn zeros<T: Clone + Default>(len: usize) -> Result<Vec<T>, Error> {
    let mut data = with_room(len)?;
    data.resize(len, T::default());
    Ok(data)
}
