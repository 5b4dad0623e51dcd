//! The interfaces for components: `fermyon:spin/mqtt@2.0.0` and `spin:mqtt/mqtt@3.0.0`.

use rumqttc::QoS;
use wasmtime::component::{Accessor, HasSelf, Resource};

use super::{Client, MqttConnection, MqttFailure};
use crate::host::{
    RuntimeContext,
    databases::bindings::{fermyon::spin2_0_0::mqtt as v2, spin::mqtt::mqtt as v3},
};

type Asked<T, E> = wasmtime::Result<Result<T, E>>;
type Guest<T> = Accessor<T, HasSelf<RuntimeContext>>;

macro_rules! translate {
    ($interface:ident) => {
        impl From<MqttFailure> for $interface::Error {
            fn from(failure: MqttFailure) -> Self {
                match failure {
                    MqttFailure::InvalidAddress => Self::InvalidAddress,
                    MqttFailure::TooManyConnections => Self::TooManyConnections,
                    MqttFailure::Connection(text) => Self::ConnectionFailed(text),
                    MqttFailure::Other(text) => Self::Other(text),
                }
            }
        }

        impl From<$interface::Qos> for QoS {
            fn from(quality: $interface::Qos) -> Self {
                match quality {
                    $interface::Qos::AtMostOnce => Self::AtMostOnce,
                    $interface::Qos::AtLeastOnce => Self::AtLeastOnce,
                    $interface::Qos::ExactlyOnce => Self::ExactlyOnce,
                }
            }
        }
    };
}

translate!(v2);
translate!(v3);

impl v2::Host for RuntimeContext {}

impl v2::HostConnection for RuntimeContext {
    async fn open(
        &mut self,
        address: String,
        username: String,
        password: String,
        keep_alive: u64,
    ) -> Asked<Resource<MqttConnection>, v2::Error> {
        let client = Client { username, password, keep_alive };
        match MqttConnection::open(&self.asker(), &address, client).await {
            Ok(connection) => self.give(connection).map(Ok),
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    async fn publish(
        &mut self,
        handle: Resource<MqttConnection>,
        topic: String,
        payload: Vec<u8>,
        quality: v2::Qos,
    ) -> Asked<(), v2::Error> {
        let connection = self.opened(&handle)?;
        let _held = self.hold(&[&topic, &payload])?;
        Ok(connection.publish(topic, payload, quality.into()).await.map_err(v2::Error::from))
    }

    async fn drop(&mut self, handle: Resource<MqttConnection>) -> wasmtime::Result<()> {
        self.close(handle)
    }
}

impl v3::Host for RuntimeContext {}

impl v3::HostConnection for RuntimeContext {
    async fn drop(&mut self, handle: Resource<MqttConnection>) -> wasmtime::Result<()> {
        self.close(handle)
    }
}

impl<T> v3::HostConnectionWithStore<T> for HasSelf<RuntimeContext> {
    async fn open(
        guest: &Guest<T>,
        address: String,
        username: String,
        password: String,
        keep_alive: u64,
    ) -> Asked<Resource<MqttConnection>, v3::Error> {
        let asker = guest.with(|mut guest| guest.get().asker());
        let client = Client { username, password, keep_alive };
        match MqttConnection::open(&asker, &address, client).await {
            Ok(connection) => guest.with(|mut guest| guest.get().give(connection)).map(Ok),
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    async fn publish(
        guest: &Guest<T>,
        handle: Resource<MqttConnection>,
        topic: String,
        payload: Vec<u8>,
        quality: v3::Qos,
    ) -> Asked<(), v3::Error> {
        let connection = guest.with(|mut guest| guest.get().opened(&handle))?;
        let _held = guest.with(|mut guest| guest.get().hold(&[&topic, &payload]))?;
        Ok(connection.publish(topic, payload, quality.into()).await.map_err(v3::Error::from))
    }
}
