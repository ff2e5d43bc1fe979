//! Buses against devices that none of us wrote (pymodbus, libmodbus), over TCP, RTU over TCP, and serial lines: every
//! function, exceptions, a unit that is not there, and an adapter that is unplugged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outstation::config::{WriteFunctions, bus_of_url};
use outstation::device::modbus::{Answer, Buses, Call, Data, Error, Line, Read, Table, What, Write, Written, probe};

use crate::harness::real_device::{Make, RealDevice, SerialLine};
use crate::harness::{SOON, Site, pass};

const UNIT: u8 = 7;

struct Bench {
    buses: Buses,
}

impl Bench {
    async fn new(url: &str, write: WriteFunctions) -> Self {
        let mut bus = bus_of_url(url).unwrap();
        // Long enough for a machine that has much else to do.
        bus.defaults.timeout = Duration::from_secs(5);
        bus.defaults.write = write;
        let buses = Buses::new();
        buses.apply(&BTreeMap::from([("b".to_owned(), bus)])).await;
        Self { buses }
    }

    async fn ask(&self, unit: u8, what: What) -> Answer {
        self.buses.caller("test").call("b", Call { unit, timeout: None, within: SOON, what }).await.0
    }

    async fn read(&self, table: Table, first: u16, count: u16) -> Result<Data, Error> {
        let reads: Arc<[Read]> = [Read { table, first, count }].into();
        match self.ask(UNIT, What::Read(reads)).await {
            Answer::Read(mut results) => results.pop().unwrap(),
            Answer::Write(_) => panic!("a write for a read"),
        }
    }

    async fn write(&self, write: Write) -> Result<Written, Error> {
        match self.ask(UNIT, What::Write { write, before: true, verify: true }).await {
            Answer::Write(written) => written,
            Answer::Read(_) => panic!("a read for a write"),
        }
    }
}

fn words(first: u16, count: u16) -> Data {
    Data::Registers((first..first + count).collect())
}

fn bits(first: u16, count: u16, every: u16) -> Data {
    Data::Bits((first..first + count).map(|n| n % every == 0).collect())
}

/// F-37: the first address is 0 and the last is the last; every function does what it says.
async fn every_function(url: &str, make: Make) {
    for write in [WriteFunctions::Single, WriteFunctions::Multiple] {
        let bench = Bench::new(url, write).await;
        assert_eq!(bench.read(Table::Holding, 0, 1).await, Ok(words(7000, 1)), "{url}");
        assert_eq!(bench.read(Table::Holding, 199, 1).await, Ok(words(7199, 1)), "{url}");
        assert_eq!(bench.read(Table::Holding, 50, 125).await, Ok(words(7050, 125)), "{url}");
        assert_eq!(bench.read(Table::Input, 0, 150).await, Ok(words(9000, 150)), "{url}, in two requests");
        assert_eq!(bench.read(Table::Coil, 100, 37).await, Ok(bits(100, 37, 3)), "{url}");
        assert_eq!(bench.read(Table::Discrete, 1, 199).await, Ok(bits(1, 199, 2)), "{url}");
        assert_eq!(bench.read(Table::Holding, 200, 1).await, Err(Error::Exception(2)), "{url}");
        assert_eq!(bench.read(Table::Discrete, 250, 2).await, Err(Error::Exception(2)), "{url}");

        let written = bench.write(Write::Registers(20, vec![0x1234, 0xffff])).await.unwrap();
        assert_eq!(written.before, Some(words(7020, 2)), "{url}");
        assert_eq!(written.after, Some(Data::Registers(vec![0x1234, 0xffff])), "{url}");
        let written = bench.write(Write::Coils(30, vec![false, true, true])).await.unwrap();
        assert_eq!(written.before, Some(bits(30, 3, 3)), "{url}");
        assert_eq!(written.after, Some(Data::Bits(vec![false, true, true])), "{url}");
        let written = bench.write(Write::Mask(20, 0x00f2, 0x0025)).await.unwrap();
        assert_eq!(written.after, Some(Data::Registers(vec![0x1234 & 0x00f2 | 0x0025 & !0x00f2])), "{url} {make:?}");
        assert_eq!(bench.write(Write::Registers(200, vec![1])).await, Err(Error::Exception(2)), "{url}");
        // As it was, for the second turn.
        bench.write(Write::Registers(20, vec![7020, 7021])).await.unwrap();
        bench.write(Write::Coils(30, vec![true, false, false])).await.unwrap();
        let status = bench.buses.status().remove(0);
        assert_eq!((status.timeouts, status.errors, status.connects), (0, 0, 1), "{url}: {status:?}");
        bench.buses.apply(&BTreeMap::new()).await;
    }
    let bus = bus_of_url(url).unwrap();
    let mut line = Line::open(&bus).await.unwrap();
    assert_eq!(probe(&mut line, UNIT, Table::Holding, 3).await.unwrap(), "answers, holding:3 is 7003");
    assert_eq!(probe(&mut line, UNIT, Table::Holding, 999).await.unwrap(), "answers exception 2 to holding:999");
    let read = Read { table: Table::Input, first: 3, count: 2 };
    assert_eq!(line.read(UNIT, read).await, Ok(words(9003, 2)));
}

