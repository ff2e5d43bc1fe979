//! Frames against the specification's own examples, and against anything at all.

use proptest::prelude::*;
use tokio_modbus::Request;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect()
}

fn requests() -> Vec<Request<'static>> {
    vec![
        Request::ReadCoils(0x13, 19),
        Request::ReadDiscreteInputs(0xc4, 22),
        Request::ReadHoldingRegisters(0x6b, 3),
        Request::ReadInputRegisters(8, 1),
        Request::WriteSingleCoil(0xac, true),
        Request::WriteSingleRegister(1, 3),
        Request::WriteMultipleCoils(0x13, bits("1011001110").into()),
        Request::WriteMultipleRegisters(1, vec![0x000a, 0x0102].into()),
        Request::MaskWriteRegister(4, 0xf2, 0x25),
    ]
}

fn bits(text: &str) -> Vec<bool> {
    text.chars().map(|digit| digit == '1').collect()
}

/// The examples of the Modbus application protocol 1.1b3, sections 6.1 to 6.16.
#[test]
fn requests_and_replies_are_those_of_the_specification() {
    let words = |words: &[u16]| Reply::Data(Data::Registers(words.to_vec()));
    let expected = [
        ("01 00 13 00 13", "01 03 cd 6b 05", Reply::Data(Data::Bits(bits("1011001111010110101")))),
        ("02 00 c4 00 16", "02 03 ac db 35", Reply::Data(Data::Bits(bits("0011010111011011101011")))),
        ("03 00 6b 00 03", "03 06 02 2b 00 00 00 64", words(&[555, 0, 100])),
        ("04 00 08 00 01", "04 02 00 0a", words(&[10])),
        ("05 00 ac ff 00", "05 00 ac ff 00", Reply::Written),
        ("06 00 01 00 03", "06 00 01 00 03", Reply::Written),
        ("0f 00 13 00 0a 02 cd 01", "0f 00 13 00 0a", Reply::Written),
        ("10 00 01 00 02 04 00 0a 01 02", "10 00 01 00 02", Reply::Written),
        ("16 00 04 00 f2 00 25", "16 00 04 00 f2 00 25", Reply::Written),
    ];
    for (request, (asked, came, reply)) in requests().iter().zip(expected) {
        let frame = tcp(0x1234, 7, request);
        assert_eq!(frame[..2], [0x12, 0x34]);
        assert_eq!((frame[5] as usize, frame[6], &frame[7..]), (frame.len() - 6, 7, &hex(asked)[..]));
        let mut answer = hex("12 34 00 00 00 00 07");
        answer.extend(hex(came));
        answer[5] = u8::try_from(answer.len() - 6).expect("short");
        assert_eq!(from_tcp(&answer, Some(0x1234), 7, request), Ok(Found::Reply(reply.clone(), answer.len())));
        for cut in 0..answer.len() {
            assert_eq!(from_tcp(&answer[..cut], Some(0x1234), 7, request), Ok(Found::More));
        }
        let mut answer = vec![7];
        answer.extend(hex(came));
        answer.extend(crc(&answer).to_le_bytes());
        assert_eq!(rtu(7, request).len() + answer.len(), rtu_bytes(request));
        assert_eq!(from_rtu(&answer, 7, request), Ok(Found::Reply(reply, answer.len())));
        for cut in 0..answer.len() {
            assert_eq!(from_rtu(&answer[..cut], 7, request), Ok(Found::More));
        }
        let mut refused = vec![7, request.function_code().value() | 0x80, 2];
        refused.extend(crc(&refused).to_le_bytes());
        assert_eq!(from_rtu(&refused, 7, request), Ok(Found::Reply(Reply::Exception(2), 5)));
    }
}

/// Modbus over serial line 1.02, 6.2.2, and frames of devices' manuals.
#[test]
fn the_checksum_is_the_one_of_the_specification() {
    assert_eq!(crc(&[0x02, 0x07]).to_le_bytes(), [0x41, 0x12]);
    assert_eq!(rtu(0x11, &Request::ReadHoldingRegisters(0x6b, 3)), hex("11 03 00 6b 00 03 76 87"));
    assert_eq!(rtu(1, &Request::ReadHoldingRegisters(0, 10)), hex("01 03 00 00 00 0a c5 cd"));
}

#[test]
fn an_echo_of_something_else_is_no_confirmation() {
    let header = "00 01 00 00 00 06 07";
    for (request, came) in [
        (Request::WriteSingleRegister(1, 3), "06 00 01 00 04"),
        (Request::WriteSingleRegister(1, 3), "06 00 02 00 03"),
        (Request::WriteSingleCoil(1, true), "05 00 01 00 00"),
        (Request::WriteMultipleRegisters(1, vec![1, 2].into()), "10 00 01 00 01"),
    ] {
        let bytes = hex(&format!("{header} {came}"));
        assert!(from_tcp(&bytes, Some(1), 7, &request).is_err(), "{came}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_taken_was_there(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        which in 0..9_usize,
        unit in any::<u8>(),
    ) {
        let request = &requests()[which];
        for found in [from_tcp(&bytes, None, unit, request), from_rtu(&bytes, unit, request)].into_iter().flatten() {
            if let Found::Reply(_, used) = found {
                prop_assert!(used <= bytes.len());
            }
        }
        let _text = diagnosis(&bytes, unit);
    }

    /// One wrong bit anywhere in an RTU reply, and it is none.
    #[test]
    fn a_flipped_bit_is_noticed(words in prop::collection::vec(any::<u16>(), 3), bit in 0..(11 * 8_usize)) {
        let mut frame = vec![7, 3, 6];
        put(&mut frame, &words);
        frame.extend(crc(&frame).to_le_bytes());
        frame[bit / 8] ^= 1 << (bit % 8);
        let found = from_rtu(&frame, 7, &Request::ReadHoldingRegisters(0, 3));
        prop_assert!(!matches!(found, Ok(Found::Reply(..))), "{found:?}");
    }
}
