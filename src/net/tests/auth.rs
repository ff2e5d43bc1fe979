//! SCRAM-SHA-256 over a socket: a scripted server that computes its side by itself, one that cheats, and a mechanism of
//! the caller's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::mqtt::Options;
use crate::mqtt::auth::{AuthError, Mechanism};
use crate::mqtt::session::Authentication;
use crate::net::{ConnectError, Dialer};

use super::{PATIENCE, Remote, listen, plain};

const SALT: &[u8] = b"a salt of sixteen";

fn options() -> Options {
    let mut options = Options::new("scram");
    options.username = Some("press".into());
    options.password = Some(b"pencil".to_vec());
    options.authentication = Some(Authentication::scram_sha_256());
    options
}

/// Properties that name the method and bear `data`, with their length.
fn properties(data: &[u8]) -> Vec<u8> {
    let mut properties = vec![0x15, 0, 13];
    properties.extend_from_slice(b"SCRAM-SHA-256");
    properties.extend_from_slice(&[0x16, 0, u8::try_from(data.len()).expect("short")]);
    properties.extend_from_slice(data);
    let mut all = vec![u8::try_from(properties.len()).expect("short")];
    assert!(all[0] < 128, "one byte of length");
    all.append(&mut properties);
    all
}

fn packet(first: u8, head: &[u8], data: &[u8]) -> Vec<u8> {
    let body = [head, &properties(data)].concat();
    [&[first, u8::try_from(body.len()).expect("short")][..], &body].concat()
}

/// The text that begins with `mark` and goes to the end of the packet.
fn from_mark(packet: &[u8], mark: &[u8]) -> String {
    let at = packet.windows(mark.len()).position(|window| window == mark).expect("the mark");
    String::from_utf8_lossy(&packet[at..]).into_owned()
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).expect("a key").chain_update(text).finalize().into_bytes().to_vec()
}

/// The server's side, for a client with this password; `knows` is what the server thinks it is.
async fn serve(mut remote: Remote, knows: &[u8]) {
    let connect = remote.packet_of(1).await;
    assert!(!connect.windows(6).any(|window| window == b"pencil"), "the password is not sent");
    let first = from_mark(&connect, b"n=press,r=");
    // The nonce is 24 characters long; what follows is the client identifier and the user name.
    let first = first.get(.."n=press,r=".len() + 24).expect("a nonce");
    let nonce = format!("{}server", first.strip_prefix("n=press,r=").expect("the name"));
    let challenge = format!("r={nonce},s={},i=4096", STANDARD.encode(SALT));
    remote.send(&packet(0xF0, &[0x18], challenge.as_bytes())).await;
    let answer = remote.packet_of(15).await;
    let answer = from_mark(&answer, b"c=biws,");
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(knows, SALT, 4096, &mut salted);
    let without_proof = answer.split(",p=").next().expect("a part before the proof");
    let message = format!("{first},{challenge},{without_proof}");
    let signature = STANDARD.encode(mac(&mac(&salted, b"Server Key"), message.as_bytes()));
    remote.send(&packet(0x20, &[0, 0], format!("v={signature}").as_bytes())).await;
    remote.drain().await;
}

#[tokio::test]
async fn scram_is_driven_to_connack() {
    let (address, _task) = listen(|remote| async move { serve(remote, b"pencil").await }).await;
    let mut session = super::session();
    Dialer::new().connect(&plain(address), &mut session, &options(), true, PATIENCE).await.expect("connected");
    assert!(session.is_connected());
}

/// Whoever answers there accepts everything, and does not know the password.
#[tokio::test]
async fn a_server_that_does_not_know_the_password_is_left() {
    for cheat in 0..2 {
        let (address, _task) = listen(move |mut remote: Remote| async move {
            if cheat == 0 {
                serve(remote, b"pencils").await;
            } else {
                remote.accept().await;
                remote.drain().await;
            }
        })
        .await;
        let mut session = super::session();
        let outcome = Dialer::new().connect(&plain(address), &mut session, &options(), true, PATIENCE).await;
        let error = outcome.err().expect("it has proved nothing");
        let is_seen = matches!(error, ConnectError::AuthenticationFailed { error: AuthError::NotProved, .. });
        assert!(is_seen && !session.is_connected(), "{error}");
    }
}

#[tokio::test]
async fn scram_needs_a_password() {
    let (address, _task) = listen(|mut remote: Remote| async move { remote.drain().await }).await;
    let without = Options { password: None, ..options() };
    let outcome = Dialer::new().connect(&plain(address), &mut super::session(), &without, true, PATIENCE).await;
    let error = outcome.err().expect("nothing to prove");
    assert!(error.to_string().contains("user name and a password"), "{error}");
}

/// Counts up, and wants to hear the last number.
struct Counting(u8);

impl Mechanism for Counting {
    fn method(&self) -> &str {
        "SCRAM-SHA-256" // for the packets of the script above
    }

    fn first(&self) -> Option<Vec<u8>> {
        Some(vec![self.0])
    }

    fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, AuthError> {
        assert_eq!(challenge, [self.0 + 1]);
        self.0 += 2;
        Ok(vec![self.0])
    }

    fn finish(&mut self, last: Option<&[u8]>) -> Result<(), AuthError> {
        if last == Some(&[self.0 + 1]) { Ok(()) } else { Err(AuthError::NotProved) }
    }
}

#[tokio::test]
async fn a_mechanism_of_the_callers() {
    let (address, _task) = listen(|mut remote: Remote| async move {
        remote.packet_of(1).await;
        for step in [2, 4] {
            remote.send(&packet(0xF0, &[0x18], &[step])).await;
            let answer = remote.packet_of(15).await;
            assert_eq!(answer.last(), Some(&(step + 1)));
        }
        remote.send(&packet(0x20, &[0, 0], &[6])).await;
        remote.drain().await;
    })
    .await;
    let mut dialer = Dialer::new().with_mechanism(|| Box::new(Counting(1)));
    let mut session = super::session();
    dialer.connect(&plain(address), &mut session, &Options::new("x"), true, PATIENCE).await.expect("connected");
}
