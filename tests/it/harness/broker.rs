//! A mosquitto of the test's own: configuration, state and certificates in a temporary folder.
//!
//! States: down, up. It goes down by SIGTERM only, because one that is killed loses what it had acknowledged. It is
//! set up so that it drops nothing by itself: queues without limit, state saved at the end of each life.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::log::Log;
use super::net::{BROKER_PORT, own_address};
use super::tls::Identity;
use super::{SOON, wait_until};

/// See the module.
#[derive(Debug)]
pub struct Broker {
    folder: TempDir,
    address: SocketAddr,
    /// What it logged, over all its lives.
    pub log: Log,
    child: Option<Child>,
}

impl Broker {
    /// One that is down, on an address of its own.
    pub fn new() -> Self {
        Self::with("")
    }

    /// One that is down, with more lines in its configuration.
    pub fn with(more: &str) -> Self {
        Self::set_up(SocketAddr::from((own_address(), BROKER_PORT)), more)
    }

    /// One that is down, speaks TLS on `localhost`, and shows `identity`. It has a plain listener as well, at
    /// [`Self::address`].
    pub fn with_tls(identity: &Identity, tls_port: u16, more: &str) -> Self {
        let broker = Self::new();
        let path = broker.folder.path();
        std::fs::write(path.join("server.pem"), &identity.certificate).expect("write the certificate");
        std::fs::write(path.join("server.key"), &identity.key).expect("write the key");
        let shown = path.display();
        let listener = format!(
            "listener {tls_port} {}\ncertfile {shown}/server.pem\nkeyfile {shown}/server.key\n{more}\n",
            Ipv4Addr::LOCALHOST
        );
        broker.append_configuration(&listener);
        broker
    }

    /// One that is down, with another listener beside its plain one.
    pub fn with_listener(lines: &str) -> Self {
        let broker = Self::new();
        broker.append_configuration(&format!("{lines}\n"));
        broker
    }

    fn set_up(address: SocketAddr, more: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("outstation-broker-").tempdir().expect("a temporary folder");
        let broker = Self { folder, address, log: Log::new(), child: None };
        broker.append_configuration(&format!(
            "user root\npersistence true\npersistence_location {}/\nautosave_interval 60\nsys_interval 0\n\
             max_queued_messages 0\nmax_inflight_messages 1000\nset_tcp_nodelay true\nallow_anonymous true\n\
             log_dest stderr\nlog_type all\n{more}\nlistener {} {}\n",
            broker.folder.path().display(),
            address.port(),
            address.ip(),
        ));
        broker
    }

    fn append_configuration(&self, text: &str) {
        use std::io::Write as _;
        let path = self.folder.path().join("mosquitto.conf");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("open mosquitto.conf");
        file.write_all(text.as_bytes()).expect("write mosquitto.conf");
    }

    /// One that is up.
    pub async fn start() -> Self {
        let mut broker = Self::new();
        broker.up().await;
        broker
    }

    /// Where it listens in plain.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL for the agent.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Starts it, and comes back when it listens.
    pub async fn up(&mut self) {
        assert!(self.child.is_none(), "the broker is up already");
        let from = self.log.len();
        let program =
            if std::path::Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let mut child = Command::new(program)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("start mosquitto: is it installed?");
        self.log.follow(child.stderr.take().expect("its stderr"));
        self.child = Some(child);
        wait_until("mosquitto runs", SOON, || self.log.line_with(from, &["mosquitto version", "running"]).is_some())
            .await;
    }

    /// Stops it by SIGTERM, and comes back when it has saved its state and is gone.
    pub async fn down(&mut self) {
        let mut child = self.child.take().expect("the broker is down already");
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("its process id");
        kill_process(pid, Signal::TERM).expect("SIGTERM to mosquitto");
        let status = tokio::time::timeout(SOON, child.wait()).await.expect("mosquitto ends").expect("its status");
        assert!(status.success(), "mosquitto ended with {status}");
    }

    /// Throws away what it saved: sessions, queues, retained messages. It must be down.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "only a broker that is down can be wiped");
        std::fs::remove_file(self.folder.path().join("mosquitto.db")).expect("remove the saved state");
    }

    /// How often a client with that id connected with these words in the log's line, such as `p5` or `c1`.
    pub fn connects(&self, client_id: &str, words: &[&str]) -> usize {
        let name = format!(" as {client_id} (");
        self.log.count(&[&["New client connected", name.as_str()], words].concat())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.log.show_on_failure("broker");
    }
}
