//! CL1, CL2 and CL4: arguments, outputs and surroundings; and the hub's codes that need no network.

use crate::row::{Case, Row, check, refused};
use crate::support::child::{Outcome, Run, altclip};
use crate::support::picture::pattern;
use altclip_report::Code;
use serde_json::Value;
use std::ffi::OsStr;

pub(crate) fn rows() -> Vec<Row> {
    [usage(), outputs(), surroundings(), hub(), forms()].into_iter().flatten().collect()
}

fn usage() -> Vec<Row> {
    let row = |name, parts, args: &'static [&'static str]| {
        refused("CL1", name, Code::E1001, parts, move |_| altclip(args))
    };
    vec![
        row(
            "an unknown flag: the nearest is told",
            &["--texst", "'--text"],
            &["embed", "--texst", "a"],
        ),
        row("an unknown command: the nearest is told", &["clasify", "classify"], &["clasify"]),
        row("no command", &["no command", "--help"], &[]),
        row("a flag without its value", &["--max-length"], &["embed", "--max-length"]),
        row("a missing argument", &["<TEXT>"], &["tokenize"]),
        row("a missing flag", &["--label"], &["classify", "a.png"]),
        row("a word for a number", &["many", "--threads"], &["embed", "--threads", "many"]),
        row("a number over its range", &["99999"], &["embed", "--max-length", "99999"]),
        row("a number under its range", &["1", "2..=8192"], &["embed", "--max-length", "1"]),
        row("a negative number", &["--max-pixels"], &["embed", "--max-pixels=-1"]),
        row("101 %", &["101%"], &["embed", "--max-bad", "101%"]),
        row("a precision that is none", &["f16", "f32"], &["embed", "--precision", "f16"]),
        row("a format that is none", &["npz", "npy"], &["embed", "--format", "npz"]),
        row("npy without a folder", &["--out"], &["embed", "--format", "npy"]),
        row(
            "a flag twice",
            &["--max-length"],
            &["embed", "--max-length", "5", "--max-length", "6"],
        ),
        row("a shell that is none", &["tcsh"], &["completions", "tcsh"]),
        row(
            "an argument with control characters",
            &["unexpected argument"],
            &["embed", "--a\u{7}b"],
        ),
        refused("CL1", "an argument that is not UTF-8", Code::E1001, &[], |_| {
            use std::os::unix::ffi::OsStrExt;
            altclip([
                OsStr::new("classify"),
                OsStr::new("--label"),
                OsStr::from_bytes(b"\xff"),
                OsStr::new("a.png"),
            ])
        }),
        refused("CL1", "nothing to embed", Code::E1001, &["--texts"], |case| {
            case.embed::<&str>(&[])
        }),
        refused("CL1", "no model", Code::E1002, &["BAAI/AltCLIP", "ALTCLIP_MODEL"], |_| {
            altclip(["embed", "--text", "a"])
        }),
        refused(
            "CL1",
            "pictures and texts that do not pair",
            Code::E1001,
            &["1 pictures and 2 texts"],
            |case| {
                let (picture, out, arg) =
                    (case.file("a.png", pattern(4, 4)), case.path("out"), OsStr::new);
                let texts = [arg("--text=a"), arg("--text=b"), arg("--image"), picture.as_os_str()];
                let dump = [arg("--format=npy"), arg("--out"), out.as_os_str()];
                case.command("embed", &[&texts[..], &dump].concat())
            },
        ),
    ]
}

fn preprocess(case: &Case, out: &OsStr, more: &[&str]) -> Run {
    let picture = case.file("in.png", pattern(8, 8));
    let mut args = vec![picture.as_os_str(), OsStr::new("--out"), out];
    args.extend(more.iter().map(OsStr::new));
    case.command("preprocess", &args)
}

