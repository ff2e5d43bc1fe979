//! Brokers that are not mosquitto: RabbitMQ, NATS, aedes and amqtt, each with its state in a temporary folder.
//!
//! `packaging/setup-brokers` installs them. Where it could not, it left the reason, and the tests of that broker say it
//! and do nothing; a broker that is missing without a reason fails them. States: down, up.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::log::Log;
use super::net::{BROKER_PORT, free_localhost_port, own_address};

/// RabbitMQ takes seconds of processor time to start, and a machine that tests has little of it.
const UP_MAX: Duration = Duration::from_secs(240);

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rabbitmq,
    Nats,
    Aedes,
    Amqtt,
}

/// See the module.
#[derive(Debug)]
pub struct Other {
    kind: Kind,
    folder: TempDir,
    address: SocketAddr,
    program: PathBuf,
    /// What it logged, over all its lives.
    pub log: Log,
    child: Option<Child>,
    /// Erlang's name server, where one is needed.
    names: Option<(Child, u16)>,
    /// Where its parts would talk to each other; part of its name, which must stay.
    distribution: u16,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Rabbitmq => "rabbitmq",
            Self::Nats => "nats",
            Self::Aedes => "aedes",
            Self::Amqtt => "amqtt",
        }
    }

    fn program(self) -> Option<PathBuf> {
        let found = match self {
            Self::Rabbitmq => "/usr/lib/rabbitmq/bin/rabbitmq-server".into(),
            Self::Nats => ["/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"]
                .iter()
                .map(PathBuf::from)
                .find(|path| path.exists())?,
            Self::Aedes => newest("aedes-")?,
            Self::Amqtt => newest("amqtt-")?.join("bin/python"),
        };
        found.exists().then_some(found)
    }
}

/// Where `packaging/setup-brokers` puts things.
fn installed() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    cache.unwrap_or_else(home).join("outstation/brokers")
}

fn newest(prefix: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(installed()).into_iter().flatten().flatten().map(|entry| entry.path());
    let of_it = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    entries.filter(of_it).max()
}

impl Other {
    /// One that is down; `None`, said past the test's own output, where it could not be installed.
    pub fn new(kind: Kind) -> Option<Self> {
        let Some(program) = kind.program() else {
            let why = std::fs::read_to_string(installed().join(format!("{}.missing", kind.name())));
            let why = why.unwrap_or_else(|_| panic!("{kind:?} is missing: packaging/setup-brokers installs it"));
            let _nobody_listens =
                std::io::stderr().write_all(format!("SKIPPED: a test with {kind:?}: {}\n", why.trim()).as_bytes());
            return None;
        };
        let folder = tempfile::Builder::new().prefix("outstation-broker-").tempdir().expect("a temporary folder");
        let address = SocketAddr::from((own_address(), BROKER_PORT));
        Some(Self {
            kind,
            folder,
            address,
            program,
            log: Log::new(),
            child: None,
            names: None,
            distribution: free_localhost_port(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts it, and comes back when it takes connections.
    pub async fn up(&mut self) {
        assert!(self.child.is_none(), "the broker is up already");
        let mut command = match self.kind {
            Kind::Rabbitmq => self.rabbitmq(),
            Kind::Nats => self.nats(),
            Kind::Aedes => self.aedes(),
            Kind::Amqtt => self.amqtt(),
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        self.log.follow(child.stdout.take().expect("its stdout"));
        self.log.follow(child.stderr.take().expect("its stderr"));
        self.child = Some(child);
        let (address, child) = (self.address, self.child.as_mut().expect("it was just started"));
        let coming = async {
            while TcpStream::connect(address).await.is_err() {
                if let Some(status) = child.try_wait().expect("its state") {
                    panic!("the broker ended at its start with {status}");
                }
                super::pass(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(UP_MAX, coming).await.expect("the broker takes connections");
    }

    /// Stops it by SIGTERM, and comes back when it is gone.
    pub async fn down(&mut self) {
        let mut child = self.child.take().expect("the broker is down already");
        signal(&child, Signal::TERM);
        tokio::time::timeout(UP_MAX, child.wait()).await.expect("the broker ends").expect("its status");
    }

    /// Throws away what it kept. It must be down.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "only a broker that is down can be wiped");
        let _there_may_be_none = std::fs::remove_dir_all(self.state());
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("write a file of the broker");
        path
    }

    /// Quiet, on one processor, with a name server of its own, and nothing of the machine's configuration.
    fn rabbitmq(&mut self) -> Command {
        let names = self.names.take().unwrap_or_else(|| name_server(&self.log));
        let (amqp, distribution) = (free_localhost_port(), self.distribution);
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\nmqtt.listeners.tcp.1 = {}\nmqtt.allow_anonymous = true\n\
             mqtt.default_user = guest\nmqtt.default_pass = guest\nlog.console = true\nlog.console.level = info\n\
             log.file = false\n",
            self.address
        );
        let config = self.write("rabbit.conf", &config);
        let plugins = self.write("plugins", "[rabbitmq_mqtt].");
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.folder.path())
            .env("ERL_EPMD_PORT", names.1.to_string())
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_NODENAME", format!("outstation-{distribution}@localhost"))
            .env("RABBITMQ_MNESIA_DIR", self.state())
            .env("RABBITMQ_LOG_BASE", self.folder.path())
            .env("RABBITMQ_CONFIG_FILE", config)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
            );
        self.names = Some(names);
        command
    }

    fn nats(&self) -> Command {
        let (ip, port) = (self.address.ip(), self.address.port());
        let text = format!(
            "listen: \"{ip}:4222\"\nserver_name: outstation\njetstream {{ store_dir: \"{}\" }}\n\
             mqtt {{ host: \"{ip}\", port: {port} }}\n",
            self.state().display()
        );
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.write("nats.conf", &text));
        command
    }

    fn aedes(&self) -> Command {
        let text = "const aedes = require(process.argv[2] + '/node_modules/aedes')()\n\
                    require('net').createServer(aedes.handle).listen(+process.argv[4], process.argv[3])\n";
        let mut command = Command::new("node");
        command.arg(self.write("broker.js", text)).arg(&self.program);
        command.arg(self.address.ip().to_string()).arg(self.address.port().to_string());
        command
    }

    fn amqtt(&self) -> Command {
        let text = r#"
import asyncio, sys
from amqtt.broker import Broker
async def main():
    await Broker({
        "listeners": {"default": {"type": "tcp", "bind": sys.argv[1]}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }).start()
    await asyncio.Event().wait()
asyncio.run(main())
"#;
        let mut command = Command::new(&self.program);
        command.arg(self.write("broker.py", text)).arg(self.address.to_string());
        command
    }
}

fn name_server(log: &Log) -> (Child, u16) {
    let port = free_localhost_port();
    let mut command = Command::new("epmd");
    command.args(["-port", &port.to_string()]).env("ERL_EPMD_ADDRESS", "127.0.0.1").env("HOME", Path::new("/"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("epmd comes with Erlang");
    log.follow(child.stderr.take().expect("its stderr"));
    (child, port)
}

/// To the whole group: RabbitMQ's program is a script around another one.
fn signal(child: &Child, signal: Signal) {
    if let Some(group) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        let _gone = kill_process_group(group, signal);
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            signal(child, Signal::KILL);
        }
        self.log.show_on_failure("broker");
    }
}
