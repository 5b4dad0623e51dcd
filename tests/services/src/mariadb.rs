//! [`Mariadb`].

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    PASSWORD, USER, authority,
    keeper::{Package, Server, run},
};

const PACKAGE: Package = Package { name: "mariadb-server", account: "mysql", stop: "TERM" };

/// A MariaDB server where [`USER`](crate::USER) may do everything.
#[derive(Debug)]
pub struct Mariadb {
    _server: Server,
    /// Where it listens, in the clear and with TLS.
    pub port: u16,
}

impl Mariadb {
    pub(crate) fn start() -> Result<Self> {
        let (install, program) = (PACKAGE.program("mariadb-install-db")?, PACKAGE.program("mariadbd")?);
        let client = PACKAGE.program("mariadb")?;
        let identity = authority().localhost()?;
        let (server, port) = PACKAGE.start(
            |directory, [port, _]| {
                let data = directory.path().join("data");
                let mut make = PACKAGE.command(&install)?;
                make.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                make.arg(option("datadir", data.display()));
                run(&mut make)?;
                // Runs before the server listens.
                let grant = directory.write(
                    "grant.sql",
                    &format!(
                        "CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO '{USER}'@'%';\n"
                    ),
                )?;
                let mut command = PACKAGE.command(&program)?;
                command.args(["--no-defaults", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0"]);
                // Many unit tests at once, on a small machine.
                command.args(["--max-connections=200", "--innodb-buffer-pool-size=32M", "--skip-name-resolve"]);
                command.arg(option("port", port)).arg(option("datadir", data.display()));
                command.arg(option("socket", directory.path().join("socket").display()));
                command.arg(option("pid-file", directory.path().join("pid").display()));
                command.arg(option("init-file", grant.display()));
                command.arg(option("ssl-ca", directory.write("authority.pem", authority().pem())?.display()));
                command.arg(option("ssl-cert", directory.write("certificate.pem", &identity.certificate)?.display()));
                command.arg(option("ssl-key", directory.write("key.pem", &identity.key)?.display()));
                Ok((command, port))
            },
            |port| run(&mut mariadb(&client, *port, "select 1")),
        )?;
        Ok(Self { _server: server, port })
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// If it is there already, or what the server says.
    pub fn create(&self, database: &str) -> Result<()> {
        let client = PACKAGE.program("mariadb")?;
        let made = run(&mut mariadb(&client, self.port, &format!("create database `{database}`")));
        made.with_context(|| format!("no database {database}"))
    }

    /// The address of a database, with the password, for a connection in the clear.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("mysql://{USER}:{PASSWORD}@127.0.0.1:{}/{database}?ssl-mode=DISABLED", self.port)
    }

    /// The address of a database, with the password, for TLS.
    #[must_use]
    pub fn tls_url(&self, database: &str) -> String {
        format!("mysql://{USER}:{PASSWORD}@localhost:{}/{database}?ssl-mode=VERIFY_IDENTITY", self.port)
    }
}

fn option(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn mariadb(client: &std::path::Path, port: u16, statement: &str) -> Command {
    let mut command = Command::new(client);
    command.env("MYSQL_PWD", PASSWORD).args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1"]);
    command.arg(option("user", USER)).arg(option("port", port)).arg(option("execute", statement));
    command
}
