//! Disks that are full, read-only or failing, for real: a tmpfs and an ext4 image that others fill, a file system that
//! gives up, and calls that return EIO. The agent goes on in memory, says so, and comes back by itself. F-5, F-6, F-7.
//!
//! Mounting needs root; where that is missing, the test says by name what it did not try.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::mount::{Mount, run, shown};
use crate::harness::{Agent, Broker, Checker, SOON, STATUS_TOPIC, STEADY_TOPIC, Site, config, pass, wait_until};

/// A small buffer, a reading that is small and often, and one that fills it.
const REST: &str =
    "[buffer]\nmax_size = \"1MiB\"\nsync = \"100ms\"\n\n[source.steady]\nplugin = \"steady\"\nevery = \"50ms\"\n";

/// The agent's program fails in these calls while this file names them; while it says `hang`, a flush does not return, and
/// says in a file beside it that it hangs.
const TROUBLE: &str = "
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int named(const char *call, int fd) {
  char text[64], link[64], to[4096];
  const char *path = getenv(\"DISK_TROUBLE\");
  int file = path ? open(path, O_RDONLY) : -1;
  if (file < 0) return 0;
  ssize_t n = read(file, text, sizeof text - 1);
  close(file);
  if (n <= 0) return 0;
  text[n] = 0;
  if (!strstr(text, call)) return 0;
  snprintf(link, sizeof link, \"/proc/self/fd/%d\", fd);
  n = readlink(link, to, sizeof to - 1);
  if (n < 0) return 0;
  to[n] = 0;
  return strstr(to, \"/spool/\") != 0;
}
static int fails(const char *call, int fd) {
  if (!named(call, fd)) return 0;
  errno = EIO;
  return 1;
}
int fdatasync(int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, \"fdatasync\");
  while (named(\"hang\", fd)) {
    char held[4096];
    snprintf(held, sizeof held, \"%s.held\", getenv(\"DISK_TROUBLE\"));
    close(open(held, O_CREAT | O_WRONLY, 0600));
    usleep(10000);
  }
  return fails(\"fdatasync\", fd) ? -1 : real(fd);
}
ssize_t pwrite64(int fd, const void *from, size_t count, off_t at) {
  ssize_t (*real)(int, const void *, size_t, off_t) = (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, \"pwrite64\");
  return fails(\"pwrite\", fd) ? -1 : real(fd, from, count, at);
}
ssize_t pread64(int fd, void *into, size_t count, off_t at) {
  ssize_t (*real)(int, void *, size_t, off_t) = (ssize_t (*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, \"pread64\");
  return fails(\"pread\", fd) ? -1 : real(fd, into, count, at);
}
";

/// A tmpfs of 2 MiB at the site's data folder.
fn tmpfs(site: &Site) -> Option<Mount> {
    let at = site.path("data");
    std::fs::create_dir(&at).expect("the data folder");
    let mounted = Mount::new(&["-t", "tmpfs", "-o", "size=2m", "outstation-test"], &at);
    mounted.or_else(|| not_tried("a full tmpfs"))
}

/// An ext4 image of 8 MiB at the site's data folder.
pub(crate) fn ext4(site: &Site) -> Option<Mount> {
    let (at, image) = (site.path("data"), site.path("image"));
    std::fs::create_dir_all(&at).expect("the data folder");
    if !image.exists() {
        std::fs::File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("an image");
        if !run("mkfs.ext4", &["-q", "-F", "-m", "0", &shown(&image)]) {
            return not_tried("an ext4 image");
        }
    }
    let mounted = Mount::new(&["-o", "loop,errors=remount-ro", &shown(&image)], &at);
    mounted.or_else(|| not_tried("an ext4 image"))
}

fn not_tried<T>(what: &str) -> Option<T> {
    eprintln!("NOT TRIED: {what} (it takes root, mount, and loop devices)");
    None
}

/// Takes all the room that is left.
fn fill(folder: &Path) {
    let mut file = std::fs::File::create(folder.join("others")).expect("a file");
    for size in [65_536, 4096, 512, 1] {
        while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
    }
}

fn empty(folder: &Path) {
    std::fs::remove_file(folder.join("others")).expect("removed");
}

async fn in_state(site: &Site, state: &str) {
    site.status_until(|status| status["buffer"]["state"] == state).await;
}

/// Readings arrive that were not there before.
async fn delivers(checker: &Checker) {
    checker.wait_more(STEADY_TOPIC, 10).await;
}

async fn end(agent: Agent, checker: &Checker) {
    checker.kept_to_the_end_of(agent).await;
}

/// From the first start on a full disk, over room, to a disk that others fill in an outage.
async fn filled_by_others(mount: impl Fn(&Site) -> Option<Mount>) {
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), REST), &["steady"]);
    let Some(mount) = mount(&site) else { return };
    // The socket is there too, and small files of the agent.
    std::fs::create_dir(site.path("data/spool")).expect("the buffer's folder");
    fill(mount.path());
    let agent = site.start();
    agent.says(&["the disk refuses writes"]).await;
    delivers(&checker).await;
    empty(mount.path());
    agent.says(&["the disk takes writes again"]).await;
    delivers(&checker).await;

    fill(mount.path());
    broker.down().await;
    pass(Duration::from_secs(2)).await;
    let subscribed = checker.subscribed();
    broker.up().await;
    checker.subscribed_again(subscribed).await;
    delivers(&checker).await;
    agent.kill().await;
    // F-6: it starts on a disk that is still full, and nothing has to be deleted by hand.
    let agent = site.start();
    delivers(&checker).await;
    empty(mount.path());
    delivers(&checker).await;
    end(agent, &checker).await;
}

#[tokio::test]
async fn a_tmpfs_that_others_fill() {
    filled_by_others(tmpfs).await;
}

#[tokio::test]
async fn an_ext4_that_others_fill() {
    filled_by_others(ext4).await;
}

/// F-7: `max_size` is more than the disk has. What was sent makes room, and the oldest go with a gap.
#[tokio::test]
async fn a_disk_that_it_fills_itself() {
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    broker.down().await;
    let rest = "[buffer]\nmax_size = \"8MiB\"\n\n[source.wide]\nplugin = \"wide\"\nevery = \"10ms\"\n";
    let site = Site::new(&config(&broker.url(), rest), &["wide"]);
    let Some(_mount) = tmpfs(&site) else { return };
    let agent = site.start();
    let status = site.status_until(|status| status["buffer"]["dropped"].as_u64() > Some(300)).await;
    assert_eq!(status["buffer"]["dropping"][0]["reason"], "buffer-full", "{status}");
    assert!(status["buffer"]["bytes"].as_u64() < Some(2 << 20), "{status}");
    agent.says(&["WARN", "messages are dropped (buffer-full)"]).await;
    let subscribed = checker.subscribed();
    broker.up().await;
    checker.subscribed_again(subscribed).await;
    site.status_until(|status| status["buffer"]["messages"].as_u64().is_some_and(|left| left < 50)).await;
    assert_eq!(agent.said().matches("messages are dropped (buffer-full)").count(), 1, "said once");
    end(agent, &checker).await;
}

/// The file system gives up and becomes read-only; the agent goes on, starts on it, and is back after a repair.
#[tokio::test]
async fn a_file_system_that_gives_up() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), REST), &["steady"]);
    let Some(mount) = ext4(&site) else { return };
    let agent = site.start();
    delivers(&checker).await;
    let source = Command::new("findmnt").args(["-n", "-o", "SOURCE", &shown(mount.path())]).output().expect("findmnt");
    let device = String::from_utf8_lossy(&source.stdout).trim().replace("/dev/", "");
    if std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test").is_err() {
        return not_tried("a file system that gives up").unwrap_or_default();
    }
    agent.says(&["the disk refuses writes"]).await;
    delivers(&checker).await;
    agent.kill().await;
    let agent = site.start();
    agent.says(&["the disk refuses writes"]).await;
    delivers(&checker).await;
    agent.kill().await;
    drop(mount);
    let image = site.path("image");
    // 1: it was repaired.
    let repaired = Command::new("e2fsck").args(["-fy", &shown(&image)]).output().expect("e2fsck");
    assert!(matches!(repaired.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&repaired.stdout));
    let Some(_mount) = ext4(&site) else { return };
    let agent = site.start();
    delivers(&checker).await;
    in_state(&site, "ok").await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    // What a life took into memory alone is gone with it: every name is still used once, and order is kept.
    let faults = checker.look(|seen| seen.ledger.faults());
    assert!(faults.is_empty(), "{faults:?}");
}

/// The agent with a library before it whose calls fail, or hang, as the site's file `trouble` says.
fn troubled(site: &Site) -> Option<Agent> {
    site.write("trouble.c", TROUBLE);
    let library = shown(&site.path("trouble.so"));
    if !run("cc", &["-shared", "-fPIC", "-o", &library, &shown(&site.path("trouble.c")), "-ldl"]) {
        return not_tried("calls that fail (it takes cc)");
    }
    let mut program = site.program();
    program.arg("run").arg("-c").arg(site.path("agent.toml"));
    program.env("LD_PRELOAD", &library).env("DISK_TROUBLE", site.path("trouble"));
    Some(site.start_command(program))
}

/// A flush takes its time: readings are taken, sent and acknowledged meanwhile.
#[tokio::test]
async fn a_flush_that_takes_long_holds_nobody_up() {
    const REST: &str = "[buffer]\nsync = \"100ms\"\n\n[source.steady]\nplugin = \"steady\"\nevery = \"50ms\"\n";
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), REST), &["steady"]);
    let Some(agent) = troubled(&site) else { return };
    delivers(&checker).await;
    for _ in 0..3 {
        hang(&site).await;
        delivers(&checker).await;
        std::fs::remove_file(site.path("trouble")).expect("removed");
        delivers(&checker).await;
        checker.assert_kept();
    }
    // One that hangs for longer is waited for: the disk is not written on behind its back.
    hang(&site).await;
    let mut before = usize::MAX;
    while checker.count(STEADY_TOPIC) != before {
        before = checker.count(STEADY_TOPIC);
        pass(Duration::from_secs(2)).await;
    }
    std::fs::remove_file(site.path("trouble")).expect("removed");
    delivers(&checker).await;
    end(agent, &checker).await;
}

