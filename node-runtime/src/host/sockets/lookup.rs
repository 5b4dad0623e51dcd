//! `wasi:sockets/ip-name-lookup`: names of components that have sockets.
//!
//! Wasmtime's own looks up as many names at a time as a guest asks for, each on a thread that others need too. Here a lookup
//! waits for its turn among those of its application, as all others do ([`Network::look_up`]).

use std::{net::IpAddr, vec};

use async_trait::async_trait;
use futures::FutureExt as _;
use url::Host;
use wasmtime::component::{Accessor, Linker, Resource, ResourceType};
use wasmtime_wasi::{
    WasiView,
    p2::{
        DynPollable, Pollable,
        bindings::sockets::network::{ErrorCode, IpAddress, Network as NetworkHandle},
        subscribe,
    },
    p3::bindings::sockets::{ip_name_lookup::ErrorCode as ErrorCode3, types::IpAddress as IpAddress3},
    runtime::{AbortOnDropJoinHandle, spawn},
};

use super::super::{Network, RuntimeContext, drafts};

/// The addresses of a name, as they are known.
pub(in crate::host) struct Lookup(State);

enum State {
    Asked(AbortOnDropJoinHandle<Option<Vec<IpAddr>>>),
    Known(Option<vec::IntoIter<IpAddr>>),
}

/// What a name is.
enum Name {
    Address(IpAddr),
    Domain(String),
}

/// Why a name is not looked up.
enum Refusal {
    NotAllowed,
    NoName,
}

impl Lookup {
    /// Begins to look up `name`.
    pub(in crate::host) fn begin(context: &RuntimeContext, name: &str) -> Result<Self, ErrorCode> {
        let network = &context.grants().network;
        Ok(Self(match checked(network, name) {
            Ok(Name::Address(address)) => State::Known(Some(vec![address].into_iter())),
            Ok(Name::Domain(domain)) => {
                let network = network.clone();
                State::Asked(spawn(async move { addresses(&network, &domain).await }))
            }
            Err(Refusal::NotAllowed) => return Err(ErrorCode::PermanentResolverFailure),
            Err(Refusal::NoName) => return Err(ErrorCode::InvalidArgument),
        }))
    }

    fn next(&mut self) -> Result<Option<IpAddress>, ErrorCode> {
        if let State::Asked(task) = &mut self.0 {
            let found = task.now_or_never().ok_or(ErrorCode::WouldBlock)?;
            self.0 = State::Known(found.map(Vec::into_iter));
        }
        match &mut self.0 {
            State::Known(Some(addresses)) => Ok(addresses.next().map(IpAddress::from)),
            State::Known(None) => Err(ErrorCode::NameUnresolvable),
            State::Asked(_) => Err(ErrorCode::WouldBlock),
        }
    }
}

#[async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        if let State::Asked(task) = &mut self.0 {
            let found = task.await;
            self.0 = State::Known(found.map(Vec::into_iter));
        }
    }
}

/// Takes a name as it is written in URLs, where it may be a number of an address.
fn checked(network: &Network, name: &str) -> Result<Name, Refusal> {
    if !network.permits_sockets() {
        return Err(Refusal::NotAllowed);
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(Name::Address(address));
    }
    match Host::parse(name) {
        Ok(Host::Domain(domain)) => Ok(Name::Domain(domain)),
        Ok(Host::Ipv4(address)) => Ok(Name::Address(address.into())),
        Ok(Host::Ipv6(address)) => Ok(Name::Address(address.into())),
        Err(_) => Err(Refusal::NoName),
    }
}

async fn addresses(network: &Network, domain: &str) -> Option<Vec<IpAddr>> {
    let found = network.look_up(domain).await;
    found.inspect_err(|error| tracing::debug!(domain, %error, "name of a guest not resolved")).ok()
}

/// Defines it, in place of wasmtime's.
pub(in crate::host) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    link_p2(linker)?;
    link_p3(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn link_p2(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(&format!("wasi:sockets/ip-name-lookup@{}", drafts::RELEASE))?;
    instance.resource("resolve-address-stream", ResourceType::host::<Lookup>(), |mut store, rep| {
        WasiView::ctx(store.data_mut()).table.delete(Resource::<Lookup>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap("resolve-addresses", |mut store, (network, name): (Resource<NetworkHandle>, String)| {
        let context = store.data_mut();
        begin(context, &network, &name)
    })?;
    instance.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store, (lookup,): (Resource<Lookup>,)| {
            Ok((WasiView::ctx(store.data_mut()).table.get_mut(&lookup)?.next(),))
        },
    )?;
    instance.func_wrap("[method]resolve-address-stream.subscribe", |mut store, (lookup,): (Resource<Lookup>,)| {
        let pollable: Resource<DynPollable> = subscribe(WasiView::ctx(store.data_mut()).table, lookup)?;
        Ok((pollable,))
    })
}

/// Begins a lookup for a guest that has the right to use the network at all.
pub(in crate::host) fn begin(
    context: &mut RuntimeContext,
    network: &Resource<NetworkHandle>,
    name: &str,
) -> wasmtime::Result<(Result<Resource<Lookup>, ErrorCode>,)> {
    WasiView::ctx(context).table.get(network)?;
    Ok((match Lookup::begin(context, name) {
        Ok(lookup) => Ok(WasiView::ctx(context).table.push(lookup)?),
        Err(error) => Err(error),
    },))
}

fn link_p3(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("wasi:sockets/ip-name-lookup@0.3.0")?;
    instance.func_wrap_concurrent("resolve-addresses", |accessor: &Accessor<RuntimeContext>, (name,): (String,)| {
        let network = accessor.with(|mut access| access.get().grants().network.clone());
        Box::pin(async move {
            Ok((match checked(&network, &name) {
                Ok(Name::Address(address)) => Ok(vec![IpAddress3::from(address)]),
                Ok(Name::Domain(domain)) => match addresses(&network, &domain).await {
                    Some(found) => Ok(found.into_iter().map(IpAddress3::from).collect()),
                    None => Err(ErrorCode3::NameUnresolvable),
                },
                Err(Refusal::NotAllowed) => Err(ErrorCode3::PermanentResolverFailure),
                Err(Refusal::NoName) => Err(ErrorCode3::InvalidArgument),
            },))
        })
    })
}
