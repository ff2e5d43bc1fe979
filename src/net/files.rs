//! The files that a connection is made with, as far as it matters whether they have changed (F-25).

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::config::Secret;

use super::dial::Dialer;
use super::error::ConnectError;
use super::secret::{password, secret_path};
use super::target::Target;
use super::tls;

/// What certificate, key and password files held at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of no files at all.
    pub const NONE: Self = Self([0; 32]);

    /// Of the files that `target` names, and of the password's. A file that can't be read has a fingerprint as well.
    pub async fn of(target: &Target, secret: Option<&Secret>) -> Self {
        let folder = target.credentials.as_deref();
        let mut paths: Vec<_> = if target.is_tls() {
            [&target.tls.ca, &target.tls.cert, &target.tls.key].into_iter().flatten().cloned().collect()
        } else {
            Vec::new()
        };
        let proxy = target.proxy.as_ref().and_then(|proxy| proxy.password.as_ref());
        paths.extend(secret.into_iter().chain(proxy).filter_map(|secret| secret_path(secret, folder)));
        if paths.is_empty() {
            return Self::NONE;
        }
        let hash = tokio::task::spawn_blocking(move || hash(&paths)).await;
        hash.map_or(Self::NONE, Self)
    }
}

fn hash(paths: &[PathBuf]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for path in paths {
        match tls::read(path, "file") {
            Ok(bytes) => {
                hash.update([1]);
                hash.update(bytes.len().to_le_bytes());
                hash.update(&bytes);
            }
            Err(_) => hash.update([0]),
        }
    }
    hash.finalize().into()
}

impl Dialer {
    /// Whether the files that `target` names, and the password's, can be used: whole, readable, and fitting together.
    ///
    /// # Errors
    /// Which can not, and why.
    pub async fn check_files(&mut self, target: &Target, secret: Option<&Secret>) -> Result<(), ConnectError> {
        if target.is_tls() {
            self.read_tls_files(target).await?;
        }
        let proxy = target.proxy.as_ref().and_then(|proxy| proxy.password.as_ref());
        for secret in secret.into_iter().chain(proxy) {
            password(secret, target.credentials.as_deref()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BrokerUrl, Scheme};
    use crate::net::TlsFiles;

    #[tokio::test]
    async fn what_files_hold_counts_and_not_when_they_were_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pw");
        let url = |scheme| BrokerUrl { scheme, host: "broker.example".to_owned(), port: 1, path: String::new() };
        let target = Target::direct(url(Scheme::Mqtt));
        assert_eq!(Fingerprint::of(&target, None).await, Fingerprint::NONE);
        let secret = Secret::File(path.clone());
        let absent = Fingerprint::of(&target, Some(&secret)).await;
        assert_ne!(absent, Fingerprint::NONE);
        std::fs::write(&path, "one").expect("written");
        let one = Fingerprint::of(&target, Some(&secret)).await;
        std::fs::write(&path, "two").expect("written");
        let two = Fingerprint::of(&target, Some(&secret)).await;
        std::fs::write(&path, "one").expect("written");
        assert!(absent != one && one != two);
        assert_eq!(Fingerprint::of(&target, Some(&secret)).await, one);
        let tls = TlsFiles { ca: Some(path.clone()), ..TlsFiles::default() };
        let with_tls = |scheme| Target { tls: tls.clone(), ..Target::direct(url(scheme)) };
        assert_eq!(Fingerprint::of(&with_tls(Scheme::Mqtt), None).await, Fingerprint::NONE, "it is not read there");
        assert_ne!(Fingerprint::of(&with_tls(Scheme::Mqtts), None).await, Fingerprint::NONE);
        let error = Dialer::new().check_files(&with_tls(Scheme::Mqtts), None).await.expect_err("half a file");
        assert!(error.to_string().contains("ca_file"), "{error}");
        Dialer::new().check_files(&with_tls(Scheme::Mqtt), Some(&secret)).await.expect("readable");
    }
}
