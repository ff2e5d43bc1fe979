//! File systems of a test's own. They take root, `mount` and loop devices; who has none says what it did not try.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system. It goes with the test.
#[derive(Debug)]
pub struct Mount(PathBuf);

impl Mount {
    /// `mount` with these arguments; `None`, with the reason on stderr, where it can't be.
    pub fn new(arguments: &[&str], at: &Path) -> Option<Self> {
        run("mount", &[arguments, &[&shown(at)]].concat()).then(|| Self(at.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Gone when this returns, if it can be: a lazy one may write to its image later.
        let _ = run("umount", &[&shown(&self.0)]) || run("umount", &["-l", &shown(&self.0)]);
    }
}

/// A path as an argument.
pub fn shown(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// Runs a program; `false`, with what it said on stderr, where it fails.
pub fn run(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            eprintln!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(error) => {
            eprintln!("{program}: {error}");
            false
        }
    }
}
