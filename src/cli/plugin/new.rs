//! `outstation plugin new NAME --lang ..`: writes a project.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::fail;
use super::templates::{C, C_BINDINGS, File, JS, NAME, NAME_SNAKE, PYTHON, RUST, SDK, WIT};
use crate::cli::{USAGE, result, say};

/// Longest name of a plugin.
const NAME_MAX: usize = 64;

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// What it is to be called: lower-case letters, digits and `-`; also the folder, which must not be there yet
    name: String,
    /// Its language
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    lang: Language,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Language {
    Rust,
    C,
    Js,
    Python,
}

impl Language {
    /// The folders of the project, and what they hold.
    const fn parts(self) -> &'static [(&'static str, &'static [File])] {
        match self {
            Self::Rust => &[("", RUST), ("sdk", SDK), ("wit", WIT)],
            Self::C => &[("", C), ("bindings", C_BINDINGS), ("wit", WIT)],
            Self::Js => &[("", JS), ("wit", WIT)],
            Self::Python => &[("", PYTHON), ("wit", WIT)],
        }
    }
}

/// Does the command.
pub(super) fn new(options: &Options) -> ExitCode {
    let name = &options.name;
    if !is_name(name) {
        say(&format!(
            "outstation: \"{name}\" is no name for a plugin: lower-case letters, digits and -, a letter first, at most {NAME_MAX}"
        ));
        return ExitCode::from(USAGE);
    }
    match write(Path::new(name), name, options.lang) {
        Ok(files) => result(&format!("{name}/: {files} files; {name}/README.md says how it is built and tried out\n")),
        Err(why) => fail(&why),
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= NAME_MAX
        && name.starts_with(|letter: char| letter.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(allowed)
}

/// Nothing that is there is ever touched: the folder is made here, and every file in it is a new one.
fn write(folder: &Path, name: &str, language: Language) -> Result<usize, String> {
    let named = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir(folder).map_err(|error| named(folder, error))?;
    let mut count = 0;
    for (part, files) in language.parts() {
        for (path, text) in *files {
            let path: PathBuf = folder.join(part).join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|error| named(parent, error))?;
            }
            // What the interface and the SDK say of themselves stays as it is.
            let text = match part.is_empty() {
                true => text.replace(NAME, name).replace(NAME_SNAKE, &name.replace('-', "_")),
                false => (*text).to_owned(),
            };
            let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
            file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| named(&path, error))?;
            count += 1;
        }
    }
    Ok(count)
}
