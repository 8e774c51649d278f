//! As much of AMQP 0-9-1 by hand as it takes to publish headers that no client library can write.

use std::io::{Read, Write};
use std::net::TcpStream;

pub struct RawAmqp(TcpStream);

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

fn short(text: &str) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(text.len()).unwrap()];
    bytes.extend(text.as_bytes());
    bytes
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let mut all = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    all.extend(bytes);
    all
}

/// The method's class and number, and its arguments.
fn method(class: u16, number: u16, arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = [class.to_be_bytes(), number.to_be_bytes()].concat();
    bytes.extend(arguments.concat());
    bytes
}

impl RawAmqp {
    /// `amqp://user:password@host:port/vhost`
    pub fn connect(url: &str) -> Self {
        let (login, place) = url.strip_prefix("amqp://").unwrap().split_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let (address, vhost) = place.split_once('/').unwrap();
        let mut raw = Self(TcpStream::connect(address).unwrap());
        raw.0.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
        raw.expect(10, 10);
        let plain = format!("\0{user}\0{password}");
        let start_ok = [long(b""), short("PLAIN"), long(plain.as_bytes()), short("en_US")].concat();
        raw.send(METHOD, 0, &method(10, 11, &[&start_ok]));
        let tune = raw.expect(10, 30);
        raw.send(METHOD, 0, &method(10, 31, &[&tune]));
        let open = [short(&vhost.replace("%2f", "/")), short(""), vec![0]].concat();
        raw.send(METHOD, 0, &method(10, 40, &[&open]));
        raw.expect(10, 41);
        raw.send(METHOD, 1, &method(20, 10, &[&short("")]));
        raw.expect(20, 11);
        raw.send(METHOD, 1, &method(85, 10, &[&[0]]));
        raw.expect(85, 11);
        raw
    }

    fn send(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend(payload);
        frame.push(0xce);
        self.0.write_all(&frame).unwrap();
    }

    /// The arguments of the next method, which has to be this one.
    fn expect(&mut self, class: u16, number: u16) -> Vec<u8> {
        loop {
            let mut head = [0; 7];
            self.0.read_exact(&mut head).unwrap();
            let size = u32::from_be_bytes(head[3..].try_into().unwrap()) as usize;
            let mut payload = vec![0; size + 1];
            self.0.read_exact(&mut payload).unwrap();
            // A heartbeat is not what is waited for.
            if head[0] == METHOD {
                let said = (
                    u16::from_be_bytes([payload[0], payload[1]]),
                    u16::from_be_bytes([payload[2], payload[3]]),
                );
                assert_eq!(said, (class, number), "{}", String::from_utf8_lossy(&payload));
                return payload[4..size].to_vec();
            }
        }
    }

    /// Publishes with this table of headers, as it is on the wire, and waits for the confirm.
    pub fn publish(&mut self, exchange: &str, key: &str, body: &[u8], headers: &[u8]) {
        let publish = [vec![0, 0], short(exchange), short(key), vec![0]].concat();
        self.send(METHOD, 1, &method(60, 40, &[&publish]));
        let mut header = [60_u16.to_be_bytes(), 0_u16.to_be_bytes()].concat();
        header.extend((body.len() as u64).to_be_bytes());
        // Headers and the delivery mode.
        header.extend((1_u16 << 13 | 1 << 12).to_be_bytes());
        header.extend(long(headers));
        header.push(2);
        self.send(HEADER, 1, &header);
        self.send(BODY, 1, body);
        self.expect(60, 80);
    }
}

/// A table with one header: an array in an array, and so on.
pub fn nested_arrays(levels: usize) -> Vec<u8> {
    let mut table = short("deep");
    for level in (0..levels).rev() {
        table.push(b'A');
        table.extend(u32::try_from(level * 5).unwrap().to_be_bytes());
    }
    table
}

/// The same with tables, whose names are as short as they may be.
pub fn nested_tables(levels: usize) -> Vec<u8> {
    let mut table = short("deep");
    for level in (0..levels).rev() {
        table.push(b'F');
        table.extend(u32::try_from(level * 7).unwrap().to_be_bytes());
        if level > 0 {
            table.extend(short("a"));
        }
    }
    table
}
