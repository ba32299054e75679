//! IX: indexes that are damaged, mixed up, locked, full or read-only, and queries that are none.

use crate::row::{Case, Row, check, refused, warned};
use crate::support::child::{ALTCLIP, Run, altclip};
use crate::support::picture::pattern;
use altclip_durable::RealFs;
use altclip_report::Code;
use altclip_search::{Change, Index};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

pub(crate) fn rows() -> Vec<Row> {
    [damage(), models(), queries(), writers(), disks()].into_iter().flatten().collect()
}

/// An index of three pictures.
fn made(case: &Case) -> PathBuf {
    std::fs::create_dir_all(case.path("pictures")).unwrap();
    for n in 0..3 {
        case.file(&format!("pictures/{n}.png"), pattern(20 + n, 30));
    }
    let (pictures, model) = (case.path("pictures"), case.model().to_string_lossy());
    on(case, &["index", "add", &pictures.to_string_lossy(), "--model", &model]).ok();
    case.path("index")
}

/// A command on the index of the case.
fn on(case: &Case, args: &[&str]) -> Run {
    let index = case.path("index");
    altclip(args.iter().map(OsStr::new).chain([OsStr::new("--index"), index.as_os_str()]))
}

fn flip(path: &Path, byte: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[byte] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else if !path.ends_with("store.db-shm") {
            std::fs::copy(&path, to).unwrap();
        }
    }
}

/// The index as a killed writer leaves it, with two commits in the log of its store; the second one is not
/// acknowledged.
fn killed(case: &Case) -> PathBuf {
    let dir = made(case);
    let mut index = Index::open_to_write(Arc::new(RealFs), &dir).unwrap();
    let commit = |index: &mut Index, key: &str| {
        index.commit(&[Change::Set(key.into(), "x".repeat(3000))]).unwrap();
    };
    commit(&mut index, "first");
    let head = std::fs::read(dir.join("g1/HEAD")).unwrap();
    commit(&mut index, "second");
    let left = case.path("left");
    copy(&dir, &left);
    drop(index);
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::rename(left, &dir).unwrap();
    std::fs::write(dir.join("g1/HEAD"), head).unwrap();
    dir
}

fn damage() -> Vec<Row> {
    let derived = |name, file: &'static str, byte: usize| {
        refused("IX4", name, Code::E7003, &["g1"], move |case| {
            flip(&made(case).join("g1").join(file), byte);
            on(case, &["index", "verify"])
        })
    };
    vec![
        refused(
            "IX2",
            "a flipped bit in the log before what was acknowledged",
            Code::E7001,
            &["commit", "repair"],
            |case| {
                flip(&killed(case).join("g1/store.db-wal"), 100);
                on(case, &["index", "verify"])
            },
        ),
        refused("IX2", "the log is gone", Code::E7001, &["commit"], |case| {
            std::fs::remove_file(killed(case).join("g1/store.db-wal")).unwrap();
            on(case, &["search", "a"])
        }),
        warned("IX3", "a commit that nobody was told of", Code::I7002, &["taken over"], |case| {
            killed(case);
            on(case, &["index", "update"])
        }),
        check("IX3", "a torn last commit is dropped", |case| {
            let log = killed(case).join("g1/store.db-wal");
            let bytes = std::fs::read(&log).unwrap();
            std::fs::write(&log, &bytes[..bytes.len() - 7]).unwrap();
            let outcome = on(case, &["index", "update"]).ok();
            assert!(outcome.stderr.is_empty(), "{}", outcome.stderr);
        }),
        derived("a flipped bit of the search structure", "flat", 200),
        derived("a flipped bit of the background", "background", 5000),
        derived("a flipped bit of what was acknowledged", "HEAD", 30),
        refused("IX4", "a flipped bit of a row", Code::E7003, &["store.db", "row 1"], |case| {
            let store = made(case).join("g1/store.db");
            let bytes = std::fs::read(&store).unwrap();
            let places = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"/0.png"));
            places.for_each(|at| flip(&store, at + 1));
            on(case, &["index", "verify"])
        }),
        refused("IX4", "a flipped bit of the pointer", Code::E7003, &["CURRENT"], |case| {
            flip(&made(case).join("CURRENT"), 17);
            on(case, &["search", "a"])
        }),
        warned("IX4", "searching goes on", Code::W7012, &["made again"], |case| {
            flip(&made(case).join("g1/flat"), 200);
            on(case, &["search", "a"])
        }),
        refused("IX4", "a store that is not one", Code::E7003, &["store.db"], |case| {
            std::fs::write(made(case).join("g1/store.db"), vec![7; 8192]).unwrap();
            on(case, &["search", "a"])
        }),
        refused("IX4", "the store is gone", Code::E7001, &["3 pictures"], |case| {
            std::fs::remove_file(made(case).join("g1/store.db")).unwrap();
            on(case, &["index", "status"])
        }),
        refused(
            "IX4",
            "pictures are lost and that was not accepted",
            Code::E7001,
            &["--accept-loss"],
            |case| {
                let log = killed(case).join("g1/store.db-wal");
                std::fs::remove_file(log).unwrap();
                on(case, &["index", "repair"]).stdout_to("/dev/null".as_ref())
            },
        ),
        refused("IX4", "no index", Code::E7011, &["index add"], |case| on(case, &["search", "a"])),
        refused("IX4", "an index among other files", Code::E7011, &["holiday.jpg"], |case| {
            std::fs::create_dir(case.path("index")).unwrap();
            case.file("index/holiday.jpg", "mine");
            let model = case.model().to_string_lossy().into_owned();
            on(case, &["index", "add", "--model", &model, &case.path("index").to_string_lossy()])
        }),
        warned("IX11", "a search structure that is cut", Code::W7012, &["made again"], |case| {
            let flat = made(case).join("g1/flat");
            std::fs::OpenOptions::new().write(true).open(flat).unwrap().set_len(300).unwrap();
            on(case, &["search", "a"])
        }),
        refused("IX11", "a store that is cut", Code::E7003, &["store.db"], |case| {
            let store = made(case).join("g1/store.db");
            std::fs::OpenOptions::new().write(true).open(store).unwrap().set_len(9000).unwrap();
            on(case, &["index", "verify"])
        }),
    ]
}

