//! Statistics against the kernel's own files.

use super::*;

#[test]
fn usage_is_what_was_not_idle_since_the_sample_before() {
    let before = parse_stat("cpu  9 9 9 9\ncpu0 100 0 100 800 0 0 0 0 0 0\ncpu1 0 0 0 50\nintr 1 2\n");
    let now = parse_stat("cpu0 110 5 105 870 10 0 0 0 0 0\ncpu1 0 0 0 50\ncpu3 1 1 1 1\n");
    let list = usages(&before, &now);
    assert_eq!(list.len(), 3);
    assert_eq!(list[0], Cpu { name: "0".into(), usage: Some(20.0) });
    // No time has passed for it, and the other is new: neither is 0.
    assert_eq!(list[1].usage, None);
    assert_eq!(list[2], Cpu { name: "3".into(), usage: None });
}

#[test]
fn counters_that_go_back_are_no_usage() {
    let before = parse_stat("cpu0 100 0 0 800\ncpu1 100 0 0 100\n");
    let now = parse_stat("cpu0 90 0 0 700\ncpu1 90 0 0 200\n");
    let list = usages(&before, &now);
    assert_eq!(list[0].usage, None);
    assert_eq!(list[1].usage, Some(0.0));
}

#[test]
fn mounts_that_hold_files_are_listed_once() {
    let text = "\
22 27 0:21 / /proc rw - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
28 27 0:25 / /tmp rw - tmpfs tmpfs rw
29 27 254:0 /srv/x /mnt/bind rw - ext4 /dev/vda rw
30 27 254:1 / /var/log rw shared:1 - ext4 /dev/vdb rw
31 27 7:0 / /snap/core rw - squashfs /dev/loop0 ro
32 27 0:40 / /mnt/server rw - nfs4 server:/x rw
33 27 0:41 / /mnt/ssh rw - fuse.sshfs me@there:/ rw
34 27 0:42 / /var/lib/docker/overlay2/1/merged rw - overlay overlay rw
35 27 0:43 /@home /home rw - btrfs /dev/sda1 rw
36 27 0:43 /@srv /srv rw - btrfs /dev/sda1 rw
37 27 8:2 / /media/My\\040Disk rw - vfat /dev/sdb1 rw
38 27 8:3 / /covered rw - ext4 /dev/sdc1 rw
39 38 0:50 / /covered rw - tmpfs tmpfs rw
broken line
";
    let paths: Vec<String> = parse_mounts(text).into_iter().map(|mount| mount.path).collect();
    assert_eq!(paths, ["/", "/home", "/media/My Disk", "/srv", "/var/log"]);
}

#[test]
fn a_root_on_layers_is_listed() {
    let mounts = parse_mounts("1 0 0:9 / / rw - overlay overlay rw\n2 1 254:0 /h /etc/hosts rw - ext4 /dev/vda rw\n");
    assert_eq!(mounts.first().map(|mount| mount.path.as_str()), Some("/"));
}

#[test]
fn paths_are_unescaped() {
    assert_eq!(unescape(r"/a\040b\134c\11"), r"/a b\c\11");
    assert_eq!(unescape(r"\"), r"\");
}

#[tokio::test]
async fn this_machine_answers() {
    let mut statistics = Statistics::new();
    let cpus = statistics.cpus().await;
    assert!(!cpus.is_empty());
    assert!(cpus.iter().any(|cpu| cpu.usage.is_some_and(|usage| (0.0..=100.0).contains(&usage))), "{cpus:?}");
    // Too soon for a new measurement: the same again, and at once.
    assert_eq!(statistics.cpus().await, cpus);
    let memory = statistics.memory().expect("memory");
    assert!(memory.total >= memory.available && memory.available > 0);
    let filesystems = statistics.filesystems().await;
    let root = filesystems.iter().find(|filesystem| filesystem.mount == "/").expect("a root file system");
    assert!(root.total >= root.used && root.used > 0);
    assert!(statistics.interfaces().await.iter().all(|interface| interface.name != "lo"));
    assert!(statistics.uptime().expect("uptime") > Duration::from_secs(1));
    assert!(statistics.load().expect("load").one >= 0.0);
    statistics.thermals().await;
}

#[tokio::test]
async fn file_systems_that_hang_are_asked_once() {
    let statistics = Statistics::new();
    statistics.filesystems_asked.store(true, Ordering::SeqCst);
    assert_eq!(statistics.clone().filesystems().await, []);
    statistics.filesystems_asked.store(false, Ordering::SeqCst);
    assert!(!statistics.filesystems().await.is_empty());
}
