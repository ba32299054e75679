//! A folder of real pictures, where one is given: every file is decoded or refused with a code.

use altclip_image::{DecodeOptions, Preprocessor, decode, read_file};
use altclip_report::Diagnose;

#[test]
fn a_folder_of_pictures() {
    let Some(root) = std::env::var_os("ALTCLIP_TEST_DATA") else {
        println!("skipped: ALTCLIP_TEST_DATA is not set");
        return;
    };
    let folder = std::path::Path::new(&root).join("photos");
    let options = DecodeOptions::default();
    let clip = Preprocessor::clip(224);
    let (mut decoded, mut refused) = (0, 0);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let result = read_file(&path, &options).and_then(|bytes| decode(&bytes, &options));
        match result {
            Ok(rgb) => {
                assert!(clip.apply(&rgb).unwrap().iter().all(|value| value.is_finite()));
                decoded += 1;
            }
            Err(error) => {
                println!("{}: {}", path.display(), error.report());
                assert_eq!(error.report().code.exit_status(), 3);
                refused += 1;
            }
        }
    }
    println!("{decoded} decoded, {refused} refused");
    assert!(decoded > refused);
}
