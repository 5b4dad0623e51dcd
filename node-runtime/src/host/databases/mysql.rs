//! MySQL and MariaDB: what guests can ask of them, the same in all versions of the interface.
//!
//! Promise: a guest finds a session as it is after connecting. When a guest is done, `COM_RESET_CONNECTION` clears it
//! (transaction, temporary tables, variables, prepared statements, locks); a server that does not know it has its connection
//! closed. What a server says is looked at before the client library hears it ([`relay`]).
//!
//! Absent on purpose: stopping a query on the server when its guest goes away. That needs a second login, and MySQL notices
//! a closed connection when it next writes to it.

mod address;
mod components;
mod legacy;
mod protocol;
mod relay;
mod values;

use std::{
    fmt,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt as _, Stream, stream};
use mysql_async::{
    Conn, DriverError, Error, OptsBuilder, Params,
    prelude::{Protocol, Queryable as _},
};
use tokio::sync::{Mutex, mpsc, oneshot};
use wasmtime_wasi::runtime::spawn;

use self::{
    address::Address,
    relay::{Relay, RelayError, Relayed},
    values::RowError,
};
use super::{
    Asker, Slot,
    pool::{AfterUse, Call, Key, Lease, LeaseError, Session},
    rdbms::{Column, Failure, Parameter, Room, Row, RowSet},
};
use crate::host::{
    Network,
    limits::{Held, HostMemory},
    network::ConnectionKind,
};

pub(super) use legacy::link_modules;

/// Connections that were idle for longer are asked whether they still are: nothing else tells that a server is gone.
const FRESH: Duration = Duration::from_secs(1);
/// What is said of a server whose answers cannot be.
const NONSENSE: &str = "the server's answer makes no sense";
/// The server's code for statements that cannot be prepared.
const NOT_PREPARABLE: u16 = 1295;

/// A connection that a guest has opened.
#[expect(unreachable_pub, reason = "the generated code exports it")]
#[derive(Debug, Clone)]
pub struct MysqlConnection {
    lease: Arc<Lease<MysqlSession>>,
    answer_limit: usize,
    memory: HostMemory,
    /// What the last answer took, until there is another.
    held: Arc<Mutex<Held>>,
    _slot: Arc<Slot>,
}

/// One connection to a server.
pub(super) struct MysqlSession {
    connection: Mutex<Conn>,
    relayed: Relayed,
    used: AtomicBool,
}

impl Session for MysqlSession {
    const KIND: ConnectionKind = ConnectionKind::Mysql;

    fn is_open(&self) -> bool {
        self.relayed.is_open() && self.connection.try_lock().is_ok_and(|connection| !connection.is_disconnected())
    }

    fn after_use(&self) -> AfterUse {
        if self.used.load(Ordering::Relaxed) { AfterUse::Reset } else { AfterUse::Keep }
    }

    async fn reset(&mut self) -> bool {
        *self.used.get_mut() = false;
        caught(self.connection.get_mut().reset()).await.is_ok_and(|reset| reset.unwrap_or(false))
    }

    async fn check(&mut self, idle: Duration) -> bool {
        idle < FRESH || caught(self.connection.get_mut().ping()).await.is_ok_and(|answer| answer.is_ok())
    }
}

impl fmt::Debug for MysqlSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlSession").finish_non_exhaustive()
    }
}

/// The rows of an answer, as they come.
pub(super) type Rows = Pin<Box<dyn Stream<Item = Result<Row, Failure>> + Send>>;

impl MysqlConnection {
    /// Opens a connection to the server at `address`.
    pub(super) async fn open(asker: &Asker, address: &str) -> Result<Self, Failure> {
        let parsed = Address::parse(address)
            .map_err(|problem| Failure::ConnectionFailed(format!("the address cannot be used: {problem}")))?;
        let network = &asker.grants.network;
        let (host, port) = (parsed.opts.ip_or_hostname().to_owned(), parsed.opts.tcp_port());
        if !network.permits("mysql", &host, Some(port)) {
            return Err(Failure::ConnectionFailed(format!("address mysql://{host}:{port} is not permitted")));
        }
        let slot = asker
            .open
            .mysql
            .take()
            .ok_or_else(|| Failure::ConnectionFailed("too many connections are open".to_owned()))?;
        let until = asker.until();
        let connect = MysqlSession::connect(&parsed, network, asker.answer_limit(), until);
        let lease = asker.pools().mysql.lease(network, Key::new(address, network), until, connect).await;
        let lease = lease.map_err(|error| {
            Failure::ConnectionFailed(match error {
                LeaseError::Network(error) => error.to_string(),
                LeaseError::Connect(text) => text,
                LeaseError::Timeout => format!("`{host}` does not answer in time"),
            })
        })?;
        Ok(Self {
            lease: Arc::new(lease),
            answer_limit: asker.answer_limit(),
            memory: network.memory().clone(),
            held: Arc::default(),
            _slot: Arc::new(slot),
        })
    }

