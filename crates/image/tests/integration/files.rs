//! IM18 and IM16: what is not a regular file, and names that lie.

use std::process::Command;

use altclip_image::{DecodeOptions, Error, decode, read_file};
use altclip_report::{Code, Diagnose};

use crate::support::{png_of, synthetic};

#[test]
fn im18_only_regular_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let options = DecodeOptions::default();
    let kind = |path: &std::path::Path| match read_file(path, &options) {
        Err(error) => {
            assert_eq!(error.report().code, Code::E4201);
            match error {
                Error::NotRegular { kind, .. } => kind,
                other => panic!("{other:?}"),
            }
        }
        Ok(_) => panic!("{} was read", path.display()),
    };
    assert_eq!(kind(folder.path()), "a folder");
    if cfg!(unix) {
        assert_eq!(kind("/dev/zero".as_ref()), "a device");
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // Nobody writes to the pipe: a reader that waits would wait for ever.
        assert_eq!(kind(&pipe), "a pipe");
        let link = folder.path().join("link.png");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        assert_eq!(kind(&link), "a pipe");
    }
    let missing = read_file(&folder.path().join("missing.png"), &options).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }));
    assert_eq!(missing.report().code, Code::E4201);
}

#[test]
fn a_file_over_the_limit_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.jpg");
    // A sparse file: a terabyte would not fit into memory.
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let error = read_file(&path, &DecodeOptions::default()).unwrap_err();
    assert_eq!(error.report().code, Code::E4202);
    assert!(error.report().sentence().contains("large.jpg"));
}

#[test]
fn im16_the_content_counts_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("鳥 picture.jpg");
    let image = synthetic(4, 3);
    std::fs::write(&path, png_of(&image)).unwrap();
    let options = DecodeOptions::default();
    assert_eq!(decode(&read_file(&path, &options).unwrap(), &options).unwrap(), image);
}
