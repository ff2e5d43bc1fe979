//! What is shown of registers, and how ranges become requests.

use super::*;

fn holding(first: u16, registers: &[u16]) -> (Read, Data) {
    let count = u16::try_from(registers.len()).unwrap();
    (Read { table: Table::Holding, first, count }, Data::Registers(registers.to_vec()))
}

#[test]
fn every_decoding_stands_side_by_side() {
    let shown = page::page("tcp://10.0.0.9", 3, &[holding(0, &[0x0000, 0x4148, 0x0001, 0xffff])]);
    for expected in [
        "unit 3 at tcp://10.0.0.9",
        "holding:0      40001   0x0000  0000 0000 0000 0000",
        "holding:1      40002   0x4148  0100 0001 0100 1000",
        "  order    u16    i16",
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }
    // 12.5 in one order of the first two registers, and nowhere else.
    let line = shown.lines().find(|line| line.starts_with("  CDAB")).unwrap();
    assert!(line.split_whitespace().any(|cell| cell == "12.5"), "{line}");
    assert_eq!(shown.lines().filter(|line| line.contains(" 12.5 ")).count(), 1, "{shown}");
}

#[test]
fn the_toml_is_a_configuration() {
    let bits = (Read { table: Table::Coil, first: 7, count: 2 }, Data::Bits(vec![true, false]));
    let shown = page::page("tcp://10.0.0.9", 3, &[holding(0, &[0x0000, 0x4148, 17]), bits]);
    let toml = shown.split_once("# To paste").unwrap().1;
    let toml = &format!("#{toml}");
    let parsed: toml::Table = toml.parse().unwrap();
    let points = parsed["source"]["device"]["config"]["points"].as_array().unwrap();
    assert_eq!(points.len(), 4, "{toml}");
    assert_eq!((points[0]["type"].as_str(), points[0]["order"].as_str()), (Some("f32"), Some("CDAB")));
    assert_eq!((points[1]["address"].as_str(), points[1]["type"].as_str()), (Some("holding:2"), Some("u16")));
    assert_eq!(points[3]["address"].as_str(), Some("coil:8"));
    let grant = parsed["source"]["device"]["allow"]["modbus"]["device"]["read"].as_array().unwrap();
    assert_eq!(grant[0].as_str(), Some("holding:0-2"));
}

#[test]
fn texts_are_found() {
    let shown = page::page("tcp://x", 1, &[holding(10, &[0x5055, 0x4d50, 0x2031])]);
    assert!(shown.contains("holding:10-12 as text, ABCD: \"PUMP 1\""), "{shown}");
    assert!(shown.contains("BADC: \"UPPM1 \"") || !shown.contains("BADC: \"PUMP"), "{shown}");
}

#[test]
fn programs_get_every_decoding() {
    let (read, data) = holding(0, &[0x7fc0, 0x0000]);
    let json = page::block_json(read, &data);
    let decodings = json["points"][0]["decodings"].as_array().unwrap();
    assert_eq!(decodings.len(), 4 * 5, "two registers: five types, four orders");
    let nan = decodings.iter().find(|one| one["type"] == "f32" && one["order"] == "ABCD").unwrap();
    assert!(nan["value"].is_null());
    assert_eq!((json["points"][1]["sheet"].as_str(), json["range"].as_str()), (Some("40002"), Some("holding:0-1")));
}

#[test]
fn long_ranges_are_several_requests_and_one_block() {
    let range = AddressRange::parse("holding:0-299").unwrap();
    let counts: Vec<u16> = requests(&range).iter().map(|read| read.count).collect();
    assert_eq!(counts, [125, 125, 50]);
    let blocks =
        requests(&range).into_iter().map(|read| holding(read.first, &vec![1; usize::from(read.count)])).collect();
    let joined = joined(blocks);
    assert_eq!((joined.len(), joined[0].0.count, joined[0].1.len()), (1, 300, 300));
    assert_eq!(requests(&AddressRange::parse("holding:65535").unwrap()).len(), 1);
    assert_eq!(requests(&AddressRange::parse("coil:0-65535").unwrap()).len(), 33);
}
