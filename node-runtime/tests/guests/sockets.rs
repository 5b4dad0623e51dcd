//! `wasi:sockets` of components.

use manifest::runtime_config::BlockedNetwork;
use tokio::net::UdpSocket;

use crate::{
    servers::raw,
    support::{App, Reply, guest},
};

fn app() -> App {
    App::of(&guest("http-rust"))
}

/// Whether the guest was told so.
fn is_denied(reply: &Reply) -> bool {
    reply.status == 502 && reply.text().contains("access-denied")
}

#[tokio::test]
async fn a_socket_connects_where_an_entry_of_tcp_or_of_every_scheme_allows_it() {
    let (address, _tasks) = raw(b"pong", true).await;
    let path = format!("/tcp/connect?address={address}");
    for entry in [format!("tcp://{address}"), format!("tcp://127.0.0.0/8:{}", address.port()), "*://*:*".to_owned()] {
        assert_eq!(app().allow(&entry).serve().await.get(&path).await.text(), "pong", "{entry}");
    }
    let other = format!("tcp://127.0.0.1:{}", address.port() ^ 1);
    for entry in [other, format!("http://{address}"), format!("udp://{address}"), "http://self".to_owned()] {
        assert!(is_denied(&app().allow(&entry).serve().await.get(&path).await), "{entry}");
    }
    assert!(is_denied(&app().serve().await.get(&path).await));
    let blocked = app().allow("*://*:*").runtime_config(|config| {
        config.outbound_networking.block_networks.push(BlockedNetwork::Private);
    });
    assert!(is_denied(&blocked.serve().await.get(&path).await));
    let none = app().allow("*://*:*").runtime_config(|config| {
        config.outbound_networking.max_socket_connections = Some(0);
    });
    assert!(is_denied(&none.serve().await.get(&path).await));
}

#[tokio::test]
async fn nobody_listens_and_names_are_looked_up_only_by_those_who_may_have_sockets() {
    let (open, closed) = (app().allow("*://*:*").serve().await, app().allow("http://*").serve().await);
    for address in ["0.0.0.0:0", "127.0.0.1:0"] {
        let told = open.get(&format!("/tcp/listen?address={address}")).await;
        assert!(is_denied(&told), "{address}: {}", told.text());
    }
    assert!(open.get("/lookup?name=localhost").await.text().contains("Ipv4"));
    assert_eq!(closed.get("/lookup?name=localhost").await.status, 502);
}

#[tokio::test]
async fn datagrams_are_sent_where_an_entry_of_udp_allows_it() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let path = format!("/udp/send?address={address}");
    let reply = app().allow(&format!("udp://{address}")).serve().await.get(&path).await;
    assert_eq!(reply.text(), "1 sent\n");
    let mut read = [0; 16];
    assert_eq!(socket.recv(&mut read).await.unwrap(), 4);
    assert_eq!(app().allow(&format!("tcp://{address}")).serve().await.get(&path).await.status, 502);
}
