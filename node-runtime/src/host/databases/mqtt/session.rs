//! One connection to a broker, speaking MQTT 3.1.1 as a client that only publishes.
//!
//! Promise: a message of quality 1 or 2 is published when the broker has said so. A broker that is silent for longer than the
//! keep-alive interval allows is gone.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{SinkExt as _, StreamExt as _};
use rumqttc::{Codec, Connect, ConnectReturnCode, Packet, PubRel, Publish, QoS, mqttbytes::Error as PacketError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::Framed;

use crate::host::network::wire::{Budget, Wire};

/// The largest packet there is (MQTT 3.1.1, 2.2.3).
const MOST_OUTGOING: usize = 268_435_460;
/// A broker sends a publisher nothing but acknowledgements.
const MOST_INCOMING: usize = 64 << 10;
/// How long a broker may take to be told that the client goes.
const PARTING: Duration = Duration::from_secs(1);

/// A message to publish, and whom to tell.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) message: Publish,
    pub(super) done: oneshot::Sender<Result<(), String>>,
}

/// A connection that the broker has accepted.
pub(super) struct BrokerSession {
    wire: Framed<Wire, Codec>,
    budget: Budget,
    keep_alive: Duration,
    /// By packet: what waits for an acknowledgement.
    unacknowledged: BTreeMap<u16, oneshot::Sender<Result<(), String>>>,
    last_id: u16,
    last_sent: Instant,
    /// A ping that was not answered yet.
    pinged: Option<Instant>,
}

impl BrokerSession {
    /// Logs in.
    pub(super) async fn start(wire: Wire, budget: Budget, login: Connect) -> Result<Self, String> {
        let codec = Codec { max_incoming_size: MOST_INCOMING, max_outgoing_size: MOST_OUTGOING };
        let keep_alive = Duration::from_secs(login.keep_alive.into());
        let mut wire = Framed::new(wire, codec);
        wire.send(Packet::Connect(login)).await.map_err(|error| text(&error))?;
        match wire.next().await {
            Some(Ok(Packet::ConnAck(answer))) if answer.code == ConnectReturnCode::Success => {}
            Some(Ok(Packet::ConnAck(answer))) => return Err(format!("the broker refuses: {}", refusal(answer.code))),
            Some(Ok(_)) => return Err("the broker answers with something else".to_owned()),
            Some(Err(error)) => return Err(text(&error)),
            None => return Err("the broker has closed the connection".to_owned()),
        }
        Ok(Self {
            wire,
            budget,
            keep_alive,
            unacknowledged: BTreeMap::new(),
            last_id: 0,
            last_sent: Instant::now(),
            pinged: None,
        })
    }

    /// Carries out `orders` until there are no more to come, or the broker is gone.
    pub(super) async fn run(&mut self, orders: &mut mpsc::Receiver<Order>) {
        let ended = loop {
            let next_ping = self.next_ping();
            let step = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.publish(order).await,
                    None => return,
                },
                packet = self.wire.next() => match packet {
                    Some(Ok(packet)) => self.receive(packet).await,
                    Some(Err(error)) => Err(text(&error)),
                    None => Err("the broker has closed the connection".to_owned()),
                },
                () = until(next_ping) => self.ping().await,
            };
            if let Err(problem) = step {
                break problem;
            }
        };
        for (_, waiting) in std::mem::take(&mut self.unacknowledged) {
            // Whoever is gone needs no answer.
            let _told = waiting.send(Err(ended.clone()));
        }
        orders.close();
        while let Some(order) = orders.recv().await {
            let _told = order.done.send(Err(ended.clone()));
        }
    }

    /// Says goodbye, so that the broker does not take it for a loss.
    pub(super) async fn part(mut self) {
        let _late = tokio::time::timeout(PARTING, self.wire.send(Packet::Disconnect)).await;
    }

    async fn publish(&mut self, Order { mut message, done }: Order) -> Result<(), String> {
        let acknowledged = message.qos != QoS::AtMostOnce;
        if acknowledged {
            let Some(id) = self.free_id() else {
                let _told = done.send(Err("too many messages wait for the broker".to_owned()));
                return Ok(());
            };
            message.pkid = id;
            self.unacknowledged.insert(id, done);
            return self.send(Packet::Publish(message)).await;
        }
        let sent = self.send(Packet::Publish(message)).await;
        let _told = done.send(sent.clone());
        sent
    }

    /// A packet's number that no other has that waits.
    fn free_id(&mut self) -> Option<u16> {
        for _ in 0..=u16::MAX {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.unacknowledged.contains_key(&self.last_id) {
                return Some(self.last_id);
            }
        }
        None
    }

    async fn receive(&mut self, packet: Packet) -> Result<(), String> {
        self.budget.renew();
        let published = match packet {
            Packet::PubAck(answer) => answer.pkid,
            Packet::PubComp(answer) => answer.pkid,
            Packet::PubRec(answer) => return self.send(Packet::PubRel(PubRel::new(answer.pkid))).await,
            Packet::PingResp => {
                self.pinged = None;
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let Some(waiting) = self.unacknowledged.remove(&published) {
            let _told = waiting.send(Ok(()));
        }
        Ok(())
    }

    /// When to ping: well before the broker would take us for gone, and then when it is gone itself.
    fn next_ping(&self) -> Option<Instant> {
        if self.keep_alive.is_zero() {
            return None;
        }
        Some(match self.pinged {
            Some(when) => when + self.keep_alive,
            None => self.last_sent + self.keep_alive.mul_f32(0.75),
        })
    }

    async fn ping(&mut self) -> Result<(), String> {
        if self.pinged.is_some() {
            return Err("the broker does not answer".to_owned());
        }
        self.pinged = Some(Instant::now());
        self.send(Packet::PingReq).await
    }

    async fn send(&mut self, packet: Packet) -> Result<(), String> {
        self.last_sent = Instant::now();
        self.wire.send(packet).await.map_err(|error| text(&error))
    }
}

/// Waits until then; for ever, where there is no time.
async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

/// Why a broker does not accept a client (MQTT 3.1.1, 3.2.2.3).
fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::Success => "nothing",
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
        ConnectReturnCode::BadClientId => "the client's identifier",
        ConnectReturnCode::ServiceUnavailable => "it is not available",
        ConnectReturnCode::BadUserNamePassword => "the user name or password",
        ConnectReturnCode::NotAuthorized => "the client is not authorized",
    }
}

fn text(error: &PacketError) -> String {
    match error {
        PacketError::Io(error) => error.to_string(),
        other => format!("the broker sends what is not MQTT: {other}"),
    }
}
