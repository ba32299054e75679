//! An interpreter of pickles that has no way to call anything.
//!
//! It knows the opcodes and the names that `torch.save` writes for state dicts and trainers'
//! checkpoints. A name outside the list ends the reading; a name on the list is a tag, and "calling"
//! it makes a description of a tensor, a dict or an opaque value. Values are copies of 16 bytes
//! into one arena, so the memo costs nothing, cycles are harmless and nothing is freed recursively.
//! Strings stay in the mapped file.
//!
//! # Source
//! Python's `pickletools.py` (opcodes of protocols 2 to 5); `torch/_utils.py` and
//! `torch/serialization.py` for the names and their arguments.

use crate::allowed::{Global, global, script_global};
use crate::dtype::Dtype;
use crate::limits;
use std::collections::BTreeMap;
use std::ops::Range;

/// Why reading stopped, and at which byte of the pickle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) offset: usize,
    pub(crate) why: Why,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A global or an opcode outside the list.
    Forbidden(String),
    /// Over a limit: what is limited, and the limit.
    Limit(&'static str, u64),
    /// Not a pickle that PyTorch writes.
    Bad(&'static str),
}

type Step<T = ()> = Result<T, Why>;

/// A value: plain, or an index into the arena.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool,
    Int(i64),
    /// A float, an integer beyond 64 bits, or bytes: kept only so that the pickle can go on.
    Plain,
    /// Text, at this place of the pickle.
    Text {
        start: u32,
        len: u32,
    },
    Global(Global),
    Node(u32),
}

#[derive(Debug)]
pub(crate) enum Node {
    /// A tuple, as a range of `items`.
    Tuple(Range<usize>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Storage(Box<Storage>),
    Tensor(Box<Tensor>),
    /// An object of a TorchScript class, as the dict of its attributes.
    Object(Value),
    Opaque,
}

/// What a persistent id says of a storage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage {
    /// `None` for an untyped storage, whose length counts bytes.
    pub(crate) dtype: Option<Dtype>,
    pub(crate) key: Value,
    pub(crate) len: i64,
}

/// The arguments of a `_rebuild_tensor`, not yet checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tensor {
    pub(crate) storage: Storage,
    pub(crate) dtype: Option<Dtype>,
    pub(crate) offset: Value,
    pub(crate) size: Value,
    pub(crate) stride: Value,
}

/// A pickle that was read to its end.
pub(crate) struct Pickle<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    items: Vec<Value>,
    pub(crate) root: Value,
    /// Bytes of memory that the values take, by a generous estimate.
    pub(crate) charged: usize,
}

impl<'a> Pickle<'a> {
    pub(crate) fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(index) => self.nodes.get(index as usize),
            _ => None,
        }
    }

    pub(crate) fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.node(value) {
            Some(Node::Dict(pairs)) => Some(pairs),
            _ => None,
        }
    }

    pub(crate) fn tuple(&self, value: Value) -> Option<&[Value]> {
        match self.node(value) {
            Some(Node::Tuple(range)) => self.items.get(range.clone()),
            _ => None,
        }
    }

    pub(crate) fn text(&self, value: Value) -> Option<&'a str> {
        match value {
            Value::Text { start, len } => {
                let bytes = self.bytes.get(start as usize..start as usize + len as usize)?;
                std::str::from_utf8(bytes).ok()
            }
            _ => None,
        }
    }
}

/// Reads a whole pickle; `STOP` must be its last byte. `script`: it is that of a TorchScript archive.
pub(crate) fn read(bytes: &[u8], script: bool) -> Result<Pickle<'_>, Stop> {
    if bytes.len() as u64 > limits::PICKLE_BYTES {
        let why = Why::Limit("bytes of the pickle", limits::PICKLE_BYTES);
        return Err(Stop { offset: 0, why });
    }
    let mut machine = Machine {
        bytes,
        script,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        sparse_memo: BTreeMap::new(),
        nodes: Vec::new(),
        depths: Vec::new(),
        items: Vec::new(),
        charged: 0,
    };
    for _ in 0..limits::PICKLE_OPCODES {
        let offset = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => {
                let Machine { nodes, items, charged, .. } = machine;
                return Ok(Pickle { bytes, nodes, items, root, charged });
            }
            Err(why) => return Err(Stop { offset, why }),
        }
    }
    let why = Why::Limit("opcodes", limits::PICKLE_OPCODES as u64);
    Err(Stop { offset: machine.at, why })
}

