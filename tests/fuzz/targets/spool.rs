#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outstation_fuzz::spool(data));
