//! TorchScript archives: what they hold is read, what they could do is not.

use crate::forge::{Asm, PLAIN, assert_refused, load, six_floats, zip};
use altclip_checkpoint::Checkpoint;
use altclip_report::Code::{self, E2016, E2201, E2202, E2203, E2204};

/// An archive of `torch.jit.save` with this pickle, and code that nobody may run.
fn script(pickle: &[u8]) -> Vec<u8> {
    let floats = six_floats();
    let code = b"import os\nos.system('echo pwned')\n";
    let entries: [(&str, &[u8]); 6] = [
        ("m/data.pkl", pickle),
        ("m/constants.pkl", b"\x80\x02)."),
        ("m/code/__torch__.py", code),
        ("m/code/__torch__.py.debug_pkl", b"not even a pickle"),
        ("m/data/0", &floats),
        ("m/version", b"3\n"),
    ];
    zip(&entries, true).bytes
}

/// Opens an object of a class of the archive, with its attributes to come.
fn object(asm: Asm, class: &str) -> Asm {
    asm.global("__torch__", class).raw(b")\x81}(")
}

/// A module with a tensor, a plain attribute, a list, and a module that holds a tensor too.
fn module() -> Vec<u8> {
    let asm = object(Asm::new(), "CLIP").text("w").tensor(&PLAIN).text("training").raw(b"\x89");
    let asm = asm.text("sizes").global("torch.jit._pickle", "build_intlist");
    let asm = asm.raw(b"]\x85R").text("visual");
    object(asm, "Visual").text("b").tensor(&PLAIN).raw(b"ubub").stop()
}

#[test]
fn tensors_have_the_path_of_attributes_as_their_name() {
    let values = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let expected = [("visual.b".to_owned(), values.clone()), ("w".to_owned(), values)];
    assert_eq!(load(&script(&module())).unwrap(), expected);
}

#[test]
fn what_pytorch_writes_is_read() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/families/openai/ViT-tiny.pt");
    let checkpoint = Checkpoint::open_file(&golden).unwrap();
    let shape = |name: &str| checkpoint.shape(name).map(<[usize]>::to_vec);
    assert_eq!(shape("visual.transformer.resblocks.0.attn.in_proj_weight"), Some(vec![384, 128]));
    assert_eq!(shape("logit_scale"), Some(vec![]));
    assert_eq!(shape("context_length"), Some(vec![]));
    assert_eq!(checkpoint.read_f32("logit_scale").unwrap(), [2.5]);
}

#[test]
fn nothing_is_executed_and_unknown_names_are_refused() {
    let in_module =
        |asm: fn(Asm) -> Asm| asm(object(Asm::new(), "CLIP").text("x")).raw(b"ub").stop();
    let deep = (0..20).fold(Asm::new(), |asm, _| object(asm, "M").text("x"));
    let deep = (0..20).fold(deep.raw(b"N"), |asm, _| asm.raw(b"ub")).stop();
    // An object that holds itself.
    let itself = Asm::new().global("__torch__", "M").raw(b")\x81q\x00}(").text("x");
    let itself = itself.raw(b"h\x00ub").stop();
    let call = |module: &str, name: &str| {
        let asm = object(Asm::new(), "CLIP").text("x").global(module, name);
        asm.raw(b"(").text("echo pwned").raw(b"tRub").stop()
    };
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("os.system", call("os", "system"), E2201),
        ("posix.system", call("posix", "system"), E2201),
        ("builtins.eval", call("builtins", "eval"), E2201),
        ("torch.jit.load", call("torch.jit", "load"), E2201),
        ("another name of torch.jit._pickle", call("torch.jit._pickle", "os"), E2201),
        ("torch.classes", call("__torch_evil__", "X"), E2201),
        ("a class called as a function", call("__torch__", "CLIP"), E2204),
        (
            "a class with arguments",
            in_module(|a| a.global("__torch__", "M").raw(b"(Ntt\x81")),
            E2201,
        ),
        (
            "a new object of another class",
            in_module(|a| a.global("collections", "OrderedDict").raw(b")\x81")),
            E2201,
        ),
        (
            "a new object of a storage class",
            in_module(|a| a.global("torch", "FloatStorage").raw(b")\x81")),
            E2201,
        ),
        ("a new object of a text", in_module(|a| a.text("os.system").raw(b")\x81")), E2201),
        (
            "a state that is no dict",
            in_module(|a| a.global("__torch__", "M").raw(b")\x81Nb")),
            E2201,
        ),
        ("a state for a class", in_module(|a| a.global("__torch__", "M").raw(b"}b")), E2201),
        ("INST", in_module(|a| a.raw(b"(ios\nsystem\n")), E2201),
        ("NEWOBJ_EX", in_module(|a| a.global("__torch__", "M").raw(b")}\x92")), E2201),
        (
            "a list of two lists",
            in_module(|a| a.global("torch.jit._pickle", "build_intlist").raw(b"(]]]tR")),
            E2204,
        ),
        ("modules in modules", deep, E2202),
        ("a module that holds itself", itself, E2202),
        ("a module without tensors", in_module(|a| a.raw(b"N")), E2204),
        ("no module", Asm::new().raw(b"}").stop(), E2204),
        ("a state dict in its place", crate::forge::state_dict(&[("w", PLAIN)]), E2204),
        (
            "a name that is a path",
            object(Asm::new(), "M").text("../../x").tensor(&PLAIN).raw(b"ub").stop(),
            E2016,
        ),
        (
            "a key that is no text",
            object(Asm::new(), "M").raw(b"N").tensor(&PLAIN).raw(b"ub").stop(),
            E2204,
        ),
    ];
    for (label, pickle, code) in &cases {
        assert_refused(label, &script(pickle), *code);
    }
    let line = assert_refused("", &script(&cases[0].1), E2201);
    assert!(line.contains("«os.system» is not allowed; nothing was executed"), "{line}");
    println!("{} hostile TorchScript pickles refused", cases.len());
}

#[test]
fn classes_of_the_archive_exist_in_no_other_archive() {
    let floats = six_floats();
    let pickle = module();
    let entries: [(&str, &[u8]); 2] = [("m/data.pkl", &pickle), ("m/data/0", &floats)];
    assert_refused("no constants.pkl", &zip(&entries, true).bytes, E2201);
}

#[test]
fn only_code_may_be_compressed() {
    let pickle = module();
    let floats = six_floats();
    let entries: [(&str, &[u8]); 4] = [
        ("m/data.pkl", &pickle),
        ("m/constants.pkl", b"\x80\x02)."),
        ("m/code/__torch__.py", b"0123456789"),
        ("m/data/0", &floats),
    ];
    let sound = zip(&entries, true);
    let compressed = |nth: usize| {
        let (local, central) = (sound.locals[nth] + 8, sound.centrals[nth] + 10);
        sound.clone().patch(local, &[8, 0]).patch(central, &[8, 0]).bytes
    };
    assert_eq!(load(&compressed(2)).unwrap().len(), 2);
    for nth in [0, 1, 3] {
        assert_refused(entries[nth].0, &compressed(nth), E2203);
    }
}