struct Machine<'a> {
    bytes: &'a [u8],
    /// Classes of `__torch__` are tags too.
    script: bool,
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack where a mark was set.
    marks: Vec<usize>,
    /// The memo in the order in which pickles fill it; other indices are in `sparse_memo`.
    memo: Vec<Value>,
    sparse_memo: BTreeMap<u32, Value>,
    nodes: Vec<Node>,
    /// How deep each node reaches.
    depths: Vec<u8>,
    items: Vec<Value>,
    /// Bytes of memory that the values take, by a generous estimate.
    charged: usize,
}

const CUT: Why = Why::Bad("it ends too early");
const UNDERFLOW: Why = Why::Bad("a value is missing on the stack");
const NOT_PYTORCH: Why = Why::Bad("an opcode that PyTorch does not write");
/// A vector that has just grown is half empty, so a value of 16 bytes costs twice that.
const SLOT: usize = 32;

impl Machine<'_> {
    /// One opcode; the root value at `STOP`.
    fn step(&mut self) -> Step<Option<Value>> {
        let [opcode] = self.take::<1>()?;
        match opcode {
            b'.' => {
                let root = self.pop()?;
                let clean = self.stack.is_empty() && self.marks.is_empty();
                if !clean || self.at != self.bytes.len() {
                    return Err(Why::Bad("something is left over at its end"));
                }
                return Ok(Some(root));
            }
            0x80 => match self.take::<1>()? {
                [0..=5] => {}
                _ => return Err(Why::Bad("an unknown protocol")),
            },
            0x95 => {
                // The frame is a hint for buffering; its length must still be true.
                let len = u64::from_le_bytes(self.take()?);
                if len > (self.bytes.len() - self.at) as u64 {
                    return Err(CUT);
                }
            }
            b'N' => self.push(Value::None)?,
            0x88 | 0x89 => self.push(Value::Bool)?,
            b'J' | b'K' | b'M' | 0x8a | 0x8b | b'G' => self.number(opcode)?,
            b'X' | 0x8c | 0x8d | b'U' | b'T' | b'C' | b'B' | 0x8e | 0x96 => self.text(opcode)?,
            b'(' | b'0' | b'1' | b'2' => self.stack_opcode(opcode)?,
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo_opcode(opcode)?,
            b')' | 0x85 | 0x86 | 0x87 | b't' => self.tuple_opcode(opcode)?,
            b']' | 0x8f | b'l' | 0x91 | b'a' | b'e' | 0x90 => self.list_opcode(opcode)?,
            b'}' | b'd' | b's' | b'u' => self.dict_opcode(opcode)?,
            b'c' | 0x93 => self.global_opcode(opcode)?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            0x81 if self.script => self.object()?,
            b'Q' => self.persistent_id()?,
            _ => return Err(self.refused(opcode)),
        }
        Ok(None)
    }

    /// The opcodes that make objects of classes or reach outside the pickle, and unknown ones.
    fn refused(&mut self, opcode: u8) -> Why {
        let name = match opcode {
            b'i' => {
                let (Ok(module), Ok(name)) = (self.line(), self.line()) else { return CUT };
                return Why::Forbidden(format!("INST {module}.{name}"));
            }
            b'o' => "OBJ",
            b'P' => "PERSID",
            0x81 => "NEWOBJ",
            0x92 => "NEWOBJ_EX",
            0x82 => "EXT1",
            0x83 => "EXT2",
            0x84 => "EXT4",
            0x97 => "NEXT_BUFFER",
            0x98 => "READONLY_BUFFER",
            _ => return NOT_PYTORCH,
        };
        Why::Forbidden(name.to_owned())
    }

    fn take<const N: usize>(&mut self) -> Step<[u8; N]> {
        let found = self.bytes.get(self.at..).and_then(|b| b.first_chunk::<N>()).ok_or(CUT)?;
        self.at += N;
        Ok(*found)
    }

    fn line(&mut self) -> Step<String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let window = rest.get(..limits::NAME_BYTES + 1).unwrap_or(rest);
        match window.iter().position(|&b| b == b'\n') {
            Some(end) => {
                self.at += end + 1;
                Ok(String::from_utf8_lossy(window.get(..end).unwrap_or_default()).into_owned())
            }
            None if rest.len() > limits::NAME_BYTES => {
                Err(Why::Limit("bytes of a name", limits::NAME_BYTES as u64))
            }
            None => Err(CUT),
        }
    }

    fn charge(&mut self, bytes: usize) -> Step {
        self.charged += bytes;
        if self.charged > limits::PICKLE_MEMORY {
            return Err(Why::Limit("bytes of decoded values", limits::PICKLE_MEMORY as u64));
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Step {
        if self.stack.len() >= limits::PICKLE_STACK {
            return Err(Why::Limit("values on the stack", limits::PICKLE_STACK as u64));
        }
        self.stack.push(value);
        Ok(())
    }

    /// Pops a value above the last mark.
    fn pop(&mut self) -> Step<Value> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(UNDERFLOW);
        }
        self.stack.pop().ok_or(UNDERFLOW)
    }

    fn top(&self) -> Step<Value> {
        match self.stack.last() {
            Some(&value) if self.stack.len() > self.marks.last().copied().unwrap_or(0) => Ok(value),
            _ => Err(UNDERFLOW),
        }
    }

    /// Everything above the last mark, which goes too.
    fn pop_mark(&mut self) -> Step<Vec<Value>> {
        let height = self.marks.pop().ok_or(Why::Bad("a mark is missing"))?;
        if height > self.stack.len() {
            return Err(UNDERFLOW);
        }
        Ok(self.stack.split_off(height))
    }

    fn add(&mut self, node: Node, depth: u8) -> Step<Value> {
        if usize::from(depth) > limits::PICKLE_DEPTH {
            return Err(Why::Limit("nested values", limits::PICKLE_DEPTH as u64));
        }
        let boxed = match node {
            Node::Storage(_) => size_of::<Storage>() + 16,
            Node::Tensor(_) => size_of::<Tensor>() + 16,
            _ => 0,
        };
        self.charge(2 * (size_of::<Node>() + 1) + boxed)?;
        let index = u32::try_from(self.nodes.len()).map_err(|_| NOT_PYTORCH)?;
        self.nodes.push(node);
        self.depths.push(depth);
        Ok(Value::Node(index))
    }

    fn add_and_push(&mut self, node: Node, depth: u8) -> Step {
        let value = self.add(node, depth)?;
        self.push(value)
    }

    fn depth(&self, value: Value) -> u8 {
        match value {
            Value::Node(index) => self.depths.get(index as usize).copied().unwrap_or(0),
            _ => 0,
        }
    }

    fn depth_over(&self, values: &[Value]) -> u8 {
        1 + values.iter().map(|&v| self.depth(v)).max().unwrap_or(0)
    }

    /// Notes that a list or dict now reaches at least this deep.
    fn deepen(&mut self, index: u32, depth: u8) -> Step {
        if usize::from(depth) > limits::PICKLE_DEPTH {
            return Err(Why::Limit("nested values", limits::PICKLE_DEPTH as u64));
        }
        if let Some(old) = self.depths.get_mut(index as usize) {
            *old = depth.max(*old);
        }
        Ok(())
    }

    fn number(&mut self, opcode: u8) -> Step {
        let value = match opcode {
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.take()?))),
            b'K' => Value::Int(i64::from(u8::from_le_bytes(self.take()?))),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.take()?))),
            b'G' => {
                self.take::<8>()?;
                Value::Plain
            }
            _ => {
                let len = match opcode {
                    0x8a => u64::from(u8::from_le_bytes(self.take()?)),
                    _ => u64::from(u32::from_le_bytes(self.take()?)),
                };
                self.long(len)?
            }
        };
        self.push(value)
    }

    /// A little-endian two's complement number of any length; beyond 64 bits it is opaque.
    fn long(&mut self, len: u64) -> Step<Value> {
        let bytes = self.bytes.get(self.slice(len)?).unwrap_or_default();
        if bytes.len() > 8 {
            return Ok(Value::Plain);
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }

    /// Steps over a string of this length.
    fn slice(&mut self, len: u64) -> Step<Range<usize>> {
        if len > limits::PICKLE_STRING {
            return Err(Why::Limit("bytes of a string", limits::PICKLE_STRING));
        }
        let len = usize::try_from(len).map_err(|_| CUT)?;
        let range = self.at..self.at + len;
        if range.end > self.bytes.len() {
            return Err(CUT);
        }
        self.at = range.end;
        Ok(range)
    }

    fn text(&mut self, opcode: u8) -> Step {
        let len = match opcode {
            0x8c | b'U' | b'C' => u64::from(u8::from_le_bytes(self.take()?)),
            b'X' | b'T' | b'B' => u64::from(u32::from_le_bytes(self.take()?)),
            _ => u64::from_le_bytes(self.take()?),
        };
        let range = self.slice(len)?;
        // Offsets fit: the pickle is at most 64 MiB.
        let (start, len) = (u32::try_from(range.start), u32::try_from(range.len()));
        let value = match (opcode, start, len) {
            (b'C' | b'B' | 0x8e | 0x96, ..) => Value::Plain,
            (_, Ok(start), Ok(len)) => Value::Text { start, len },
            _ => return Err(CUT),
        };
        self.push(value)
    }

    fn stack_opcode(&mut self, opcode: u8) -> Step {
        match opcode {
            b'(' => {
                if self.marks.len() >= limits::PICKLE_DEPTH {
                    return Err(Why::Limit("nested marks", limits::PICKLE_DEPTH as u64));
                }
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            _ => {
                let top = self.top()?;
                self.push(top)
            }
        }
    }

    fn memo_opcode(&mut self, opcode: u8) -> Step {
        let index = match opcode {
            b'q' | b'h' => u32::from(u8::from_le_bytes(self.take()?)),
            b'r' | b'j' => u32::from_le_bytes(self.take()?),
            _ => {
                let next = self.memo.len() + self.sparse_memo.len();
                u32::try_from(next).map_err(|_| NOT_PYTORCH)?
            }
        };
        let slot = self.memo.get_mut(index as usize);
        if matches!(opcode, b'h' | b'j') {
            let value = slot.copied().or_else(|| self.sparse_memo.get(&index).copied());
            return self.push(value.ok_or(Why::Bad("a memo entry is missing"))?);
        }
        let value = self.top()?;
        if let Some(slot) = self.memo.get_mut(index as usize) {
            *slot = value;
        } else if index as usize == self.memo.len() {
            self.charge(SLOT)?;
            self.memo.push(value);
        } else {
            self.charge(2 * SLOT)?;
            self.sparse_memo.insert(index, value);
        }
        Ok(())
    }

    fn tuple_opcode(&mut self, opcode: u8) -> Step {
        let values = match opcode {
            b't' => self.pop_mark()?,
            b')' => Vec::new(),
            _ => {
                let mut values = Vec::new();
                for _ in 0x84..opcode {
                    values.push(self.pop()?);
                }
                values.reverse();
                values
            }
        };
        let depth = self.depth_over(&values);
        self.charge(SLOT * values.len())?;
        let start = self.items.len();
        self.items.extend(values);
        self.add_and_push(Node::Tuple(start..self.items.len()), depth)
    }

    fn list_opcode(&mut self, opcode: u8) -> Step {
        let values = match opcode {
            b']' | 0x8f => return self.add_and_push(Node::List(Vec::new()), 1),
            b'a' => vec![self.pop()?],
            _ => self.pop_mark()?,
        };
        let depth = self.depth_over(&values);
        self.charge(SLOT * values.len().max(4))?;
        if matches!(opcode, b'l' | 0x91) {
            return self.add_and_push(Node::List(values), depth);
        }
        let Value::Node(index) = self.top()? else {
            return Err(Why::Bad("an item is added to what is not a list"));
        };
        self.deepen(index, depth)?;
        match self.nodes.get_mut(index as usize) {
            Some(Node::List(list)) => list.extend(values),
            _ => return Err(Why::Bad("an item is added to what is not a list")),
        }
        Ok(())
    }

    fn dict_opcode(&mut self, opcode: u8) -> Step {
        let values = match opcode {
            b'}' => return self.add_and_push(Node::Dict(Vec::new()), 1),
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let (pairs, rest) = values.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Why::Bad("a key without a value"));
        }
        let depth = self.depth_over(&values);
        self.charge(SLOT * values.len().max(8))?;
        let pairs = pairs.iter().map(|&[key, value]| (key, value));
        if opcode == b'd' {
            return self.add_and_push(Node::Dict(pairs.collect()), depth);
        }
        let Value::Node(index) = self.top()? else {
            return Err(Why::Bad("an item is set in what is not a dict"));
        };
        self.deepen(index, depth)?;
        match self.nodes.get_mut(index as usize) {
            Some(Node::Dict(dict)) => dict.extend(pairs),
            _ => return Err(Why::Bad("an item is set in what is not a dict")),
        }
        Ok(())
    }

    fn global_opcode(&mut self, opcode: u8) -> Step {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            let name = self.pop()?;
            let module = self.pop()?;
            (self.owned_text(module)?, self.owned_text(name)?)
        };
        let script = self.script.then(|| script_global(&module, &name)).flatten();
        match global(&module, &name).or(script) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(Why::Forbidden(format!("{module}.{name}"))),
        }
    }

    fn owned_text(&self, value: Value) -> Step<String> {
        let Value::Text { start, len } = value else {
            return Err(Why::Bad("the name of a global is not text"));
        };
        let bytes = self.bytes.get(start as usize..start as usize + len as usize);
        let bytes = bytes.unwrap_or_default();
        let bytes = bytes.get(..limits::NAME_BYTES).unwrap_or(bytes);
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// What torch would call becomes a description of its result.
    fn reduce(&mut self) -> Step {
        let args = self.pop()?;
        let callee = self.pop()?;
        let (Value::Global(global), Value::Node(index)) = (callee, args) else {
            return Err(Why::Forbidden("REDUCE of what is not a listed global".into()));
        };
        let Some(Node::Tuple(range)) = self.nodes.get(index as usize) else {
            return Err(Why::Bad("arguments that are not a tuple"));
        };
        let args = self.items.get(range.clone()).unwrap_or_default();
        let node = match (global, args) {
            (Global::OrderedDict, []) => Node::Dict(Vec::new()),
            (Global::Opaque, _) => Node::Opaque,
            (Global::Typed, &[value] | &[value, _]) => return self.push(value),
            (Global::Size, &[sizes]) => return self.push(sizes),
            (Global::Parameter, &[tensor, _, _] | &[tensor, _, _, _]) => return self.push(tensor),
            (Global::Tensor, &[storage, offset, size, stride])
            | (
                Global::TensorV2,
                &[storage, offset, size, stride, _, _] | &[storage, offset, size, stride, _, _, _],
            ) => {
                let storage = self.storage(storage)?;
                let dtype = storage.dtype;
                Node::Tensor(Box::new(Tensor { storage, dtype, offset, size, stride }))
            }
            (
                Global::TensorV3,
                &[storage, offset, size, stride, _, _, Value::Global(Global::Dtype(dtype))]
                | &[storage, offset, size, stride, _, _, Value::Global(Global::Dtype(dtype)), _],
            ) => {
                let storage = self.storage(storage)?;
                let dtype = Some(dtype);
                Node::Tensor(Box::new(Tensor { storage, dtype, offset, size, stride }))
            }
            _ => return Err(Why::Bad("arguments that PyTorch does not write")),
        };
        self.add_and_push(node, 1)
    }

    fn storage(&self, value: Value) -> Step<Storage> {
        let node = match value {
            Value::Node(index) => self.nodes.get(index as usize),
            _ => None,
        };
        match node {
            Some(Node::Storage(storage)) => Ok(**storage),
            _ => Err(Why::Bad("a tensor without a storage")),
        }
    }

    /// Attributes of a dict (`_metadata`) and the insides of opaque values are not kept; those of a
    /// TorchScript object are what it is; anything else cannot have a state.
    fn build(&mut self) -> Step {
        let state = self.pop()?;
        let depth = self.depth_over(&[state]);
        let is_dict = match state {
            Value::Node(index) => matches!(self.nodes.get(index as usize), Some(Node::Dict(_))),
            _ => false,
        };
        match self.top()? {
            Value::Node(index) => match self.nodes.get_mut(index as usize) {
                Some(Node::Dict(_) | Node::Opaque) => Ok(()),
                Some(Node::Object(attributes)) if is_dict => {
                    *attributes = state;
                    self.deepen(index, depth)
                }
                _ => Err(Why::Forbidden("BUILD of what is not a dict".into())),
            },
            _ => Err(Why::Forbidden("BUILD of a class".into())),
        }
    }

    /// An object of a TorchScript class, still without attributes.
    fn object(&mut self) -> Step {
        let (args, class) = (self.pop()?, self.pop()?);
        let empty = match args {
            Value::Node(index) => match self.nodes.get(index as usize) {
                Some(Node::Tuple(range)) => range.is_empty(),
                _ => false,
            },
            _ => false,
        };
        match (class, empty) {
            (Value::Global(Global::Script), true) => {
                self.add_and_push(Node::Object(Value::None), 1)
            }
            _ => Err(Why::Forbidden("NEWOBJ".into())),
        }
    }

    fn persistent_id(&mut self) -> Step {
        const BAD: Why = Why::Bad("a persistent id that is not a storage");
        let id = self.pop()?;
        let Value::Node(index) = id else { return Err(BAD) };
        let Some(Node::Tuple(range)) = self.nodes.get(index as usize) else { return Err(BAD) };
        let storage = match self.items.get(range.clone()).unwrap_or_default() {
            &[tag, Value::Global(class), key @ Value::Text { .. }, location, Value::Int(len)]
                if self.owned_text(tag)? == "storage"
                    && matches!(location, Value::Text { .. })
                    && len >= 0 =>
            {
                match class {
                    Global::Storage(dtype) => Storage { dtype: Some(dtype), key, len },
                    Global::UntypedStorage => Storage { dtype: None, key, len },
                    _ => return Err(BAD),
                }
            }
            _ => return Err(BAD),
        };
        self.add_and_push(Node::Storage(Box::new(storage)), 1)
    }
}
