//! Publishes one message at QoS 1 and waits until the broker has it.
//!
//!     cargo run --example publish -- localhost 1883 greetings "hello"

#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::env::args;
use std::error::Error;
use std::time::Duration;

use outstation::config::{BrokerUrl, Scheme};
use outstation::mqtt::packet::{Properties, Publish};
use outstation::mqtt::{Event, Options, PacketId, QoS, Reason, Session};
use outstation::net::{Dialer, Target};
use outstation::os::clock;

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let [_, host, port, topic, text] = args().collect::<Vec<_>>().try_into().map_err(|_| "HOST PORT TOPIC TEXT")?;
    let url = BrokerUrl { scheme: Scheme::Mqtt, host, port: port.parse()?, path: String::new() };

    // The session is the protocol, the connection moves its bytes.
    let mut session = Session::new(10, 1 << 20);
    let options = Options { session_expiry_s: 0, ..Options::new("") };
    let dialling = Dialer::new().connect(&Target::direct(url), &mut session, &options, true, LIMIT).await;
    let (mut connection, _) = dialling?;

    let message = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: &topic,
        id: PacketId::new(1),
        properties: Properties::EMPTY,
        payload: text.as_bytes(),
    };
    session.publish(clock::now(), &message)?;

    let reason = 'acknowledged: loop {
        connection.turn(&mut session).await?;
        while let Some(event) = session.poll_event() {
            if let Event::Acknowledged { reason, .. } = event {
                break 'acknowledged reason;
            }
        }
    };
    println!("{topic}: {reason}");
    session.disconnect(Reason::SUCCESS, None);
    connection.close(&mut session, LIMIT).await?;
    Ok(())
}
