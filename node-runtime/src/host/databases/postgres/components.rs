//! `spin:postgres/postgres@4`: all versions, because each later one has only more.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use wasmtime::component::{Accessor, FutureReader, HasSelf, Resource, StreamReader};
use wasmtime_wasi::WasiView;

use super::{Column, Failure, Parameter, PostgresConnection, Row, RowSet, Rows, Trust, v4};
use crate::host::{RuntimeContext, rows};

/// A connection that a guest prepares.
#[expect(unreachable_pub, reason = "the generated code exports it")]
#[derive(Clone)]
pub struct PostgresBuilder {
    address: String,
    trust: Trust,
    /// The size of the certificates that were given to it.
    certificates: usize,
}

impl PostgresBuilder {
    /// How much memory it takes.
    pub(in crate::host::databases) fn size(&self) -> usize {
        self.address.len().saturating_add(self.certificates)
    }
}

/// How long the certificates of authorities may be together, in bytes: several times as long as those of all that browsers know.
const CERTIFICATES: usize = 1 << 20;

pub(super) type Asked<T, E = Failure> = wasmtime::Result<Result<T, E>>;
type Guest<T> = Accessor<T, HasSelf<RuntimeContext>>;
/// The columns of an answer, its rows, and how they end.
type Streamed = (Vec<Column>, StreamReader<Row>, FutureReader<Result<(), Failure>>);

impl v4::Host for RuntimeContext {}

impl RuntimeContext {
    /// Opens a connection, and gives it to the guest.
    pub(super) async fn open_postgres(
        &mut self,
        address: &str,
        trust: &Trust,
    ) -> wasmtime::Result<Result<Resource<PostgresConnection>, Failure>> {
        match PostgresConnection::open(&self.asker(), address, trust).await {
            Ok(connection) => self.give(connection).map(Ok),
            Err(failure) => Ok(Err(failure)),
        }
    }
}

impl v4::HostConnection for RuntimeContext {
    async fn open(&mut self, address: String) -> Asked<Resource<PostgresConnection>> {
        self.open_postgres(&address, &Trust::Component).await
    }

    async fn query(
        &mut self,
        handle: Resource<PostgresConnection>,
        statement: String,
        parameters: Vec<Parameter>,
    ) -> Asked<RowSet> {
        let _held = self.hold(&[&statement, &parameters])?;
        Ok(self.opened(&handle)?.query(&statement, &parameters).await)
    }

    async fn execute(
        &mut self,
        handle: Resource<PostgresConnection>,
        statement: String,
        parameters: Vec<Parameter>,
    ) -> Asked<u64> {
        let _held = self.hold(&[&statement, &parameters])?;
        Ok(self.opened(&handle)?.execute(&statement, &parameters).await)
    }

    async fn drop(&mut self, handle: Resource<PostgresConnection>) -> wasmtime::Result<()> {
        self.close(handle)
    }
}

impl v4::HostConnectionBuilder for RuntimeContext {
    async fn new(&mut self, address: String) -> wasmtime::Result<Resource<PostgresBuilder>> {
        self.give(PostgresBuilder { address, trust: Trust::Component, certificates: 0 })
    }

    async fn set_ca_root(&mut self, handle: Resource<PostgresBuilder>, certificate: String) -> Asked<()> {
        let trust = match trusting(&certificate) {
            Ok(config) => Trust::Own(Arc::new(config)),
            Err(problem) => return Ok(Err(Failure::Other(format!("the certificate cannot be used: {problem}")))),
        };
        let builder = WasiView::ctx(self).table.get_mut(&handle)?;
        (builder.trust, builder.certificates) = (trust, certificate.len());
        Ok(Ok(()))
    }

    async fn build(&mut self, handle: Resource<PostgresBuilder>) -> Asked<Resource<PostgresConnection>> {
        let PostgresBuilder { address, trust, .. } = self.opened(&handle)?;
        self.open_postgres(&address, &trust).await
    }

    async fn drop(&mut self, handle: Resource<PostgresBuilder>) -> wasmtime::Result<()> {
        self.close(handle)
    }
}

/// A configuration that trusts the authorities in `pem`, and nobody else.
fn trusting(pem: &str) -> Result<ClientConfig, String> {
    if pem.len() > CERTIFICATES {
        return Err(format!("it has more than {CERTIFICATES} bytes"));
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it is not in PEM form".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

async fn open_concurrently<T>(guest: &Guest<T>, address: &str, trust: &Trust) -> Asked<Resource<PostgresConnection>> {
    let asker = guest.with(|mut guest| guest.get().asker());
    match PostgresConnection::open(&asker, address, trust).await {
        Ok(connection) => guest.with(|mut guest| guest.get().give(connection)).map(Ok),
        Err(failure) => Ok(Err(failure)),
    }
}

impl<T> v4::HostConnectionBuilderWithStore<T> for HasSelf<RuntimeContext> {
    async fn build_async(guest: &Guest<T>, handle: Resource<PostgresBuilder>) -> Asked<Resource<PostgresConnection>> {
        let PostgresBuilder { address, trust, .. } = guest.with(|mut guest| guest.get().opened(&handle))?;
        open_concurrently(guest, &address, &trust).await
    }
}

impl<T> v4::HostConnectionWithStore<T> for HasSelf<RuntimeContext> {
    async fn open_async(guest: &Guest<T>, address: String) -> Asked<Resource<PostgresConnection>> {
        open_concurrently(guest, &address, &Trust::Component).await
    }

    async fn query_async(
        guest: &Guest<T>,
        handle: Resource<PostgresConnection>,
        statement: String,
        parameters: Vec<Parameter>,
    ) -> Asked<Streamed> {
        let connection = guest.with(|mut guest| guest.get().opened(&handle))?;
        let _held = guest.with(|mut guest| guest.get().hold(&[&statement, &parameters]))?;
        let (columns, rows) = match connection.start(&statement, &parameters).await {
            Ok(started) => started,
            Err(failure) => return Ok(Err(failure)),
        };
        let rows = stream::unfold(rows.streamed(), |mut rows: Rows| async {
            let row = rows.next().await?;
            Some((row, rows))
        });
        let (rows, end) = guest.with(|guest| rows::give(guest, rows.boxed()))?;
        Ok(Ok((columns, rows, end)))
    }

    async fn execute_async(
        guest: &Guest<T>,
        handle: Resource<PostgresConnection>,
        statement: String,
        parameters: Vec<Parameter>,
    ) -> Asked<u64> {
        let connection = guest.with(|mut guest| guest.get().opened(&handle))?;
        let _held = guest.with(|mut guest| guest.get().hold(&[&statement, &parameters]))?;
        Ok(connection.execute(&statement, &parameters).await)
    }
}
