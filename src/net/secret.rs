//! Passwords, read from where the configuration says they are, each time they are needed (F-25).

use std::path::{Path, PathBuf};

use crate::config::Secret;

use super::error::ConnectError;
use super::tls;

/// Reads a secret; `credentials` is systemd's folder for this service (`$CREDENTIALS_DIRECTORY`). One line
/// end at the end is the editor's and not part of it.
///
/// # Errors
/// [`ConnectError::File`] names the file and the reason.
pub async fn password(secret: &Secret, credentials: Option<&Path>) -> Result<Vec<u8>, ConnectError> {
    let path = secret_path(secret, credentials).ok_or_else(|| {
        let reason = "is a systemd credential, and this process was given none (LoadCredential=)".to_owned();
        let name = match secret {
            Secret::Credential(name) => PathBuf::from(name),
            Secret::File(path) => path.clone(),
        };
        ConnectError::File { what: "credential", path: name, reason }
    })?;
    let outcome = tokio::task::spawn_blocking(move || tls::read(&path, "password file")).await;
    let mut bytes = outcome.map_err(|error| ConnectError::TlsSetup { reason: error.to_string() })??;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

/// Where a secret is; `None`: a credential, and systemd gave this process none.
pub(super) fn secret_path(secret: &Secret, credentials: Option<&Path>) -> Option<PathBuf> {
    match secret {
        Secret::File(path) => Some(path.clone()),
        Secret::Credential(name) => credentials.map(|folder| folder.join(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_line_end_is_not_part_of_a_password() {
        let folder = tempfile::tempdir().expect("a folder");
        for (text, expected) in [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("a b \n\n", "a b \n"), ("", "")] {
            std::fs::write(folder.path().join("pw"), text).expect("written");
            let file = Secret::File(folder.path().join("pw"));
            assert_eq!(password(&file, None).await.expect("read"), expected.as_bytes());
            let credential = Secret::Credential("pw".to_owned());
            assert_eq!(password(&credential, Some(folder.path())).await.expect("read"), expected.as_bytes());
        }
        let error = password(&Secret::Credential("pw".to_owned()), None).await.expect_err("no folder");
        assert!(error.to_string().contains("LoadCredential"), "{error}");
        let error = password(&Secret::File(folder.path().join("absent")), None).await.expect_err("no file");
        assert!(error.to_string().contains("absent"), "{error}");
    }
}
