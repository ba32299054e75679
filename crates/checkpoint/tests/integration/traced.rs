//! Reading a file does nothing but read it: seen from outside, by `strace`.

use crate::forge::{Asm, PLAIN, file_of, state_dict, torch_zip};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The example `list`, which cargo builds together with these tests.
fn list_binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    profile.join("examples").join(format!("list{}", std::env::consts::EXE_SUFFIX))
}

fn list(file: &Path) -> Output {
    Command::new(list_binary()).arg(file).output().unwrap()
}

#[test]
fn the_example_lists_and_refuses() {
    let good = file_of(&torch_zip(&state_dict(&[("w", PLAIN)])).bytes);
    let output = list(good.path());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "w F32 [2, 3]\n");
    assert!(output.status.success());
    let call = Asm::new().global("posix", "system").text("true").raw(b"\x85R").stop();
    let bad = file_of(&torch_zip(&call).bytes);
    let output = list(bad.path());
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error[E2201] checkpoint:"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_malicious_file_is_only_read() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut probe = Command::new("strace");
    probe.args(["-e", "trace=execve", "-o"]).arg(log.path()).arg("true");
    let works = probe.output().is_ok_and(|output| output.status.success());
    if !works {
        println!("skipped: strace is missing or may not trace here");
        return;
    }
    for (module, name) in [("posix", "system"), ("builtins", "eval"), ("urllib.request", "urlopen")]
    {
        let call = Asm::new().global(module, name).text("touch /tmp/pwned").raw(b"\x85R").stop();
        let file = file_of(&torch_zip(&call).bytes);
        let output = Command::new("strace")
            // Cargo's paths would make the loader look for its libraries beside the program.
            .env_remove("LD_LIBRARY_PATH")
            .args(["-f", "-qq", "-e", "trace=execve,execveat,connect,socket,open,openat,unlink,unlinkat,fork,vfork,clone,clone3,rename,renameat2"])
            .arg("-o")
            .arg(log.path())
            .arg(list_binary())
            .arg(file.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(4));
        let trace = std::fs::read_to_string(log.path()).unwrap();
        // The start of the program opens its libraries and the system's own files.
        let system = |line: &str| {
            ["/etc/", "/lib", "/usr/lib", "/proc/self/", "/sys/fs/cgroup"]
                .iter()
                .any(|prefix| line.contains(&format!("\"{prefix}")))
        };
        let calls: Vec<&str> = trace
            .lines()
            .filter(|line| line.contains('(') && !line.contains("+++"))
            .filter(|line| !(line.contains("open") && system(line)))
            .collect();
        let own = file.path().to_str().unwrap();
        assert_eq!(calls.len(), 2, "{trace}");
        assert!(calls[0].contains("execve(") && calls[0].contains("/list"), "{trace}");
        assert!(calls[1].contains("open") && calls[1].contains(own), "{trace}");
        assert!(calls[1].contains("O_RDONLY"), "{trace}");
    }
}
