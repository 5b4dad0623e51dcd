//! MQTT: publishing messages, the same in all versions of the interface.
//!
//! Promise: a connection is the guest's own, from `open` until it is dropped; then the broker is told.
//!
//! Absent on purpose: subscribing (the interfaces have none); keeping connections, because a broker knows a client by its
//! name and lets it in once.

mod address;
mod components;
mod session;

use std::sync::{Arc, Mutex, PoisonError};

use rumqttc::{Connect, Login, Publish, QoS, valid_topic};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    address::{Address, is_text},
    session::{BrokerSession, Order},
};
use super::{Asker, Slot};
use crate::host::network::{
    ConnectionKind,
    wire::{Budget, Wire},
};

/// What went wrong, as the interfaces tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MqttFailure {
    /// The address is none.
    InvalidAddress,
    /// The instance has too many connections.
    TooManyConnections,
    /// There is no connection, or no longer.
    Connection(String),
    /// Anything else.
    Other(String),
}

/// A connection that a guest has opened.
#[expect(unreachable_pub, reason = "the generated code exports it")]
#[derive(Debug, Clone)]
pub struct MqttConnection {
    orders: mpsc::Sender<Order>,
    _gone: Arc<DropGuard>,
    _slot: Arc<Slot>,
}

/// The connections of a revision, which tell their brokers when they end.
#[derive(Debug, Default)]
pub(super) struct Brokers(Mutex<JoinSet<()>>);

impl Brokers {
    fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &runtime);
    }
}

/// What a guest says of itself.
pub(super) struct Client {
    pub(super) username: String,
    pub(super) password: String,
    /// In seconds; 0 means never.
    pub(super) keep_alive: u64,
}

impl MqttConnection {
    /// Connects to the broker at `address`.
    pub(super) async fn open(asker: &Asker, address: &str, client: Client) -> Result<Self, MqttFailure> {
        let Address { scheme, host, port, tls, client_id } =
            Address::parse(address).ok_or(MqttFailure::InvalidAddress)?;
        let network = &asker.grants.network;
        if !network.permits(&scheme, &host, Some(port)) {
            let text = format!("address {scheme}://{host}:{port} is not permitted");
            return Err(MqttFailure::Connection(text));
        }
        let slot = asker.open.mqtt.take().ok_or(MqttFailure::TooManyConnections)?;
        let login = login(client_id, client)?;
        let until = asker.until();
        let failure = |text: String| MqttFailure::Connection(text);
        let permit = network.permit(ConnectionKind::Mqtt, until).await.map_err(|error| failure(error.to_string()))?;
        let connect = async {
            let budget = Budget::new(asker.answer_limit(), network.memory());
            let wire = Wire::connect(network, &host, port, tls, budget.clone(), until).await;
            let wire = wire.map_err(|error| failure(error.to_string()))?;
            let session = BrokerSession::start(wire, budget, login).await;
            session.map_err(|text| failure(format!("no connection to `{host}`: {text}")))
        };
        let late = |_| failure(format!("`{host}` does not answer in time"));
        let mut session = tokio::time::timeout_at(until.into(), connect).await.map_err(late)??;
        let (orders, mut received) = mpsc::channel(1);
        let gone = CancellationToken::new();
        let guard = Arc::new(gone.clone().drop_guard());
        asker.pools().brokers.run(async move {
            let _permit = permit;
            gone.run_until_cancelled(session.run(&mut received)).await;
            session.part().await;
        });
        Ok(Self { orders, _gone: guard, _slot: Arc::new(slot) })
    }

    /// Publishes a message; with quality 1 or 2, until the broker has it.
    pub(super) async fn publish(&self, topic: String, payload: Vec<u8>, quality: QoS) -> Result<(), MqttFailure> {
        if topic.is_empty() || !valid_topic(&topic) || !is_text(&topic) {
            return Err(MqttFailure::Other("a message cannot be published to this topic".to_owned()));
        }
        let (done, published) = oneshot::channel();
        let gone = || MqttFailure::Connection("the broker has closed the connection".to_owned());
        let order = Order { message: Publish::new(topic, quality, payload), done };
        self.orders.send(order).await.map_err(|_| gone())?;
        published.await.map_err(|_| gone())?.map_err(MqttFailure::Connection)
    }
}

fn login(client_id: Option<String>, client: Client) -> Result<Connect, MqttFailure> {
    let Client { username, password, keep_alive } = client;
    if !is_text(&username) || !is_text(&password) {
        return Err(MqttFailure::Other("the user name or password is too long, or has a zero in it".to_owned()));
    }
    let mut login = Connect::new(client_id.unwrap_or_else(|| format!("spindle-{}", uuid::Uuid::new_v4().simple())));
    login.keep_alive = u16::try_from(keep_alive).unwrap_or(u16::MAX);
    login.login = (!username.is_empty() || !password.is_empty()).then(|| Login::new(username, password));
    Ok(login)
}
