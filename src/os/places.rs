//! Where things are (INTERFACE section 1): the configuration's files, and the defaults that depend on them.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::config::{Environment, Input};

/// Where the package puts the configuration; its folders follow the file system hierarchy, those of any other
/// file lie beside it.
pub const PACKAGED: &str = "/etc/outstation/agent.toml";

/// Most bytes of one configuration file. What is larger was not written by a person.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {reason}", path = path.display())]
pub struct Unreadable {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// Everything that one configuration consists of: the main file, then its drop-ins in name order.
#[derive(Debug)]
pub struct Files {
    /// The main file, absolute.
    pub main: PathBuf,
    /// What was read.
    pub inputs: Vec<Input>,
    /// What could not be.
    pub unreadable: Vec<Unreadable>,
}

/// Reads `file` and the drop-ins beside it.
pub fn read(file: &Path) -> Files {
    let main = absolute_file(file);
    let (mut inputs, mut unreadable) = (Vec::new(), Vec::new());
    let drop_ins = drop_ins(&main).unwrap_or_else(|error| {
        unreadable.push(error);
        Vec::new()
    });
    for path in std::iter::once(main.clone()).chain(drop_ins) {
        match text(&path) {
            Ok(text) => inputs.push(Input { path, text: text.into() }),
            Err(reason) => unreadable.push(Unreadable { path, reason }),
        }
    }
    Files { main, inputs, unreadable }
}

/// `<stem>.d/*.toml` beside the main file, in name order. A folder that is not there holds none.
fn drop_ins(main: &Path) -> Result<Vec<PathBuf>, Unreadable> {
    let folder = main.with_extension("d");
    let failed = |error: &io::Error| Unreadable { path: folder.clone(), reason: error.to_string() };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(&error))?.path();
        // Editors leave hidden copies behind; they are nobody's configuration.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Where it shows that one of these files of a configuration changed.
#[derive(Debug)]
pub struct Sites {
    /// Folders in which something happens: the main file's own, that of its drop-ins, and where links lead to.
    pub folders: Vec<PathBuf>,
    /// What counts there: the files, and what links lead to.
    pub files: Vec<PathBuf>,
}

/// Of `main` and all `files` that were read, it among them.
pub fn sites<'a>(main: &Path, files: impl Iterator<Item = &'a Path>) -> Sites {
    let beside = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    let mut sites = Sites { folders: vec![beside(main), main.with_extension("d")], files: vec![main.to_owned()] };
    for linked in files.filter(|file| file.is_symlink()).filter_map(|file| fs::canonicalize(file).ok()) {
        let folder = beside(&linked);
        if !sites.folders.contains(&folder) {
            sites.folders.push(folder);
        }
        sites.files.push(linked);
    }
    sites
}

fn text(path: &Path) -> Result<String, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("it has {length} bytes, and a configuration has {FILE_BYTES_MAX} at most"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes)
        .map_err(|error| format!("it is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
}

/// What the configuration's defaults depend on.
pub fn environment(main: &Path) -> Environment {
    let packaged = main == Path::new(PACKAGED);
    let beside = main.parent().unwrap_or(Path::new("/"));
    let default = |name: &str, packaged_path: &str, other: &str| match env::var_os(name) {
        Some(path) if !path.is_empty() => absolute(path),
        _ if packaged => PathBuf::from(packaged_path),
        _ => beside.join(other),
    };
    let plugin_dirs = match env::var_os("OUTSTATION_PLUGIN_DIRS") {
        Some(dirs) if !dirs.is_empty() => env::split_paths(&dirs).map(|dir| absolute(dir.into())).collect(),
        _ if packaged => vec!["/usr/local/lib/outstation/plugins".into(), "/usr/lib/outstation/plugins".into()],
        _ => vec![beside.join("plugins")],
    };
    Environment {
        host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        default_data_dir: default("OUTSTATION_DATA_DIR", "/var/lib/outstation", "data"),
        default_plugin_dirs: plugin_dirs,
    }
}

/// Relative paths in variables count from the working folder, as a shell's user expects.
fn absolute(path: OsString) -> PathBuf {
    std::path::absolute(&path).unwrap_or_else(|_| path.into())
}

/// The plugin `name` in the first folder that has it.
pub fn plugin(dirs: &[PathBuf], name: &str) -> Option<PathBuf> {
    dirs.iter().map(|dir| dir.join(format!("{name}.wasm"))).find(|path| path.is_file())
}

/// The plugins that a folder holds, in order of name. A folder that is not there holds none.
pub fn plugins_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "wasm") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Where the agent that runs on `main` listens for its operator.
pub fn control_socket(main: &Path) -> PathBuf {
    match env::var_os("OUTSTATION_SOCKET") {
        Some(path) if !path.is_empty() => absolute(path),
        _ if main == Path::new(PACKAGED) => "/run/outstation/control.sock".into(),
        _ => main.parent().unwrap_or(Path::new("/")).join("data/control.sock"),
    }
}

