//! The packet decoder of both versions; see `outstation_fuzz::mqtt_decode`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outstation_fuzz::mqtt_decode(data));
