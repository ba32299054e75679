//! CK17 to CK19: `pytorch_model.bin`. A pickle is data; nothing in it is ever done.

use crate::row::{Row, check, model};
use crate::support::child::altclip;
use crate::support::folder::{Folder, golden_bytes};
use crate::support::torch::{archive, call, entry, global, pickle, zip};
use altclip_report::Code;
use std::ffi::OsStr;

pub(crate) fn rows() -> Vec<Row> {
    [forbidden(), bombs(), archives(), done_to_nobody()].into_iter().flatten().collect()
}

fn forbidden() -> Vec<Row> {
    let global_row = |name, code: &'static str, parts, pickle: Vec<u8>| {
        assert_eq!(code, "E2201");
        model("CK17", name, Code::E2201, parts, move |f| f.only_bin(archive(pickle.clone())))
    };
    const NOTHING: &str = "is not allowed; nothing was executed";
    vec![
        global_row(
            "os.system",
            "E2201",
            &["posix.system", NOTHING],
            call("posix", "system", "touch x"),
        ),
        global_row("eval", "E2201", &["builtins.eval", NOTHING], call("builtins", "eval", "1/0")),
        global_row(
            "exec of Python 2",
            "E2201",
            &["__builtin__.exec"],
            call("__builtin__", "exec", "x"),
        ),
        global_row("runpy", "E2201", &["runpy"], call("runpy", "_run_code", "x")),
        global_row("a download", "E2201", &["torch.hub.load"], call("torch.hub", "load", "x/y")),
        global_row("a nested pickle", "E2201", &["pickle.loads"], call("_pickle", "loads", "x")),
        global_row("a lookalike of an allowed name", "E2201", &["torch._utils."], {
            call("torch._utils", "_rebuild_tensor_v2.__globals__", "x")
        }),
        global_row("an allowed module, another name", "E2201", &["collections."], {
            call("collections", "namedtuple", "x")
        }),
        global_row("STACK_GLOBAL", "E2201", &["posix.system"], {
            pickle(b"\x8c\x05posix\x8c\x06system\x93\x8c\x01x\x85R")
        }),
        global_row(
            "INST",
            "E2201",
            &["INST posix.system"],
            pickle(b"(X\x01\0\0\0xiposix\nsystem\n"),
        ),
        global_row("OBJ", "E2201", &["OBJ"], {
            pickle([b"(", &global("collections", "OrderedDict")[..], b"o"].concat())
        }),
        global_row("an extension code", "E2201", &["EXT1"], pickle(b"\x82\x01")),
        global_row("a persistent id as text", "E2201", &["PERSID"], pickle(b"Pid\n")),
    ]
}

fn bombs() -> Vec<Row> {
    let bomb = |name, parts, pickle: Vec<u8>| {
        model("CK18", name, Code::E2202, parts, move |f| f.only_bin(archive(pickle.clone())))
    };
    // Each tuple holds the last one twice: 2^100 leaves for whoever unfolds it.
    let mut memo = b"N\x85q\x00".to_vec();
    for n in 1..100u8 {
        memo.extend([b'h', n - 1, b'h', n - 1, 0x86, b'q', n]);
    }
    vec![
        bomb("a memo of 2^100 leaves", &["nested"], pickle(memo)),
        bomb("lists in lists", &[], pickle([vec![b']'; 100_000], vec![b'a'; 99_999]].concat())),
        bomb("marks upon marks", &[], pickle(vec![b'('; 1 << 20])),
        bomb("a text of 4 GiB", &["string", "1048576"], {
            pickle([b"\x8d", &(4u64 << 30).to_le_bytes()[..]].concat())
        }),
        bomb(
            "bytes of 2^63",
            &["string"],
            pickle([b"\x8e", &(1u64 << 63).to_le_bytes()[..]].concat()),
        ),
        bomb("two million opcodes", &["opcodes", "1000000"], pickle(b"N0".repeat(1_000_000))),
        bomb("a million dicts that are kept", &[], pickle(b"}".repeat(400_000))),
    ]
}

fn archives() -> Vec<Row> {
    let bad = |name, parts, bytes: Vec<u8>| {
        model("CK19", name, Code::E2203, parts, move |f| f.only_bin(&bytes))
    };
    let data = || entry("archive/data.pkl", pickle(b"}"));
    let edited = |edit: fn(&mut crate::support::torch::Entry)| {
        let mut data = data();
        edit(&mut data);
        zip(&[data, entry("archive/version", "3\n")])
    };
    let golden = golden_bytes("alt_l/pytorch_model.bin");
    let cut = golden[..golden.len() - 400].to_vec();
    let half = golden[..golden.len() / 2].to_vec();
    let mut flipped = golden;
    let at = flipped.windows(6).position(|bytes| bytes == b"pre_LN").unwrap();
    flipped[at] ^= 1;
    let mut commented = archive(pickle(b"}"));
    let length = commented.len();
    commented[length - 2] = 4;
    commented.extend(b"note");
    vec![
        bad("a compressed entry", &["compressed", "data.pkl"], edited(|e| e.method = 8)),
        bad("an encrypted entry", &["encrypted"], edited(|e| e.flags = 1)),
        bad("a wrong checksum", &["data.pkl"], edited(|e| e.crc ^= 1)),
        bad("a flipped bit in the pickle", &["data.pkl"], flipped),
        bad("a size beyond the file", &[], edited(|e| e.size += 100_000)),
        bad("a size of zip64 without its field", &["zip64"], edited(|e| e.size = u32::MAX)),
        bad("an entry twice", &["twice", "data.pkl"], zip(&[data(), data()])),
        bad("the directory is cut", &["cut"], cut),
        bad("half of the file", &["cut"], half),
        bad("a name out of the folder", &["name"], {
            zip(&[data(), entry("../../.bashrc", "alias ls=rm")])
        }),
        bad("a comment that could hide an archive", &[], commented),
        model("CK19", "no pickle inside", Code::E2203, &[], |f| {
            f.only_bin(zip(&[entry("archive/version", "3\n")]));
        }),
        model("CK19", "a pickle that is no state dict", Code::E2204, &[], |f| {
            f.only_bin(archive(pickle(b"K\x01")));
        }),
        model("CK19", "a pickle that ends too early", Code::E2204, &["too early"], |f| {
            f.only_bin(archive(b"\x80\x02}q".to_vec()));
        }),
        model("CK19", "a pickle without an archive", Code::E2106, &["pickle"], |f| {
            f.only_bin(pickle(b"}"));
        }),
    ]
}

fn done_to_nobody() -> Vec<Row> {
    vec![
        check("CK17", "nothing is executed", |case| {
            let witness = case.path("was-here");
            let folder = Folder::new("alt_l");
            folder.only_bin(archive(call(
                "posix",
                "system",
                &format!("touch {}", witness.display()),
            )));
            let outcome =
                altclip([OsStr::new("info"), OsStr::new("--model"), folder.dir().as_os_str()]).go();
            assert_eq!(outcome.status, Some(4));
            assert!(!witness.exists());
        }),
        check("CK17", "an ordinary archive is read", |_| {
            let folder = Folder::new("alt_l");
            let embed = |dir: &std::path::Path| {
                altclip([
                    OsStr::new("embed"),
                    "--json".as_ref(),
                    "--text=猫".as_ref(),
                    "--model".as_ref(),
                    dir.as_os_str(),
                ])
                .ok()
                .stdout
            };
            let from_safetensors = embed(folder.dir());
            folder.only_bin(golden_bytes("alt_l/pytorch_model.bin"));
            assert_eq!(embed(folder.dir()), from_safetensors);
        }),
    ]
}