/// A file as named on the command line.
pub fn absolute_file(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf())
}

/// What tells a file from the one that replaced it, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    path: PathBuf,
    inode: u64,
    length: u64,
    modified_ns: i128,
}

/// Of a file that is there.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    let modified_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Some(Stamp { path: path.to_owned(), inode: metadata.ino(), length: metadata.len(), modified_ns })
}

/// Where compiled plugins are kept.
pub fn plugin_cache(data_dir: &Path) -> PathBuf {
    data_dir.join("cache")
}

/// Whether a folder is there and belongs to this user.
pub fn is_ours(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user())
}

/// This user's number.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What others than root may still write on the disk of a path; `None` where the path is not there.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether what is written below a path is gone after a restart of the machine. Of a path that is not there yet, the
/// nearest folder above it counts.
pub fn is_in_memory(path: &Path) -> bool {
    /// File systems that have no disk, by their numbers in `linux/magic.h`: tmpfs and ramfs.
    const IN_MEMORY: [i128; 2] = [0x0102_1994, 0x8584_58f6];
    let kind: Option<i128> =
        path.ancestors().find_map(|path| rustix::fs::statfs(path).ok()).map(|disk| disk.f_type.into());
    // The number has 32 bits, and its type differs between machines.
    kind.is_some_and(|kind| IN_MEMORY.contains(&(kind & 0xffff_ffff)))
}

/// The process that has a file open, and its name; as far as this user may see it.
pub fn opened_by(path: &Path) -> Option<(u32, String)> {
    let path = fs::canonicalize(path).ok()?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let holds = |process: &fs::DirEntry| {
        let mut descriptors = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        descriptors.any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|target| target == path))
    };
    let pid = |process: &fs::DirEntry| process.file_name().to_str()?.parse().ok();
    processes.filter_map(|process| Some((pid(&process)?, process))).find(|(_, process)| holds(process)).map(
        |(pid, process)| {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            (pid, name.trim_end().to_owned())
        },
    )
}

/// This program, to start it again as a compiler. Also after its file was replaced by an upgrade.
pub fn program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_come_in_name_order_and_hidden_copies_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("agent.toml");
        fs::write(&main, "").unwrap();
        fs::create_dir(folder.path().join("agent.d")).unwrap();
        for name in ["20-b.toml", "10-a.toml", ".10-a.toml.swp.toml", "notes.txt"] {
            fs::write(folder.path().join("agent.d").join(name), "").unwrap();
        }
        let files = read(&main);
        let names: Vec<_> = files.inputs.iter().map(|i| i.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["agent.toml", "10-a.toml", "20-b.toml"]);
        assert!(files.unreadable.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("agent.toml");
        let files = read(&main);
        assert_eq!(files.unreadable.len(), 1);
        assert!(files.unreadable[0].to_string().contains("agent.toml: No such file"), "{}", files.unreadable[0]);
        fs::write(&main, b"id = \"\xff\"").unwrap();
        assert!(read(&main).unreadable[0].to_string().ends_with("it is not UTF-8 from byte 6 on"));
    }
}
