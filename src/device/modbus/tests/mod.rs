//! The owner of a bus against a scripted device in memory, on the runtime's paused clock: what is measured here is
//! virtual time, and exact.

#[path = "../../../../tests/it/harness/modbus_device.rs"]
#[allow(
    dead_code,
    missing_docs,
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "shared with the tests of the whole"
)]
mod device;

mod life;
mod replies;
mod rhythm;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use device::{Act, Device, untouched};

use super::call::{Answer, Call, What};
use super::wire::{Dial, Dialling, Stream};
use super::{Buses, Caller, Data, Error, Read, Table, Write, Written};
use crate::config::{Bus, bus_of_url};

/// A bus whose way to the device is a pipe in memory.
struct Bench {
    buses: Buses,
    device: Device,
    way: Arc<Way>,
}

struct Way {
    device: Device,
    is_cut: AtomicBool,
    dials: AtomicUsize,
}

impl Dial for Way {
    fn dial(&self) -> Dialling<'_> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            if self.is_cut.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(1024);
            tokio::spawn(self.device.clone().serve(theirs));
            let stream: Box<dyn Stream> = Box::new(ours);
            Ok(stream)
        })
    }
}

const TCP: &str = "tcp://device";
const RTU: &str = "rtu:///dev/ttyS9?baud=19200";
const RTU_OVER_TCP: &str = "rtu+tcp://device";

impl Bench {
    /// A bus named `b`, changed as the test wants it.
    async fn new(url: &str, change: impl FnOnce(&mut Bus)) -> Self {
        let mut bus = bus_of_url(url).expect("a url");
        change(&mut bus);
        let device = Device::new(url.starts_with("rtu"));
        let way = Arc::new(Way { device: device.clone(), is_cut: AtomicBool::new(false), dials: AtomicUsize::new(0) });
        let bench = Self { buses: Buses::new(), device, way };
        bench.apply(&bus).await;
        bench
    }

    async fn apply(&self, bus: &Bus) {
        let wanted = BTreeMap::from([("b".to_owned(), bus.clone())]);
        let way = Arc::clone(&self.way);
        self.buses.apply_with(&wanted, move |_| Arc::clone(&way) as Arc<dyn Dial>).await;
    }

    fn caller(&self, source: &str) -> Caller {
        self.buses.caller(source)
    }

    async fn read(&self, unit: u8, first: u16, count: u16) -> Result<Data, Error> {
        read(&self.caller("one"), unit, first, count).await
    }

    async fn write(&self, unit: u8, write: Write, verify: bool) -> Result<Written, Error> {
        let what = What::Write { write, before: true, verify };
        match self.caller("one").call("b", call(unit, what)).await.0 {
            Answer::Write(written) => written,
            Answer::Read(_) => panic!("a read for a write"),
        }
    }
}

fn call(unit: u8, what: What) -> Call {
    Call { unit, timeout: None, within: Duration::from_secs(50), what }
}

async fn read(caller: &Caller, unit: u8, first: u16, count: u16) -> Result<Data, Error> {
    let reads: Arc<[Read]> = [Read { table: Table::Holding, first, count }].into();
    match caller.call("b", call(unit, What::Read(reads))).await.0 {
        Answer::Read(mut results) => results.pop().expect("a result"),
        Answer::Write(_) => panic!("a write for a read"),
    }
}

/// What the device's holding registers hold.
fn registers(unit: u8, first: u16, count: u16) -> Data {
    Data::Registers((first..first + count).map(|address| untouched(unit, address)).collect())
}

#[expect(clippy::disallowed_methods, reason = "a test's own clock")]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
