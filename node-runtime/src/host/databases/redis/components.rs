//! The interfaces for components: `fermyon:spin/redis@2.0.0` and `spin:redis/redis@3.0.0` with connections,
//! `fermyon:spin/redis` with an address in every call.

use wasmtime::component::{Accessor, HasSelf, Resource};

use super::{Argument, RedisConnection, RedisFailure, Reply};
use crate::host::{
    RuntimeContext,
    databases::bindings::{
        fermyon::{
            spin::{redis as v1, redis_types as v1_types},
            spin2_0_0::redis as v2,
        },
        spin::redis::redis as v3,
    },
};

/// Translates between an interface's types and ours. They are the same, under other names.
macro_rules! translate {
    ($interface:ident) => {
        impl From<$interface::RedisParameter> for Argument {
            fn from(parameter: $interface::RedisParameter) -> Self {
                match parameter {
                    $interface::RedisParameter::Int64(number) => Self::Int(number),
                    $interface::RedisParameter::Binary(bytes) => Self::Bytes(bytes),
                }
            }
        }

        impl From<Reply> for $interface::RedisResult {
            fn from(reply: Reply) -> Self {
                match reply {
                    Reply::Nil => Self::Nil,
                    Reply::Status(text) => Self::Status(text),
                    Reply::Int(number) => Self::Int64(number),
                    Reply::Bytes(bytes) => Self::Binary(bytes),
                }
            }
        }
    };
}

/// As [`translate`], for errors that say what is wrong.
macro_rules! translate_error {
    ($interface:ident) => {
        impl From<RedisFailure> for $interface::Error {
            fn from(failure: RedisFailure) -> Self {
                match failure {
                    RedisFailure::InvalidAddress => Self::InvalidAddress,
                    RedisFailure::TooManyConnections => Self::TooManyConnections,
                    RedisFailure::Type => Self::TypeError,
                    RedisFailure::Other(text) => Self::Other(text),
                }
            }
        }
    };
}

translate!(v1_types);
translate!(v2);
translate!(v3);
translate_error!(v2);
translate_error!(v3);

impl From<RedisFailure> for v1_types::Error {
    fn from(_: RedisFailure) -> Self {
        Self::Error
    }
}

type Asked<T, E> = wasmtime::Result<Result<T, E>>;

fn into_all<T, U: From<T>>(all: Vec<T>) -> Vec<U> {
    all.into_iter().map(U::from).collect()
}

/// The functions that all versions have, with these results where a connection is given.
macro_rules! with_functions {
    ($then:ident) => {
        $then! {
            publish(channel: String, payload: Vec<u8>) -> ();
            get(key: String) -> Option<Vec<u8>>;
            set(key: String, value: Vec<u8>) -> ();
            incr(key: String) -> i64;
            del(keys: Vec<String>) -> u32;
            sadd(key: String, values: Vec<String>) -> u32;
            smembers(key: String) -> Vec<String>;
            srem(key: String, values: Vec<String>) -> u32;
        }
    };
}

impl v2::Host for RuntimeContext {}

macro_rules! v2_functions {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        impl v2::HostConnection for RuntimeContext {
            async fn open(&mut self, address: String) -> Asked<Resource<RedisConnection>, v2::Error> {
                match RedisConnection::open(&self.asker(), &address).await {
                    Ok(connection) => self.give(connection).map(Ok),
                    Err(failure) => Ok(Err(failure.into())),
                }
            }

            $(async fn $name(
                &mut self,
                handle: Resource<RedisConnection>,
                $($argument: $type),*
            ) -> Asked<$result, v2::Error> {
                let connection = self.opened(&handle)?;
                let _held = self.hold(&[$(&$argument),*])?;
                Ok(connection.$name($($argument),*).await.map_err(v2::Error::from))
            })*

            async fn execute(
                &mut self,
                handle: Resource<RedisConnection>,
                command: String,
                arguments: Vec<v2::RedisParameter>,
            ) -> Asked<Vec<v2::RedisResult>, v2::Error> {
                let connection = self.opened(&handle)?;
                let arguments: Vec<Argument> = into_all(arguments);
                let _held = self.hold(&[&command, &arguments])?;
                let replies = connection.execute(&command, arguments).await;
                Ok(replies.map(into_all).map_err(v2::Error::from))
            }

            async fn drop(&mut self, handle: Resource<RedisConnection>) -> wasmtime::Result<()> {
                self.close(handle)
            }
        }
    };
}

