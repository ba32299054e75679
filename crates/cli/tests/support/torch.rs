//! Zip archives and pickles, byte by byte, so that they can be wrong in any place.

/// An entry of an archive and what is wrong with it.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) data: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    pub(crate) crc: u32,
    /// The size that the central directory claims.
    pub(crate) size: u32,
}

pub(crate) fn entry(name: &'static str, data: impl Into<Vec<u8>>) -> Entry {
    let data = data.into();
    let crc = super::picture::crc32(&data);
    Entry { name, method: 0, flags: 0, crc, size: data.len() as u32, data }
}

/// A stored archive; each entry as it says of itself.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let local = file.len() as u32;
        let mut common = Vec::new();
        for number in [20, entry.flags, entry.method, 0, 0] {
            common.extend(number.to_le_bytes());
        }
        for number in [entry.crc, entry.size, entry.size] {
            common.extend(number.to_le_bytes());
        }
        common.extend((entry.name.len() as u16).to_le_bytes());
        common.extend(0u16.to_le_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(entry.name.as_bytes());
        file.extend(&entry.data);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(local.to_le_bytes());
        directory.extend(entry.name.as_bytes());
    }
    let (start, count) = (file.len() as u32, entries.len() as u16);
    file.extend(&directory);
    file.extend(b"PK\x05\x06\x00\x00\x00\x00");
    file.extend(count.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

/// An archive as `torch.save` writes it, with this pickle.
pub(crate) fn archive(pickle: impl Into<Vec<u8>>) -> Vec<u8> {
    zip(&[entry("archive/data.pkl", pickle), entry("archive/version", "3\n")])
}

/// The opcode GLOBAL.
pub(crate) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// Protocol 2, these opcodes, STOP.
pub(crate) fn pickle(opcodes: impl AsRef<[u8]>) -> Vec<u8> {
    [b"\x80\x02", opcodes.as_ref(), b"."].concat()
}

/// A call of a global with one text.
pub(crate) fn call(module: &str, name: &str, argument: &str) -> Vec<u8> {
    let mut opcodes = global(module, name);
    opcodes.push(b'X');
    opcodes.extend((argument.len() as u32).to_le_bytes());
    opcodes.extend(argument.as_bytes());
    opcodes.extend(b"\x85R");
    pickle(opcodes)
}
