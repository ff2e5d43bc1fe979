//! The thread's timing where the disk refuses. Tests only.

use super::*;
use crate::spool::Route;

/// A folder that stands where the first file should be refuses it, also to root.
#[tokio::test]
async fn a_disk_that_refuses_is_asked_once_a_second() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("spool");
    let files = Folder::open(&folder).expect("the folder");
    std::fs::create_dir(folder.join("00000.seg")).expect("made");
    let (mut spool, opened) = Spool::open(files, spool::Options::default(), *b"ABCD", now()).expect("opens");
    assert!(opened.trouble.is_some(), "{opened:?}");
    let (news, _watched) = watch::channel(news(&spool, 0, &[]));
    let route = Route { source: "a".into(), blob: Vec::new().into() };
    spool.append(now(), &route, 1, 0, b"reading").expect("fits");
    let buffer = Buffer {
        max_size: 1 << 20,
        max_age: None,
        sync: Sync::Always,
        when_full: WhenFull::DropOldest,
        replay_rate: 0,
    };
    let mut keeper = Keeper::new(spool, news, &buffer).expect("a thread");
    assert!(keeper.due() <= clock::now(), "the first flush is due");
    let before = clock::now();
    keeper.keep(&Flush::IfDue);
    assert_eq!(keeper.news.borrow().stats.state, BufferState::Memory);
    assert!(keeper.due() >= before + RETRY, "it is not asked again at once");
    // Who waits for a flush gets an answer all the same.
    let (reply, mut answered) = oneshot::channel();
    keeper.journal(Vec::new(), reply);
    keeper.keep(&Flush::IfDue);
    assert!(answered.try_recv().expect("an answer").is_err());
}
