//! A server and its clients, friendly and not.

use super::*;

async fn ask(path: &Path, question: &Question) -> io::Result<Answer> {
    Asking::begin(path, question).await?.answer().await
}

/// A server whose agent answers everything with the same error, and tails from `feed`.
fn serving(path: &Path, feed: Feed) -> Server {
    let (server, mut questions) = Server::start(path).unwrap();
    tokio::spawn(async move {
        while let Some(asked) = questions.recv().await {
            let reply = match asked.question {
                Question::Tail { source } => match feed.tail(source) {
                    Some(tail) => Reply::Tail(vec!["one is ill".into()], tail),
                    None => Reply::Answer(Answer::Error("too many".into())),
                },
                _ => Reply::Answer(Answer::Error("not now".into())),
            };
            let _ = asked.reply.send(reply);
        }
    });
    server
}

#[tokio::test]
async fn a_question_is_answered_and_the_socket_goes_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run").join("control.sock");
    let server = serving(&path, Feed::new());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    assert_eq!(ask(&path, &Question::Status).await.unwrap(), Answer::Error("not now".into()));
    assert!(Server::start(&path).is_err(), "two servers at one socket");
    drop(server);
    assert!(!path.exists());
}

#[tokio::test]
async fn two_clients_are_served_at_once_and_an_idle_one_is_no_burden() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let _server = serving(&path, Feed::new());
    let _idle = UnixStream::connect(&path).await.unwrap();
    let (one, other) = tokio::join!(ask(&path, &Question::Status), ask(&path, &Question::Reload));
    assert_eq!(one.unwrap(), other.unwrap());
}

/// Whatever comes in place of a question gets an answer, and the next client is served.
#[tokio::test]
async fn nonsense_is_answered_and_a_dead_socket_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let _server = serving(&path, Feed::new());
    let endless = vec![b'['; LINE_MAX as usize * 3];
    let deep = format!("{}\n", "[".repeat(LINE_MAX as usize - 1));
    for nonsense in [&b"hello\n"[..], b"\n", b"\xff\xfe\x00\n", b"{\"ask\":\"fly\"}\n", &endless, deep.as_bytes()] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        // The server may have had enough before all of it is written.
        let _ = stream.write_all(nonsense).await;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("no such question") || nonsense.len() > LINE_MAX as usize, "{text}");
        assert_eq!(ask(&path, &Question::Status).await.unwrap(), Answer::Error("not now".into()));
    }
}

#[tokio::test]
async fn nobody_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(ask(&folder.path().join("none.sock"), &Question::Status).await.is_err());
}

#[tokio::test]
async fn a_tail_brings_lines_until_the_feed_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let feed = Feed::new();
    let _server = serving(&path, feed.clone());
    let mut tail = Asking::begin(&path, &Question::Tail { source: None }).await.unwrap();
    assert_eq!(tail.answer().await.unwrap(), Answer::Note("one is ill".into()));
    feed.show("a", || vec!["{\"source\":\"a\"}".into()]);
    assert_eq!(tail.next().await.unwrap(), Answer::Live(serde_json::json!({ "source": "a" })));
    feed.close();
    assert!(matches!(tail.next().await.unwrap(), Answer::Done(_)));
    assert_eq!(tail.next().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

/// A client that reads nothing holds up nobody, and a client that has left gives its place back.
#[tokio::test]
async fn a_tail_that_is_not_read_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let feed = Feed::new();
    let _server = serving(&path, feed.clone());
    let question = Question::Tail { source: Some("a".into()) };
    let mut slow = Asking::begin(&path, &question).await.unwrap();
    assert_eq!(slow.answer().await.unwrap(), Answer::Note("one is ill".into()));
    let line = format!("\"{}\"", "x".repeat(60_000));
    for _ in 0..500 {
        feed.show("a", || vec![line.clone()]);
        tokio::task::yield_now().await;
    }
    let (mut live, mut missed) = (0, 0);
    while live + missed < 500 {
        match slow.next().await.unwrap() {
            Answer::Live(_) => live += 1,
            Answer::Missed(count) => missed += count,
            other => panic!("{other:?}"),
        }
        // What was missed is said with the next line.
        feed.show("a", || vec!["\"more\"".into()]);
    }
    assert!(missed > 0 && live > 0, "{live} live, {missed} missed");
    let mut others = Vec::new();
    for _ in 1..TAILS_MAX {
        let mut other = Asking::begin(&path, &question).await.unwrap();
        assert!(matches!(other.answer().await.unwrap(), Answer::Note(_)));
        others.push(other);
    }
    let one_more = Asking::begin(&path, &question).await.unwrap().answer().await.unwrap();
    assert_eq!(one_more, Answer::Error("too many".into()));
    drop(slow);
    let place_again = async {
        loop {
            let mut tail = Asking::begin(&path, &question).await.unwrap();
            if let Answer::Note(_) = tail.answer().await.unwrap() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), place_again).await.expect("a place that was left is free");
}
