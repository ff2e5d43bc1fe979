//! Certificates that fit, and each way in which they don't.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::config::Scheme;
use crate::net::{ConnectError, Dialer, Roots, Step, Target, TlsFiles};

use super::pki::{self, Authority};
use super::{PATIENCE, Remote, connect, listen, options, plain, refused, session, url};

/// A broker behind TLS that accepts everybody, as often as they come.
async fn serve(config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(Arc::clone(&config));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let mut remote = Remote::new(stream);
                if remote.packet().await.is_some() {
                    remote.send(super::CONNACK).await;
                    remote.drain().await;
                }
            });
        }
    });
    address
}

fn target(address: SocketAddr, ca_file: &Path) -> Target {
    let files = TlsFiles { ca: Some(ca_file.to_owned()), ..TlsFiles::default() };
    Target { tls: files, ..Target::direct(url(Scheme::Mqtts, address)) }
}

#[tokio::test]
async fn a_private_authority_is_trusted_and_the_second_handshake_is_short() {
    let authority = Authority::new("plant");
    let address = serve(pki::server(&authority.issue(&["127.0.0.1"]), None)).await;
    let target = target(address, &authority.ca_file());
    let mut dialer = Dialer::new();
    let mut handshakes = Vec::new();
    for round in 0..4 {
        if round == 2 {
            // The same content in a new file: nothing changed.
            let text = std::fs::read(authority.ca_file()).expect("read");
            std::fs::remove_file(authority.ca_file()).expect("removed");
            std::fs::write(authority.ca_file(), text).expect("written");
        }
        if round == 3 {
            // F-25: an authority is added; what was agreed under the old list does not count any more.
            let mut text = std::fs::read(authority.ca_file()).expect("read");
            text.extend(std::fs::read(Authority::new("another").ca_file()).expect("read"));
            std::fs::write(authority.ca_file(), text).expect("written");
        }
        let mut session = session();
        let (connection, _) =
            dialer.connect(&target, &mut session, &options(), true, PATIENCE).await.expect("connected");
        assert_eq!(connection.peer().address, Some(address));
        handshakes.push(connection.peer().tls.expect("over TLS"));
    }
    assert!(handshakes.iter().all(|handshake| handshake.version == "TLSv1_3"), "{handshakes:?}");
    let resumed: Vec<bool> = handshakes.iter().map(|handshake| handshake.resumed).collect();
    assert_eq!(resumed, [false, true, true, false]);
}

#[tokio::test]
async fn tls_1_2_is_spoken_too() {
    let authority = Authority::new("plant");
    let identity = authority.issue(&["127.0.0.1"]);
    let mut config = Arc::unwrap_or_clone(pki::server(&identity, None));
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    let address = serve(Arc::new(config)).await;
    let mut target = target(address, &authority.ca_file());
    target.tls.alpn = vec!["mqtt".to_owned()];
    connect(&target).await.expect("connected with ALPN");

    let address = serve(pki::server_of_1_2(&identity)).await;
    let (connection, ..) = connect(&self::target(address, &authority.ca_file())).await.expect("connected");
    assert_eq!(connection.peer().tls.expect("over TLS").version, "TLSv1_2");
}

