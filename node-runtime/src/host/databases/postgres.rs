//! PostgreSQL: what guests can ask of it, the same in all versions of the interface.
//!
//! Promise: a guest finds a session as it is after connecting. When a guest is done, `DISCARD ALL` clears everything that a
//! session can hold (settings, temporary tables, prepared statements, locks, subscriptions); a server refuses it inside a
//! transaction, and then the connection is closed. One round trip, after the guest; a new connection costs the next guest
//! several, and a password check of some milliseconds. A guest that goes away in the middle of a query has it cancelled.

mod address;
mod checked;
mod components;
mod decode;
mod encode;
mod legacy;
mod numeric;
mod older;

use std::{
    fmt,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures::{StreamExt as _, TryStreamExt as _};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_postgres::{
    Client, Config, NoTls, RowStream, Statement,
    config::{SslMode, TargetSessionAttrs},
    tls::{MakeTlsConnect as _, TlsConnect},
    types::Type,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};

use self::{
    address::Address,
    checked::{Checked, CheckedTls},
    decode::RowError,
    encode::Encoded,
};
use super::{
    Asker, Slot,
    bindings::spin::postgres4_2_0::postgres as v4,
    pool::{AfterUse, Call, Key, Lease, LeaseError, Session},
    rdbms::Room,
};
use crate::host::{
    Network,
    network::{
        ConnectionKind,
        wire::{Budget, Wire, WireError},
    },
};

#[expect(unreachable_pub, reason = "the generated code exports it")]
pub use components::PostgresBuilder;
pub(super) use legacy::link_modules;
pub(super) use v4::{
    Column, DbDataType as DataType, DbValue as Value, Error as Failure, Interval, ParameterValue as Parameter, Row,
    RowSet,
};

/// A connection that a guest has opened.
#[expect(unreachable_pub, reason = "the generated code exports it")]
#[derive(Debug, Clone)]
pub struct PostgresConnection {
    lease: Arc<Lease<PostgresSession>>,
    answer_limit: usize,
    _slot: Arc<Slot>,
}

/// One connection to a server.
pub(super) struct PostgresSession {
    client: Client,
    driver: AbortOnDropJoinHandle<()>,
    budget: Budget,
    server: SocketAddr,
    tls: Tls,
    used: AtomicBool,
    /// The client has prepared statements of its own, to look up types, which a reset would take from it.
    has_looked_up: AtomicBool,
}

/// How to speak TLS with a server, if at all.
#[derive(Clone)]
enum Tls {
    No,
    Rustls(Box<MakeRustlsConnect>, String),
}

impl Session for PostgresSession {
    const KIND: ConnectionKind = ConnectionKind::Postgres;

    fn is_open(&self) -> bool {
        !self.driver.is_finished() && !self.client.is_closed()
    }

    fn after_use(&self) -> AfterUse {
        match (self.used.load(Ordering::Relaxed), self.has_looked_up.load(Ordering::Relaxed)) {
            (_, true) => AfterUse::Close,
            (true, false) => AfterUse::Reset,
            (false, false) => AfterUse::Keep,
        }
    }

    async fn reset(&mut self) -> bool {
        self.budget.renew();
        *self.used.get_mut() = false;
        self.client.simple_query("DISCARD ALL").await.is_ok()
    }

    fn rest(&self) {
        self.budget.release();
    }

    async fn abandon(self) {
        if !self.is_open() {
            return;
        }
        // What fails here, the server finds out when the connection is closed.
        let Ok(stream) = TcpStream::connect(self.server).await else { return };
        let token = self.client.cancel_token();
        let _cancelled = match self.tls {
            Tls::No => token.cancel_query_raw(stream, NoTls).await.is_ok(),
            Tls::Rustls(mut make, host) => match connector::<TcpStream>(&mut make, &host) {
                Ok(tls) => token.cancel_query_raw(stream, tls).await.is_ok(),
                Err(_) => false,
            },
        };
    }
}

impl fmt::Debug for PostgresSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSession").field("server", &self.server).finish_non_exhaustive()
    }
}

fn connector<S>(
    make: &mut MakeRustlsConnect,
    host: &str,
) -> Result<<MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<S>>::TlsConnect, String>
where
    MakeRustlsConnect: tokio_postgres::tls::MakeTlsConnect<S>,
    <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<S>>::Error: fmt::Display,
{
    make.make_tls_connect(host).map_err(|error| error.to_string())
}

