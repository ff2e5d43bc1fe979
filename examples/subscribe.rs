//! Prints what comes in on a topic filter, until the broker closes.
//!
//!     cargo run --example subscribe -- localhost 1883 "greetings/#"

#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::env::args;
use std::error::Error;
use std::time::Duration;

use outstation::config::{BrokerUrl, Scheme};
use outstation::mqtt::packet::{Filter, PropertyList};
use outstation::mqtt::{Event, Options, QoS, Reason, Session};
use outstation::net::{Dialer, Target};
use outstation::os::clock;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let [_, host, port, filter] = args().collect::<Vec<_>>().try_into().map_err(|_| "HOST PORT FILTER")?;
    let url = BrokerUrl { scheme: Scheme::Mqtt, host, port: port.parse()?, path: String::new() };

    let mut session = Session::new(10, 1 << 20);
    let options = Options { session_expiry_s: 0, ..Options::new("") };
    let limit = Duration::from_secs(10);
    let dialling = Dialer::new().connect(&Target::direct(url), &mut session, &options, true, limit).await;
    let (mut connection, connected) = dialling?;
    println!("connected to {:?}: {connected:?}", connection.peer());
    session.subscribe(clock::now(), &[Filter::new(&filter, QoS::ExactlyOnce)], &PropertyList::new())?;

    loop {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Message(message) => {
                    println!("{} {}", message.topic(), message.payload().escape_ascii());
                    // Only now may the broker forget it.
                    if let Some(id) = message.id {
                        session.acknowledge(id, Reason::SUCCESS);
                    }
                    session.recycle(message);
                }
                Event::Subscribed { reasons, .. } => println!("subscribed: {reasons:?}"),
                other => println!("{other:?}"),
            }
        }
        connection.turn(&mut session).await?;
    }
}
