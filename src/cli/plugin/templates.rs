//! The projects that `outstation plugin new` writes: the files of `plugins/template/`, with the interface, and for Rust
//! the SDK. They are in the program, so that a project fits the agent that wrote it, and needs no registry for it.

/// The name that stands in the templates, and the one that stands where a name has no `-`.
pub(super) const NAME: &str = "my-sensor";
pub(super) const NAME_SNAKE: &str = "my_sensor";

/// A file of a project: its path, and its text.
pub(super) type File = (&'static str, &'static str);

macro_rules! files {
    ($folder:literal: $($path:literal $(from $source:literal)?),+ $(,)?) => {
        &[$(($path, files!(@ $folder, $path $(, $source)?))),+]
    };
    (@ $folder:literal, $path:literal) => { include_str!(concat!("../../../plugins/", $folder, "/", $path)) };
    (@ $folder:literal, $path:literal, $source:literal) => { include_str!(concat!("../../../plugins/", $folder, "/", $source)) };
}

/// The interface, for every language.
pub(super) const WIT: &[File] = files!["wit":
    "plugin.wit", "deps/gpio/gpio.wit", "deps/host/host.wit", "deps/modbus/modbus.wit", "deps/sys/sys.wit",
    "deps/types/types.wit"];

/// For Rust.
pub(super) const SDK: &[File] = files!["sdk":
    "Cargo.toml", "src/commands.rs", "src/config.rs", "src/glue.rs", "src/lib.rs", "src/poll.rs", "src/setup.rs"];

pub(super) const RUST: &[File] = files!["template/rust":
    "Cargo.toml", "src/lib.rs", "build", "README.md", "test.toml", ".gitignore" from "gitignore"];

pub(super) const C: &[File] = files!["template/c":
    "plugin.c", "build", "README.md", "test.toml", ".gitignore" from "gitignore"];

/// Generated, and left as it is.
pub(super) const C_BINDINGS: &[File] =
    files!["template/c/bindings": "outstation.c", "outstation.h", "outstation_type.c"];

pub(super) const JS: &[File] = files!["template/js":
    "plugin.js", "package.json", "README.md", "test.toml", ".gitignore" from "gitignore"];

pub(super) const PYTHON: &[File] = files!["template/python":
    "app.py", "build", "README.md", "test.toml", ".gitignore" from "gitignore"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn on_disk(folder: &Path, below: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder.join(below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                on_disk(folder, &path, found);
            } else {
                found.insert(path.to_str().unwrap().replace("gitignore", ".gitignore"));
            }
        }
    }

    /// A file that was added to the interface, the SDK or a template is in the program as well.
    #[test]
    fn nothing_is_forgotten() {
        let c: Vec<_> = C.iter().map(|(path, _)| (*path).to_owned()).collect();
        let bindings = C_BINDINGS.iter().map(|(path, _)| format!("bindings/{path}"));
        let whole = |files: &[File]| files.iter().map(|(path, _)| (*path).to_owned()).collect::<BTreeSet<_>>();
        for (folder, files) in [
            ("wit", whole(WIT)),
            ("sdk", whole(SDK)),
            ("template/rust", whole(RUST)),
            ("template/c", c.into_iter().chain(bindings).collect()),
            ("template/js", whole(JS)),
            ("template/python", whole(PYTHON)),
        ] {
            let mut found = BTreeSet::new();
            on_disk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(folder), Path::new(""), &mut found);
            assert_eq!(files, found, "{folder}");
        }
    }
}