fn models() -> Vec<Row> {
    let other = |case: &Case, args: &[&str]| {
        made(case);
        let folder = crate::support::folder::Folder::new("alt_l");
        folder.edit_json("preprocessor_config.json", |json| {
            json["image_mean"][0] = 0.25.into();
        });
        let model = folder.dir().to_string_lossy().into_owned();
        // The folder lives as long as the program that runs the test.
        std::mem::forget(folder);
        on(case, &[args, &["--model", &model]].concat())
    };
    vec![
        refused(
            "IX5",
            "searched with another preprocessing",
            Code::E7004,
            &["--rebuild"],
            move |case| other(case, &["search", "a"]),
        ),
        refused("IX5", "brought up to date with it", Code::E7004, &["--rebuild"], move |case| {
            other(case, &["index", "update"])
        }),
        refused("IX5", "other ways to decode", Code::E7004, &["exif_orientation"], |case| {
            made(case);
            let pictures = case.path("pictures").to_string_lossy().into_owned();
            on(case, &["index", "add", &pictures, "--exif-orient"])
        }),
    ]
}

fn queries() -> Vec<Row> {
    let row = |name, parts, args: &'static [&'static str]| {
        refused("IX7", name, Code::E7006, parts, move |case| {
            made(case);
            on(case, args)
        })
    };
    let usage = |name, args: &'static [&'static str]| {
        refused("IX7", name, Code::E1001, &["number from 0 to 1"], move |case| on(case, args))
    };
    vec![
        refused("IX6", "pictures that are not there", Code::E4201, &["nowhere"], |case| {
            let (nowhere, model) = (case.path("nowhere"), case.model().to_string_lossy());
            on(case, &["index", "add", &nowhere.to_string_lossy(), "--model", &model])
        }),
        refused("IX6", "a picture that is not there", Code::E7005, &["nowhere.png"], |case| {
            made(case);
            on(case, &["index", "remove", "/nowhere.png"])
        }),
        refused("IX6", "a path that is too long", Code::E7014, &["5000 bytes"], |case| {
            made(case);
            dump(case, &["p".repeat(5000).as_str(), "b"], &[[0.5; 20]; 2]);
            on(case, &["index", "import", &case.path("dump").to_string_lossy()])
        }),
        refused("IX6", "fewer paths than vectors", Code::E7014, &["2 vectors, 1 paths"], |case| {
            made(case);
            dump(case, &["a"], &[[0.5; 20]; 2]);
            on(case, &["index", "import", &case.path("dump").to_string_lossy()])
        }),
        refused("IX6", "two million paths in a small file", Code::E7014, &["2000000"], |case| {
            made(case);
            dump(case, &vec!["a"; 2_000_000], &[[0.5; 20]]);
            on(case, &["index", "import", &case.path("dump").to_string_lossy()])
        }),
        refused("IX6", "a vector that is not finite", Code::E7014, &["row 1"], |case| {
            made(case);
            dump(case, &["a", "b"], &[[0.5; 20], [f32::NAN; 20]]);
            on(case, &["index", "import", &case.path("dump").to_string_lossy()])
        }),
        row("an open quote", &["byte 6"], &["search", "cat + \"open"]),
        row("an operator without a text", &["byte 5"], &["search", "cat +"]),
        row("a parenthesis too many", &["byte 10"], &["search", "cat OR dog)"]),
        row("only taken away", &["NOT"], &["search", "( - cat )"]),
        row("an empty query", &["empty"], &["search", " "]),
        row("a day that is none", &["soon"], &["search", "a", "--since", "soon"]),
        row("a month that is none", &["2024-13"], &["search", "a", "--until", "2024-13"]),
        row("no leap year", &["2023-02-29"], &["search", "a", "--until", "2023-02-29"]),
        row("30 February", &["2024-02-30"], &["search", "a", "--since", "2024-02-30"]),
        row("a quote alone", &["byte 2"], &["search", "a \"cat"]),
        row("a parenthesis alone", &["byte 2"], &["search", "a (cat"]),
        row("a weight that is none", &["byte 6", "weight"], &["search", "red + 1,5*car"]),
        usage("no number", &["search", "a", "--min-p", "nan"]),
        usage("a probability above 1", &["search", "a", "--min-p", "2"]),
        usage("a probability below 0", &["search", "a", "--min-p", "-1"]),
        usage("a cosine above 1", &["index", "duplicates", "--threshold", "97"]),
        refused("IX7", "a million terms", Code::E7006, &["64 KiB"], |case| {
            made(case);
            on(case, &["search", &"a OR ".repeat(25_000)])
        }),
        refused("IX7", "more terms than are joined", Code::E7006, &["256"], |case| {
            made(case);
            on(case, &["search", &format!("{}a", "a + ".repeat(2_000))])
        }),
        refused("IX7", "65 filters", Code::E7006, &["64"], |case| {
            made(case);
            on(case, &[&["search", "a"][..], &["--path=*"; 65]].concat())
        }),
        refused("IX7", "a pattern that is too long", Code::E7006, &["4096"], |case| {
            made(case);
            on(case, &["search", "a", "--path", &"*".repeat(5000)])
        }),
    ]
}