with_functions!(v2_functions);

impl v3::Host for RuntimeContext {}

impl v3::HostConnection for RuntimeContext {
    async fn drop(&mut self, handle: Resource<RedisConnection>) -> wasmtime::Result<()> {
        self.close(handle)
    }
}

type Guest<T> = Accessor<T, HasSelf<RuntimeContext>>;

macro_rules! v3_functions {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        impl<T> v3::HostConnectionWithStore<T> for HasSelf<RuntimeContext> {
            async fn open(guest: &Guest<T>, address: String) -> Asked<Resource<RedisConnection>, v3::Error> {
                let asker = guest.with(|mut guest| guest.get().asker());
                match RedisConnection::open(&asker, &address).await {
                    Ok(connection) => guest.with(|mut guest| guest.get().give(connection)).map(Ok),
                    Err(failure) => Ok(Err(failure.into())),
                }
            }

            $(async fn $name(
                guest: &Guest<T>,
                handle: Resource<RedisConnection>,
                $($argument: $type),*
            ) -> Asked<$result, v3::Error> {
                let connection = guest.with(|mut guest| guest.get().opened(&handle))?;
                let _held = guest.with(|mut guest| guest.get().hold(&[$(&$argument),*]))?;
                Ok(connection.$name($($argument),*).await.map_err(v3::Error::from))
            })*

            async fn execute(
                guest: &Guest<T>,
                handle: Resource<RedisConnection>,
                command: String,
                arguments: Vec<v3::RedisParameter>,
            ) -> Asked<Vec<v3::RedisResult>, v3::Error> {
                let connection = guest.with(|mut guest| guest.get().opened(&handle))?;
                let arguments: Vec<Argument> = into_all(arguments);
                let _held = guest.with(|mut guest| guest.get().hold(&[&command, &arguments]))?;
                let replies = connection.execute(&command, arguments).await;
                Ok(replies.map(into_all).map_err(v3::Error::from))
            }
        }
    };
}

with_functions!(v3_functions);

impl v1_types::Host for RuntimeContext {}

macro_rules! v1_functions {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        impl v1::Host for RuntimeContext {
            $(async fn $name(&mut self, address: String, $($argument: $type),*) -> Asked<$result, v1::Error> {
                let _held = self.hold(&[&address, $(&$argument),*])?;
                let asker = self.asker();
                let asked = async {
                    let connection = RedisConnection::open(&asker, &address).await?;
                    let result = connection.$name($($argument),*).await?;
                    Ok::<$result, RedisFailure>(V1::from(result).0)
                };
                Ok(asked.await.map_err(v1::Error::from))
            })*

            async fn execute(
                &mut self,
                address: String,
                command: String,
                arguments: Vec<v1::RedisParameter>,
            ) -> Asked<Vec<v1::RedisResult>, v1::Error> {
                let arguments: Vec<Argument> = into_all(arguments);
                let _held = self.hold(&[&address, &command, &arguments])?;
                let asker = self.asker();
                let asked = async {
                    let connection = RedisConnection::open(&asker, &address).await?;
                    connection.execute(&command, arguments).await
                };
                Ok(asked.await.map(into_all).map_err(v1::Error::from))
            }
        }
    };
}

/// A result as the first version has it: no key is an empty value, and counts are larger.
pub(super) struct V1<T>(pub(super) T);

impl<T> From<T> for V1<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl From<Option<Vec<u8>>> for V1<Vec<u8>> {
    fn from(value: Option<Vec<u8>>) -> Self {
        Self(value.unwrap_or_default())
    }
}

impl From<u32> for V1<i64> {
    fn from(count: u32) -> Self {
        Self(count.into())
    }
}

v1_functions! {
    publish(channel: String, payload: Vec<u8>) -> ();
    get(key: String) -> Vec<u8>;
    set(key: String, value: Vec<u8>) -> ();
    incr(key: String) -> i64;
    del(keys: Vec<String>) -> i64;
    sadd(key: String, values: Vec<String>) -> i64;
    smembers(key: String) -> Vec<String>;
    srem(key: String, values: Vec<String>) -> i64;
}
