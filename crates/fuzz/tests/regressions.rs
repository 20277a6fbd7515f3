//! What the fuzzer has found once must not come back, and what it starts from must pass.

use std::fs;
use std::path::Path;

#[test]
fn what_was_found_before_passes() {
    for (name, target) in fuzz::TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(name);
        for file in fs::read_dir(dir).into_iter().flatten() {
            let path = file.expect("the directory can be read").path();
            eprintln!("{}", path.display());
            target(&fs::read(&path).expect("the file can be read"));
        }
    }
}

#[test]
fn real_snapshots_load_and_are_of_use() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rdb/tests/data");
    let mut files = 0;
    for file in fs::read_dir(dir).expect("the data is there") {
        let path = file.expect("the directory can be read").path();
        if path.extension().is_some_and(|extension| extension == "rdb") {
            fuzz::rdb(&fs::read(&path).expect("the file can be read"));
            files += 1;
        }
    }
    assert!(files >= 4, "{files} files");
}

#[test]
fn each_target_gets_somewhere() {
    // DUMP of `SET k 10`: version 9, type tag, value.
    fuzz::restore(b"\x09\x00\xc0\n");
    fuzz::resp(b"\x03*1\r\n$4\r\nPING\r\nSET a b\r\n*1000000000\r\n");
    fuzz::packed(b"\x00\x09\x00\x00\x00\x01\x00\x05\x01\xff");
}
