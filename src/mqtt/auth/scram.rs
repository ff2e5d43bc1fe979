//! SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding: the password is never sent, and the server proves that it
//! knows it as well.
//!
//! Owns one attempt. States: said first, proof sent, proved. User name and password are taken as they are; what is not
//! ASCII is not prepared (SASLprep).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::{AuthError, Mechanism};

/// The mechanism's name.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// Fewer iterations are refused (RFC 7677 asks for so many): a false server would get a proof that is quickly searched.
pub const ITERATIONS_MIN: u32 = 4096;
/// More are refused: about a second of a small processor.
pub const ITERATIONS_MAX: u32 = 1_000_000;
/// Random bytes of a nonce.
pub const NONCE_BYTES: usize = 18;
/// "No channel binding", as the first message begins, and in base64 as the last one repeats it.
const GS2_HEADER: &str = "n,,";
const GS2_HEADER_BASE64: &str = "biws";

type HmacSha256 = Hmac<Sha256>;

enum State {
    First,
    /// The signature that the server must show.
    ProofSent(Box<HmacSha256>),
    Proved,
}

/// See the head of this file.
pub struct Scram {
    password: Vec<u8>,
    nonce: String,
    first_bare: String,
    state: State,
}

impl Scram {
    /// An attempt. `nonce`: random, another one each time.
    pub fn new(username: &str, password: &[u8], nonce: [u8; NONCE_BYTES]) -> Self {
        Self::with_nonce(username, password, STANDARD.encode(nonce))
    }

    fn with_nonce(username: &str, password: &[u8], nonce: String) -> Self {
        let name = username.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={name},r={nonce}");
        Self { password: password.to_vec(), nonce, first_bare, state: State::First }
    }
}

impl Mechanism for Scram {
    fn method(&self) -> &str {
        SCRAM_SHA_256
    }

    fn first(&self) -> Option<Vec<u8>> {
        Some(format!("{GS2_HEADER}{}", self.first_bare).into_bytes())
    }

    fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, AuthError> {
        if !matches!(self.state, State::First) {
            // Some servers send their signature in an AUTH of its own, and want an empty answer before CONNACK.
            self.finish(Some(challenge))?;
            return Ok(Vec::new());
        }
        let challenge = text(challenge)?;
        let ServerFirst { nonce, salt, iterations } = ServerFirst::read(challenge)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(AuthError::Nonce);
        }
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(&self.password, &salt, iterations, &mut salted);
        let without_proof = format!("c={GS2_HEADER_BASE64},r={nonce}");
        let message = format!("{},{challenge},{without_proof}", self.first_bare);
        let client_key = hmac(&salted)?.chain_update("Client Key").finalize().into_bytes();
        let signature = hmac(&Sha256::digest(client_key))?.chain_update(message.as_bytes()).finalize().into_bytes();
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
        let server_key = hmac(&salted)?.chain_update("Server Key").finalize().into_bytes();
        self.state = State::ProofSent(Box::new(hmac(&server_key)?.chain_update(message.as_bytes())));
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes())
    }

    fn finish(&mut self, last: Option<&[u8]>) -> Result<(), AuthError> {
        match (std::mem::replace(&mut self.state, State::First), last) {
            (State::ProofSent(expected), Some(last)) => {
                let last = text(last)?;
                if let Some(error) = last.strip_prefix("e=") {
                    return Err(AuthError::Refused(error.chars().take(64).collect()));
                }
                let signature = last.strip_prefix("v=").and_then(|rest| rest.split(',').next());
                let signature = signature.and_then(|signature| STANDARD.decode(signature).ok());
                let signature = signature.ok_or(AuthError::Malformed("no signature"))?;
                expected.verify_slice(&signature).map_err(|_| AuthError::NotProved)?;
                self.state = State::Proved;
                Ok(())
            }
            (State::Proved, None | Some([])) => {
                self.state = State::Proved;
                Ok(())
            }
            (State::ProofSent(_) | State::First, None) => Err(AuthError::NotProved),
            (State::First | State::Proved, Some(_)) => Err(AuthError::OutOfTurn),
        }
    }
}

struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> ServerFirst<'a> {
    /// `r=…,s=…,i=…`, and extensions that need not be understood.
    fn read(text: &'a str) -> Result<Self, AuthError> {
        let mut fields = text.split(',');
        let mut field = |name: &str, what| {
            let field = fields.next().and_then(|field| field.strip_prefix(name));
            field.filter(|value| !value.is_empty()).ok_or(AuthError::Malformed(what))
        };
        let nonce = field("r=", "no nonce")?;
        let salt = field("s=", "no salt")?;
        let iterations = field("i=", "no number of iterations")?;
        let salt = STANDARD.decode(salt).map_err(|_| AuthError::Malformed("the salt is not base64"))?;
        let iterations = iterations.parse().map_err(|_| AuthError::Malformed("the iterations are no number"))?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(AuthError::Iterations(iterations));
        }
        Ok(Self { nonce, salt, iterations })
    }
}

fn text(bytes: &[u8]) -> Result<&str, AuthError> {
    std::str::from_utf8(bytes).map_err(|_| AuthError::Malformed("not UTF-8"))
}

/// A key may have any length, so that there is no error.
fn hmac(key: &[u8]) -> Result<HmacSha256, AuthError> {
    HmacSha256::new_from_slice(key).map_err(|_| AuthError::Malformed("a key of no use"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of RFC 7677, section 3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn example() -> Scram {
        Scram::with_nonce("user", b"pencil", NONCE.into())
    }

    fn answered() -> Scram {
        let mut scram = example();
        assert_eq!(scram.answer(SERVER_FIRST.as_bytes()).unwrap(), CLIENT_FINAL.as_bytes());
        scram
    }

    #[test]
    fn the_example_of_rfc_7677() {
        assert_eq!(example().first().unwrap(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(answered().finish(Some(SERVER_FINAL.as_bytes())), Ok(()));
        assert_eq!(example().method(), "SCRAM-SHA-256");
    }

    #[test]
    fn a_signature_may_come_in_a_step_of_its_own() {
        let mut scram = answered();
        assert_eq!(scram.answer(SERVER_FINAL.as_bytes()), Ok(Vec::new()));
        assert_eq!(scram.finish(None), Ok(()));
    }

    /// A server that does not know the password must not be believed, however it goes about it.
    #[test]
    fn a_server_must_prove_itself() {
        let wrong = SERVER_FINAL.replace('6', "7");
        assert_eq!(answered().finish(Some(wrong.as_bytes())), Err(AuthError::NotProved));
        assert_eq!(answered().finish(Some(b"v=6rri")), Err(AuthError::NotProved), "half of it");
        assert_eq!(answered().finish(Some(b"v=")), Err(AuthError::NotProved));
        assert_eq!(answered().finish(None), Err(AuthError::NotProved), "success without a proof");
        assert_eq!(example().finish(None), Err(AuthError::NotProved), "success without anything");
        assert_eq!(example().finish(Some(SERVER_FINAL.as_bytes())), Err(AuthError::OutOfTurn));
        assert_eq!(answered().finish(Some(b"e=invalid-proof")), Err(AuthError::Refused("invalid-proof".into())));
        assert!(matches!(answered().finish(Some(b"\xFF")), Err(AuthError::Malformed(_))));
        let mut scram = answered();
        assert!(scram.finish(Some(wrong.as_bytes())).is_err());
        assert!(scram.finish(Some(SERVER_FINAL.as_bytes())).is_err(), "there is one try");
    }

    #[test]
    fn a_bad_challenge_is_refused() {
        let answer = |text: &str| example().answer(text.as_bytes()).unwrap_err();
        assert_eq!(answer(&SERVER_FIRST.replace("rOpr", "rOpq")), AuthError::Nonce);
        assert_eq!(answer(&format!("r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")), AuthError::Nonce, "ours alone");
        assert_eq!(answer(&SERVER_FIRST.replace("4096", "4095")), AuthError::Iterations(4095));
        assert_eq!(answer(&SERVER_FIRST.replace("4096", "4000000000")), AuthError::Iterations(4_000_000_000));
        for text in ["", "r=", "m=x,r=a,s=b,i=1", "r=a,s=%,i=4096", "r=a,s=AAAA,i=x", "e=other-error", "r=a,i=4096"] {
            assert!(matches!(answer(text), AuthError::Malformed(_)), "{text}");
        }
    }

    #[test]
    fn names_are_escaped() {
        let first = Scram::new("a=b,c", b"", [0; NONCE_BYTES]).first().unwrap();
        assert_eq!(first, b"n,,n=a=3Db=2Cc,r=AAAAAAAAAAAAAAAAAAAAAAAA");
    }
}
