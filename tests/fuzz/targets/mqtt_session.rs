//! A session under an arbitrary broker; see `outstation_fuzz::mqtt_session`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outstation_fuzz::mqtt_session(data));