/// A dump as clip-retrieval lays it out.
fn dump(case: &Case, paths: &[&str], vectors: &[[f32; 20]]) {
    std::fs::create_dir_all(case.path("dump/img_emb")).unwrap();
    std::fs::create_dir_all(case.path("dump/metadata")).unwrap();
    let mut array = Vec::new();
    altclip::npy::write_f32(&mut array, &[vectors.len(), 20], vectors.as_flattened()).unwrap();
    case.file("dump/img_emb/img_emb_0.npy", array);
    let table = altclip_search::table(&[("image_path", paths.to_vec())]).unwrap();
    case.file("dump/metadata/metadata_0.parquet", table);
}

fn writers() -> Vec<Row> {
    vec![
        check("IX9", "a second writer is refused and a reader is not", |case| {
            let first = Index::open_to_write(Arc::new(RealFs), &made(case)).unwrap();
            let outcome = on(case, &["index", "update"]).go();
            let holder = format!("process {}", std::process::id());
            assert_eq!(outcome.status, Some(5), "{}", outcome.stderr);
            assert!(outcome.stderr.contains("E7008") && outcome.stderr.contains(&holder));
            on(case, &["search", "a"]).ok();
            drop(first);
            on(case, &["index", "update"]).ok();
        }),
        check("IX9", "the lock of a writer that is dead is none", |case| {
            std::fs::write(made(case).join("LOCK"), "process 1\n").unwrap();
            on(case, &["index", "update"]).ok();
        }),
        warned(
            "IX10",
            "a folder of pictures that is not mounted",
            Code::W7013,
            &["pictures"],
            |case| {
                made(case);
                std::fs::rename(case.path("pictures"), case.path("elsewhere")).unwrap();
                on(case, &["index", "update"])
            },
        ),
        warned("IX10", "a disk below it that is not mounted", Code::W7013, &["disk"], |case| {
            std::fs::create_dir_all(case.path("pictures/disk")).unwrap();
            case.file("pictures/disk/a.png", pattern(9, 9));
            made(case);
            std::fs::remove_file(case.path("pictures/disk/a.png")).unwrap();
            on(case, &["index", "update"])
        }),
        check("IX10", "the same, with the empty folder that it was mounted on", |case| {
            made(case);
            std::fs::rename(case.path("pictures"), case.path("elsewhere")).unwrap();
            std::fs::create_dir(case.path("pictures")).unwrap();
            let outcome = on(case, &["index", "update"]).ok();
            assert!(outcome.stderr.contains("[W7013]"), "{}", outcome.stderr);
            let status = on(case, &["index", "status", "--json"]).ok();
            assert_eq!(status.rows()[0]["images"], 3);
        }),
    ]
}

