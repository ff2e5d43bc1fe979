#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outstation_fuzz::mqtt_session(data));