    fn call(&self) -> Result<Call<MysqlSession>, Failure> {
        let call = self.lease.call().ok_or_else(|| Failure::QueryFailed("the connection is closed".to_owned()))?;
        call.used.store(true, Ordering::Relaxed);
        Ok(call)
    }

    /// Runs a statement, and returns its rows.
    pub(super) async fn query(&self, statement: &str, parameters: Vec<Parameter>) -> Result<RowSet, Failure> {
        let call = self.call()?;
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        self.held.lock().await.release();
        let mut room = Room::new(self.answer_limit).within(&self.memory);
        let asked = async {
            let mut connection = call.connection.lock().await;
            let sink = |event| {
                match event {
                    Event::Columns(all) => columns = all,
                    Event::Row(row) => rows.push(row),
                }
                std::future::ready(true)
            };
            ask(&mut connection, statement, parameters, &mut room, sink).await
        };
        match caught(asked).await.unwrap_or(Err(Problem::Nonsense)) {
            Ok(()) => {
                call.finish();
                *self.held.lock().await = room.into_held();
                Ok(RowSet { columns, rows })
            }
            Err(problem) => Err(failed(problem, call)),
        }
    }

    /// Runs a statement, and returns its columns and rows as they come.
    pub(super) async fn start(
        &self,
        statement: String,
        parameters: Vec<Parameter>,
    ) -> Result<(Vec<Column>, Rows), Failure> {
        let call = self.call()?;
        let (first, columns) = oneshot::channel();
        let (rows, mut received) = mpsc::channel(1);
        let room = Room::new(self.answer_limit).within(&self.memory).for_each_row();
        let task = spawn(send(call, statement, parameters, room, first, rows));
        // The task says why there are none.
        match columns.await {
            Ok(columns) => {
                let rows = stream::unfold((received, task), |(mut received, task)| async {
                    let row = received.recv().await?;
                    Some((row, (received, task)))
                });
                Ok((columns, Box::pin(rows)))
            }
            Err(_) => match received.recv().await {
                Some(Err(failure)) => Err(failure),
                _ => Err(Failure::QueryFailed("the server did not answer".to_owned())),
            },
        }
    }

    /// Runs a statement. Its rows, if there are any, are read and dropped.
    pub(super) async fn execute(&self, statement: &str, parameters: Vec<Parameter>) -> Result<(), Failure> {
        let call = self.call()?;
        let asked = async {
            let mut connection = call.connection.lock().await;
            let bare = parameters.is_empty();
            let done = match connection.exec_drop(statement, positional(parameters)).await {
                Err(Error::Server(error)) if error.code == NOT_PREPARABLE && bare => {
                    connection.query_drop(statement).await
                }
                done => done,
            };
            done.map_err(Problem::Client)
        };
        match caught(asked).await.unwrap_or(Err(Problem::Nonsense)) {
            Ok(()) => {
                call.finish();
                Ok(())
            }
            Err(problem) => Err(failed(problem, call)),
        }
    }
}

fn positional(parameters: Vec<Parameter>) -> Params {
    if parameters.is_empty() {
        return Params::Empty;
    }
    Params::Positional(parameters.into_iter().map(values::parameter).collect())
}

/// What an answer consists of.
enum Event {
    Columns(Vec<Column>),
    Row(Row),
}

/// Why an answer ended early.
enum Problem {
    Client(Error),
    Row(RowError),
    /// Nobody wants it.
    Unwanted,
    /// The client library takes it for what cannot be.
    Nonsense,
}

/// A server's answer made the client library panic.
struct Panicked;

/// What the client library says. It takes for granted some of what servers say: what is not so then is the server's fault, and
/// no end of a request. The connection is not used again.
async fn caught<C: Future>(call: C) -> Result<C::Output, Panicked> {
    AssertUnwindSafe(call).catch_unwind().await.map_err(|_| Panicked)
}

/// Runs a statement and hands over what comes; `sink` says whether it wants more.
async fn ask<W: Future<Output = bool>>(
    connection: &mut Conn,
    statement: &str,
    parameters: Vec<Parameter>,
    room: &mut Room,
    mut sink: impl FnMut(Event) -> W,
) -> Result<(), Problem> {
    let bare = parameters.is_empty();
    match connection.exec_iter(statement, positional(parameters)).await {
        Ok(mut answer) => return read(&mut answer, room, &mut sink).await,
        Err(Error::Server(error)) if error.code == NOT_PREPARABLE && bare => {}
        Err(error) => return Err(Problem::Client(error)),
    }
    let mut answer = connection.query_iter(statement).await.map_err(Problem::Client)?;
    read(&mut answer, room, &mut sink).await
}

