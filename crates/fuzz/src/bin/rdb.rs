//! libFuzzer's program for [`fuzz::rdb`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::rdb(data));
