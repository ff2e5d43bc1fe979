//! The reader of the configuration; see `outstation_fuzz::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outstation_fuzz::config(data));
