//! `wasi:sockets` of October and November 2023.

use wasmtime::component::{ComponentType, Lift, Lower, Resource};
use wasmtime_wasi::{
    p2::{
        SocketError,
        bindings::sockets::{
            network::{ErrorCode, Host as _, IpAddressFamily, IpSocketAddress, Network},
            tcp::{HostTcpSocket as _, TcpSocket},
            udp::UdpSocket,
        },
    },
    sockets::WasiSocketsView as _,
};

use super::{Instance, RuntimeContext};
use crate::host::sockets::begin_lookup;

type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

/// Both drafts let a socket of IPv6 refuse IPv4; the release always does.
pub(super) fn link_ipv6_only(instance: &mut Instance<'_>, protocol: &str) -> wasmtime::Result<()> {
    let (get, set) =
        (format!("[method]{protocol}-socket.ipv6-only"), format!("[method]{protocol}-socket.set-ipv6-only"));
    let set_to = |only: bool| if only { Ok(()) } else { Err(ErrorCode::NotSupported) };
    if protocol == "tcp" {
        instance.func_wrap(&get, |_, _: (Resource<TcpSocket>,)| Ok((Ok::<_, ErrorCode>(true),)))?;
        instance.func_wrap(&set, move |_, (_, only): (Resource<TcpSocket>, bool)| Ok((set_to(only),)))
    } else {
        instance.func_wrap(&get, |_, _: (Resource<UdpSocket>,)| Ok((Ok::<_, ErrorCode>(true),)))?;
        instance.func_wrap(&set, move |_, (_, only): (Resource<UdpSocket>, bool)| Ok((set_to(only),)))
    }
}

/// `resolve-addresses` with a wanted family, which is left to the guest to look at.
pub(super) fn link_lookup(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    type Arguments = (Resource<Network>, String, Option<IpAddressFamily>, bool);
    instance.func_wrap("resolve-addresses", |mut store, (network, name, _family, _unavailable): Arguments| {
        begin_lookup(store.data_mut(), &network, &name)
    })
}

/// Options that were renamed.
pub(super) fn link_tcp(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    type Socket = Resource<TcpSocket>;
    instance.func_wrap("[method]tcp-socket.keep-alive", |mut store, (socket,): (Socket,)| {
        let context = store.data_mut();
        let on = context.sockets().keep_alive_enabled(socket);
        answer(context, on)
    })?;
    instance.func_wrap("[method]tcp-socket.set-keep-alive", |mut store, (socket, on): (Socket, bool)| {
        let context = store.data_mut();
        let set = context.sockets().set_keep_alive_enabled(socket, on);
        answer(context, set)
    })?;
    // No socket had another value than this where it could be asked for at all.
    instance.func_wrap("[method]tcp-socket.no-delay", |_, _: (Socket,)| Ok((Ok::<_, ErrorCode>(true),)))?;
    instance.func_wrap("[method]tcp-socket.set-no-delay", |_, _: (Socket, bool)| Ok((Ok::<_, ErrorCode>(()),)))?;
    instance.func_wrap("[method]tcp-socket.unicast-hop-limit", |mut store, (socket,): (Socket,)| {
        let context = store.data_mut();
        let limit = context.sockets().hop_limit(socket);
        answer(context, limit)
    })?;
    instance.func_wrap("[method]tcp-socket.set-unicast-hop-limit", |mut store, (socket, limit): (Socket, u8)| {
        let context = store.data_mut();
        let set = context.sockets().set_hop_limit(socket, limit);
        answer(context, set)
    })
}

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Datagram {
    data: Vec<u8>,
    #[component(name = "remote-address")]
    remote_address: IpSocketAddress,
}

/// Datagrams without streams.
pub(super) fn link_udp(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    type Socket = Resource<UdpSocket>;
    fn unsupported<T>() -> Answer<T> {
        Ok((Err(ErrorCode::NotSupported),))
    }
    type Connect = (Socket, Resource<Network>, IpSocketAddress);
    instance.func_wrap("[method]udp-socket.start-connect", |_, _: Connect| unsupported::<()>())?;
    instance.func_wrap("[method]udp-socket.finish-connect", |_, _: (Socket,)| unsupported::<()>())?;
    instance.func_wrap("[method]udp-socket.receive", |_, _: (Socket, u64)| unsupported::<Vec<Datagram>>())?;
    instance.func_wrap("[method]udp-socket.send", |_, _: (Socket, Vec<Datagram>)| unsupported::<u64>())
}

/// Sorts out what is the guest's business and what stops it.
fn answer<T>(context: &mut RuntimeContext, result: Result<T, SocketError>) -> Answer<T> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(context.sockets().convert_error_code(error)?),)),
    }
}
