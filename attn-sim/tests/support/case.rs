//! A launch: kernel text, shape, buffers, tensor maps, and the bytes that some buffers must hold afterwards.
//!
//! Nothing here knows who runs it: the simulator and a GPU read the same description.

/// What a tensor map's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 16 bits.
    F16,
    /// 16 bits.
    Bf16,
    /// 32 bits.
    F32,
}

impl Element {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        if self == Element::F32 { 4 } else { 2 }
    }
}

/// How 16-byte pieces are exchanged between the rows of a box in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// Not at all.
    None,
    /// Within 32 bytes.
    Bytes32,
    /// Within 64 bytes.
    Bytes64,
    /// Within 128 bytes.
    Bytes128,
}

impl Swizzle {
    /// All of them.
    pub const ALL: [Swizzle; 4] = [Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128];

    /// Bytes of a row, where there is an exchange.
    pub fn span(self) -> usize {
        match self {
            Swizzle::None => 16,
            Swizzle::Bytes32 => 32,
            Swizzle::Bytes64 => 64,
            Swizzle::Bytes128 => 128,
        }
    }

    /// Where the byte at `offset` (from a multiple of 1024) goes.
    pub fn place(self, offset: usize) -> usize {
        offset ^ ((offset >> 7) & (self.span() / 16 - 1)) << 4
    }
}

/// A tensor map over a buffer, as cuTensorMapEncodeTiled takes it: innermost axis first.
#[derive(Clone, Debug)]
pub struct Map {
    /// Which buffer.
    pub buffer: usize,
    /// Its elements.
    pub element: Element,
    /// Extents in elements.
    pub extents: Vec<u64>,
    /// Strides of all axes but the first, in bytes.
    pub strides: Vec<u64>,
    /// The box's extents in elements.
    pub box_extents: Vec<u32>,
    /// How the box lies in shared memory.
    pub swizzle: Swizzle,
}

/// A kernel's argument.
#[derive(Clone, Debug)]
pub enum Argument {
    /// A buffer's address.
    Buffer(usize),
    /// A tensor map.
    Map(Map),
    /// A scalar or structure without addresses.
    Bytes(Vec<u8>),
    /// A structure that begins with words, of which some are addresses.
    Structure(Vec<Word>),
}

/// A member of a structure.
#[derive(Clone, Debug)]
pub enum Word {
    /// A buffer's address.
    Address(usize),
    /// Anything else.
    Bytes(Vec<u8>),
}

/// A buffer of global memory.
#[derive(Clone, Debug)]
pub struct Contents {
    /// For reports.
    pub name: &'static str,
    /// Before the launch.
    pub bytes: Vec<u8>,
    /// Whether the launch may write it.
    pub is_output: bool,
}

/// A launch.
#[derive(Clone, Debug)]
pub struct Case {
    /// For reports.
    pub name: String,
    /// The kernel's whole text.
    pub source: String,
    /// The kernel's name.
    pub entry: &'static str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared_memory: u32,
    /// Global memory.
    pub buffers: Vec<Contents>,
    /// In order.
    pub arguments: Vec<Argument>,
    /// Buffers, and what they must hold afterwards.
    pub expected: Vec<(usize, Vec<u8>)>,
}

/// What an output holds before the launch.
pub const UNWRITTEN: u8 = 0xff;

impl Case {
    /// One block without arguments.
    pub fn new(name: impl Into<String>, source: String, entry: &'static str, threads: u32) -> Self {
        Self {
            name: name.into(),
            source,
            entry,
            grid: [1; 3],
            block: [threads, 1, 1],
            shared_memory: 0,
            buffers: Vec::new(),
            arguments: Vec::new(),
            expected: Vec::new(),
        }
    }

    /// A buffer that is read. Its number.
    pub fn input(&mut self, name: &'static str, bytes: Vec<u8>) -> usize {
        self.buffers.push(Contents { name, bytes, is_output: false });
        self.buffers.len() - 1
    }

    /// A buffer that is written over `before`. Its number.
    pub fn output(&mut self, name: &'static str, before: Vec<u8>) -> usize {
        self.buffers.push(Contents { name, bytes: before, is_output: true });
        self.buffers.len() - 1
    }