fn disks() -> Vec<Row> {
    vec![
        check(
            "IX8",
            "a full disk: searching goes on, forgetting works, writing comes back",
            full_disk,
        ),
        check("IX10", "a folder that cannot be written: searching goes on", |case| {
            made(case);
            read_only(case);
        }),
        check("IX10", "the same with an index that was not closed", |case| {
            killed(case);
            read_only(case);
        }),
    ]
}

/// On 24 MiB of memory as a disk, where this user may have one.
fn full_disk(case: &Case) {
    made(case);
    let disk = case.path("disk");
    std::fs::create_dir(&disk).unwrap();
    for n in 0..600 {
        case.file(&format!("pictures/more-{n}.png"), pattern(5 + n % 50, 5 + n / 50));
    }
    let script = r#"
        mount -t tmpfs -o size=24m none "$DISK" 2> /dev/null || { echo skipped; exit 0; }
        cp -r "$INDEX" "$DISK/index"
        run() { "$ALTCLIP" "$@" --index "$DISK/index" 2>> "$DISK/../said"; }
        head -c 64m /dev/zero > "$DISK/rest" 2> /dev/null
        run index add "$PICTURES"; echo "add $?"
        run search a > /dev/null; echo "search $?"
        run index remove "$PICTURES/0.png" > /dev/null; echo "remove $?"
        run index verify; echo "verify $?"
        rm "$DISK/rest"
        run index add "$PICTURES" > /dev/null; echo "again $?"
        run index verify
    "#;
    let run = |own: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(own).args(["--mount", "sh", "-c", script]);
        command.env("DISK", &disk).env("INDEX", case.path("index")).env("ALTCLIP", ALTCLIP);
        command.env("PICTURES", case.path("pictures")).env("ALTCLIP_THREADS", "2");
        let output = command.output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (!text.is_empty() && !text.starts_with("skipped")).then_some(text)
    };
    let Some(text) = run(&["--user", "--map-root-user"]).or_else(|| run(&[])) else {
        return println!("skipped: this user may not mount a disk");
    };
    let said = std::fs::read_to_string(case.path("said")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["add 6", "search 0", "remove 0"], "{text}{said}");
    // What was committed before the disk was full stays: nothing more on a quick machine.
    let kept = lines[3].strip_suffix(" pictures, every checksum fits").unwrap();
    assert!((2..602).contains(&kept.parse::<u32>().unwrap()), "{text}{said}");
    assert_eq!(lines[4], "verify 0", "{text}{said}");
    assert_eq!(lines[5..], ["again 0", "602 pictures, every checksum fits"], "{text}{said}");
    assert!(said.contains("error[E7007]"), "{said}");
}

/// Searches as a user who may not write, which a superuser has to become first.
fn read_only(case: &Case) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    fn all(dir: &Path, visit: &dyn Fn(&Path)) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all(&path, visit);
            }
            visit(&path);
        }
        visit(dir);
    }
    let (program, model) = (case.path("altclip"), case.path("model"));
    std::fs::copy(ALTCLIP, &program).unwrap();
    copy(case.model(), &model);
    let expected = on(case, &["search", "a", "--json"]).ok().stdout;
    all(case.dir(), &|path| mode(path, if path.is_dir() { 0o555 } else { 0o444 }));
    mode(&program, 0o555);
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        let is_root = std::fs::write(case.path("index/probe"), "").is_ok();
        if is_root {
            std::fs::remove_file(case.path("index/probe")).unwrap();
            command.args(nobody).arg(&program);
        } else {
            command = Command::new(&program);
        }
        command.args(args).arg("--index").arg(case.path("index")).arg("--model").arg(&model);
        command.env("ALTCLIP_THREADS", "2").env_remove("HOME").output()
    };
    let outcome = |args: &[&str]| {
        let output = as_nobody(args).ok()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some((output.status.code(), text(&output.stdout), text(&output.stderr)))
    };
    let (searched, updated) = (outcome(&["search", "a", "--json"]), outcome(&["index", "update"]));
    all(case.dir(), &|path| mode(path, 0o755));
    let (Some((status, stdout, stderr)), Some(updated)) = (searched, updated) else {
        return println!("skipped: no setpriv");
    };
    if matches!(status, Some(126 | 127)) {
        return println!("skipped: the folder of temporary files is not everybody's");
    }
    assert_eq!(status, Some(0), "{stderr}");
    assert_eq!(stdout.as_bytes(), expected, "{stderr}");
    assert_eq!(updated.0, Some(7), "{}", updated.2);
    assert!(
        updated.2.contains("error[E7009]") && updated.2.contains("reading goes on"),
        "{}",
        updated.2
    );
    assert!(OsStr::new(&updated.1).is_empty());
}
