//! Compiled components on the disk, by content.
//!
//! ```text
//! magic 8 | format 4 | key 32 | length of the code 8 | SHA-256 of the code 32 | code
//! ```
//!
//! The key is made of the component's own hash and of everything that its code depends on. A file is written under
//! another name and renamed, and never changed in place; one that is cut, damaged, not ours or of another engine is
//! as good as none.
//!
//! Loading machine code is trust: code is loaded only from a file that belongs to this user and that nobody else may
//! write, in a folder of which the same holds, and after its sum was checked, on the very bytes that are loaded.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const MAGIC: &[u8; 8] = b"OUTSTCMP";
const FORMAT: u32 = 1;
const HEADER: usize = 8 + 4 + 32 + 8 + 32;
/// Compiled components that are kept; the oldest go first.
const FILES_MAX: usize = 64;
/// No compiled component is larger.
const CODE_MAX: u64 = 512 << 20;

/// What a compiled component is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// Of a component's SHA-256, for the engine with this fingerprint.
    pub fn new(component: &[u8; 32], engine: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(FORMAT.to_le_bytes());
        hash.update(engine.to_le_bytes());
        hash.update(component);
        Self(hash.finalize().into())
    }

    fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// From what [`Self::hex`] wrote.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut key = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (index, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
        }
        Some(Self(key))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

/// The folder of compiled components.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// In this folder, which is made when it is needed.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The compiled component, where a good one is there.
    pub fn load(&self, engine: &Engine, key: &Key) -> Option<Component> {
        if !is_private(&fs::symlink_metadata(&self.folder).ok()?) {
            return None;
        }
        load(engine, key, &self.file(key)).ok()
    }

    /// Whether something is kept under this key, good or not.
    pub fn has(&self, key: &Key) -> bool {
        self.file(key).is_file()
    }

    /// Where a compiler is to write: a new name in this folder.
    pub fn work_file(&self, key: &Key) -> io::Result<PathBuf> {
        prepare(&self.folder)?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let random = u64::from_le_bytes(random);
        Ok(self.folder.join(format!("{key}.{random:016x}.new")))
    }

    /// Takes over what was written to a work file and has been loaded, and forgets the oldest others.
    pub fn keep(&self, key: &Key, work_file: &Path) -> io::Result<()> {
        fs::rename(work_file, self.file(key))?;
        self.forget_oldest();
        Ok(())
    }

    fn file(&self, key: &Key) -> PathBuf {
        self.folder.join(format!("{key}.cwasm"))
    }

    fn forget_oldest(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok().filter(fs::Metadata::is_file)?.mtime(), entry.path())))
            .collect();
        files.sort();
        let many = files.len().saturating_sub(FILES_MAX);
        for (_, file) in files.into_iter().take(many) {
            // Somebody else may have done it; a file too many does no harm.
            let _ = fs::remove_file(file);
        }
    }
}

/// Writes compiled code for [`load`].
pub fn write(file: &Path, key: &Key, code: &[u8]) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    out.write_all(MAGIC)?;
    out.write_all(&FORMAT.to_le_bytes())?;
    out.write_all(&key.0)?;
    out.write_all(&(code.len() as u64).to_le_bytes())?;
    out.write_all(&Sha256::digest(code))?;
    out.write_all(code)
}

/// The component in this file, where all of it is right.
pub fn load(engine: &Engine, key: &Key, file: &Path) -> Result<Component, String> {
    let code = trusted(key, file).ok_or("it is not what the compiler wrote")?;
    deserialize(engine, &code)
}

fn trusted(key: &Key, file: &Path) -> Option<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(file)
        .ok()?;
    let metadata = file.metadata().ok()?;
    if !(metadata.is_file() && is_private(&metadata) && metadata.len() <= CODE_MAX + HEADER as u64) {
        return None;
    }
    verified(file, key)
}

fn verified(mut file: File, key: &Key) -> Option<Vec<u8>> {
    let mut header = [0; HEADER];
    file.read_exact(&mut header).ok()?;
    let (magic, rest) = header.split_first_chunk::<8>()?;
    let (format, rest) = rest.split_first_chunk::<4>()?;
    let (theirs, rest) = rest.split_first_chunk::<32>()?;
    let (length, sum) = rest.split_first_chunk::<8>()?;
    let length = u64::from_le_bytes(*length);
    if magic != MAGIC || u32::from_le_bytes(*format) != FORMAT || *theirs != key.0 || length > CODE_MAX {
        return None;
    }
    let mut code = Vec::new();
    file.take(length + 1).read_to_end(&mut code).ok()?;
    (code.len() as u64 == length && Sha256::digest(&code).as_slice() == sum).then_some(code)
}

/// The one place of the agent that is not safe code.
///
/// Compiled code that was changed does whatever it says. Everything that stands here was written by this program's own
/// compile child for this engine (key), is complete and unchanged (SHA-256, of these very bytes), and comes from a
/// place where nobody but this user writes (mode and owner of file and folder).
#[expect(
    unsafe_code,
    reason = "loading compiled code, which wasmtime cannot verify; what is verified instead stands above"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> Result<Component, String> {
    // SAFETY: `code` is the unchanged output of `Engine::precompile_component`, as the documentation says.
    unsafe { Component::deserialize(engine, code) }.map_err(|error| format!("{error:#}"))
}

/// Ours, and nobody else may write to it.
fn is_private(metadata: &fs::Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0
}

/// Makes the folder, and makes it private.
fn prepare(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = fs::symlink_metadata(folder)?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the folder of compiled plugins is not this user's",
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
