//! The reader of batches; see `outstation_fuzz::batch`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outstation_fuzz::batch(data));