async fn read<P: Protocol, W: Future<Output = bool>>(
    answer: &mut mysql_async::QueryResult<'_, '_, P>,
    room: &mut Room,
    sink: &mut impl FnMut(Event) -> W,
) -> Result<(), Problem> {
    if !sink(Event::Columns(values::columns(answer.columns_ref()))).await {
        return Err(Problem::Unwanted);
    }
    while let Some(row) = answer.next().await.map_err(Problem::Client)? {
        let row = values::row(row, room).map_err(Problem::Row)?;
        if !sink(Event::Row(row)).await {
            return Err(Problem::Unwanted);
        }
    }
    Ok(())
}

/// Runs a statement and sends what comes.
async fn send(
    call: Call<MysqlSession>,
    statement: String,
    parameters: Vec<Parameter>,
    mut room: Room,
    first: oneshot::Sender<Vec<Column>>,
    rows: mpsc::Sender<Result<Row, Failure>>,
) {
    let mut first = Some(first);
    let asked = {
        let mut connection = call.connection.lock().await;
        let sink = |event| {
            let rows = rows.clone();
            let first = if matches!(event, Event::Columns(_)) { first.take() } else { None };
            async move {
                match (event, first) {
                    (Event::Columns(columns), Some(first)) => first.send(columns).is_ok(),
                    (Event::Columns(_), None) => true,
                    (Event::Row(row), _) => rows.send(Ok(row)).await.is_ok(),
                }
            }
        };
        caught(ask(&mut connection, &statement, parameters, &mut room, sink)).await
    };
    match asked.unwrap_or(Err(Problem::Nonsense)) {
        Ok(()) => call.finish(),
        Err(problem) => {
            let failure = failed(problem, call);
            drop(first);
            // Whoever is gone needs no reason.
            let _told = rows.send(Err(failure)).await;
        }
    }
}

/// What the guest is told. After a server's error the connection goes on; after another it is in an unknown state.
fn failed(problem: Problem, call: Call<MysqlSession>) -> Failure {
    let error = match problem {
        Problem::Client(error) => error,
        Problem::Row(RowError::TooLarge(text)) => return Failure::QueryFailed(text),
        Problem::Row(RowError::Value(text)) => return Failure::ValueConversionFailed(text),
        Problem::Unwanted => return Failure::Other("the answer was not wanted".to_owned()),
        Problem::Nonsense => return Failure::QueryFailed(NONSENSE.to_owned()),
    };
    match error {
        Error::Server(error) => {
            call.finish();
            Failure::QueryFailed(error.to_string())
        }
        Error::Driver(
            error @ (DriverError::StmtParamsMismatch { .. }
            | DriverError::StmtParamsNumberExceedsLimit { .. }
            | DriverError::Params(_)
            | DriverError::MixedParams),
        ) => {
            call.finish();
            Failure::BadParameter(error.to_string())
        }
        Error::Driver(DriverError::PacketTooLarge) => Failure::QueryFailed(
            "the answer has a row that is larger than what this runtime holds for a guest: ask for less".to_owned(),
        ),
        other => Failure::QueryFailed(call.relayed.complaint().map_or_else(|| other.to_string(), str::to_owned)),
    }
}

impl MysqlSession {
    async fn connect(
        address: &Address,
        network: &Network,
        answer_limit: usize,
        until: Instant,
    ) -> Result<Self, String> {
        let problem =
            |error: &dyn fmt::Display| format!("no connection to `{}`: {error}", address.opts.ip_or_hostname());
        let relay = Relay::open(network, address, until).await.map_err(|error| match error {
            // It says where.
            RelayError::Wire(error) => error.to_string(),
            error => problem(&error),
        })?;
        let opts = OptsBuilder::from_opts(address.opts.clone()).max_allowed_packet(Some(answer_limit));
        let opts = relay.lead(opts).map_err(|error| problem(&error))?;
        let relayed = relay.start();
        let connection = match caught(Conn::new(opts)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error @ Error::Server(_))) => return Err(problem(&error)),
            Ok(Err(error)) => return Err(relayed.complaint().map_or_else(|| problem(&error), |why| problem(&why))),
            Err(Panicked) => return Err(problem(&NONSENSE)),
        };
        Ok(Self { connection: Mutex::new(connection), relayed, used: AtomicBool::new(false) })
    }
}
