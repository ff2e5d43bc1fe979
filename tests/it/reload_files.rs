//! F-41: how files come to change. Each is seen by itself, and half a file is never believed.

use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::harness::{Agent, STEADY, Site, config, pass};

const NOWHERE: &str = "mqtt://127.0.0.1:1";
const SECOND: &str = "[source.second]\nplugin = \"steady\"\nevery = \"1s\"\n";

async fn running(site: &Site) -> Agent {
    let agent = site.start();
    site.status_until(|status| status["sources"][0]["polls"].as_u64() > Some(1)).await;
    agent
}

async fn until_sources(site: &Site, names: &[&str]) {
    site.status_until(|status| {
        let sources = status["sources"].as_array();
        let found: Vec<_> = sources.into_iter().flatten().filter_map(|source| source["name"].as_str()).collect();
        status["config"]["valid"] == true && found == names
    })
    .await;
}

/// As Kubernetes mounts a config map: the file is a link through a link that is switched by rename.
#[tokio::test]
async fn f41_a_link_is_switched() {
    let site = Site::new("", &["steady"]);
    std::fs::remove_file(site.path("agent.toml")).expect("it is made anew");
    let version = |name: &str, text: &str| {
        std::fs::create_dir(site.path(name)).expect("a version's folder");
        site.write(&format!("{name}/agent.toml"), config(NOWHERE, text));
        symlink(name, site.path("..new")).expect("a link");
        std::fs::rename(site.path("..new"), site.path("..data")).expect("switch it");
    };
    version("..one", STEADY);
    symlink("..data/agent.toml", site.path("agent.toml")).expect("a link");
    let agent = running(&site).await;
    version("..two", &format!("{STEADY}{SECOND}"));
    until_sources(&site, &["second", "steady"]).await;
    version("..three", STEADY);
    until_sources(&site, &["steady"]).await;
    agent.stop().await;
}

/// A link that leads out of the folder: what happens there is seen as well.
#[tokio::test]
async fn f41_a_file_behind_a_link_changes() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let target = elsewhere.path().join("real.toml");
    std::fs::write(&target, config(NOWHERE, STEADY)).expect("write it");
    let site = Site::new("", &["steady"]);
    std::fs::remove_file(site.path("agent.toml")).expect("it is a link");
    symlink(&target, site.path("agent.toml")).expect("a link");
    let agent = running(&site).await;
    std::fs::write(elsewhere.path().join("new"), config(NOWHERE, &format!("{STEADY}{SECOND}"))).expect("write it");
    std::fs::rename(elsewhere.path().join("new"), &target).expect("save it");
    until_sources(&site, &["second", "steady"]).await;
    agent.stop().await;
}

/// The folder of drop-ins comes, goes and comes back.
#[tokio::test]
async fn f41_a_folder_is_removed_and_back() {
    let site = Site::without_drop_ins(&config(NOWHERE, STEADY), &["steady"]);
    let agent = running(&site).await;
    for _ in 0..3 {
        std::fs::create_dir(site.path("agent.d")).expect("make it");
        site.write("agent.d/20-second.toml", SECOND);
        until_sources(&site, &["second", "steady"]).await;
        std::fs::remove_dir_all(site.path("agent.d")).expect("remove it");
        until_sources(&site, &["steady"]).await;
    }
    assert_eq!(agent.said().matches("source=\"steady\"").count(), 0);
    agent.stop().await;
}

/// A copy that takes its time, in place: what was read half is refused or left alone, and what is there in the end
/// counts. A half that were believed would end the healthy source.
#[tokio::test]
async fn f41_a_slow_copy_is_read_whole() {
    use std::io::Write as _;
    let site = Site::new(&config(NOWHERE, STEADY), &["steady"]);
    let agent = running(&site).await;
    // Every cut behind the head is wrong: a list is open until the end.
    let head = config(NOWHERE, &format!("{STEADY}{SECOND}config = {{ filling = [\n"));
    let tail = format!("{}] }}\n", "\"filling\",\n".repeat(40));
    let mut file = std::fs::File::create(site.path("agent.toml")).expect("begin to copy");
    file.write_all(head.as_bytes()).expect("the beginning");
    for chunk in tail.as_bytes().chunks(tail.len() / 8) {
        file.flush().expect("on its way");
        pass(Duration::from_millis(60)).await;
        file.write_all(chunk).expect("more of it");
    }
    drop(file);
    until_sources(&site, &["second", "steady"]).await;
    assert_eq!(agent.said().matches("every 100ms").count(), 1, "it was started once, and never stopped");
    agent.stop().await;
}
