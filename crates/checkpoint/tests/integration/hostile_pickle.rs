//! Hostile PyTorch files: pickles that want to call something, that grow without bound or that lie
//! about tensors, and archives that lie about themselves.

use crate::forge::{
    Asm, PLAIN, View, assert_refused, load, six_floats, state_dict, torch_zip, zip,
};
use altclip_report::Code::{self, E2016, E2201, E2202, E2203, E2204};

type Case = (String, Vec<u8>, Code);

fn case(label: &str, bytes: Vec<u8>, code: Code) -> Case {
    (label.to_owned(), bytes, code)
}

/// A pickle inside a good archive.
fn inside(label: &str, pickle: Vec<u8>, code: Code) -> Case {
    case(label, torch_zip(&pickle).bytes, code)
}

/// Pickles that would run code in Python.
fn attacks() -> Vec<Case> {
    let mut cases = Vec::new();
    // What scanners of malicious pickles list: a global, called with a string.
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("subprocess", "check_output"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("builtins", "open"),
        ("__builtin__", "eval"),
        ("__builtin__", "compile"),
        ("runpy", "_run_code"),
        ("runpy", "run_path"),
        ("torch.hub", "load"),
        ("torch", "load"),
        ("torch.serialization", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch._inductor.codecache", "compile_file"),
        ("torch.fx.experimental.symbolic_shapes", "ShapeEnv.evaluate_guards_expression"),
        ("torch.distributed.rpc", "rpc_sync"),
        ("pickle", "loads"),
        ("_pickle", "loads"),
        ("importlib", "import_module"),
        ("pip", "main"),
        ("pty", "spawn"),
        ("socket", "create_connection"),
        ("urllib.request", "urlopen"),
        ("webbrowser", "open"),
        ("shutil", "rmtree"),
        ("ctypes", "CDLL"),
        ("asyncio", "run"),
        ("bdb", "Bdb.run"),
        ("timeit", "timeit"),
        ("operator", "attrgetter"),
        ("functools", "partial"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.core.multiarray", "scalar"),
        ("collections", "OrderedDict.__init__"),
        ("__torch__.Model", "Model"),
        ("torch", "FloatStorage.from_file"),
    ] {
        let call = Asm::new().global(module, name).raw(b"(").text("echo pwned").raw(b"tR").stop();
        cases.push(inside(&format!("{module}.{name}"), call, E2201));
    }
    let nested = Asm::new().global("os", "system").text("true").raw(b"\x85R").stop();
    let wide = |n: u32| n.to_le_bytes();
    cases.extend([
        inside(
            "nested pickle",
            Asm::new()
                .global("pickle", "loads")
                .raw(b"B")
                .raw(&wide(nested.len() as u32))
                .raw(&nested)
                .raw(b"\x85R")
                .stop(),
            E2201,
        ),
        inside(
            "STACK_GLOBAL",
            Asm::new().raw(b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R").stop(),
            E2201,
        ),
        inside(
            "STACK_GLOBAL through the memo",
            Asm::new().raw(b"\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93").stop(),
            E2201,
        ),
        inside("INST", Asm::new().raw(b"(X\x04\0\0\0trueios\nsystem\n").stop(), E2201),
        inside(
            "OBJ",
            Asm::new().raw(b"(").global("collections", "OrderedDict").raw(b"o").stop(),
            E2201,
        ),
        inside(
            "NEWOBJ",
            Asm::new().global("collections", "OrderedDict").raw(b")\x81").stop(),
            E2201,
        ),
        inside(
            "NEWOBJ_EX",
            Asm::new().global("collections", "OrderedDict").raw(b")}\x92").stop(),
            E2201,
        ),
        inside("EXT1", Asm::new().raw(b"\x82\x01").stop(), E2201),
        inside("EXT2", Asm::new().raw(b"\x83\x01\x00").stop(), E2201),
        inside("EXT4", Asm::new().raw(b"\x84\x01\x00\x00\x00").stop(), E2201),
        inside("PERSID", Asm::new().raw(b"Pstorage\n").stop(), E2201),
        inside("NEXT_BUFFER", Asm::new().raw(b"\x97").stop(), E2201),
        inside(
            "BUILD of a class",
            Asm::new().global("collections", "OrderedDict").raw(b"}b").stop(),
            E2201,
        ),
        inside(
            "BUILD of a storage class",
            Asm::new().global("torch", "FloatStorage").raw(b"}b").stop(),
            E2201,
        ),
        inside("BUILD of a tensor", Asm::new().tensor(&PLAIN).raw(b"}b").stop(), E2201),
        inside("BUILD of a list", Asm::new().raw(b"]}b").stop(), E2201),
        inside("REDUCE of text", Asm::new().text("os.system").raw(b")R").stop(), E2201),
        inside("REDUCE of a dict", Asm::new().raw(b"})R").stop(), E2201),
        inside(
            "REDUCE of a storage class",
            Asm::new().global("torch", "FloatStorage").raw(b")R").stop(),
            E2204,
        ),
        inside(
            "OrderedDict with a list",
            Asm::new().global("collections", "OrderedDict").raw(b"]\x85R").stop(),
            E2204,
        ),
    ]);
    cases
}

/// Pickles without bounds.
fn bombs() -> Vec<Case> {
    let nested_tuples = |n| Asm::new().raw(b")").raw(&b"\x85".repeat(n)).stop();
    let mut doubling = Asm::new().raw(b")q\0");
    for _ in 0..60 {
        doubling = doubling.raw(b"h\0h\0\x86q\0");
    }
    let mut lists = Asm::new().raw(b"]q\0");
    for _ in 0..300 {
        lists = lists.raw(b"]h\0aq\0");
    }
    let each = |opcodes: &[u8], n: usize| Asm::new().raw(&opcodes.repeat(n)).stop();
    let mut sparse = Asm::new().raw(b"N");
    for i in 0..300_000u32 {
        sparse = sparse.raw(b"r").raw(&(i * 7 + 1).to_le_bytes());
    }
    let keys = (0..60_000).fold(Asm::new().raw(b"}").tensor(&PLAIN).raw(b"q\x000"), |asm, i| {
        asm.text(&i.to_string()).raw(b"h\0s")
    });
    vec![
        inside("memo bomb of 2^60", doubling.clone().stop(), E2204),
        inside(
            "memo bomb in a dict",
            Asm::new().raw(b"}").text("a").raw(&doubling.0[2..]).raw(b"s").stop(),
            E2204,
        ),
        inside("65 nested tuples", nested_tuples(65), E2202),
        inside("200,000 nested tuples", nested_tuples(200_000), E2202),
        inside("300 nested lists", lists.stop(), E2202),
        inside("nested marks", each(b"(", 100_000), E2202),
        inside("string of 4 GiB", Asm::new().raw(b"X\xff\xff\xff\xff").stop(), E2202),
        inside("string of 1 MiB + 1", Asm::new().raw(b"X\x01\x00\x10\x00").stop(), E2202),
        inside("string of 2^64 - 1", Asm::new().raw(b"\x8d").raw(&[0xff; 8]).stop(), E2202),
        inside("bytes of 2^63", Asm::new().raw(b"\x8e\0\0\0\0\0\0\0\x80").stop(), E2202),
        inside("bytearray of 2^40", Asm::new().raw(b"\x96\0\0\0\0\0\x01\0\0").stop(), E2202),
        inside("integer of 2 GiB", Asm::new().raw(b"\x8b\xff\xff\xff\x7f").stop(), E2202),
        inside("two million opcodes", each(b"N0", 1_000_000), E2202),
        inside("a million values on the stack", each(b"N", 999_000), E2202),
        inside("half a million dicts", each(b"}0", 499_000), E2202),
        inside("half a million lists of one", each(b"]Na0", 249_000), E2202),
        inside("half a million tuples", each(b"N\x850", 300_000), E2202),
        inside(
            "half a million storages",
            Asm::new()
                .raw(b"}")
                .storage("FloatStorage", "0", 6)
                .raw(b"q\x000")
                .raw(&b"h\x000".repeat(400_000))
                .stop(),
            E2204,
        ),
        inside("sparse memo", sparse.stop(), E2202),
        inside("one tensor under 60,000 names", keys.stop(), E2202),
        inside("a name of 600 bytes", Asm::new().global(&"m".repeat(600), "x").stop(), E2202),
    ]
}

/// Pickles that are broken or describe what is not there.
fn lies() -> Vec<Case> {
    let one = |view: View<'_>| state_dict(&[("w", view)]);
    let good = state_dict(&[("w", PLAIN)]);
    let persistent = |id: Asm| {
        let asm = Asm::new().raw(b"}").text("w").global("torch._utils", "_rebuild_tensor_v2");
        let asm = asm.raw(b"(").raw(&id.0[2..]).raw(b"Q").int(0).ints(&[6]).ints(&[1]);
        asm.raw(b"\x89}tRs").stop()
    };
    let size = Code::E2015;
    vec![
        inside("negative stride", one(View { stride: &[-3, 1], ..PLAIN }), E2204),
        inside("negative size", one(View { size: &[2, -3], ..PLAIN }), E2204),
        inside("negative offset", one(View { offset: -1, ..PLAIN }), E2204),
        inside("stride beyond the storage", one(View { stride: &[4, 1], ..PLAIN }), size),
        inside("offset beyond the storage", one(View { offset: 1, ..PLAIN }), size),
        inside("offset of 2^63 - 1", one(View { offset: i64::MAX, ..PLAIN }), size),
        inside("stride of 2^63 - 1", one(View { stride: &[i64::MAX, 1], ..PLAIN }), size),
        inside("sizes that overflow", one(View { size: &[i64::MAX, i64::MAX], ..PLAIN }), size),
        inside(
            "a zero beside sizes that overflow",
            one(View { size: &[0, i64::MAX, i64::MAX], stride: &[1, 1, 1], ..PLAIN }),
            size,
        ),
        inside(
            "expanded to 2^40",
            one(View { size: &[1 << 20, 1 << 20], stride: &[0, 0], ..PLAIN }),
            size,
        ),
        inside("overlapping strides", one(View { size: &[3, 3], stride: &[1, 1], ..PLAIN }), size),
        inside("storage of 2^40", one(View { len: 1 << 40, ..PLAIN }), size),
        inside("storage of 2^63 - 1", one(View { len: i64::MAX, ..PLAIN }), size),
        inside("storage too short", one(View { len: 5, ..PLAIN }), size),
        inside("storage of another type", one(View { class: "DoubleStorage", ..PLAIN }), size),
        inside("shape and strides differ", one(View { stride: &[1], ..PLAIN }), E2204),
        inside("nine dimensions", one(View { size: &[1; 9], stride: &[1; 9], ..PLAIN }), E2204),
        inside("no such storage", one(View { key: "1", ..PLAIN }), E2203),
        inside("storage key is a path", one(View { key: "../version", ..PLAIN }), E2203),
        inside("unknown storage class", one(View { class: "QInt8Storage", ..PLAIN }), E2201),
        inside("persistent id is text", persistent(Asm::new().text("0")), E2204),
        inside(
            "persistent id too short",
            persistent(Asm::new().raw(b"(").text("storage").raw(b"t")),
            E2204,
        ),
        inside(
            "persistent id of another tag",
            persistent(
                Asm::new()
                    .raw(b"(")
                    .text("file")
                    .global("torch", "FloatStorage")
                    .text("0")
                    .text("cpu")
                    .int(6)
                    .raw(b"t"),
            ),
            E2204,
        ),
        inside(
            "persistent id without class",
            persistent(
                Asm::new()
                    .raw(b"(")
                    .text("storage")
                    .text("torch")
                    .text("0")
                    .text("cpu")
                    .int(6)
                    .raw(b"t"),
            ),
            E2204,
        ),
        inside(
            "tensor without storage",
            Asm::new()
                .raw(b"}")
                .text("w")
                .global("torch._utils", "_rebuild_tensor_v2")
                .raw(b"(N")
                .int(0)
                .ints(&[6])
                .ints(&[1])
                .raw(b"\x89}tRs")
                .stop(),
            E2204,
        ),
        inside(
            "tensor of two arguments",
            Asm::new().global("torch._utils", "_rebuild_tensor_v2").raw(b"NN\x86R").stop(),
            E2204,
        ),
        inside("stack underflow", Asm::new().raw(b"R").stop(), E2204),
        inside("underflow below a mark", Asm::new().raw(b"N(0").stop(), E2204),
        inside("mark missing", Asm::new().raw(b"Nt").stop(), E2204),
        inside("memo entry missing", Asm::new().raw(b"h\x07").stop(), E2204),
        inside("item set in a tuple", Asm::new().raw(b")NNs").stop(), E2204),
        inside("item added to a dict", Asm::new().raw(b"}Na").stop(), E2204),
        inside("key without a value", Asm::new().raw(b"}(Nu").stop(), E2204),
        inside(
            "key is a number",
            Asm::new().raw(b"}").int(1).tensor(&PLAIN).raw(b"s").stop(),
            E2204,
        ),
        inside("no tensor", Asm::new().raw(b"}").stop(), E2204),
        inside("a list", Asm::new().raw(b"]").stop(), E2204),
        inside("no STOP", Asm::new().raw(b"}").0, E2204),
        inside("empty pickle", Vec::new(), E2204),
        inside("bytes after STOP", Asm(good.clone()).raw(b"x").0, E2204),
        inside("second pickle", [good.clone(), good].concat(), E2204),
        inside("protocol 9", b"\x80\x09}.".to_vec(), E2204),
        inside(
            "frame beyond the end",
            Asm::new().raw(b"\x95\xff\xff\xff\xff\xff\xff\xff\xff}").stop(),
            E2204,
        ),
        inside("opcode of protocol 0", Asm::new().raw(b"I1\n").stop(), E2204),
        inside("unknown opcode", Asm::new().raw(b"\xff").stop(), E2204),
        inside("name with a control character", state_dict(&[("w\n", PLAIN)]), E2016),
        inside("name is a path", state_dict(&[("../w", PLAIN)]), E2016),
        inside("name twice", state_dict(&[("w", PLAIN), ("w", PLAIN)]), E2204),
        inside("cyclic wrapper", Asm::new().raw(b"}q\0").text("module").raw(b"h\0s").stop(), E2204),
    ]
}

/// Archives that lie.
fn archives() -> Vec<Case> {
    let pickle = state_dict(&[("w", PLAIN)]);
    let good = torch_zip(&pickle);
    let data = six_floats();
    let entries = |more: &[(&str, &[u8])]| {
        let own: [(&str, &[u8]); 2] = [("a/data.pkl", &pickle), ("a/data/0", &data)];
        zip(&[&own[..], more].concat(), false).bytes
    };
    let (first, storage) = (good.centrals[0], good.centrals[2]);
    let (end, end64) = (good.end, good.end - 76);
    let lie = |label: &str, at: usize, bytes: &[u8]| {
        case(label, good.clone().patch(at, bytes).bytes, E2203)
    };
    let cut = |n: usize| good.bytes[..n].to_vec();
    let mut commented = good.bytes.clone();
    commented[end + 20] = 4;
    commented.extend_from_slice(b"ouch");
    let mut bomb = good.clone().patch(storage + 10, &[8, 0]);
    bomb = bomb.patch(storage + 24, &(256u32 << 20).to_le_bytes());
    let wide_lie = good.clone().patch(storage + 20, &[0xff; 8]);
    let mut huge = good.clone().patch(end + 8, &[0xff; 4]);
    huge = huge.patch(end64 + 24, &[0xff; 16]);
    let swapped = good.clone().patch(good.locals[2] + 30, b"archive/data/1");
    let moved = good.clone().patch(good.locals[2] + 28, &[24, 0]);
    let big = good.clone().patch(good.centrals[0] + 20, &[0xff, 0xff, 0xff, 0x7f].repeat(2));
    vec![
        lie("deflated record", storage + 10, &[8, 0]),
        lie("deflated pickle", first + 10, &[8, 0]),
        case("deflate bomb", bomb.bytes, E2203),
        lie("encrypted record", storage + 8, &[1, 8]),
        lie("unknown flags", storage + 8, &[0, 0x28]),
        lie("checksum of the pickle", first + 16, &[1, 2, 3, 4]),
        lie("checksum of a storage", storage + 16, &[1, 2, 3, 4]),
        lie("flipped bit in the pickle", good.locals[0] + 50, &[0xff]),
        lie("flipped bit in a storage", good.locals[2] + 30 + 14, &[1]),
        lie("two sizes", storage + 20, &[23, 0, 0, 0]),
        lie("record over the end", storage + 20, &[0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f]),
        case("pickle over the end", big.bytes, E2203),
        lie("records overlap", storage + 42, &(good.locals[1] as u32).to_le_bytes()),
        lie("local header elsewhere", storage + 42, &(good.locals[2] as u32 + 4).to_le_bytes()),
        case("local header of another entry", swapped.bytes, E2203),
        case("local header moves the data", moved.bytes, E2203),
        lie("local header is deflated", good.locals[2] + 8, &[8]),
        lie("local checksum differs", good.locals[2] + 14, &[1, 2, 3, 4]),
        case("zip64 sizes without the field", wide_lie.bytes, E2203),
        case("zip64 count of 2^64 - 1", huge.bytes, E2203),
        lie("zip64 count", end64 + 32, &[3]),
        lie("zip64 size", end64 + 40, &[1]),
        lie("zip64 offset", end64 + 48, &[1]),
        lie("zip64 record elsewhere", end64 + 56 + 8, &[0]),
        lie("zip64 record of another length", end64 + 4, &[45]),
        lie("entries counted wrong", end + 10, &[5]),
        lie("several disks", end + 4, &[1]),
        lie("directory of no entry", first, b"XX"),
        lie("entry name over the end", first + 28, &[0xff, 0xff]),
        case("comment", commented, E2203),
        case("bytes after the end", [&good.bytes[..], b"x"].concat(), E2203),
        case(
            "bytes before the directory end",
            [&good.bytes[..end], b"x", &good.bytes[end..]].concat(),
            E2203,
        ),
        case("cut in the end record", cut(end + 10), E2203),
        case("cut in the central directory", cut(first + 20), E2203),
        case("cut in a storage", cut(good.locals[2] + 40), E2203),
        case("entry twice", entries(&[("a/data/0", b"again")]), E2203),
        case("pickle twice", entries(&[("a/data.pkl", b"again")]), E2203),
        case("two archives", entries(&[("b/data.pkl", b"other")]), E2203),
        case("pickle deeper", zip(&[("a/b/data.pkl", &pickle)], false).bytes, E2203),
        case("zip slip", entries(&[("../../evil", b"x")]), E2203),
        case("zip slip with backslash", entries(&[("a\\..\\..\\evil", b"x")]), E2203),
        case("absolute name", entries(&[("/etc/passwd", b"x")]), E2203),
        case("NUL in a name", entries(&[("a/x\0y", b"x")]), E2203),
        case("long name", entries(&[(&"n".repeat(513), b"x")]), E2203),
        case("no pickle", zip(&[("a/data/0", &data)], false).bytes, E2203),
        case("no entries", zip(&[], false).bytes, E2203),
        case(
            "big-endian",
            zip(&[("a/data.pkl", &pickle), ("a/data/0", &data), ("a/byteorder", b"big")], true)
                .bytes,
            E2204,
        ),
        case("TorchScript", entries(&[("a/constants.pkl", b"\x80\x02).")]), E2204),
        case("plain zip", zip(&[("hello.txt", b"hello")], false).bytes, E2203),
    ]
}

#[test]
fn every_hostile_pickle_is_refused_with_its_code() {
    let cases = [attacks(), bombs(), lies()].concat();
    for (label, bytes, code) in &cases {
        assert_refused(label, bytes, *code);
    }
    assert!(cases.len() >= 60);
    println!("{} hostile pickles refused", cases.len());
}

#[test]
fn every_archive_that_lies_is_refused_with_its_code() {
    let cases = archives();
    for (label, bytes, code) in &cases {
        assert_refused(label, bytes, *code);
    }
    println!("{} archives refused", cases.len());
}

#[test]
fn the_files_that_the_lies_start_from_are_good() {
    let pickle = state_dict(&[("w", PLAIN)]);
    let expected = [("w".to_owned(), vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])];
    assert_eq!(load(&torch_zip(&pickle).bytes).unwrap(), expected);
    let narrow = zip(&[("a/data.pkl", &pickle), ("a/data/0", &six_floats())], false);
    assert_eq!(load(&narrow.bytes).unwrap(), expected);
}

#[test]
fn a_refused_global_is_named_and_nothing_ran() {
    let call = Asm::new().global("posix", "system").text("echo pwned").raw(b"\x85R").stop();
    let line = assert_refused("", &torch_zip(&call).bytes, E2201);
    assert!(line.contains("«posix.system» is not allowed; nothing was executed"), "{line}");
    assert!(line.contains("pickle byte 2"), "{line}");
}

#[test]
fn a_bare_pickle_and_the_old_format_say_what_to_do() {
    for bytes in
        [&b"\x80\x02}q\x00."[..], b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."]
    {
        let line = assert_refused("", bytes, Code::E2106);
        assert!(line.contains("PyTorch 1.6"), "{line}");
    }
}