#[tokio::test]
async fn an_unknown_authority_is_refused_with_the_file_in_use() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let address = serve(pki::server(&theirs.issue(&["127.0.0.1"]), None)).await;
    let error = refused(&target(address, &ours.ca_file())).await;
    assert!(
        matches!(&error, ConnectError::UnknownAuthority { roots: Roots::File(path), .. } if *path == ours.ca_file())
    );
    assert!(error.to_string().contains(&ours.ca_file().display().to_string()), "{error}");
    assert_eq!(error.step(), Step::Tls);

    let system = Target::direct(url(Scheme::Mqtts, address));
    match refused(&system).await {
        error @ ConnectError::UnknownAuthority { roots: Roots::System { .. }, .. } => {
            assert!(error.hint().expect("a hint").contains("ca_file"));
        }
        // A host without any authority says that instead.
        error => assert!(matches!(error, ConnectError::NoRoots { .. }), "{error}"),
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused_with_both_names() {
    let authority = Authority::new("plant");
    let address = serve(pki::server(&authority.issue(&["broker.example", "*.plant.example"]), None)).await;
    let error = refused(&target(address, &authority.ca_file())).await;
    let ConnectError::WrongHost { asked, holds, .. } = &error else { panic!("{error}") };
    assert_eq!(asked, "127.0.0.1");
    assert_eq!(holds, &["broker.example", "*.plant.example"]);
    assert!(error.to_string().ends_with("its certificate is for broker.example, *.plant.example, not for 127.0.0.1"));

    let address = serve(pki::server(&authority.issue(&[]), None)).await;
    let error = refused(&target(address, &authority.ca_file())).await;
    assert!(error.to_string().contains("no host name at all"), "{error}");
    assert!(error.hint().expect("a hint").contains("subject alternative names"));
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused_with_the_date() {
    let authority = Authority::new("plant");
    let expired = authority.issue_with(&["127.0.0.1"], |params| params.not_after = rcgen::date_time_ymd(2020, 2, 29));
    let error = refused(&target(serve(pki::server(&expired, None)).await, &authority.ca_file())).await;
    assert!(matches!(error, ConnectError::Expired { .. }), "{error}");
    assert!(error.to_string().ends_with("its certificate expired on 2020-02-29T00:00:00Z"), "{error}");

    let early = authority.issue_with(&["127.0.0.1"], |params| params.not_before = rcgen::date_time_ymd(2999, 1, 1));
    let error = refused(&target(serve(pki::server(&early, None)).await, &authority.ca_file())).await;
    assert!(matches!(error, ConnectError::NotYetValid { .. }), "{error}");
    assert!(error.hint().expect("a hint").contains("clock"));
}

#[tokio::test]
async fn an_authority_s_own_certificate_does_not_serve_as_a_broker_s() {
    let authority = Authority::new("plant");
    let own = authority.issue_with(&["127.0.0.1"], |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let error = refused(&target(serve(pki::server(&own, None)).await, &authority.ca_file())).await;
    assert!(matches!(error, ConnectError::Certificate { .. }), "{error}");
    assert!(error.hint().expect("a hint").contains("signed by it"), "{error}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_its_lack_or_its_refusal_is_said() {
    let (authority, stranger) = (Authority::new("plant"), Authority::new("stranger"));
    let address = serve(pki::server(&authority.issue(&["127.0.0.1"]), Some(&authority))).await;
    let mut target = target(address, &authority.ca_file());

    let error = refused(&target).await;
    assert!(matches!(error, ConnectError::ClientCertificate { sent: false, .. }), "{error}");
    assert!(error.hint().expect("a hint").contains("cert_file"));

    let (cert, key) = stranger.write(&stranger.issue(&["press-7"]), "client");
    (target.tls.cert, target.tls.key) = (Some(cert), Some(key));
    let error = refused(&target).await;
    assert!(matches!(error, ConnectError::ClientCertificate { sent: true, .. }), "{error}");

    let (cert, key) = authority.write(&authority.issue(&["press-7"]), "client");
    (target.tls.cert, target.tls.key) = (Some(cert), Some(key));
    connect(&target).await.expect("connected");
}

/// F-25: what is renewed on the disk is used by the next connect of the same dialer.
#[tokio::test]
async fn f25_a_renewed_client_certificate_is_taken_without_a_restart() {
    let (authority, stranger) = (Authority::new("plant"), Authority::new("stranger"));
    let address = serve(pki::server(&authority.issue(&["127.0.0.1"]), Some(&authority))).await;
    let mut target = target(address, &authority.ca_file());
    let (cert, key) = stranger.write(&stranger.issue(&["press-7"]), "client");
    (target.tls.cert, target.tls.key) = (Some(cert.clone()), Some(key.clone()));
    let mut dialer = Dialer::new();
    let outcome = dialer.connect(&target, &mut session(), &options(), true, PATIENCE).await;
    assert!(outcome.is_err());

    let (new_cert, new_key) = authority.write(&authority.issue(&["press-7"]), "client");
    std::fs::rename(new_cert, cert).expect("renamed");
    std::fs::rename(new_key, key).expect("renamed");
    dialer.connect(&target, &mut session(), &options(), true, PATIENCE).await.expect("connected");
}

#[tokio::test]
async fn files_of_no_use_are_named_with_the_reason() {
    let authority = Authority::new("plant");
    let address = serve(pki::server(&authority.issue(&["127.0.0.1"]), None)).await;
    let folder = authority.folder.path();
    let (cert, key) = authority.write(&authority.issue(&["a"]), "a");
    let (_, other_key) = authority.write(&authority.issue(&["b"]), "b");
    std::fs::write(folder.join("empty.pem"), "").expect("written");
    std::fs::write(
        folder.join("locked.key"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .expect("written");
    let base = target(address, &authority.ca_file());
    let with = |ca: &Path, cert: Option<&Path>, key: Option<&Path>| {
        let tls = TlsFiles {
            ca: Some(ca.to_owned()),
            cert: cert.map(Path::to_owned),
            key: key.map(Path::to_owned),
            alpn: Vec::new(),
        };
        Target { tls, ..base.clone() }
    };
    let ca = authority.ca_file();
    let cases = [
        (with(&folder.join("absent.pem"), None, None), "ca_file", "No such file"),
        (with(&folder.join("empty.pem"), None, None), "ca_file", "holds no certificate in PEM form"),
        (with(&key, None, None), "ca_file", "holds no certificate in PEM form"),
        (with(folder, None, None), "ca_file", "directory"),
        (with(&ca, Some(&cert), Some(&ca)), "key_file", "holds no private key in PEM form"),
        (with(&ca, Some(&cert), Some(&folder.join("locked.key"))), "key_file", "passphrase"),
        (with(&ca, Some(&cert), Some(&other_key)), "key_file", "is not the key of"),
    ];
    for (target, what, reason) in cases {
        let error = refused(&target).await;
        assert_eq!(error.step(), Step::Files, "{error}");
        let text = error.to_string();
        assert!(text.starts_with(what) && text.contains(reason), "{text}: expected {what} {reason}");
    }
}

#[tokio::test]
async fn a_port_without_tls_is_told_apart_from_one_with() {
    // A plain broker that answers a ClientHello with something of its own.
    let (address, _task) = listen(|mut remote| async move {
        remote.send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        remote.drain().await;
    })
    .await;
    let authority = Authority::new("plant");
    let error = refused(&target(address, &authority.ca_file())).await;
    assert!(matches!(error, ConnectError::NotTls { .. }), "{error}");

    // One that closes, as mosquitto does.
    let (address, _task) = listen(|_| async {}).await;
    let error = refused(&target(address, &authority.ca_file())).await;
    assert!(matches!(error, ConnectError::Closed { step: Step::Tls, .. }), "{error}");
    assert!(error.hint().expect("a hint").contains("mqtt://"));

    // And a plain client at a port with TLS.
    let address = serve(pki::server(&authority.issue(&["127.0.0.1"]), None)).await;
    let error = refused(&plain(address)).await;
    assert!(matches!(error, ConnectError::NotMqtt { .. }), "{error}");
    assert!(error.hint().expect("a hint").contains("mqtts://"), "{error}");
}
