//! Connections of its own: what `wasi:sockets` allows, or the error's name with the status 502.

use crate::exchange::{Failure, Query, Reply};
use wasi::io::streams::StreamError;
use wasi::sockets::instance_network::instance_network;
use wasi::sockets::ip_name_lookup::resolve_addresses;
use wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasi::sockets::tcp::TcpSocket;
use wasi::sockets::tcp_create_socket::create_tcp_socket;
use wasi::sockets::udp::OutgoingDatagram;
use wasi::sockets::udp_create_socket::create_udp_socket;

pub fn answer(reply: Reply, what: &str, query: &Query<'_>) -> Result<(), Failure> {
    let result = match what {
        "connect" => connect(query),
        "listen" => listen(query),
        "send" => send(query),
        _ => lookup(&query.decoded("name")),
    };
    match result {
        Ok(text) => reply.text(200, &text),
        Err(code) => reply.text(502, &format!("{code:?}\n")),
    }
}

fn address(query: &Query<'_>) -> Result<IpSocketAddress, ErrorCode> {
    let text = query.decoded("address");
    let address: std::net::SocketAddrV4 = text.parse().map_err(|_| ErrorCode::InvalidArgument)?;
    let [a, b, c, d] = address.ip().octets();
    Ok(IpSocketAddress::Ipv4(Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) }))
}

fn socket() -> Result<TcpSocket, ErrorCode> {
    create_tcp_socket(IpAddressFamily::Ipv4)
}

/// Says `ping`, and returns all that comes back.
fn connect(query: &Query<'_>) -> Result<String, ErrorCode> {
    let socket = socket()?;
    socket.start_connect(&instance_network(), address(query)?)?;
    socket.subscribe().block();
    let (input, output) = socket.finish_connect()?;
    output.blocking_write_and_flush(b"ping\n").map_err(|_| ErrorCode::ConnectionReset)?;
    let mut read = Vec::new();
    loop {
        match input.blocking_read(1024) {
            Ok(bytes) => read.extend(bytes),
            Err(StreamError::Closed) => return Ok(String::from_utf8_lossy(&read).into_owned()),
            Err(StreamError::LastOperationFailed(_)) => return Err(ErrorCode::ConnectionReset),
        }
    }
}

fn listen(query: &Query<'_>) -> Result<String, ErrorCode> {
    let socket = socket()?;
    socket.start_bind(&instance_network(), address(query)?)?;
    socket.subscribe().block();
    socket.finish_bind()?;
    socket.start_listen()?;
    socket.subscribe().block();
    socket.finish_listen()?;
    Ok("listening\n".to_owned())
}

/// Sends one datagram.
fn send(query: &Query<'_>) -> Result<String, ErrorCode> {
    let socket = create_udp_socket(IpAddressFamily::Ipv4)?;
    let to = address(query)?;
    let (_incoming, outgoing) = match socket.stream(None) {
        Ok(streams) => streams,
        // A host may insist on a bound socket.
        Err(ErrorCode::InvalidState) => {
            let any = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: 0, address: (0, 0, 0, 0) });
            socket.start_bind(&instance_network(), any)?;
            socket.subscribe().block();
            socket.finish_bind()?;
            socket.stream(None)?
        }
        Err(code) => return Err(code),
    };
    outgoing.subscribe().block();
    outgoing.check_send()?;
    let sent = outgoing.send(&[OutgoingDatagram { data: b"ping".to_vec(), remote_address: Some(to) }])?;
    Ok(format!("{sent} sent\n"))
}

fn lookup(name: &str) -> Result<String, ErrorCode> {
    let addresses = resolve_addresses(&instance_network(), name)?;
    let mut lines = String::new();
    loop {
        match addresses.resolve_next_address() {
            Ok(Some(address)) => lines.push_str(&format!("{address:?}\n")),
            Ok(None) => return Ok(lines),
            Err(ErrorCode::WouldBlock) => addresses.subscribe().block(),
            Err(code) => return Err(code),
        }
    }
}
