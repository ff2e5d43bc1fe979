//! Which buses are opened and which are not, which units are asked, and what is said of a line that is not there.

use super::super::Mark;
use super::*;
use crate::config::{Environment, Input, bus_of_url, load};

fn settings(text: &str) -> Settings {
    let environment = Environment {
        host_name: "press-7".into(),
        default_data_dir: "/nowhere".into(),
        default_plugin_dirs: vec!["/nowhere".into()],
    };
    let loaded = load(&[Input { path: "agent.toml".into(), text: text.into() }], &environment);
    loaded.settings.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}

async fn look(url: &str, beside: &Beside) -> Vec<Rung> {
    let bus = bus_of_url(url).unwrap();
    super::bus(&settings(""), "b", &bus, beside).await
}

#[tokio::test]
async fn a_port_that_is_not_there_or_no_device() {
    let folder = tempfile::tempdir().unwrap();
    let found = look(&format!("rtu://{}", folder.path().join("ttyUSB0").display()), &Beside::Nobody).await;
    assert!(
        found[0].found.mark == Mark::Fail && found[0].found.text.contains("there is no"),
        "{}",
        found[0].found.text
    );
    let found = look(&format!("rtu://{}", folder.path().display()), &Beside::Nobody).await;
    assert!(
        found[0].found.mark == Mark::Fail && found[0].found.text.contains("is no device"),
        "{}",
        found[0].found.text
    );
}

/// This process has it open, and is not called `outstation`.
#[test]
fn a_port_in_use_is_said_with_who_uses_it() {
    let Ok(_open) = std::fs::File::open("/dev/ptmx") else { return };
    let bus = bus_of_url("rtu:///dev/ptmx").unwrap();
    let found = not_opened("b", &bus, &Beside::Nobody).expect("it is in use");
    assert!(found.mark == Mark::Fail && found.text.contains(&std::process::id().to_string()), "{}", found.text);
    assert!(held(Path::new("/dev/full")).is_none(), "nobody uses it");
    let bus = bus_of_url("rtu:///dev/full").unwrap();
    assert!(not_opened("b", &bus, &Beside::Nobody).is_none(), "it may be opened");
    let found = not_opened("b", &bus, &Beside::Unknown("no rights".into())).expect("nobody knows");
    assert!(found.mark == Mark::Wait && found.text.contains("not opened"), "{}", found.text);
}

/// What the running agent has is not opened, serial or not, however the rest of its URL is written.
#[test]
fn what_the_running_agent_has_is_left_alone() {
    let known = |state, units_aside: &[u8], last_error: Option<&str>| {
        let bus = status::Bus {
            name: "hall".into(),
            url: "tcp://10.0.0.1:502".into(),
            state,
            units_aside: units_aside.to_vec(),
            last_error: last_error.map(str::to_owned),
            ..status::Bus::default()
        };
        Beside::Agent(vec![bus])
    };
    let bus = bus_of_url("tcp://10.0.0.1").unwrap();
    let found = not_opened("b", &bus, &known(BusState::Connected, &[], None)).unwrap();
    assert!(found.mark == Mark::Ok && found.text.contains("`hall`"), "{}", found.text);
    let found = not_opened("b", &bus, &known(BusState::Connected, &[3, 9], None)).unwrap();
    assert!(found.mark == Mark::Fail && found.text.contains("3, 9"), "{}", found.text);
    let found = not_opened("b", &bus, &known(BusState::Waiting, &[], Some("refused"))).unwrap();
    assert!(found.mark == Mark::Fail && found.text.contains("refused"), "{}", found.text);
    let other = bus_of_url("tcp://10.0.0.2").unwrap();
    assert!(not_opened("b", &other, &known(BusState::Connected, &[], None)).is_none());
}

#[test]
fn units_are_those_that_the_configuration_names() {
    let settings = settings(
        r#"
[bus.b]
url = "tcp://10.0.0.1"
unit.7.timeout = "3s"
[source.one]
plugin = "modbus"
every = "1s"
allow.modbus.b = { units = [1, 2], read = ["input:30-39", "coil:0"] }
config = { bus = "b", unit = 99 }
[source.all]
plugin = "modbus"
every = "1s"
allow.modbus.b = true
config = { bus = "b", unit = 4, points = [{ unit_id = 5 }, { name = "x" }] }
[source.elsewhere]
plugin = "modbus"
every = "1s"
allow.modbus.b = true
config = { bus = "c", unit = 6 }
"#,
    );
    let found = units(&settings, "b", &settings.buses["b"]);
    let expected = [
        (1, Table::Input, 30),
        (2, Table::Input, 30),
        (4, Table::Holding, 0),
        (5, Table::Holding, 0),
        (7, Table::Holding, 0),
    ];
    assert!(found.into_iter().map(|(unit, (table, first))| (unit, table, first)).eq(expected));
}

#[tokio::test]
async fn a_device_that_does_not_listen() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    assert!(look(&url, &Beside::Nobody).await[0].found.mark == Mark::Ok);
    drop(listener);
    let found = look(&url, &Beside::Nobody).await;
    assert!(found[0].found.mark == Mark::Fail && found[0].found.text.contains("refused"), "{}", found[0].found.text);
}

#[tokio::test]
async fn a_line_that_is_not_there() {
    let found = line(&GpioLine::Offset { chip: "gpiochip99".into(), offset: 4 }, false).await;
    assert!(found.mark == Mark::Fail && found.advice.is_some(), "{}", found.text);
}
