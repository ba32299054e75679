//! A folder of real pictures, where one is given: every file is decoded or refused with a code.

use altclip_image::{DecodeOptions, Preprocessor, decode, decode_and_preprocess, read_file};
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
        let bytes = read_file(&path, &options);
        let direct = bytes.as_ref().ok().map(|bytes| {
            let mut values = vec![0.0; 3 * 224 * 224];
            decode_and_preprocess(bytes, &options, &clip, &mut values).map(|()| values)
        });
        match bytes.and_then(|bytes| decode(&bytes, &options)) {
            Ok(rgb) => {
                let values = clip.apply(&rgb).unwrap();
                assert!(values.iter().all(|value| value.is_finite()));
                assert_eq!(direct.unwrap().unwrap(), values, "{}", path.display());
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
