//! Random and hostile texts.

/// A small random generator (xorshift*), the same everywhere.
pub struct Random(u64);

impl Random {
    /// A generator with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit.max(1)
    }
}

/// Blocks from which characters are drawn.
const BLOCKS: &[(u32, u32)] = &[
    (0x20, 0x7e),
    (0x20, 0x7e),
    (0x61, 0x7a),
    (0x00, 0x20),
    (0x7f, 0xa0),
    (0xa0, 0x24f),
    (0x300, 0x36f),
    (0x370, 0x52f),
    (0x590, 0x6ff),
    (0x900, 0x97f),
    (0xe00, 0xeff),
    (0x1100, 0x11ff),
    (0x1e00, 0x1fff),
    (0x2000, 0x206f),
    (0x2070, 0x27bf),
    (0x2580, 0x2583),
    (0x3000, 0x30ff),
    (0x3130, 0x33ff),
    (0x4e00, 0x4fff),
    (0xa960, 0xa97c),
    (0xac00, 0xadff),
    (0xd7b0, 0xd7fb),
    (0xf900, 0xfaff),
    (0xfb00, 0xfdff),
    (0xfe00, 0xfe2f),
    (0xfe30, 0xffff),
    (0x1d400, 0x1d7ff),
    (0x1f1e6, 0x1f1ff),
    (0x1f300, 0x1f6ff),
    (0xe0000, 0xe01ff),
    (0x10fff0, 0x10ffff),
];

/// Strings that are put in whole.
const PARTS: &[&str] = &[
    " ",
    "  ",
    "\u{3000}",
    "▁",
    "▁▁",
    "<mask>",
    " <mask>",
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    "＜mask＞",
    "＜unk＞",
    "\u{301}",
    "\u{200d}",
    "\u{fe0f}",
    "\u{fdfa}",
    "photo",
    "a photo of",
    "猫の写真",
    "一张猫的照片",
    "고양이",
    "\u{1112}\u{1161}\u{11ab}",
    "👨\u{200d}👩\u{200d}👧",
    "🇩🇪",
    "क्षि",
    "\r\n",
    "e\u{301}",
    "ﾊﾟ",
    "か\u{3099}",
    "<",
    ">",
    "aaaaaaaa",
    "\u{ad}",
    "\u{feff}",
    "\0",
];

/// A random text.
pub fn random(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..1 + random.below(6) {
        if random.below(3) == 0 {
            text.push_str(PARTS[random.below(PARTS.len())]);
            continue;
        }
        let (low, high) = BLOCKS[random.below(BLOCKS.len())];
        for _ in 0..1 + random.below(6) {
            let c = low + random.below((high - low + 1) as usize) as u32;
            text.extend(char::from_u32(c));
        }
    }
    text
}

/// Families of hostile texts, each of about `bytes` bytes: name and text.
pub fn hostile(bytes: usize) -> Vec<(&'static str, String)> {
    let families: &[(&'static str, &str)] = &[
        ("one letter", "a"),
        ("two letters", "ab"),
        ("words", "a photo of two dogs "),
        ("mixed words", "two dogs 一张猫的照片 фото кота 고양이 사진 "),
        ("ideographs", "猫的照片"),
        ("one ideograph", "一"),
        ("hangul", "고양이사진"),
        ("U+FDFA", "\u{fdfa}"),
        ("combining marks", "\u{301}"),
        ("a letter with marks", "e\u{301}\u{323}\u{308}"),
        ("ZWJ emoji", "👨\u{200d}👩\u{200d}👧\u{200d}👦"),
        ("ZWJ alone", "\u{200d}"),
        ("emoji chained by ZWJ", "👩\u{200d}"),
        ("flags", "🇩🇪🇫"),
        ("marks of spaces", "▁"),
        ("marks and letters", "▁a"),
        ("bidi", "\u{202e}abc\u{202c}\u{2066}עב\u{2069}"),
        ("spaces", " "),
        ("ideographic spaces", "\u{3000}"),
        ("jamo", "\u{1112}\u{1161}\u{11ab}"),
        ("leading jamo", "\u{1100}"),
        ("conjuncts", "क\u{94d}"),
        ("unknown", "\u{10ffff}"),
        ("unknown and known", "\u{10ffff}a"),
        ("masks", "<mask>"),
        ("masks and spaces", "  <mask>"),
        ("almost masks", "<mask"),
        ("opening brackets", "<"),
        ("controls", "\u{1}"),
        ("zeros", "\0"),
        ("soft hyphens", "\u{ad}"),
    ];
    families.iter().map(|(name, unit)| (*name, unit.repeat(bytes / unit.len()))).collect()
}