/// Whom to trust.
#[derive(Clone, Default)]
pub(super) enum Trust {
    /// Those whom the component trusts anyway.
    #[default]
    Component,
    /// The guest has brought an authority.
    Own(Arc<ClientConfig>),
}

/// Why there is no session.
#[derive(Debug)]
struct ConnectError(String);

impl PostgresConnection {
    /// Opens a connection to the first server of `address` that takes one.
    pub(super) async fn open(asker: &Asker, address: &str, trust: &Trust) -> Result<Self, Failure> {
        let parsed = Address::parse(address)
            .map_err(|problem| Failure::ConnectionFailed(format!("the address cannot be used: {problem}")))?;
        let network = &asker.grants.network;
        for (host, port) in &parsed.servers {
            // Whatever the address begins with, both names of the scheme mean the same.
            if !["postgres", "postgresql"].iter().any(|scheme| network.permits(scheme, host, Some(*port))) {
                let text = format!("address postgres://{host}:{port} is not permitted");
                return Err(Failure::ConnectionFailed(text));
            }
        }
        let slot = asker
            .open
            .postgres
            .take()
            .ok_or_else(|| Failure::ConnectionFailed("too many connections are open".to_owned()))?;
        let until = asker.until();
        let connect = PostgresSession::connect(&parsed, network, trust, asker.answer_limit(), until);
        let lease = asker.pools().postgres.lease(network, Key::new(address, network), until, connect).await;
        let lease = lease.map_err(|error| {
            Failure::ConnectionFailed(match error {
                LeaseError::Network(error) => error.to_string(),
                LeaseError::Connect(ConnectError(text)) => text,
                LeaseError::Timeout => "the server does not answer in time".to_owned(),
            })
        })?;
        if matches!(trust, Trust::Own(_)) {
            // Another guest may bring another authority.
            lease.spoil();
        }
        Ok(Self { lease: Arc::new(lease), answer_limit: asker.answer_limit(), _slot: Arc::new(slot) })
    }

    /// Runs a statement, and returns its rows.
    pub(super) async fn query(&self, statement: &str, parameters: &[Parameter]) -> Result<RowSet, Failure> {
        let (columns, mut rows) = self.start(statement, parameters).await?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().await {
            all.push(row?);
        }
        Ok(RowSet { columns, rows: all })
    }

