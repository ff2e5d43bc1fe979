//! A broker of the least possible kind: it takes one client, acknowledges out of a prebuilt buffer, one write a read, and
//! counts messages. It looks at types, lengths and identifiers, at nothing else.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// Acknowledgements written at once: as many as can come in one read.
const ANSWERS_MAX: usize = READ_BYTES / 4;

/// Listens; the thread gives how many messages came.
pub fn start(receive_maximum: u16) -> (SocketAddr, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    (address, std::thread::spawn(move || serve(&listener, receive_maximum)))
}

fn serve(listener: &TcpListener, receive_maximum: u16) -> usize {
    let (mut stream, _) = listener.accept().expect("a client");
    stream.set_nodelay(true).expect("an option");
    let mut answers = [0x40, 2, 0, 0].repeat(ANSWERS_MAX);
    let mut buffer = vec![0; READ_BYTES];
    let (mut filled, mut messages) = (0, 0);
    loop {
        let count = match stream.read(&mut buffer[filled..]) {
            Ok(count @ 1..) => count,
            _ => return messages,
        };
        filled += count;
        let (mut at, mut said) = (0, 0);
        while let Some((first, body, end)) = packet(&buffer[at..filled]) {
            let packet = &buffer[at..at + end];
            let id = match first >> 4 {
                1 => {
                    let [high, low] = receive_maximum.to_be_bytes();
                    stream.write_all(&[0x20, 6, 0, 0, 3, 0x21, high, low]).expect("CONNACK");
                    None
                }
                3 => {
                    messages += 1;
                    let topic = usize::from(u16::from_be_bytes([packet[body], packet[body + 1]]));
                    let id = body + 2 + topic;
                    match first & 6 {
                        0 => None,
                        2 => Some((0x40, packet[id], packet[id + 1])),
                        _ => Some((0x50, packet[id], packet[id + 1])),
                    }
                }
                6 => Some((0x70, packet[body], packet[body + 1])),
                12 => {
                    stream.write_all(&[0xD0, 0]).expect("PINGRESP");
                    None
                }
                _ => None,
            };
            if let Some((kind, high, low)) = id {
                answers[said] = kind;
                answers[said + 2] = high;
                answers[said + 3] = low;
                said += 4;
            }
            at += end;
        }
        if said > 0 && stream.write_all(&answers[..said]).is_err() {
            return messages;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
    }
}

/// First byte, where the body begins, where the packet ends.
fn packet(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (mut length, mut body) = (0, 1);
    loop {
        let byte = *bytes.get(body)?;
        length |= usize::from(byte & 0x7F) << (7 * (body - 1));
        body += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (body + length <= bytes.len()).then_some((bytes[0], body, body + length))
}
