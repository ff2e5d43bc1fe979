//! In a virtual machine, for what this machine's kernel can't be asked for. `make test-vm` makes what a guest needs
//! (`packaging/setup-vm`), names it in `OUTSTATION_VM`, and runs these tests, which are ignored otherwise.
//!
//! A guest is Debian's kernel, an initial file system made here (busybox, the agent, mosquitto and the libraries that
//! they are linked with) and a script. It boots in seconds under software emulation, runs the script, leaves the files
//! of `/results` on its disk, and ends; or it is ended, as a power cut does it.

mod gpio;
mod power_cut;
mod writes;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{SOON, Site, wait_until};

/// A guest that has not ended by then never will.
const GUEST_MAX: Duration = Duration::from_secs(600);
/// Bytes of the disk on which the guest leaves its results.
const RESULTS_MAX: u64 = 256 << 20;
/// Megabytes of memory of a guest.
const MEMORY: &str = "512";

/// A guest that is being put together.
struct Guest {
    folder: TempDir,
    /// What `packaging/setup-vm` made.
    kernel: PathBuf,
}

impl Guest {
    /// Busybox, and the modules of its kernel.
    fn new() -> Self {
        let kernel = std::env::var_os("OUTSTATION_VM")
            .expect("make test-vm and make power-cut run this: they name a kernel in OUTSTATION_VM");
        let guest = Self { folder: tempfile::tempdir().expect("a temporary folder"), kernel: kernel.into() };
        for folder in ["bin", "dev", "proc", "sys", "tmp", "run", "etc", "modules", "results", "disk", "agent/plugins"]
        {
            fs::create_dir_all(guest.path(folder)).expect("make a folder");
        }
        fs::copy("/bin/busybox", guest.path("bin/busybox")).expect("busybox");
        guest.write("etc/passwd", "root:x:0:0:root:/:/bin/sh\n");
        guest.write("etc/group", "root:x:0:\n");
        // The kernel starts `/init` by it; `/init` links all others.
        symlink("busybox", guest.path("bin/sh")).expect("link the shell");
        for module in fs::read_dir(guest.kernel.join("modules")).expect("the kernel's modules") {
            let module = module.expect("a module");
            fs::copy(module.path(), guest.path("modules").join(module.file_name())).expect("copy a module");
        }
        guest
    }

