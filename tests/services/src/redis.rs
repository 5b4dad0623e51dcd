//! [`Redis`].

use anyhow::Result;

use crate::{
    PASSWORD, authority,
    keeper::{Package, Server, talk},
};

const PACKAGE: Package = Package { name: "redis-server", account: "redis", stop: "TERM" };

/// A Redis server with 16 databases, whose default user has [`PASSWORD`].
#[derive(Debug)]
pub struct Redis {
    _server: Server,
    /// Where it speaks in the clear.
    pub port: u16,
    /// Where it speaks TLS.
    pub tls_port: u16,
}

impl Redis {
    pub(crate) fn start() -> Result<Self> {
        let program = PACKAGE.program("redis-server")?;
        let identity = authority().localhost()?;
        let ready = format!("AUTH {PASSWORD}\r\nPING\r\n");
        let (server, [port, tls_port]) = PACKAGE.start(
            |directory, ports| {
                let mut command = PACKAGE.command(&program)?;
                command.args(["--port", &ports[0].to_string(), "--tls-port", &ports[1].to_string()]);
                command.args(["--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", "", "--appendonly", "no"]);
                command.arg("--dir").arg(directory.path());
                command.arg("--tls-cert-file").arg(directory.write("certificate.pem", &identity.certificate)?);
                command.arg("--tls-key-file").arg(directory.write("key.pem", &identity.key)?);
                command.arg("--tls-ca-cert-file").arg(directory.write("authority.pem", authority().pem())?);
                command.args(["--tls-auth-clients", "no"]);
                Ok((command, ports))
            },
            |[port, _]| talk(*port, ready.as_bytes(), b"+OK\r\n+PONG\r\n"),
        )?;
        Ok(Self { _server: server, port, tls_port })
    }

    /// The address, with the password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// The address for TLS, with the password.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("rediss://:{PASSWORD}@localhost:{}", self.tls_port)
    }
}