/// A flush hangs from now on.
async fn hang(site: &Site) {
    let _ = std::fs::remove_file(site.path("trouble.held"));
    site.write("trouble", "hang");
    wait_until("a flush hangs", SOON, || site.path("trouble.held").exists()).await;
}

/// EIO on flush, write and read: nothing that can be read is lost, what can't is named.
#[tokio::test]
async fn calls_that_fail() {
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), REST), &["steady"]);
    let Some(agent) = troubled(&site) else { return };
    delivers(&checker).await;
    for (round, call) in ["fdatasync", "pwrite", "fdatasync pwrite"].into_iter().enumerate() {
        site.write("trouble", call);
        wait_until("it is said", SOON, || agent.said().matches("the disk refuses writes").count() > round).await;
        delivers(&checker).await;
        std::fs::remove_file(site.path("trouble")).expect("removed");
        wait_until("it is back", SOON, || agent.said().matches("the disk takes writes again").count() > round).await;
        delivers(&checker).await;
    }
    checker.assert_kept();
    // F-5: what can't be read does not stop what can.
    broker.down().await;
    site.status_until(|status| status["buffer"]["messages"].as_u64() > Some(30)).await;
    site.write("trouble", "pread");
    let subscribed = checker.subscribed();
    broker.up().await;
    checker.subscribed_again(subscribed).await;
    delivers(&checker).await;
    std::fs::remove_file(site.path("trouble")).expect("removed");
    delivers(&checker).await;
    end(agent, &checker).await;
}