    /// Runs a statement, and returns its columns and rows as they come.
    pub(super) async fn start(
        &self,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<(Vec<Column>, Rows), Failure> {
        let call = self.lease.call().ok_or_else(closed)?;
        let (statement, encoded) = match prepare(&call, statement, parameters).await {
            Ok(prepared) => prepared,
            Err(failure) => return Err(finished(failure, call)),
        };
        match call.client.query_raw(&statement, encoded).await {
            Ok(rows) => {
                let columns = decode::columns(statement.columns());
                let room = Room::new(self.answer_limit);
                Ok((columns, Rows { rows: Box::pin(rows), call: Some(call), room, streamed: false }))
            }
            Err(error) => Err(failed(&error, call)),
        }
    }

    /// Runs a statement, and returns how many rows it changed.
    pub(super) async fn execute(&self, statement: &str, parameters: &[Parameter]) -> Result<u64, Failure> {
        let call = self.lease.call().ok_or_else(closed)?;
        let (statement, encoded) = match prepare(&call, statement, parameters).await {
            Ok(prepared) => prepared,
            Err(failure) => return Err(finished(failure, call)),
        };
        match call.client.execute_raw(&statement, encoded).await {
            Ok(changed) => {
                call.finish();
                Ok(changed)
            }
            Err(error) => Err(failed(&error, call)),
        }
    }
}

/// The rows of an answer, read as they are asked for. Dropped before their end, they cost the connection.
pub(super) struct Rows {
    rows: Pin<Box<RowStream>>,
    call: Option<Call<PostgresSession>>,
    room: Room,
    streamed: bool,
}

impl Rows {
    /// Whoever takes these keeps none: each row has all the room.
    pub(super) fn streamed(self) -> Self {
        Self { room: self.room.for_each_row(), streamed: true, ..self }
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Option<Result<Row, Failure>> {
        let call = self.call.as_ref()?;
        if self.streamed {
            call.budget.renew();
        }
        match self.rows.next().await {
            Some(Ok(row)) => Some(match decode::row(&row, &mut self.room) {
                Ok(row) => Ok(row),
                Err(RowError::TooLarge(text)) => Err(Failure::QueryFailed(v4::QueryError::Text(text))),
                Err(RowError::Value(text)) => Err(Failure::ValueConversionFailed(text)),
            }),
            Some(Err(error)) => {
                let call = self.call.take()?;
                Some(Err(failed(&error, call)))
            }
            None => {
                self.call.take().into_iter().for_each(Call::finish);
                None
            }
        }
    }
}

/// A failed preparation: whether the connection can go on.
enum Unprepared {
    Parameters(String),
    Server(tokio_postgres::Error),
}

async fn prepare(
    call: &Call<PostgresSession>,
    statement: &str,
    parameters: &[Parameter],
) -> Result<(Statement, Vec<Encoded>), Unprepared> {
    call.budget.renew();
    call.used.store(true, Ordering::Relaxed);
    let prepared = call.client.prepare(statement).await;
    let looked_up = match &prepared {
        Ok(prepared) => {
            let columns = prepared.columns().iter().map(tokio_postgres::Column::type_);
            columns.chain(prepared.params()).any(|of| Type::from_oid(of.oid()).is_none())
        }
        // It may have failed after looking up some.
        Err(error) => error.as_db_error().is_none(),
    };
    if looked_up {
        call.has_looked_up.store(true, Ordering::Relaxed);
    }
    let prepared = prepared.map_err(Unprepared::Server)?;
    let (needed, given) = (prepared.params().len(), parameters.len());
    if needed != given {
        let text = format!("the statement needs {needed} parameters, and {given} are given");
        return Err(Unprepared::Parameters(text));
    }
    let encode = |(index, (parameter, of)): (usize, (&Parameter, &Type))| {
        Encoded::new(parameter, of).map_err(|problem| format!("parameter ${}: {problem}", index + 1))
    };
    let encoded = parameters.iter().zip(prepared.params()).enumerate().map(encode).collect::<Result<_, String>>();
    Ok((prepared, encoded.map_err(Unprepared::Parameters)?))
}

fn finished(failure: Unprepared, call: Call<PostgresSession>) -> Failure {
    match failure {
        Unprepared::Parameters(text) => {
            call.finish();
            Failure::BadParameter(text)
        }
        Unprepared::Server(error) => failed(&error, call),
    }
}

fn closed() -> Failure {
    Failure::QueryFailed(v4::QueryError::Text("the connection is closed".to_owned()))
}

/// What the guest is told. After a server's error the connection goes on; after another it is in an unknown state.
fn failed(error: &tokio_postgres::Error, call: Call<PostgresSession>) -> Failure {
    let excess = call.budget.excess();
    if error.as_db_error().is_some() && !error.is_closed() {
        call.finish();
    }
    Failure::QueryFailed(match (excess, error.as_db_error()) {
        (Some(excess), None) => v4::QueryError::Text(excess),
        (_, Some(of_server)) => v4::QueryError::DbError(v4::DbError {
            as_text: text(error),
            severity: of_server.severity().to_owned(),
            code: of_server.code().code().to_owned(),
            message: of_server.message().to_owned(),
            detail: of_server.detail().map(str::to_owned),
            extras: extras(of_server),
        }),
        (None, None) => v4::QueryError::Text(text(error)),
    })
}

/// An error with its SQLSTATE, and with what is behind it.
fn text(error: &tokio_postgres::Error) -> String {
    if let Some(of_server) = error.as_db_error() {
        let (severity, message, code) = (of_server.severity(), of_server.message(), of_server.code().code());
        let mut text = format!("{severity}: {message} (SQLSTATE {code})");
        for (what, more) in [("detail", of_server.detail()), ("hint", of_server.hint())] {
            if let Some(more) = more {
                text = format!("{text}; {what}: {more}");
            }
        }
        return text;
    }
    daemon::chain(error)
}

/// What else the server says of an error.
fn extras(error: &tokio_postgres::error::DbError) -> Vec<(String, String)> {
    let known = [
        ("hint", error.hint()),
        ("where", error.where_()),
        ("schema", error.schema()),
        ("table", error.table()),
        ("column", error.column()),
        ("datatype", error.datatype()),
        ("constraint", error.constraint()),
        ("routine", error.routine()),
    ];
    let mut extras: Vec<(String, String)> =
        known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    if let Some(tokio_postgres::error::ErrorPosition::Original(position)) = error.position() {
        extras.push(("position".to_owned(), position.to_string()));
    }
    extras
}

impl PostgresSession {
    /// Connects to the first server that takes a connection and has the session that is asked for.
    async fn connect(
        address: &Address,
        network: &Network,
        trust: &Trust,
        answer_limit: usize,
        until: Instant,
    ) -> Result<Self, ConnectError> {
        let mut problem = ConnectError("there is no server".to_owned());
        for (host, port) in &address.servers {
            match Self::connect_to(host, *port, &address.config, network, trust, answer_limit, until).await {
                Ok(session) => return Ok(session),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    async fn connect_to(
        host: &str,
        port: u16,
        config: &Config,
        network: &Network,
        trust: &Trust,
        answer_limit: usize,
        until: Instant,
    ) -> Result<Self, ConnectError> {
        let problem = |error: &dyn fmt::Display| ConnectError(format!("no connection to `{host}`: {error}"));
        let wire_problem = |error: WireError| ConnectError(error.to_string());
        let budget = Budget::new(answer_limit, network.memory());
        let wire = Wire::connect(network, host, port, false, budget.clone(), until).await.map_err(wire_problem)?;
        let server = wire.server().map_err(|error| problem(&error))?;
        let tls = match (config.get_ssl_mode(), trust) {
            (SslMode::Disable, _) => Tls::No,
            (_, Trust::Own(own)) => Tls::Rustls(Box::new(MakeRustlsConnect::new((**own).clone())), host.to_owned()),
            (_, Trust::Component) => {
                let trusted = network.identity().config(host).await.map_err(|error| problem(&error))?;
                Tls::Rustls(Box::new(MakeRustlsConnect::new((*trusted).clone())), host.to_owned())
            }
        };
        let (client, driver) = match tls.clone() {
            Tls::No => start(config, wire, NoTls, answer_limit).await,
            Tls::Rustls(mut make, name) => {
                let tls = connector::<Wire>(&mut make, &name).map_err(|error| problem(&error))?;
                start(config, wire, tls, answer_limit).await
            }
        }
        .map_err(|error| problem(&text(&error)))?;
        let session = Self {
            client,
            driver,
            budget,
            server,
            tls,
            used: AtomicBool::new(false),
            has_looked_up: AtomicBool::new(false),
        };
        match session.is_wanted(config.get_target_session_attrs()).await {
            Ok(true) => Ok(session),
            Ok(false) => Err(problem(&"it is not what target_session_attrs asks for")),
            Err(error) => Err(problem(&text(&error))),
        }
    }

    /// Whether a server can be written to, for addresses that ask.
    async fn is_wanted(&self, wanted: TargetSessionAttrs) -> Result<bool, tokio_postgres::Error> {
        let read_only = match wanted {
            TargetSessionAttrs::ReadWrite => "off",
            TargetSessionAttrs::ReadOnly => "on",
            _ => return Ok(true),
        };
        let rows = self.client.simple_query_raw("SHOW transaction_read_only").await?;
        let rows: Vec<_> = rows.try_collect().await?;
        Ok(rows.iter().any(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0) == Some(read_only),
            _ => false,
        }))
    }
}

/// Logs in, and lets the connection run. What the server says by itself is nobody's business here.
async fn start<T>(
    config: &Config,
    wire: Wire,
    tls: T,
    answer: usize,
) -> Result<(Client, AbortOnDropJoinHandle<()>), tokio_postgres::Error>
where
    T: TlsConnect<Wire>,
    T::Stream: Send + 'static,
    T::Future: Send + 'static,
{
    // Whether it speaks TLS, a server says with one byte.
    let asked = usize::from(config.get_ssl_mode() != SslMode::Disable);
    let (wire, tls) = (Checked::new(wire, answer, asked), CheckedTls { tls, answer });
    let (client, mut connection) = config.connect_raw(wire, tls).await?;
    let driver = spawn(async move { while let Some(Ok(_)) = poll_fn(|cx| connection.poll_message(cx)).await {} });
    Ok((client, driver))
}
