//! [`Postgres`].

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    PASSWORD, USER, authority,
    keeper::{Package, Server, run},
};

const PACKAGE: Package = Package { name: "postgresql", account: "postgres", stop: "INT" };

/// A PostgreSQL server whose superuser is [`USER`](crate::USER).
#[derive(Debug)]
pub struct Postgres {
    _server: Server,
    /// Where it listens, in the clear and with TLS.
    pub port: u16,
}

impl Postgres {
    pub(crate) fn start() -> Result<Self> {
        let (initdb, program) = (PACKAGE.program("initdb")?, PACKAGE.program("postgres")?);
        let identity = authority().localhost()?;
        let (server, port) = PACKAGE.start(
            |directory, [port, _]| {
                let data = directory.path().join("data");
                let mut make = PACKAGE.command(&initdb)?;
                make.args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--username", USER]);
                make.arg("--pwfile").arg(directory.write("password", PASSWORD)?).arg("--pgdata").arg(&data);
                run(&mut make)?;
                let certificate = directory.write("certificate.pem", &identity.certificate)?;
                let key = directory.write("key.pem", &identity.key)?;
                let mut command = PACKAGE.command(&program)?;
                command.arg("-D").arg(&data);
                for setting in [
                    "listen_addresses=127.0.0.1".to_owned(),
                    format!("port={port}"),
                    format!("unix_socket_directories={}", directory.path().display()),
                    "fsync=off".to_owned(),
                    "max_connections=200".to_owned(),
                    "ssl=on".to_owned(),
                    format!("ssl_cert_file={}", certificate.display()),
                    format!("ssl_key_file={}", key.display()),
                ] {
                    command.args(["-c", &setting]);
                }
                Ok((command, port))
            },
            |port| psql(*port, "select 1"),
        )?;
        Ok(Self { _server: server, port })
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// If it is there already, or what the server says.
    pub fn create(&self, database: &str) -> Result<()> {
        psql(self.port, &format!("create database \"{database}\"")).with_context(|| format!("no database {database}"))
    }

    /// The address of a database, with the password, for a connection in the clear.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// The address of a database, with the password, for TLS.
    #[must_use]
    pub fn tls_url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@localhost:{}/{database}?sslmode=require", self.port)
    }

    /// Runs a statement in a database.
    ///
    /// # Errors
    /// What the server says.
    pub fn run(&self, database: &str, statement: &str) -> Result<()> {
        psql_in(self.port, database, statement)
    }
}

fn psql(port: u16, statement: &str) -> Result<()> {
    psql_in(port, "postgres", statement)
}

fn psql_in(port: u16, database: &str, statement: &str) -> Result<()> {
    let mut psql = Command::new(PACKAGE.program("psql")?);
    psql.env("PGPASSWORD", PASSWORD).args(["--host=127.0.0.1", "--no-psqlrc", "--quiet", "--username", USER]);
    psql.args(["--port", &port.to_string(), "--dbname", database, "--set=ON_ERROR_STOP=1", "--command", statement]);
    run(&mut psql)
}