#[tokio::test]
async fn pymodbus_over_tcp() {
    let Some(device) = RealDevice::tcp(Make::Pymodbus, false).await else { return };
    every_function(&device.url, Make::Pymodbus).await;
}

#[tokio::test]
async fn pymodbus_with_rtu_over_tcp() {
    let Some(device) = RealDevice::tcp(Make::Pymodbus, true).await else { return };
    every_function(&device.url, Make::Pymodbus).await;
}

#[tokio::test]
async fn libmodbus_over_tcp() {
    let Some(device) = RealDevice::tcp(Make::Libmodbus, false).await else { return };
    every_function(&device.url, Make::Libmodbus).await;
}

#[tokio::test]
async fn pymodbus_on_a_serial_line() {
    let folder = tempfile::tempdir().unwrap();
    let line = SerialLine::plug(folder.path()).await;
    let Some(device) = RealDevice::serial(Make::Pymodbus, &line).await else { return };
    every_function(&device.url, Make::Pymodbus).await;
}

#[tokio::test]
async fn libmodbus_on_a_serial_line() {
    let folder = tempfile::tempdir().unwrap();
    let line = SerialLine::plug(folder.path()).await;
    let Some(device) = RealDevice::serial(Make::Libmodbus, &line).await else { return };
    every_function(&device.url, Make::Libmodbus).await;
}

/// F-36: an adapter is unplugged and plugged in again.
#[tokio::test]
async fn a_serial_adapter_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let line = SerialLine::plug(folder.path()).await;
    let Some(device) = RealDevice::serial(Make::Libmodbus, &line).await else { return };
    let bench = Bench::new(&device.url, WriteFunctions::Single).await;
    assert_eq!(bench.read(Table::Holding, 5, 2).await, Ok(words(7005, 2)));
    drop(device);
    line.unplug().await;
    let gone = bench.read(Table::Holding, 5, 2).await;
    assert!(matches!(gone, Err(Error::Link(_))), "{gone:?}");
    for _ in 0..3 {
        assert!(bench.read(Table::Holding, 5, 2).await.is_err());
        pass(Duration::from_millis(300)).await;
    }
    let line = SerialLine::plug(folder.path()).await;
    let _device = RealDevice::serial(Make::Libmodbus, &line).await.unwrap();
    let back = async {
        while bench.read(Table::Holding, 5, 2).await != Ok(words(7005, 2)) {
            pass(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, back).await.expect("it goes on by itself");
}

/// `outstation probe` as a person uses it, against each of them.
async fn probed(url: &str) {
    let site = Site::new("", &[]);
    let arguments = ["probe", "modbus", url, "--unit", "7", "--read", "holding:5-6", "--read", "coil:0-2"];
    let shown = site.outcome(&arguments).await;
    shown.expect_code(0);
    // 7005 and 7006, alone and as one number; every third coil is on.
    for part in ["holding:5", "40006", "0x1B5D", "7005", "459086686", "# To paste"] {
        assert!(shown.stdout.contains(part), "{url}: {part}\n{}", shown.stdout);
    }
    let coils = shown.stdout.lines().filter(|line| line.starts_with("coil:")).map(|line| line.contains("true"));
    assert_eq!(coils.collect::<Vec<_>>(), [true, false, false], "{url}\n{}", shown.stdout);
    let beyond = site.outcome(&["probe", "modbus", url, "--unit", "7", "--read", "holding:300"]).await;
    beyond.expect_code(1).expect_said(&["exception 2"]);
}

#[tokio::test]
async fn probe_of_real_devices() {
    for (make, is_rtu) in [(Make::Pymodbus, false), (Make::Pymodbus, true), (Make::Libmodbus, false)] {
        if let Some(device) = RealDevice::tcp(make, is_rtu).await {
            probed(&device.url).await;
        }
    }
    for make in [Make::Pymodbus, Make::Libmodbus] {
        let folder = tempfile::tempdir().unwrap();
        let line = SerialLine::plug(folder.path()).await;
        if let Some(device) = RealDevice::serial(make, &line).await {
            probed(&device.url).await;
        }
    }
}
