//! Signed plugins: a detached minisign signature in `NAME.wasm.minisig` beside the file, looked at before anything is
//! compiled or taken from the cache.
//!
//! What is verified is what is loaded: the digest of the verified bytes is the one that the cache and the compiling
//! child are asked for.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};
use sha2::{Digest, Sha256};

use super::LoadError;
use crate::config::Signatures;

/// A larger file is no signature.
const SIGNATURE_MAX: u64 = 4096;

/// Whom plugins have to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// What to make of plugins without a good signature.
    pub mode: Signatures,
    /// Minisign public keys, in base64.
    pub keys: Vec<String>,
}

/// How a plugin's file is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureState {
    /// By one of the keys.
    Good,
    /// There is no signature beside it.
    None,
    /// There is one, and this is wrong with it.
    Bad(String),
}

impl Trust {
    /// Signatures are not looked at.
    pub const OFF: Self = Self { mode: Signatures::Off, keys: Vec::new() };

    /// Fails where `file`, whose content has this digest, is not signed by one of the keys, and has to be.
    pub(super) fn check(&self, file: &Path, digest: &[u8; 32]) -> Result<(), LoadError> {
        if self.mode == Signatures::Off {
            return Ok(());
        }
        let Err(reason) = self.verify(file, digest) else { return Ok(()) };
        let error = LoadError::Signature { file: file.to_owned(), reason };
        if self.mode == Signatures::Require {
            return Err(error);
        }
        tracing::warn!("{error}; it is run all the same (plugin_signatures = \"warn\")");
        Ok(())
    }

    /// What there is beside `file`, whatever [`Self::mode`] makes of it.
    pub(super) fn look(&self, file: &Path, digest: &[u8; 32]) -> SignatureState {
        match self.verify(file, digest) {
            Ok(()) => SignatureState::Good,
            Err(_) if !signature_file(file).exists() => SignatureState::None,
            Err(reason) => SignatureState::Bad(reason),
        }
    }

    fn verify(&self, file: &Path, digest: &[u8; 32]) -> Result<(), String> {
        let name = signature_file(file);
        let mut text = String::new();
        File::open(&name)
            .and_then(|signature| signature.take(SIGNATURE_MAX).read_to_string(&mut text))
            .map_err(|error| format!("{}: {error}", name.display()))?;
        let signature = Signature::decode(&text).map_err(|error| format!("{}: {error}", name.display()))?;
        let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
        if Sha256::digest(&bytes).as_slice() != digest {
            return Err("the file changed while it was read".into());
        }
        // Prehashed signatures only: the older kind has been out of use for years.
        let good =
            |key: &String| PublicKey::from_base64(key).is_ok_and(|key| key.verify(&bytes, &signature, false).is_ok());
        if self.keys.iter().any(good) { Ok(()) } else { Err("none of agent.plugin_keys has signed this file".into()) }
    }
}

fn signature_file(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".minisig");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of minisign's own documentation: the content is `test`.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
        RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
        trusted comment: timestamp:1633700835\tfile:test\tprehashed\n\
        wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==\n";

    fn trust(mode: Signatures) -> Trust {
        Trust { mode, keys: vec![KEY.into()] }
    }

    fn check(trust: &Trust, content: &[u8], signature: Option<&str>) -> Result<(), LoadError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.wasm");
        std::fs::write(&file, content).unwrap();
        if let Some(signature) = signature {
            std::fs::write(folder.path().join("p.wasm.minisig"), signature).unwrap();
        }
        trust.check(&file, &Sha256::digest(content).into())
    }

    #[test]
    fn what_is_signed_runs_and_what_is_not_does_not() {
        let require = trust(Signatures::Require);
        check(&require, b"test", Some(SIGNATURE)).unwrap();
        let changed = check(&require, b"tesT", Some(SIGNATURE)).unwrap_err().to_string();
        assert!(changed.ends_with("none of agent.plugin_keys has signed this file"), "{changed}");
        let unsigned = check(&require, b"test", None).unwrap_err().to_string();
        assert!(unsigned.contains("p.wasm.minisig: No such file"), "{unsigned}");
        assert!(check(&require, b"test", Some("nonsense")).is_err());
        assert!(check(&Trust { keys: Vec::new(), ..require }, b"test", Some(SIGNATURE)).is_err());
    }

    #[test]
    fn warning_and_off_let_it_run() {
        check(&trust(Signatures::Warn), b"test", None).unwrap();
        check(&Trust::OFF, b"test", None).unwrap();
    }
}