    /// A buffer that is read, as the next argument.
    pub fn reads(mut self, name: &'static str, bytes: Vec<u8>) -> Self {
        let buffer = self.input(name, bytes);
        self.arguments.push(Argument::Buffer(buffer));
        self
    }

    /// A buffer that must hold `after` afterwards, as the next argument.
    pub fn writes(self, name: &'static str, after: Vec<u8>) -> Self {
        let before = vec![UNWRITTEN; after.len()];
        self.updates(name, before, after)
    }

    /// A buffer that holds `before` and must hold `after` afterwards, as the next argument.
    pub fn updates(mut self, name: &'static str, before: Vec<u8>, after: Vec<u8>) -> Self {
        let buffer = self.output(name, before);
        self.arguments.push(Argument::Buffer(buffer));
        self.expected.push((buffer, after));
        self
    }

    /// A scalar or structure, as the next argument.
    pub fn value(mut self, bytes: Vec<u8>) -> Self {
        self.arguments.push(Argument::Bytes(bytes));
        self
    }

    /// Blocks along x.
    pub fn blocks(mut self, blocks: u32) -> Self {
        self.grid[0] = blocks;
        self
    }

    /// Dynamic shared memory.
    pub fn shared_memory(mut self, bytes: usize) -> Self {
        self.shared_memory = u32::try_from(bytes).expect("a block's shared memory");
        self
    }

    /// An argument's bytes, given the buffers' addresses and a maker of tensor maps.
    pub fn argument_bytes<E>(
        &self,
        argument: &Argument,
        addresses: &[u64],
        encode: impl Fn(&Map, u64) -> Result<[u8; 128], E>,
    ) -> Result<Vec<u8>, E> {
        Ok(match argument {
            Argument::Buffer(buffer) => addresses[*buffer].to_ne_bytes().to_vec(),
            Argument::Map(map) => encode(map, addresses[map.buffer])?.to_vec(),
            Argument::Bytes(bytes) => bytes.clone(),
            Argument::Structure(words) => words
                .iter()
                .flat_map(|word| match word {
                    Word::Address(buffer) => addresses[*buffer].to_ne_bytes().to_vec(),
                    Word::Bytes(bytes) => bytes.clone(),
                })
                .collect(),
        })
    }

    /// What is not as expected, given all buffers after the launch.
    pub fn difference(&self, buffers: &[Vec<u8>]) -> Option<String> {
        self.expected.iter().find_map(|(buffer, expected)| {
            let name = self.buffers[*buffer].name;
            difference(expected, &buffers[*buffer]).map(|place| format!("{}: {name}: {place}", self.name))
        })
    }
}

/// The first word that differs.
pub fn difference(expected: &[u8], actual: &[u8]) -> Option<String> {
    if expected.len() != actual.len() {
        return Some(format!("{} bytes instead of {}", actual.len(), expected.len()));
    }
    let words = expected.chunks(4).zip(actual.chunks(4)).enumerate();
    let count = words.clone().filter(|(_, (expected, actual))| expected != actual).count();
    let (index, (expected, actual)) = words.into_iter().find(|(_, (expected, actual))| expected != actual)?;
    Some(format!("{count} words differ; the first, {index}, is {actual:02x?} instead of {expected:02x?}"))
}

/// Plain values whose bytes a kernel reads.
pub trait Scalar: Copy {
    /// In the machine's order.
    fn append(self, bytes: &mut Vec<u8>);
}

macro_rules! scalar {
    ($($ty:ty),*) => {
        $(impl Scalar for $ty {
            fn append(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_ne_bytes());
            }
        })*
    };
}
scalar!(u16, u32, i32, u64, i64, f32);

/// The bytes of values.
pub fn bytes<T: Scalar>(values: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut bytes = Vec::new();
    values.into_iter().for_each(|value| value.append(&mut bytes));
    bytes
}

/// The floats in a buffer.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|word| f32::from_ne_bytes(word.try_into().expect("four bytes"))).collect()
}

/// The bf16 numbers in a buffer.
pub fn bf16s(bytes: &[u8]) -> Vec<f32> {
    let number = |pair: &[u8]| half::bf16::from_bits(u16::from_ne_bytes([pair[0], pair[1]])).to_f32();
    bytes.chunks_exact(2).map(number).collect()
}
