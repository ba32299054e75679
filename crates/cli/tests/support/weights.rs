//! A safetensors file as a list that can be edited and written again.

use serde_json::{Value, json};

pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Weights {
    pub(crate) tensors: Vec<Tensor>,
}

/// The header's length and the header before any data.
pub(crate) fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

impl Weights {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let header: Value = serde_json::from_slice(header).unwrap();
        let mut found = Vec::new();
        for (name, entry) in header.as_object().unwrap() {
            if name == "__metadata__" {
                continue;
            }
            let number = |value: &Value| value.as_u64().unwrap();
            let (start, end) =
                (number(&entry["data_offsets"][0]), number(&entry["data_offsets"][1]));
            let tensor = Tensor {
                name: name.clone(),
                dtype: entry["dtype"].as_str().unwrap().to_owned(),
                shape: entry["shape"].as_array().unwrap().iter().map(number).collect(),
                bytes: data[start as usize..end as usize].to_vec(),
            };
            found.push((start, tensor));
        }
        found.sort_by_key(|(start, _)| *start);
        Self { tensors: found.into_iter().map(|(_, tensor)| tensor).collect() }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for tensor in &self.tensors {
            let start = data.len();
            data.extend(&tensor.bytes);
            let offsets = [start, data.len()];
            let entry =
                json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets });
            header.insert(tensor.name.clone(), entry);
        }
        let mut header = serde_json::to_vec(&Value::Object(header)).unwrap();
        header.resize(header.len().next_multiple_of(8), b' ');
        file(&header, &data)
    }

    pub(crate) fn get(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let before = self.tensors.len();
        self.tensors.retain(|tensor| tensor.name != name);
        assert_eq!(self.tensors.len() + 1, before, "{name}");
    }

    pub(crate) fn add(&mut self, name: &str, dtype: &str, shape: &[u64], bytes: Vec<u8>) {
        let (name, dtype) = (name.to_owned(), dtype.to_owned());
        self.tensors.push(Tensor { name, dtype, shape: shape.to_vec(), bytes });
    }
}