/// Names in the folder of the case.
fn names(case: &Case) -> Vec<String> {
    let entries = std::fs::read_dir(case.dir()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn dump(case: &Case, out: &OsStr) -> Run {
    case.command(
        "embed",
        &[OsStr::new("--text=a"), OsStr::new("--format=npy"), OsStr::new("--out"), out],
    )
}

fn outputs() -> Vec<Row> {
    vec![
        refused("CL2", "the output exists", Code::E1003, &["exists", "x.npy"], |case| {
            preprocess(case, case.file("x.npy", "mine").as_os_str(), &[])
        }),
        check("CL2", "an existing output stays, and --overwrite replaces it", |case| {
            let out = case.file("x.npy", "mine");
            assert_eq!(preprocess(case, out.as_os_str(), &[]).go().status, Some(2));
            assert_eq!(std::fs::read(&out).unwrap(), b"mine");
            preprocess(case, out.as_os_str(), &["--overwrite"]).ok();
            assert_eq!(std::fs::read(&out).unwrap()[..6], *b"\x93NUMPY");
            assert_eq!(names(case), ["in.png", "x.npy"], "nothing else is left");
        }),
        refused(
            "CL2",
            "the output is the input, even with --overwrite",
            Code::E1003,
            &["in.png"],
            |case| preprocess(case, case.path("in.png").as_os_str(), &["--overwrite"]),
        ),
        refused("CL2", "the output is the input by another name", Code::E1003, &[], |case| {
            let link = case.path("link.npy");
            std::os::unix::fs::symlink(case.path("in.png"), &link).unwrap();
            preprocess(case, link.as_os_str(), &["--overwrite"])
        }),
        refused("CL2", "the output's folder is missing", Code::E1004, &["x.npy"], |case| {
            preprocess(case, case.path("no/x.npy").as_os_str(), &[])
        }),
        refused("CL2", "the output's folder is a file", Code::E1004, &[], |case| {
            preprocess(case, case.file("file", "").join("x.npy").as_os_str(), &[])
        }),
        // Even a superuser cannot make files there.
        refused(
            "CL2",
            "the output's folder cannot be written",
            Code::E1004,
            &["/proc/x.npy"],
            |case| preprocess(case, OsStr::new("/proc/x.npy"), &[]),
        ),
        refused("CL2", "the output is a folder", Code::E1004, &[], |case| {
            std::fs::create_dir(case.path("folder")).unwrap();
            preprocess(case, case.path("folder").as_os_str(), &["--overwrite"])
        }),
        check("CL2", "nothing is left of an output that failed", |case| {
            std::fs::create_dir(case.path("folder")).unwrap();
            let outcome = preprocess(case, case.path("folder").as_os_str(), &["--overwrite"]).go();
            assert_eq!(outcome.status, Some(7));
            assert_eq!(names(case), ["folder", "in.png"]);
        }),
        refused("CL2", "the folder of a dump exists", Code::E1003, &["exists"], |case| {
            std::fs::create_dir(case.path("dump")).unwrap();
            dump(case, case.path("dump").as_os_str())
        }),
        refused("CL2", "the folder of a dump has no parent", Code::E1004, &[], |case| {
            dump(case, case.path("no/dump").as_os_str())
        }),
        refused("CL2", "stdout is full", Code::E9005, &["stdout"], |case| {
            case.embed(&["--text", "a"]).stdout_to("/dev/full".as_ref())
        }),
        refused("CL2", "stdout is full of help", Code::E9005, &["stdout"], |_| {
            altclip(["--help"]).stdout_to("/dev/full".as_ref())
        }),
        refused("CL2", "stdout is full of a script", Code::E9005, &["stdout"], |_| {
            altclip(["completions", "bash"]).stdout_to("/dev/full".as_ref())
        }),
        refused("CL2", "the file of texts is a folder", Code::E4201, &["texts"], |case| {
            case.embed(&[OsStr::new("--texts"), case.dir().as_os_str()])
        }),
        refused("CL2", "the file of texts is missing", Code::E4201, &["missing.txt"], |case| {
            case.embed(&[OsStr::new("--texts"), case.path("missing.txt").as_os_str()])
        }),
    ]
}

fn surroundings() -> Vec<Row> {
    fn both(case: &Case) -> Run {
        let picture = case.file("a.png", pattern(40, 30));
        case.embed(&[OsStr::new("--text=一只猫"), OsStr::new("--image"), picture.as_os_str()])
    }
    let same = |name, change: fn(Run) -> Run| {
        check("CL4", name, move |case| {
            let usual = both(case).ok().stdout;
            assert_eq!(change(both(case)).ok().stdout, usual);
        })
    };
    vec![
        same("no home, no locale, no temporary folder", |run| {
            run.without_env("HOME").without_env("LANG").env("TMPDIR", "/nowhere").env("PATH", "")
        }),
        same("the locale C", |run| run.env("LANG", "C").env("LC_ALL", "C")),
        same("one thread", |run| run.env("ALTCLIP_THREADS", "1")),
        same("seven threads", |run| run.env("ALTCLIP_THREADS", "7")),
        same("without vector instructions", |run| run.env("ALTCLIP_ISA", "scalar")),
        same("with AVX2 where the machine has it", |run| run.env("ALTCLIP_ISA", "avx2")),
        same("a stack of 1 MiB", |run| run.stack_kib(1024)),
        same("96 MiB of address space", |run| {
            run.address_space_mib(96).env("ALTCLIP_THREADS", "1")
        }),
        refused("CL4", "no home to look for a cache", Code::E2007, &["HF_HOME"], |_| {
            altclip(["info", "--model", "org/name"]).without_env("HOME")
        }),
        refused("CL4", "a variable that is no number", Code::E1001, &["lots"], |case| {
            case.embed(&["--text=a"]).env("ALTCLIP_MAX_LENGTH", "lots")
        }),
        check("CL4", "an unknown instruction set falls back and doctor says so", |case| {
            let outcome = case.command("doctor", &["--json"]).env("ALTCLIP_ISA", "mmx").ok();
            assert!(outcome.text().contains("mmx"), "{}", outcome.text());
        }),
    ]
}

fn hub() -> Vec<Row> {
    fn offline(case: &Case, args: &[&str]) -> Run {
        altclip(args).env("HF_HOME", case.path("hf"))
    }
    vec![
        refused(
            "CL1",
            "a hub id that is not in the cache",
            Code::E2006,
            &["BAAI/AltCLIP", "download"],
            |case| offline(case, &["info", "--model", "BAAI/AltCLIP"]),
        ),
        refused("CL1", "a download without network", Code::E2006, &["BAAI/AltCLIP"], |case| {
            offline(case, &["download", "BAAI/AltCLIP"])
        }),
        refused("CL1", "a download of what is no hub id", Code::E2008, &["ORG/NAME"], |case| {
            offline(case, &["download", "../../etc"])
        }),
        refused("CL1", "a revision that cannot be one", Code::E1001, &["revision"], |case| {
            offline(case, &["download", "BAAI/AltCLIP", "--revision", "a..b"])
        }),
        refused("CL4", "a hub that cannot be reached", Code::E2004, &["127.0.0.1"], |case| {
            offline(case, &["download", "org/name"])
                .without_env("HF_HUB_OFFLINE")
                .env("HF_ENDPOINT", "http://127.0.0.1:1")
        }),
        refused("CL4", "an endpoint that is no address", Code::E1001, &["HF_ENDPOINT"], |case| {
            offline(case, &["download", "org/name"])
                .without_env("HF_HUB_OFFLINE")
                .env("HF_ENDPOINT", "mirror")
        }),
    ]
}

/// `--error-format json`: the same fields.
fn forms() -> Vec<Row> {
    fn fields(outcome: &Outcome) -> Value {
        let line = outcome.stderr.lines().next().unwrap();
        let report: Value = serde_json::from_str(line).unwrap();
        for field in ["code", "severity", "area", "message", "help"] {
            assert!(report[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {line}");
        }
        assert!(report.as_object().unwrap().contains_key("where"));
        report
    }
    vec![
        check("CL1", "errors as JSON, wherever the flag stands", |_| {
            for args in [
                ["--error-format", "json", "embed", "--textt"].as_slice(),
                &["embed", "--textt", "--error-format=json"],
            ] {
                let outcome = altclip(args).go();
                assert_eq!(outcome.status, Some(2));
                let report = fields(&outcome);
                assert_eq!(
                    (&report["code"], &report["severity"]),
                    (&"E1001".into(), &"error".into())
                );
            }
        }),
        check("CK9", "every fault of a checkpoint as JSON, one a line", |_| {
            let folder = crate::support::folder::Folder::new("alt_l");
            folder.edit_weights(|w| w.tensors.retain(|t| !t.name.contains("visual_projection")));
            folder.edit_weights(|w| w.add("made.up", "F32", &[1], vec![0; 4]));
            let arg = OsStr::new;
            let args = [arg("embed"), arg("--text=a"), arg("--error-format=json"), arg("--model")];
            let outcome = altclip(args.into_iter().chain([folder.dir().as_os_str()])).go();
            let codes: Vec<Value> = (outcome.stderr.lines())
                .map(|line| serde_json::from_str::<Value>(line).unwrap()["code"].clone())
                .collect();
            assert_eq!((outcome.status, codes), (Some(4), vec!["E2101".into(), "E2102".into()]));
            assert!(
                fields(&outcome)["message"].as_str().unwrap().contains("visual_projection.weight")
            );
        }),
        check("IM1", "a bad picture as JSON", |case| {
            let path = case.file("a.png", "words");
            let args = [OsStr::new("--error-format=json"), OsStr::new("--image"), path.as_os_str()];
            let outcome = case.embed(&args).go();
            assert_eq!(outcome.status, Some(3));
            assert_eq!(fields(&outcome)["code"], "E4001");
        }),
        check("TX5", "a warning as JSON, and silence with --quiet", |case| {
            let text = "a dog ".repeat(100);
            let outcome = case.embed(&["--error-format=json", "--text", &text]).ok();
            let report = fields(&outcome);
            assert_eq!(
                (&report["code"], &report["severity"]),
                (&"W3107".into(), &"warning".into())
            );
            assert_eq!(case.embed(&["--quiet", "--text", &text]).ok().stderr, "");
        }),
    ]
}
