//! The spool on a damaged disk; see `outstation_fuzz::spool`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outstation_fuzz::spool(data));