    /// A path in the guest's file system.
    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path)
    }

    /// Writes a file of the guest.
    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).expect("write a file of the guest");
    }

    /// A program of this machine, without its symbols, and the libraries that it is linked with.
    fn program(&self, program: &Path) {
        let name = program.file_name().expect("a program");
        let place = self.path("bin").join(name);
        fs::copy(program, &place).expect("copy a program");
        // What can't be stripped is only larger.
        let _ = Command::new("strip").arg(&place).stderr(Stdio::null()).status();
        let libraries = Command::new("ldd").arg(program).output().expect("ldd").stdout;
        let libraries = String::from_utf8(libraries).expect("what ldd prints");
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            let place = self.path(library.trim_start_matches('/'));
            fs::create_dir_all(place.parent().expect("a folder")).expect("make a folder");
            fs::copy(library, place).expect("copy a library");
        }
    }

    /// Compiles a small C program for the guest.
    fn compile(&self, name: &str, source: &str) {
        let file = self.folder.path().join(format!("{name}.c"));
        fs::write(&file, source).expect("write the source");
        let done =
            Command::new("cc").args(["-static", "-O1", "-o"]).arg(self.path("bin").join(name)).arg(&file).status();
        assert!(done.expect("cc").success(), "{name}.c does not compile");
    }

    /// Packs its file system, with this script to run.
    fn pack(&self, script: &str) {
        self.write("init", &init(script));
        let done = Command::new("chmod").arg("755").arg(self.path("init")).status();
        assert!(done.expect("chmod").success());
        let pack = "cd root && find . | cpio --quiet -o -H newc | gzip -1 > ../initramfs";
        let packed = Command::new("sh").args(["-c", pack]).current_dir(self.folder.path()).status();
        assert!(packed.expect("cpio").success());
    }

    /// QEMU, as it boots what was packed; its console goes to a file. It ends with who holds it.
    fn machine(&self) -> tokio::process::Command {
        let mut qemu = tokio::process::Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", MEMORY, "-nodefaults", "-no-reboot"])
            // On a busy machine the emulated timer is late, and the kernel would take it for broken.
            .args(["-display", "none", "-append", "console=ttyS0 panic=-1 quiet no_timer_check"])
            .arg("-serial")
            .arg(format!("file:{}", self.console().display()))
            .arg("-kernel")
            .arg(self.kernel.join("vmlinuz"))
            .arg("-initrd")
            .arg(self.folder.path().join("initramfs"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        qemu
    }

    fn console(&self) -> PathBuf {
        self.folder.path().join("console")
    }

    /// Boots it with this script, waits for its end, and gives the files that it left in `/results`.
    async fn run(self, script: &str) -> BTreeMap<String, String> {
        self.pack(script);
        let disk = self.folder.path().join("results.disk");
        fs::File::create(&disk).and_then(|file| file.set_len(RESULTS_MAX)).expect("a disk");
        let drive = format!("file={},format=raw,if=virtio", disk.display());
        let mut qemu = self.machine().arg("-drive").arg(drive).spawn().expect("start qemu-system-x86_64");
        let console = self.console();
        let shown = || String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
        let ended = tokio::time::timeout(GUEST_MAX, qemu.wait()).await;
        assert!(matches!(&ended, Ok(Ok(status)) if status.success()), "the guest: {ended:?}\n{}", shown());
        let results = self.folder.path().join("results");
        fs::create_dir(&results).expect("a folder");
        let unpacked = Command::new("tar").arg("-xf").arg(disk).arg("-C").arg(&results).stderr(Stdio::null()).status();
        let unpacked = unpacked.is_ok_and(|status| status.success());
        let files = fs::read_dir(results.join("results")).ok().filter(|_| unpacked);
        let files = files.unwrap_or_else(|| panic!("the guest left no results:\n{}", shown()));
        let read = |file: fs::DirEntry| {
            let text = fs::read(file.path()).expect("a result");
            (file.file_name().to_string_lossy().into_owned(), String::from_utf8_lossy(&text).into_owned())
        };
        let mut results: BTreeMap<_, _> = files.map(|file| read(file.expect("a result"))).collect();
        results.insert("console".into(), shown());
        results
    }
}

/// Where an agent has compiled `plugin` for a guest, which would take minutes for it: `data/cache` is what it needs.
async fn compiled(config: &str, source: &str, plugin: &str) -> Site {
    let site = Site::new(config, &[plugin]);
    let agent = site.start();
    wait_until("the plugin runs", SOON, || site.log.count(&[source, &format!("running {plugin}")]) > 0).await;
    agent.stop().await;
    site
}

/// Copies a file or a folder.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp").success(), "{} to {}", from.display(), to.display());
}

/// What the guest does: prepares itself, runs the script, leaves the results on its disk.
fn init(script: &str) -> String {
    format!(
        r#"#!/bin/sh
export PATH=/bin HOME=/ NO_COLOR=1
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs tmp /tmp
ifconfig lo 127.0.0.1 up
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk \
    crc16 crc32c_generic mbcache jbd2 ext4 failover net_failover virtio_net configfs gpio-sim-all; do
    [ ! -e /modules/$module.ko ] || insmod /modules/$module.ko || echo "no $module"
done
leave() {{ tar -cf /dev/vda /results; sync; poweroff -f; sleep 1000; }}
# Waits for a condition; without it there is nothing to go on with.
await() {{ n=0; until eval "$1"; do n=$((n + 1)); [ $n -lt 600 ] || {{ echo "never: $1" >> /results/never; leave; }}; usleep 100000; done; }}
{script}
leave
"#
    )
}
